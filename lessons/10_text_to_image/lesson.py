# %% [markdown]
r"""
# Lesson 10 · Text to image

![A diagram. A prompt goes through a tokenizer and a text encoder, both of lesson 7. Noise goes round and round between a transformer of lesson 9, steered by the prompt through lesson 5's guidance, and an Euler step, which this lesson adds. What comes out is a latent picture, and lesson 8's decoder makes a picture of 64 by 64 pixels of it.](figures/system.png)

**A sentence goes in on the left, a picture comes out on the right.** You know nearly every box: you wrote it. What is missing is the green one, and the arrows between them all. Today you add both, and have a text-to-image model, all of it yours.

First comes a new road from noise to pictures, a *straight* one. Stable Diffusion 3 and Flux are trained on it. It is simpler than what you have seen so far: no betas, no ᾱ, no square roots. Then you plug the ten lessons together.

Plan about three hours; before section 5 is a good place for a break.
"""

# %%
from t2i.lesson import start

start(10)

# %%
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from t2i import show
from t2i.bpe import Tokenizer
from t2i.clip import TextTransformer
from t2i.clip_layers import words_mask
from t2i.drawing import show_measured, show_roads, show_text_to_image
from t2i.flow import check_t, check_times, euler_times
from t2i.guidance import guided_prediction
from t2i.latents import LatentSpace
from t2i.lesson import pick, tier
from t2i.text_to_image import Pipeline, repeat_prompts, to_pil

# %% [markdown]
r"""
First see what it does: three prompts, painted by the course's own copy of the model. Put in your own words if you like! It knows digits, shapes, colours, places and backgrounds, for one to three things. It cannot count: *three green stars* becomes a green 3.

<details><summary>All that it knows</summary>

- eight colours: red, orange, yellow, green, cyan, blue, purple, pink;
- the ten digits, and six shapes: circle, square, triangle, star, cross, heart;
- two things, one *left of, right of, above* or *below* the other; three stand *from left to right*, *from top to bottom* or the other way round;
- a lone thing *small* or *large*, *in the middle*, *at the top*, *at the bottom*, *on the left* or *on the right*;
- *on a white background*, or on a black, grey or brown one.

</details>
"""

# %%
prompts = ["a green circle", "a pink 2", "a red seven above a blue star"]
steps = pick(smoke=8, cpu=25, gpu=25)
given, plan = show_text_to_image.ready_model()
show_text_to_image.first_look(given, prompts, steps)

# %% [markdown]
r"""
## 1. Straight roads

![Left: from four points of data to four points of noise lead arcs, with dots at equal times. Middle: the same points are joined by straight lines, with dots at equal distances. Right: many straight lines from three clouds to noise all pass through one point; a thick arrow from there points against their mean direction, towards the clouds: that way we walk.](figures/roads.png)

Recall lesson 1. A picture is mixed with noise, and the shares are √ᾱ and √(1−ᾱ), so that the variance stays 1. On its way the picture walks an *arc* (left). But nobody needs the variance to stay 1.

**Rectified flow** (Liu, Gong and Liu 2022; the straight member of a family called *flow matching*) takes the shortest way (middle):

$$x_t = (1 - t)\,x_0 + t\,\text{noise}, \qquad t\ \text{from}\ 0\ (\text{picture})\ \text{to}\ 1\ (\text{noise})$$

Mind the new t. It is no step number any more but a share, any number between 0 and 1.

(What a docstring promises under *Raises* is welcome here, and not graded.)

**Predict before you write.** At t = 0.5, for data of variance 1: what is the variance of x_t? (The variances of independent things add up, each times its share *squared*.)
"""

# %%
#| exercise: flow.flow_point
#| points: 10
#| difficulty: 1
#| minutes: 6
#| hint: A mixture of the two ends, with the shares 1 − t and t. Only the shapes need care: t is `(B,)`, one number a sample, and it has to fit to `(B, C, H, W)` or to any other shape.
#| hint: Give t as many axes of size 1 as x_0 has axes after the first: `t.reshape(-1, *[1] * (x_0.ndim - 1))`.
#| hint: With that t: `return (1 - t) * x_0 + t * noise`.

# %%
#| check: flow_point
x_0, noise = torch.randn(3, 4, 2, 5), torch.randn(3, 4, 2, 5)
assert torch.equal(flow_point(x_0, noise, torch.zeros(3)), x_0), "t = 0 is the picture"
end = flow_point(x_0, noise, torch.ones(3))
assert torch.allclose(end, noise, atol=1e-6), "t = 1 is the noise"
x_t = flow_point(x_0, noise, torch.tensor([0.0, 0.25, 1.0]))
assert torch.allclose(x_t[1], 0.75 * x_0[1] + 0.25 * noise[1], atol=1e-6), (
    "each sample has its own t"
)
assert flow_point(x_0[:, 0, 0], noise[:, 0, 0], torch.rand(3)).shape == (3, 5), (
    "points (B, D) should work as well as pictures (B, C, H, W)"
)

# %% [markdown]
r"""
Watch a crowd on its way. The data are three little clouds in the plane, and every point has drawn a noise. Move t. A few points to follow are orange, with their roads in grey; the yellow rings stay where the clouds were. (Without a running kernel the slider stands still: here are four moments.)

![Four panels. At t = 0 the points lie in three clouds, at 0.33 and 0.67 they are on their way along straight lines, at t = 1 they are spread as round noise.](figures/slider.png)
"""

# %%
from t2i.mixture import FlowMixture, Mixture
from t2i.schedules import alphas_cumprod, cosine_betas, linear_betas

ac = alphas_cumprod(linear_betas())
curved = Mixture(show_roads.CENTRES, show_roads.CLOUD, ac)  # lesson 4's world
points = curved.draw(600, torch.Generator().manual_seed(0))
ends = torch.randn(600, 2, generator=torch.Generator().manual_seed(1))


def crowd(t: float) -> show.Picture:
    """Where the points are at time t, with your flow_point."""
    x_t = flow_point(points, ends, torch.full((600,), t))
    return show_roads.crowd(points, ends, x_t, t)


show.slider(crowd, t=(0.0, 1.0, 0.05))

# %% [markdown]
r"""
And your prediction? For data of variance 1 the variance at t = 0.5 is ½: ¼ from the picture, ¼ from the noise. The crowd is narrower on its way, and that does no harm.

### What the network learns

*How does x_t move when t grows?* That is the slope dx_t/dt of the line above, the same for every t: a walker on a straight line has one direction, all the way.

**That slope is what the network is taught.** It sees x_t and t, and answers with the direction.
"""

# %%
#| exercise: flow.flow_target
#| points: 10
#| difficulty: 1
#| minutes: 4
#| hint: The slope of the line in t. Write x_t = (1 − t) · x_0 + t · noise down, and take the derivative with respect to t.
#| hint: −x_0 from the first term, noise from the second. There is no t left.
#| hint: `return noise - x_0`.

# %%
#| check: flow_target
x_0, noise = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
target = flow_target(x_0, noise)
assert torch.allclose(x_0 + target, noise, atol=1e-6), (
    "from the picture, the whole way leads to the noise"
)
later, now = (flow_point(x_0, noise, torch.full((3,), t)) for t in (0.7, 0.2))
assert torch.allclose(later - now, 0.5 * target, atol=1e-6), "half a unit of t: half of the way"

# %% [markdown]
r"""
So the slope is noise − x_0. If the network knew it for *its* line, one step would lead from the noise to the picture. Why do we need more?

Look at the right panel of this section's first picture. Through one point lead many lines, from different noises to different pictures. The network sees only the point, not which line it is on. And you know from lesson 3 what a network says when several answers are right and the error is squared: **their mean**. In pure noise (t = 1) every picture is still possible that the prompt allows, so the walk first heads for the mean of all these. A step later fewer are possible, and the direction turns. The *lines* are straight. The *roads* that one walks bend, where the lines cross.

But they bend only while it is undecided where the journey goes. The clearer that is, the straighter the road. So a few steps can be enough.

## 2. The loss

Three lines of thought: pick a point on the line, ask the model, compare with the direction. The model is called as `model(x_t, t)`.

**Predict before you write.** The data have variance 1. A model answers 0 to everything. What is its loss? (Compare with lesson 3, where the same lazy model had a loss of 1.)
"""

# %%
#| exercise: flow.rectified_flow_loss
#| points: 15
#| difficulty: 2
#| minutes: 8
#| hint: Three steps: a point on each line, what the model says there, how far that is from what is right.
#| hint: Your `flow_point` gives x_t, your `flow_target` what is right. The model is called as `model(x_t, t)`.
#| hint: `return F.mse_loss(model(x_t, t), flow_target(x_0, noise))`.

# %%
#| check: rectified_flow_loss
x_0, noise, t = torch.randn(4, 2, 3), torch.randn(4, 2, 3), torch.rand(4)
right = noise - x_0
assert rectified_flow_loss(lambda x_t, t: right, x_0, t, noise) == 0, "all right: no loss"
loss = rectified_flow_loss(lambda x_t, t: right + 2, x_0, t, noise)
assert torch.isclose(loss, torch.tensor(4.0)), "each value wrong by 2: a mean square of 4"
seen = []
rectified_flow_loss(lambda *given: seen.extend(given) or right, x_0, t, noise)
assert torch.equal(seen[0], flow_point(x_0, noise, t)), "the model should see the point x_t"
assert torch.equal(seen[1], t), "and its time t"

# %% [markdown]
r"""
The lazy model's loss is 2: one for the noise, and one for the picture. So losses look larger in this lesson.

## 3. Which times to train on?

Each sample in a batch gets its own t. Are all times equally worth learning? We compare two losses at each t. The first is the best for someone who knows only that latents have variance 1: $2 - (2t-1)^2/(2t^2-2t+1)$ ([worked out](more.md)). The other is our trained network's. What lies between them is what there was to learn.

**Predict before you run.** Where will the gap be widest?
"""

# %%
from t2i.runs.text_to_image_recipes import encode_scenes

count = pick(smoke=8, cpu=64, gpu=250)  # scenes, as latents
z_0, tokens = encode_scenes(given.space, plan.encoded(), count)
z_0 = z_0.float()
noise = torch.randn(z_0.shape, generator=torch.Generator().manual_seed(10))
with torch.no_grad():
    context, pooled = given.text(tokens)
told = (context, words_mask(tokens, given.text.end_token), pooled)
times = torch.linspace(0.05, 0.95, pick(smoke=3, cpu=10, gpu=19))
trained = []
for t in times.tolist():
    t = torch.full((len(z_0),), t)
    with torch.no_grad():
        # told: what the prompts say; section 5 shows how it is read
        loss = rectified_flow_loss(lambda *at: given.transformer(*at, *told), z_0, t, noise)
    trained.append(loss.item())

# %%
variance_only = 2 - (2 * times - 1) ** 2 / (2 * times**2 - 2 * times + 1)
show.curves(
    times,
    {"knows only the variance": variance_only, "our network": trained},
    xlabel="t: picture at the left, noise at the right",
    ylabel="loss at this t",
    ylim=(0, 2.3),
)

# %% [markdown]
r"""
The gap is widest around the middle, and becomes smaller towards both ends. At the left it all but closes:

- **t near 1**: almost pure noise. Of the picture nothing is known but the prompt. The best answer is the noise less a mean picture of what the prompt allows: that is the gap here, and quickly learnt.
- **t near 0**: almost a clean picture. The noise is too faint to be seen, even for a trained network. There is hardly anything to learn here.
- **In the middle** something can be seen, and much is still open. There training time is well spent.

Esser and others (2024) tried many ways to draw t. The winner is simple: draw a Gaussian number with a certain `mean` and `std`, and squeeze it into (0, 1) with the *sigmoid* (lesson 7, inside `quick_gelu`). It is called the **logit-normal** distribution: what is Gaussian (normal) is the *logit* of t, $\log\frac{t}{1-t}$, the sigmoid's inverse. `mean` moves t towards more or less noise, `std` makes it wider.

**Predict before you write.** `std=0.3` and `std=3`: which one trains on the middle only, and what does the other one do?
"""

# %%
#| exercise: flow.logit_normal_times
#| points: 10
#| difficulty: 1
#| minutes: 5
#| hint: One line. The Gaussian numbers come in; first give them the wanted mean and spread, then squeeze them into (0, 1).
#| hint: `mean + std * gaussian` is Gaussian with that mean and that standard deviation. What squeezes any number into (0, 1) is the sigmoid.
#| hint: `return torch.sigmoid(mean + std * gaussian)`.

# %%
#| check: logit_normal_times
gaussian = torch.randn(5000)
t = logit_normal_times(gaussian)
assert t.shape == (5000,) and ((t > 0) & (t < 1)).all(), "as many times, all between 0 and 1"
assert logit_normal_times(torch.zeros(1)) == 0.5, "the middle of the Gaussian is the middle"
assert abs(t.mean() - 0.5) < 0.02, "as often early as late"
assert logit_normal_times(gaussian, mean=1.0).mean() > 0.6, "a mean above 0: more noise"
even, steep = (logit_normal_times(torch.zeros(1), 1.0, std) for std in (1.0, 3.0))
assert even == steep, "where the Gaussian number is 0, std should not matter"
middle = [
    ((logit_normal_times(gaussian, 0.0, s) - 0.5).abs() < 0.2).float().mean() for s in (0.5, 2)
]
assert middle[0] > middle[1], "a smaller std: more of the times in the middle"

# %%
u = torch.randn(20_000)
kinds = {"uniform": torch.rand(20_000), "logit-normal": logit_normal_times(u)}
kinds |= {"std = 0.3": logit_normal_times(u, std=0.3), "std = 3": logit_normal_times(u, std=3.0)}
alike = {"bins": 40, "limits": (0, 1), "normal": False, "xlabel": "t", "ylim": (0, 6)}
figure, axes = show.panels(1, 4, 8, 2.2)
for panel, (name, t) in zip(axes, kinds.items(), strict=True):
    show.draw_histogram(panel, t, title=name, **alike)
middle = {name: ((t - 0.5).abs() < 0.2).float().mean() for name, t in kinds.items()}
told = "; ".join(f"{name} {share:.0%}" for name, share in middle.items())
show.Picture(figure, f"Histograms of t. Between 0.3 and 0.7 lie: {told}.")

# %% [markdown]
r"""
**What you saw.** `std=0.3` trains on the middle only; `std=3` piles up at both ends, where there is little to learn.

## 4. Euler's walk

At each place the model says which way the road leads. How does one walk it? Leonhard Euler's answer: look, walk a piece straight on, look again.

$$x \leftarrow x + (t_\text{next} - t)\cdot\text{model}(x,\ t)$$

The model says where x goes when t *grows*. You walk from noise to picture, so t falls and t_next − t is negative. `euler_times(N)` gives the N + 1 stops, from 1 down to 0. (Its `shift` moves more of the stops to where the noise is; large pictures need that. Ours is 1: equal steps.)

The model wants one t for each sample, on the device where x is; the times may lie on another. `check_times(times)` complains about times that do not descend.
"""

# %%
#| exercise: flow.sample_euler
#| points: 20
#| difficulty: 3
#| minutes: 15
#| hint: A loop over neighbouring times: `for t, t_next in zip(times[:-1].tolist(), times[1:].tolist())`. In it: ask the model for the direction, walk, report.
#| hint: The model wants one t for each sample: `torch.full((len(x),), t, device=x.device)`. The step is `t_next - t`, and it is negative: you walk from 1 down to 0.
#| hint: `direction = model(x, ...)`, then `x = x + (t_next - t) * direction`, then `on_step(t_next, x, direction)` if on_step is not None. At the end return x.

# %%
#| check: sample_euler
x_0, noise = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
for number in (1, 4):
    end = sample_euler(lambda x, t: noise - x_0, noise, euler_times(number))
    assert torch.allclose(end, x_0, atol=1e-5), "on a straight road any number of steps arrives"
seen = []
end = sample_euler(lambda x, t: seen.append(t) or x, noise, torch.tensor([1.0, 0.6, 0.5]))
assert len(seen) == 2 and seen[0].shape == (3,), "two steps, and a t for each sample"
assert torch.allclose(seen[1], torch.tensor(0.6)), "each step starts where the last one ended"
assert torch.allclose(end, 0.6 * 0.9 * noise), "x, less 0.4 · x, and of that less 0.1 of it"
told, places = [], []
sample_euler(
    lambda x, t: x,
    noise,
    euler_times(2),
    on_step=lambda t, x, direction: (told.append(t), places.append(x)),
)
assert told == [0.5, 0.0] and isinstance(told[0], float), "on_step hears t as a plain number"
assert not torch.equal(*places), "what on_step gets should stay as it is: no += on it afterwards"

# %% [markdown]
r"""
### In a world where the truth is known

For clouds of points the best direction is known without training: `FlowMixture` is lesson 4's plane with its clouds, for straight lines. So all error is the sampler's. We walk the same 12 noises in five steps, with lesson 4's DDIM (and linear betas) and with yours. The grey roads are the same walks in a thousand steps.

**Predict before you run.** Both lead to the same clouds. To the same *points* of them?
"""

# %%
import math

from t2i.samplers import sample_ddim, spaced_timesteps

straight = FlowMixture(show_roads.CENTRES, show_roads.CLOUD)


def walk_ddim(x: Tensor, count: int, ac: Tensor = ac) -> Tensor:
    """Lesson 4's walk: (count + 1, B, 2)."""
    seen, world = [x], Mixture(curved.centres, curved.std, ac)
    stops = spaced_timesteps(len(ac), count)
    sample_ddim(world, x, ac, stops, clip_sample=False, on_step=lambda *at: seen.append(at[1]))
    return torch.stack(seen)


def walk_euler(x: Tensor, count: int) -> Tensor:
    """Your walk: (count + 1, B, 2)."""
    seen = [x]
    sample_euler(straight, x, euler_times(count).to(x), on_step=lambda *at: seen.append(at[1]))
    return torch.stack(seen)


# %%
angle = (torch.arange(12) + 0.5) / 12 * 2 * torch.pi
few = 1.8 * torch.stack([angle.cos(), angle.sin()], dim=1)  # a ring, so that they spread
walks = {"DDIM, curved lines": walk_ddim(few, 5), "Euler, straight lines": walk_euler(few, 5)}
exact = dict(zip(walks, (walk_ddim(few, 1000), walk_euler(few, 1000)), strict=True))
show_roads.roads(walks, exact)

# %% [markdown]
r"""
Yes, to the same points: the grey roads end alike, at the black dots. (Those on the right bend, too, as section 1 said.) But look at the blue ones. On the left the first two steps hardly move, and the last two have to do nearly everything. On the right the way is shared out evenly: first towards the middle, the mean of all clouds, then a turn to one of them.

Which is better? Count: how far do 500 walks end from their goals (the root of the mean square)? If twice as many steps halve the error, the method has **order 1**, like Euler's in every textbook.

**Predict before you run.** DDIM with cosine betas takes part, too. Which of the three is best?
"""

# %%
many = torch.randn(500, 2, generator=torch.Generator().manual_seed(3)).double()
goal = walk_euler(many, 4000)[-1]
counts = [1, 2, 4, 8, 16, 32, 64, 128]
walkers = {
    "DDIM, linear betas": lambda n: walk_ddim(many, n, ac.double()),
    "DDIM, cosine betas": lambda n: walk_ddim(many, n, alphas_cumprod(cosine_betas()).double()),
    "Euler, straight lines": lambda n: walk_euler(many, n),
}
errors = {
    name: [(walk(n)[-1] - goal).square().sum(-1).mean().sqrt().item() for n in counts]
    for name, walk in walkers.items()
}
orders = {name: math.log2(error[4] / error[7]) / 3 for name, error in errors.items()}

# %%
show.curves(
    counts,
    errors,
    caption="; ".join(f"{name}: order {order:.2f}" for name, order in orders.items()),
    xscale="log",
    yscale="log",
    xlabel="number of steps",
    ylabel="distance from the goal",
)

# %% [markdown]
r"""
All three have order 1, or nearly; they differ by a factor. The straight lines win clearly over linear betas. Against cosine betas they hardly win at all. Why? Look closely at an Euler step. From a point and a direction you get both ends of the line: the noise lies $(1-t)$ further along it, the picture lies $t$ back.
"""

# %%
t, t_next = torch.full((12,), 0.8), torch.full((12,), 0.6)
direction = straight(few, t)
x_0_pred, noise_pred = few - 0.8 * direction, few + 0.2 * direction  # both ends of the line
anew = flow_point(x_0_pred, noise_pred, t_next)
euler = few + (0.6 - 0.8) * direction
print(f"largest difference: {(anew - euler).abs().max():.0e}")

# %% [markdown]
r"""
**Guess both ends, mix them anew with less noise.** That is DDIM, word for word, as you wrote it in lesson 4! So rectified flow brings no magic: with its times well chosen, DDIM needs as few steps. It brings order: one line in place of a schedule, one target in place of three, and times that are good as they are (at our size: section 10).

## 5. Reading the prompt

Lesson 7's encoder reads a prompt and gives two things, and Stable Diffusion 3 uses both:

- `context`: a vector for **each token**. They go into the joint attention, beside the patches.
- `pooled`: **one vector** for the whole. It is added to the time, and so steers every block through adaLN.

A `mask` goes along: every prompt is filled up to the same length, and the patches must not look at the padding. (CLIP itself needed no mask for it, since no word looks ahead.)

The encoder is called as `text(tokens)`, with as many tokens as `text.positions` has rows; the tokens must lie where these do (`text.positions.device`). `text.end_token` is the end's number.
"""

# %%
#| given: text_to_image.Prompt

# %% [markdown]
r"""
The course's `words_mask(tokens, end_token)` makes the mask: True up to the first end token, itself included. The **empty prompt** is a prompt, too: it becomes tokens like any other, though no word is in it. It will be our *no condition*, for which lesson 5 needed an extra class.

**Predict before you write.** How many values in the mask of the empty prompt are True?
"""

# %%
#| exercise: text_to_image.encode_prompt
#| points: 15
#| difficulty: 2
#| minutes: 10
#| hint: Three lines: texts to numbers, numbers to vectors, and which of the numbers are words.
#| hint: `tokenizer(prompts, length)` gives the numbers. The encoder reads `len(text.positions)` of them, and they have to lie where the encoder lies: `.to(text.positions.device)`. `text(tokens)` gives a vector for each token and one for the whole.
#| hint: `context, pooled = text(tokens)`, and `return Prompt(context, words_mask(tokens, text.end_token), pooled)`.

# %%
#| check: encode_prompt
from t2i.runs.text_to_image_recipes import text_to_image_recipe

small = text_to_image_recipe("smoke")  # the right parts, small and untrained
small_reader = small.clip.build().text.eval()
wanted = encode_prompt(small.clip.tokenizer, small_reader, ["a red seven", ""])
length, width = small_reader.positions.shape
assert wanted.context.shape == (2, length, width), "a vector for each token"
assert wanted.pooled.shape == (2, width), "and a vector for the whole prompt"
assert wanted.mask.dtype == torch.bool and wanted.mask.shape == (2, length), "True: a word"
assert wanted.mask[1].sum() == 2, "the empty prompt still has a start and an end"
assert wanted.mask[0].sum() > 4, "a start, an end, and a token or more for each word"
assert not torch.allclose(wanted.pooled[0], wanted.pooled[1]), "another text, another vector"

# %% [markdown]
r"""
(Two: its start and its end.)

## 6. Putting it together

The whole once more, with the loaded model's shapes for one picture:
"""

# %%
prompt = "a red seven above a blue star"
show_text_to_image.system(given, prompt)

# %% [markdown]
r"""
`TextDiT` is lesson 9's `JointDiT` with two small additions: it multiplies t by 1000, since lesson 2's clocks were made for steps up to 1000, and it sends `pooled` through a linear layer before it is added to the time.

Now write the call. Everything in it is yours already:

1. Read the prompts, and as many empty ones.
2. `direction(z_t, t)`: what the transformer says. With guidance (lesson 5) it is asked with the prompt and without, and the difference is stretched: uncond + s · (cond − uncond). Both halves in one batch are faster than two calls. With s = 1 asking once is enough.
3. Walk from noise to latents.
4. Decode.

What is given:

| | |
|---|---|
| `repeat_prompts(prompt, num_images)` | the list of all prompts; complains about what is no text |
| `to_pil(pictures)` | makes PIL images |
| `self.tokenizer`, `self.text`, `self.transformer`, `self.space`, `self.shift` | the parts; your class builds on `Pipeline`, which keeps, saves and loads them |
| `self.noise(count, seed)` | the noise to start from, where the transformer is: the same seed, the same picture |
| `self.transformer(z_t, t, context, mask, pooled)` | the direction; the last three are those of a Prompt |
| `euler_times(num_inference_steps, self.shift)` | the times of the walk |
| `self.space.decode(z_0)` | latents to pictures |

<details><summary>Another way: with lesson 5's guided_prediction</summary>

`guided_prediction(model, x_t, t, condition, null, guidance_scale)` is imported, too. It wants tensors as its two conditions, and a Prompt is not a tensor. Row numbers can form one: read `[*prompts, ""]` at once, let `condition` be the numbers of the prompts' rows and `null` the one number of the last one, and let the model that it asks pick those rows. Writing the formula yourself is just as good.

</details>

**Predict before you write.** A picture takes 25 steps with guidance. How often does the transformer run, and on how many rows for two prompts with two pictures each? How often does the text encoder run? And the decoder?
"""

# %%
#| exercise: text_to_image.TextToImage.__call__
#| points: 20
#| difficulty: 4
#| minutes: 25
#| hint: In order: repeat the prompts (`repeat_prompts`), read them, read as many empty prompts, make a function `direction(z_t, t)` for the walk, draw the noise (`self.noise`), walk (`sample_euler`), decode (`self.space.decode`), and make PIL images (`to_pil`).
#| hint: `direction` asks the transformer with the prompt and with the empty prompt, and mixes as in lesson 5: uncond + guidance_scale · (cond − uncond). With a guidance scale of 1 the answer with the prompt is enough. The transformer is called as `self.transformer(z_t, t, *prompt)`, since a Prompt is the three things that it wants.
#| hint: `wanted = encode_prompt(self.tokenizer, self.text, prompts)`, the same for `nothing` with `[""] * len(prompts)`. Then `z_0 = sample_euler(direction, self.noise(len(prompts), seed), euler_times(num_inference_steps, self.shift), on_step)`, and `return to_pil(self.space.decode(z_0))`.

# %%
#| check: TextToImage.__call__
net, small_space = small.build(), LatentSpace(small.vae.build(), 1.0)
for layer in (net.network.final.patch_out, net.network.final.modulation[1], net.to_cond):
    nn.init.normal_(layer.weight, std=0.3)  # as if it had learnt something
tiny = TextToImage(small.clip.tokenizer, small_reader, net, small_space, 32)
rows, first, asked, answer = [], {}, {}, net.forward
net.forward = lambda x_t, *a, **named: rows.append(len(x_t)) or answer(x_t, *a, **named)
pictures = tiny(["a red seven", "a blue star"], num_inference_steps=3, num_images=2)
assert len(pictures) == 4 and pictures[0].size == (32, 32), "two prompts, two pictures of each"
assert sum(rows) == 3 * 8, "3 steps, each asks about 4 pictures with the prompt and 4 without"
one, other, *_ = show_text_to_image.to_tensor(pictures)
alone = show_text_to_image.to_tensor(tiny("a red seven", num_inference_steps=3))[0]
assert torch.allclose(alone, one, atol=0.05), "the same prompt and seed: the same picture"
pair = show_text_to_image.to_tensor(tiny("a red seven", num_inference_steps=3, num_images=2))
assert torch.allclose(pair[1], other, atol=0.05), "first all pictures of the first prompt"
assert not torch.allclose(one, other, atol=0.05), "two pictures of a prompt begin at two noises"
for scale in (0, 1, 3):
    before = len(rows)
    walk = tiny("a red seven", 1, scale, on_step=lambda *at, s=scale: first.update({s: at[2]}))
    asked[scale] = sum(rows[before:])
assert asked[1] == 1, "with a guidance scale of 1, asking once is enough"
assert torch.allclose(first[3], first[0] + 3 * (first[1] - first[0]), atol=1e-3), (
    "uncond + guidance_scale · (cond - uncond)"
)
assert not torch.allclose(first[0], first[1]), "the prompt should matter"
told, tiny.shift = [], 3.0
tiny("a red seven", 3, on_step=lambda *at: told.append(at[0]))
assert torch.allclose(torch.tensor(told), euler_times(3, 3.0)[1:]), (
    "the walk should heed self.shift"
)

# %% [markdown]
r"""
The transformer 25 times, on 8 rows each (or, asked separately, 50 times on 4); the decoder once; the text encoder twice (or once, with all prompts together). So the transformer is what drawing costs.

## 7. Train it

Three trainings, one after the other:

1. **The autoencoder** (lesson 8) learns to pack pictures into latents, and its scaling factor is measured.
2. **CLIP** (lesson 7, trained anew on these scenes) learns what the words mean, and their order. Its text half is kept.
3. **The transformer** (lesson 9) learns the way from noise to latents, told by the text half. Both others are frozen.

Scenes are encoded *once*, before the third training.

`make train` in a terminal does all three, and goes on where it was stopped. (The course's own model stays.) There are two sizes, `tier=cpu` and `tier=gpu`, which used 12 GB of a GPU's memory; the course's model is the second. The last three columns say how many prompts with one, two and three things were painted as asked, with 95 % intervals (1,000 prompts a number for `cpu`, 2,000 for `gpu`). The counting is done by a *judge*, a network like lesson 6's that names what a picture shows.
"""

# %%
#| table: show_tiers.tiers_table

# %% [markdown]
r"""
### What a plain CLIP does not hear

Trained as in lesson 7, a CLIP only has to find the right caption among those of a batch, and it stops listening as soon as that works. On this lesson's scenes it loses three things that a painter needs:

- **The order.** Hardly two captions of a hundred hold the same words in another order. So it never learns that *a red seven above a blue star* is something else than *a blue star above a red seven*.
- **The second thing.** Two colours and one thing are enough to find the caption.
- **The words.** Only the *end token's* vector is compared with a picture, so the other tokens' vectors forget their words. But our transformer looks at all of them: it painted one digit for another.
"""

# %% [markdown]
r"""
### The cure: ask for what we need

For each scene with two or three things, CLIP also gets wrong captions, and has to prefer the right one. For *a red seven above a blue star* these are:

| wrong caption | what changed |
|---|---|
| *a red star above a blue seven* | the colours have exchanged their places |
| *a blue star above a red seven* | the things have exchanged their places |
| *a red four above a blue star* | one thing is another (drawn by lot: which, and what it becomes) |

And so that no word is forgotten, its embedding is added to its vector at the end: a shortcut past all layers, like the UNet's skips in lesson 2.

One thing more was needed: in the first fifth of the training the upper or left thing is always named first. Then the other order is mixed in ([why](more.md)).

Does CLIP hear the difference now? Here is an obvious test (whether it is a good one, we'll see): the cell compares the directions of five `pooled` vectors. 1 means the same.

**Predict before you run.** Which two of the five mean the same? Will their number be the highest?
"""

# %%
five = ["a red seven above a blue star", "a blue star below a red seven"]
five += [
    "a red star above a blue seven",
    "a blue star above a red seven",
    "a red four above a blue star",
]
read = encode_prompt(given.tokenizer, given.text, five)
show_text_to_image.same_or_not(five, read.pooled)

# %% [markdown]
r"""
1 and 2 mean the same, and have 0.84 (when the course was made). But 2 and 4, which say the opposite of each other, have 0.87, the highest of all. So the obvious test is the *wrong* one. CLIP was asked something else: that a *picture* lie nearer to its right caption than to a wrong one. The course measured that, on a thousand new scenes.
"""

# %%
#| table: show_measured.captions_heard

# %% [markdown]
r"""
### Your piece

Now a short piece of the third training, with your loss: half a minute to two for encoding scenes, then two and a half minutes, or up to five on a busy machine. The transformer is a smaller one; the other two parts are the trained ones. (In the GPU tier it is the large one; there all three trainings run first, about five minutes on the fastest cards.)

Look for the line that replaces one prompt in ten by the empty one. Without it, guidance has nothing to compare with.
"""

# %%
import time
from dataclasses import replace

from tqdm.auto import tqdm

from t2i.files.places import DATA
from t2i.guidance import drop_condition
from t2i.runs.stored_recipes import stored_recipe
from t2i.runs.text_to_image_recipes import encode_scenes, short_recipe, text_to_image_recipe
from t2i.runs.text_to_image_runs import train_all
from t2i.training import train

device = "cuda" if torch.cuda.is_available() and tier() == "gpu" else "cpu"
if tier() == "gpu":
    plan = stored_recipe(text_to_image_recipe("gpu"), device)  # all scenes are painted there, once
    given = train_all("gpu", DATA / "runs" / "lesson_10", device=device, plan=plan)
else:
    plan = short_recipe(plan)
tokenizer, text, space = given.tokenizer, given.text.to(device), given.space.to(device)
nothing = tokenizer([""], len(text.positions))[0].to(device)


def text_loss(model: nn.Module, batch: tuple) -> Tensor:
    """Your loss, with words; one prompt in ten is the empty one."""
    z_0, tokens = batch
    tokens = drop_condition(tokens, nothing, 0.1)
    with torch.no_grad():
        context, pooled = text(tokens)
    mask = words_mask(tokens, text.end_token)
    t = logit_normal_times(torch.randn(len(z_0), device=z_0.device))
    told = (context, mask, pooled)
    return rectified_flow_loss(lambda z, t: model(z, t, *told), z_0, t, torch.randn_like(z_0))


# %%
begun, count = time.perf_counter(), pick(smoke=64, cpu=5000, gpu=100_000)
z_0, tokens = encode_scenes(space, plan.encoded(), count, tqdm)
rate = count / (time.perf_counter() - begun)
print(f"{count} scenes as latents {tuple(z_0.shape)}, {rate:.0f} a second")
training = replace(plan.training, on_gpu="recorded")  # for so short a run compiling costs too much
# the bar counts the steps of a whole training; this one ends long before, by the clock
fresh, begun, losses = plan.build().to(device), time.perf_counter(), []
for state in train(fresh, text_loss, plan.batches(z_0.float(), tokens), training):
    losses.append(state.loss)
    seconds, enough = time.perf_counter() - begun, len(losses) >= pick(smoke=1, cpu=200, gpu=200)
    if seconds > pick(smoke=2, cpu=150, gpu=30) and (enough or seconds > 300):
        break
learnt = len(losses) * plan.batch_size / (time.perf_counter() - begun)
print(f"trained on {learnt:.0f} latents a second")  # comes back in section 9
show.curves(
    range(1, len(losses) + 1),
    {"loss": losses},
    xlabel="training step",
    ylabel="loss",
    ylim=(0, 2.6),
)

# %% [markdown]
r"""
It begins near 2: the final layer starts at zero, so the network answers 0. What has it learnt in so short a time? Your own class draws, with your sampler:
"""

# %%
young = TextToImage(tokenizer, text, state.ema_model, space, plan.vae.size, plan.shift)
four = list(show_text_to_image.PROMPTS[:4])
show_text_to_image.gallery(young(four, steps), four)

# %% [markdown]
r"""
Backgrounds and colours come first. After the 450 steps that a quiet machine gets to, shapes are still scraps: they are what the rest of the training is for. (Far fewer steps? Something else kept your machine busy.)

## 8. Look at it

![Twelve pictures, each below its prompt. In all of them the things have the colours and the places that were asked for, and all can be read. The purple eight is bent, and the orange triangle's tip is torn.](figures/gallery.png)

The course's own model drew these: one picture for each prompt, the first that came, none picked. All is as asked, but not all is well drawn: look at the purple eight and the orange triangle's tip.

From here to the end of this section **your** `TextToImage` draws, with the trained parts. On a CPU these very pictures should come out again:
"""

# %%
pipe = TextToImage(tokenizer, text, given.transformer, space, given.size, given.shift).to(device)
prompts = list(show_text_to_image.PROMPTS)  # chosen before there was a model
show_text_to_image.gallery(pipe(prompts, steps), prompts)

# %% [markdown]
r"""
### How loud should the prompt be?

**Predict before you run.** From left to right, guidance 1, 2, 3, 5 and 8, always from the same noise. What gets better, and what gets worse at the end?
"""

# %%
scales, wish = [1, 2, 3, 5, 8], prompts[4 : pick(smoke=5, cpu=8, gpu=8)]
columns = {f"guidance {scale}": pipe(wish, steps, scale) for scale in scales}
show_text_to_image.sweep(columns, wish)

# %% [markdown]
r"""
Without guidance (1) the colours are there, but the digits are sloppy. With it they mostly get clearer, and at 8 a stroke may be overdone, as in the 4. Compare down the columns: what the prompts don't tell, like the background, becomes ever more alike. Guidance trades variety for clarity, as in lesson 5. (These pictures differ from those in the gallery: the noise depends on the place in the list.)

And how many steps does it take? Same noise again.
"""

# %%
counts = [1, 4, 8, pick(smoke=9, cpu=25, gpu=25)]
columns = {f"{count} step{'s' * (count > 1)}": pipe(wish, count) for count in counts}
show_text_to_image.sweep(columns, wish)

# %% [markdown]
r"""
One step gives the mean of all that the prompt allows, as section 1 said, and guidance stretches it: a blur in glaring colours. From four steps on the things are there, and from eight on hardly anything changes. (The first one is an exception. Nothing in its prompt decides the background, so a small difference on the way can still turn it.)

### One word swapped

**Predict before you run.** The noise stays the same, and one word of the prompt changes. How much of the picture stays?
"""

# %%
swaps = ["a red seven above a blue star", "a green seven above a blue star"]
swaps += ["a red four above a blue star", "a red seven below a blue star", "a red seven", ""]
pictures = [pipe(swap, steps, seed=1)[0] for swap in swaps]  # one a call: the same noise for each
show_text_to_image.gallery(pictures, [swap or "(nothing)" for swap in swaps], 3, 6)

# %% [markdown]
r"""
In the first four pictures the grey background and the two places stay: noise and prompt together decide them. A colour follows its word, and so does a digit. Compare *above* with *below*: if they are alike, the model has not understood that word. *A red seven* alone gets the whole picture, and another background. And where nothing is asked for, the model paints something that looks nearly like a thing.

### The same seven, only green

The green seven above is another seven. Can we have *this* one in green? Yes: begin with the picture, not with pure noise. `flow_point` covers it with noise a part of the way (the *strength*), and from there `sample_euler` walks on, told the new prompt. `redraw` does just that.

**Predict before you run.** The prompts want another colour, another digit, another shape. Which of the three needs most strength?
"""

# %%
from t2i.apps.edit import redraw

picture, columns = pictures[0], {"before": [pictures[0]] * 3}
wishes = ["a green seven above a blue star", "a red three above a blue star"]
wishes += ["a red seven above a blue circle"]
for strength in (0.2, 0.4, 0.6, 0.8, 1.0):
    columns[f"strength {strength}"] = redraw(pipe, picture, wishes, strength, None, steps, seed=2)
show_text_to_image.sweep(columns, wishes)

# %% [markdown]
r"""
A colour is the easiest: no ink has to move. At 0.4 the seven is green, and its handwriting is the old one. For another digit or shape the noise must first hide the old one: at 0.2 seven and star are still what they were. Ours became a circle at 0.4, and a three only at 0.6. At 1 nothing of the old picture is left. (The noise is not the picture's own, hence `seed=2`. Its own would lead near it again even then. On 100 scenes: [more.md](more.md).)

Or keep *a part* of the picture, and draw the rest from pure noise. This is called *inpainting*. For what stays we know the right direction, section 1's noise − x_0: there `redraw` takes it in place of the network's answer. Here the lower half stays.

**Predict before you run.** The last prompt cannot be had with this lower half. What will the upper half show?
"""

# %%
lower = (torch.arange(pipe.size) >= pipe.size // 2)[:, None].expand(pipe.size, pipe.size)
wishes = ["a yellow four above a blue star", "a green heart above a blue star"]
wishes += ["a pink eight above a blue star", "a red seven below a blue star"]
kept = redraw(pipe, picture, wishes, 1.0, lower, steps, seed=2)
show_text_to_image.gallery([picture, *kept], ["before", *wishes], 5)

# %% [markdown]
r"""
Mostly the new half fits the old one, as the network sees both in every step: the background goes on. The eight failed: the network took *pink* for the paper, and the half that was kept did not stop it. (Two of the seeds 0 to 6 fail so. Kept are latents; the decoder, which sees the whole, recolours them.) The last prompt wants a star above, and gets one. Now there are two, and no seven: below there was no room for it.

### Who looks where

`PromptFilm` looks on while your class draws. At each step it notes what the picture *would be* if the road went straight on from here, and how much the patches look at each word, averaged over all blocks and heads. Move the slider from noise to picture.

![A film, in two rows. At the upper left the picture as guessed at each step, from a blurred red seven and a blue blob on grey to a seven above a blue star on white; beside and below it a map for each word of the prompt, yellow where patches look at it. *Red* and *above* are bright where the seven stands, *blue* where the star stands.](figures/film.gif)
"""

# %%
from t2i.drawing.prompt_film import PromptFilm
from t2i.drawing.show_attention import word_maps

film = PromptFilm(pipe, prompt)
with film:
    pipe(prompt, steps, on_step=film)
show.slider(lambda step: word_maps(film, 0, film.steps[step]), step=(0, len(film.steps) - 1, 1))

# %% [markdown]
r"""
The very first guess has a blurred red seven above a blue blot: so much do the words alone decide. Colours and background may still change for some steps; the edges come last. The number beside a word is its largest share of what a patch gives to words, and its yellow stands for that. So compare places, not words.

Does *seven* light up where the seven comes to stand? In our film it does not: there *red* does, and *above*. In joint attention the words look, too, and can pass on what they have read: by then *red* may already know what it is that is red.

### Prompts that training never showed

A model that has only memorised cannot paint what it never saw. Three things were held out of training: some **pairs** of a colour and a thing (no yellow eight, for one), some **relations** of one kind of thing to another (`triples` in the code), and some **phrasings**. Here are the first four of each list. The judge says whether the picture shows what the prompt says: ✓ or ✗.
"""

# %%
from t2i.judging.scene_judge import look, shows
from t2i.world.scene_specs import draw_specs

pictures, titles = [], []
for split in ("heldout_pairs", "heldout_triples", "heldout_phrasings"):
    specs = draw_specs(range(4), split, plan.world, seed=10)  # scenes as numbers
    drawn = pipe(specs.captions(), steps, seed=10)
    pictures += drawn
    titles += show_text_to_image.judged(specs, look(show_text_to_image.to_tensor(drawn)))
show_text_to_image.gallery(pictures, titles)

# %% [markdown]
r"""
The brackets name what training never showed, and after a ✗ what the judge read. Row by row: a colour on a thing, how two things stand to each other, or two parts of a caption together (such as *here you see* and *a blue star*, each known by itself). Do you agree with the judge?

### Failures

Prompts with three things are the hardest. So here we draw ordinary ones, the first of those that are counted below, and show *all* pictures that the judge calls wrong (the first eight, if there are more). Drawing takes a minute or two.

**Predict before you run.** How many of a hundred will be wrong?
"""

# %%
from t2i.runs.text_to_image_eval import draw
from t2i.world.asked_scenes import hardest

specs, seed = hardest(plan.world, pick(smoke=4, cpu=128, gpu=128))
images, captions = draw(pipe, specs.captions(), seed, "pictures"), specs.captions()
views = look(images)  # told: what the caption of a scene says
wrong = [row for row, view in enumerate(views) if not shows(view, specs.told(row))]
print(f"{len(wrong)} of {len(images)} are wrong.")
if wrong:
    shown = wrong[:8]
    titles = [show_text_to_image.read_as(captions[row], views[row]) for row in shown]
    display(show_text_to_image.gallery(to_pil(images[shown]), titles))

# %% [markdown]
r"""
When the course was made, the judge called 4 of these 128 wrong (on a GPU the noise is different). Here are all that it called wrong among the first 600, with what it read in brackets (a reading for each thing that it found, the surest first):

![Twenty pictures of three things each, called wrong out of 600. Sixteen have one digit that is hard to read or reads as another; in four everything asked for is there.](figures/failures.png)

Look at each. Is a thing missing, a colour wrong, a digit badly written? Or is the judge mistaken?

<details><summary>What we saw</summary>

In sixteen one digit is badly written: we cannot read it either, are not sure, or read another. No colour has gone to a wrong thing, nothing is missing, and nothing stands in a wrong place. And four times we side with the picture: the blue circle, which the judge takes for a zero; the blue square, which it does not see; the pink six; and the green three below the cyan eight.

</details>

And is a ✓ always right? The judge is a little too kind: of the first hundred on this list that it calls right, about five have a digit that we would not have read without the prompt.

### The count

A handful of pictures proves nothing. So the course counts, with 2,000 prompts of each kind. A blue dot is the share *satisfied*: everything that the prompt tells is right. Its bar is the 95 % interval.

![Seven sets of prompts, each with the share satisfied as a dot with its interval: 97.5 % for three things, about 99 % for the others. The two ceilings, short lines, lie at the dots; with two things the dot is above them.](figures/satisfied.png)

What to compare it with:

- *Rendered*: real scenes. What is missing there is what the judge itself cannot read, mostly odd handwriting.
- *Vae*: real scenes through the autoencoder. What is missing in addition is what latents cannot hold. (Chance can lead past both.)
- Chance: the same pictures judged by *other* prompts get under 1 %. (The axis does not begin at 0.)

The judge calls our pictures right about as often as real scenes. But with real scenes it is the judge who errs, with ours it is mostly the model.

Now compare held-out with seen. *Relations* have two or three things, so they belong between *seen two* and *seen three*. *Pairs* and *phrasings* have one, two or three, as *seen mixed* has, so they belong beside it. Near: the model composes. Far below: it memorises. **Which of the two does ours do?**

<details><summary>What we read in it</summary>

It composes. Unseen relations (98.7 %) lie between *seen two* (99.5 %) and *seen three* (97.5 %), as they should. Unseen pairs (99.1 %) and phrasings (99.0 %) lie beside *seen mixed* (99.1 %), well within the intervals. Nothing here says that what was never seen is harder for it.

</details>

(What the columns of the table below count: [more.md](more.md).)
"""

# %%
#| table: show_measured.results_table
#| fold: All the numbers, with their 95 % intervals in brackets

# %% [markdown]
r"""
## 9. From two cores to 400 million pictures

Stable Diffusion was trained on hundreds of millions of pictures from the web. Your loop can go there as it is. One process, and eight:

```sh
python -m t2i.runs.text_to_image_runs --tier gpu
torchrun --nproc-per-node 8 --max-restarts 3 -m t2i.runs.text_to_image_runs --tier gpu --shards data/shards
```

Each of the eight has a GPU and takes its eighth of every batch, and their gradients are averaged. *Shards* are tar files of a thousand samples each (latents and words' vectors): 400 million do not fit into memory.

What would 400 million take?

**Storage**: latents of 4×64×64 (pictures of 512×512), two bytes a number, and vectors of up to 77 tokens.
"""

# %%
from t2i.drawing import show_scale
from t2i.speed import scale

n = 400e6  # pictures
in_latents, in_words = scale.latent_bytes(512), scale.prompt_bytes(77, 768)
print(f"latents {n * in_latents / 1e12:.0f} TB, text vectors {n * in_words / 1e12:.0f} TB at most")

# %% [markdown]
r"""
The words are larger than the pictures! So our shards leave out the padding.

**Operations.** A token meets 12·d² weights in a block (d is `dim`; 4·d² in the attention, 8·d² in the MLP, which is four times as wide), each costs a multiplication and an addition, and attention compares every token with every other:

$$\text{operations of a picture} = \text{depth}\cdot(24\,d^2 n + 4\,d\,n^2), \qquad n = \text{patches} + \text{words}$$

That is forward. Backward costs twice as much, so training costs three times. How much of what a machine *could* do does a training make use of? For yours, section 7 measured the speed. **Guess first:** a tenth, a third, all?
"""

# %%
side = z_0.shape[-1] // plan.dit["patch_size"]
ours = scale.joint_flops(plan.dit["dim"], plan.dit["depth"], side**2, plan.clip.length)
peak = scale.measured_peak(device, size=8192 if device == "cuda" else 512)
share = scale.utilisation(scale.training_flops(ours), learnt, peak)
print(f"{scale.training_flops(ours):.1e} operations a picture, {learnt:.0f} pictures a second:")
print(f"{share:.1%} of the {peak:.1e} a second that large matrices reach on this machine")

# %% [markdown]
r"""
(That last share is the answer. Small matrices and everything that is not a matrix keep a machine from its best. Large trainings reach 30 to 50 %.)

**Hours.** Take a model of Stable Diffusion 3's size (24 blocks, d = 1536, 32×32 patches; 2 billion weights, as words and patches have 12·d² each in a block, and their modulations 6·d² each), Stable Diffusion's own encoder, and CLIP. The GPU is an H100, at 40 % of its best, and at the share that yours reached:

$$\text{hours} = \frac{\text{pictures}\cdot\text{operations of a picture}}{\text{best speed}\cdot\text{share}\cdot 3600}$$

**Predict before you run.** Which piece of work takes longest, and how many times as long as the next?
"""

# %%
from t2i.speed.flops import count_flops
from t2i.vae import AutoencoderKL

with torch.device("meta"):  # tensors with shapes but no numbers: nothing is computed
    vae = AutoencoderKL(block_channels=(128, 256, 512, 512), layers_per_block=2)
    photo = torch.empty(1, 3, 512, 512)
    encoding = count_flops(lambda: vae.encode(photo))
large = scale.joint_flops(dim=1536, depth=24, patches=32 * 32, words=77)
works = {
    "encode the\npictures": (n, encoding),
    "read the\ncaptions": (n, scale.text_flops(width=768, num_layers=12, words=77)),
    "train, every\npicture 5 times": (5 * n, scale.training_flops(large)),
}
used = {"40 % of its best": 0.4, f"{share:.1%}, as your machine": share}
hours = {
    name: {work: scale.gpu_hours(*sum_, part * scale.H100) for work, sum_ in works.items()}
    for name, part in used.items()
}
show_scale.hours_chart(hours)

# %%
usual = hours["40 % of its best"]
encode, _, learn = usual.values()
total = sum(usual.values())
print(f"training takes {learn / encode:.0f} times as long as encoding")
print(f"at 40 % together {total:,.0f} GPU-hours: {total / 24 / 256:.1f} days on 256 GPUs")
show_measured.one_pass(n)

# %% [markdown]
r"""
Training takes longest by far: *encoding once is cheap, training is expensive*. Such sums leave out waiting for data, broken machines, and the trainings before the one that worked.

## 10. What was left out, and where these lines live in real systems

- **More readers.** Stable Diffusion 3 reads with two CLIPs and T5, a language model; Flux with CLIP and T5. Long sentences need that.
- **Shift.** With more pixels, the same t hides less: neighbouring pixels show nearly the same colour, so the noise averages out. Large pictures are drawn with a shift of 3.
- **Negative prompts** are another text in the place of the empty one.
- **Fewer steps by training.** *Reflow* (Liu) trains again on pairs of noise and the picture that it led to: then the lines hardly cross. *Distilled* models, trained to do many of another's steps at once, draw in one to four.
- **What is built on such models**: LoRA, ControlNet, distillation, inpainting by networks trained for it. A line on each, with its paper, is in [Notation](../../NOTATION.md).
- **The side roads.** How soon the model got good, whether it copies, what other judges say: [more about the measurements](more.md).

| yours | in Hugging Face's *diffusers* |
|---|---|
| `flow_point` | `FlowMatchEulerDiscreteScheduler.scale_noise` |
| `sample_euler`, `euler_times` | `FlowMatchEulerDiscreteScheduler`: `step`, `set_timesteps` |
| `logit_normal_times` | `compute_density_for_timestep_sampling` in `training_utils.py` |
| `encode_prompt` | `StableDiffusion3Pipeline.encode_prompt` |
| `TextToImage.__call__` | `StableDiffusion3Pipeline.__call__` |
| `save_pretrained`, `from_pretrained` | the same, with the same folders |

The same walk, with the same answers of a model?
"""

# %%
from diffusers import FlowMatchEulerDiscreteScheduler

theirs = FlowMatchEulerDiscreteScheduler(shift=3.0)
theirs.set_timesteps(sigmas=torch.linspace(1, 0, 9)[:-1].tolist())
x = few
for t in theirs.timesteps:
    x = theirs.step(straight(x, (t / 1000).expand(12)), t, x).prev_sample
difference = (sample_euler(straight, few, euler_times(8, shift=3.0)) - x).abs().max()
print(f"largest difference to diffusers: {difference:.0e} (below 1e-5 if yours is right)")

# %% [markdown]
r"""
## 11. Your own pictures

Put your pictures into a folder, and beside them a file `metadata.jsonl` that says in each line what one of them shows (Hugging Face's *imagefolder* layout). Then `make train data=my_pictures` trains all three parts on them, and `make sample prompt="…" out=picture.png model=FOLDER` draws. Section 7's wrong captions need scenes, so expect your CLIP to mix up which is which. And take thousands of pictures: a hundred are soon learnt by heart.

Some captions are held out: one in twenty of those that differ in one word from a seen one. The report names them. Ask for them at the end: does your model compose?

Here is a small folder, of four pictures drawn for *Failures*. **Predict before you run:** the file has five lines; how many pictures will be read?
"""

# %%
import json
import tempfile

from t2i.files.picture_folder import read_folder

with tempfile.TemporaryDirectory() as mine:
    rows = [{"file_name": f"{n}.png", "text": said} for n, said in enumerate(captions[:4])]
    for line, picture in zip(rows, to_pil(images[:4]), strict=True):
        picture.convert("P").save(Path(mine, line["file_name"]))  # with a palette, as a GIF has it
    rows += [{"file_name": "lost.png", "text": "a picture that nobody took"}]
    Path(mine, "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    folder = read_folder(mine, size=32)
print(folder.report)
show_text_to_image.gallery(to_pil(folder.images()), folder.captions, columns=4)

# %% [markdown]
r"""
Four. The report names `lost.png`, which is not there, and what had to be done to the others.

### A real folder: 3,543 emoji

The course did it with *Noto Emoji*, in three quarters of an hour on two (fast) cores. (The model comes with the course; the pictures do not.) 116 names were held out, each one word away from a name that was seen. The model never saw *woman astronaut medium skin tone*, but it did see the man, and many other women and men.

**Predict before you look.** What will it draw for a name that it never saw: what was asked for, the seen emoji next to it, or porridge?

<details><summary>The pictures</summary>

![Eight held-out names. Drawn are, as asked, a man feeding a baby, a woman astronaut, a woman at a building site, a hand, a kneeling person and a man with a beard. The last quarter moon has become a full yellow face, and the black heart a blotchy pink one.](figures/emoji.png)

(Every fifteenth of the 116 names, the first picture that came. At the top what was drawn, in the middle the true emoji, which no training showed, at the bottom a seen one whose name differs in one word.)

</details>

Now count. Each name has *its own picture*: is the drawn one nearer to it, pixel by pixel, than to all the other 3,542? Beside it stand chance (the drawn pictures, each taken for *another* name's) and the ceiling: the true emoji, once through the autoencoder.
"""

# %%
#| table: show_measured.names_table

# %% [markdown]
r"""
The seen names are no feat: the network learns them by heart. The held-out ones are, and most are right: **it composes**. It can do so where enough names show what the exchange of two words does to a picture, like *woman* and *man*. Where only one to four names do, it guesses ([counted](more.md)): the *black heart* has become a blotchy pink one.

Try it. The first three names were held out, *rocket* was not; then type what you like.
"""

# %%
from t2i.runs.text_to_image_recipes import EMOJI, load_text_to_image

emoji = load_text_to_image(EMOJI)
names = ["woman singer medium-light skin tone", "kiss man man", "angry face", "rocket"]
show_text_to_image.gallery(emoji(names), names, columns=4)

# %% [markdown]
r"""
The first two come out right. *Angry face* does not: hardly any other names exchange *angry* for another word. And nothing is ever refused: *woman rocket* gives porridge, not an error.
"""

# %% [markdown]
r"""
## Three questions
"""

# %%
#| quiz: one_step

# %%
#| quiz: forgotten_empty

# %%
#| quiz: who_knows

# %% [markdown]
r"""
## The papers

- Liu, Gong and Liu 2022, *Flow straight and fast: learning to generate and transfer data with rectified flow*, [arXiv:2209.03003](https://arxiv.org/abs/2209.03003): the lines, the loss (equation 1), and reflow.
- Lipman et al. 2022, *Flow matching for generative modeling*, [arXiv:2210.02747](https://arxiv.org/abs/2210.02747): a proof that learning the mean direction is enough.
- Esser et al. 2024, *Scaling rectified flow transformers for high-resolution image synthesis*, [arXiv:2403.03206](https://arxiv.org/abs/2403.03206): Stable Diffusion 3. Section 3.1 is section 3 of this lesson; figure 2 is lesson 9's transformer.

## Yours

Ten lessons ago a picture drowned in noise. Then came a network that saw the noise, a walk back, a faster walk, a wish, words, what words mean, a smaller space, and patches that talk to words. You wrote each of them. Now put them together:

- `make progress` says how far you are.
- `make mine` builds *your own* `t2i`, a text-to-image system, of every definition of yours that passed.
- `make sample prompt="a red seven above a blue star" out=seven.png film=1` paints from the command line, and makes a film of it; with `mine=yes` your package does.
- `make lab lesson=appendix` puts the weights of Stable Diffusion 1.5 into what you wrote.

Read the source of any of the large systems: you will find your own lines in it. Then change something: a new shape, a new word, pictures of your own.

**Thank you for walking all the way. It was noise at first, wasn't it?**
"""
