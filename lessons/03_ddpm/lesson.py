# %% [markdown]
r"""
# Lesson 3 · DDPM: from noise to digits

![Forty small grey pictures in four rows: digits from 0 to 9 in many different hands.](figures/samples.png)

**Nobody ever wrote these digits.** A small network made them out of pure noise, after a few minutes of training on two processor cores. At the end of this lesson your own network will have made its own, with a loop of about ten lines that you wrote.

The method is called DDPM, *denoising diffusion probabilistic model* (Ho et al. 2020). A long name for two short ideas:

1. Train a network to say **which noise** is in a picture.
2. Start from pure noise, and take away a little of the noise that the network sees. A thousand times.

You bring `add_noise` from lesson 1 and the UNet from lesson 2. Plan about 90 minutes in all, with about 4 to 9 minutes of training.
"""

# %%
from t2i.lesson import start

start(3)

# %%
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from t2i import metrics, schedules, show
from t2i.data import mnist
from t2i.drawing import show_ddpm
from t2i.lesson import pick, tier
from t2i.practice import heard_by_noise, middle_steps
from t2i.runs.recipes import recipe
from t2i.schedules import add_noise, gather
from t2i.training import Batches, train

# %% [markdown]
r"""
## 1. Two roads

![One digit in seven stages, from clean on the left to pure noise on the right. An arrow above points right: add noise, needs no learning. An arrow below points left: remove noise, must be learnt.](figures/two_roads.png)

Lesson 1 walked the upper road: it drowned a digit in noise, step by step. That road needs no learning, since we mix in the noise ourselves.

This lesson walks the lower road. Each step back is a guess: *given this noisy picture, what did it look like one step earlier?* Nobody can know for sure. A network that has seen many digits can guess well.

Steps are counted from 0, the cleanest, to $T-1$, the noisiest. $\bar\alpha_t$ (in code `alphas_cumprod[t]`) is the share of the picture's variance that is left at step $t$: almost 1 at the start, almost 0 at the end.
"""

# %%
images, labels = mnist("train")
test_images, _ = mnist("test")
T = pick(smoke=40, cpu=1000, gpu=1000)
alphas_cumprod = schedules.alphas_cumprod(schedules.cosine_betas(T))
device = "cuda" if torch.cuda.is_available() and tier() == "gpu" else "cpu"
print(f"{len(images):,} training digits, {T} steps, on {device}")

# %%
stages = [round(share * (T - 1)) for share in (0, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1)]
t = torch.tensor(stages)
x_0 = test_images[:1].expand(len(t), -1, -1, -1)
x_t = add_noise(x_0, torch.randn(x_0.shape), t, alphas_cumprod)
show.show_images(
    x_t,
    [f"t = {step}" for step in stages],
    alt="A digit under more and more noise; in the last picture nothing of it is left.",
)

# %% [markdown]
r"""
## 2. What to ask the network

*What did the clean picture look like?* Or: *which noise was mixed in?* Lesson 2 showed that these are one question:

![An equation of three pictures: noisy digit equals 0.71 times clean digit plus 0.71 times noise. Below: know the noisy picture and one of the other two, and the third follows.](figures/two_of_three.png)

The sampler always knows the noisy picture. Whoever tells it the noise has told it the clean one as well: **predicting the noise is enough.**

Why not ask for the picture? Either would do; lesson 2 said what each is bad at. Noise has one comfort: each of its pixels comes from a standard Gaussian, whatever the digits look like. So its error, the mean square of the difference, has a natural scale: 1 for knowing nothing.

$$\text{loss} = \text{mean}\big((\text{noise} - \text{model}(x_t, t))^2\big), \qquad x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\cdot\text{noise}$$

This is equation 14 of the paper: the whole training of a diffusion model in one line.

**Predict before you run.** You met two lazy models in lesson 2: one always answers zero, "no noise at all", the other gives back the picture that it was shown. Do you still know their losses, at the clean end of the road and at the noisy one?

(Some docstrings below speak of a `ValueError`. It is optional: no test asks for it.)
"""


# %%
def always_zero(x_t: Tensor, t: Tensor) -> Tensor:
    return torch.zeros_like(x_t)


def copy_input(x_t: Tensor, t: Tensor) -> Tensor:
    return x_t


# %%
#| exercise: diffusion.ddpm_loss
#| points: 20
#| difficulty: 2
#| minutes: 8
#| hint: Two steps: make the noisy pictures, then compare the model's answer with the noise that you put in. Lesson 1's `add_noise` does the first.
#| hint: The model sees `x_t` and `t`, never `x_0`. What it should answer is the argument `noise`, the very same that went into `x_t`.
#| hint: First line: `x_t` is `add_noise` of `x_0`, `noise`, `t` and the schedule. Second line: return `F.mse_loss` of the model's answer to `(x_t, t)` and of the noise. It takes the mean over everything by itself.

# %%
#| check: ddpm_loss
x_0, noise, steps = test_images[:64], torch.randn(64, 1, 28, 28), torch.randint(T, (64,))
loss = ddpm_loss(always_zero, x_0, steps, noise, alphas_cumprod)
assert loss.ndim == 0, "the loss should be one number (a tensor without dimensions)"
assert abs(loss - 1) < 0.1, f"'always zero' should get a loss of about 1, not {loss:.3f}"
assert ddpm_loss(lambda x_t, t: noise, x_0, steps, noise, alphas_cumprod) == 0, (
    "a model that gives exactly the right noise should get a loss of 0"
)


def looks(x_t: Tensor, t: Tensor) -> Tensor:
    assert torch.equal(t, steps), "the model should get the steps as they are"
    right = add_noise(x_0, noise, steps, alphas_cumprod)
    assert torch.allclose(x_t, right, atol=1e-5), "the model should see x_t, made of this noise"
    return noise


ddpm_loss(looks, x_0, steps, noise, alphas_cumprod)
weight = torch.ones((), requires_grad=True)
loss = ddpm_loss(lambda x_t, t: weight * x_t, x_0, steps, noise, alphas_cumprod)
assert loss.requires_grad, (
    "the loss must stay connected to the model's weights: no .item(), no no_grad"
)

# %% [markdown]
r"""
Now look at the two lazy models, step by step.
"""


# %%
def loss_at(model: nn.Module, step: int) -> float:
    t = torch.full((64,), step)
    return ddpm_loss(model, x_0, t, noise, alphas_cumprod).item()


steps = range(0, T, max(1, T // 40))
lazy = {
    "always zero": [loss_at(always_zero, step) for step in steps],
    "copy the input": [loss_at(copy_input, step) for step in steps],
}
show.curves(
    list(steps),
    lazy,
    xlabel="step t (0 is almost clean, the right end is pure noise)",
    ylabel="loss",
    ylim=(0, 2.2),
)

# %% [markdown]
r"""
*Always zero* gets 1 everywhere, since the mean square of standard Gaussian noise is 1. Remember that number: **1.0 is the ceiling**. A network above it is worse than none. Being below it does not yet make a network good, as copying shows.

*Copy the input* shows something deeper. Near pure noise the question is trivial, as the picture *is* the noise. In an almost clean picture it is hard: the noise is faint, and the network must tell it from the pen strokes. Copying costs about 2 there: 1 for the noise that it misses, nearly 1 for the picture that it hands in instead.
"""

# %% [markdown]
r"""
## 3. A slow copy of the network

Each training step looks at a handful of digits and pulls the weights a little their way. So the weights stagger. They reach the right region, but never stand still there.

![A jagged path wanders round a target. A smooth path, its slow average, follows and stays much closer to the target.](figures/slow_copy.png)

The cure: keep a second copy of the network that follows slowly, and use that one to make pictures. It is called an *exponential moving average*, EMA:

$$\text{ema} \leftarrow \text{decay}\cdot\text{ema} + (1-\text{decay})\cdot\text{weights}$$

A decay of 0.99 keeps 99 % of the slow copy at each step, so it remembers about the last hundred steps ($1/(1-0.99) = 100$). Here the slow copy matters more than in most of deep learning: for one picture the network is asked a thousand times in a row, and small errors of the weights add up.

Besides weights, some layers hold *buffers*: numbers that are kept but not trained, such as running means. Those are simply copied.

**Predict before you run.** Below, one jittery weight climbs from 0 to 1 in 300 steps, and three slow copies follow it, with decays 0.5, 0.95 and 0.998. Which one still jitters? Which one comes too late?
"""

# %%
#| exercise: diffusion.ema_update
#| points: 10
#| difficulty: 2
#| minutes: 8
#| hint: Walk through the parameters of both models side by side, with `zip`. Then do the same with `buffers()`.
#| hint: The slow copy must be changed *in place*. `slow = …` only gives a new meaning to the name; methods that end in an underscore (`mul_`, `add_`, `copy_`, `lerp_`) change the tensor itself.
#| hint: For each pair of parameters: multiply the slow one by `decay`, then add `1 - decay` times the fast one (`slow.lerp_(fast, 1 - decay)` does both). For each pair of buffers: `slow.copy_(fast)`.

# %%
#| check: ema_update
slow, fast = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
nn.init.constant_(fast.weight, 2.0)
fast.running_mean.fill_(7.0)
assert ema_update(slow, fast, 0.9) is None, "ema_update changes the slow copy and returns nothing"
expected = torch.tensor([1.1, 1.1])
assert torch.allclose(slow.weight, expected, atol=1e-6), (
    "0.9 of the old weight 1, 0.1 of the new weight 2: 1.1"
)
assert torch.equal(slow.running_mean, fast.running_mean), "buffers should be copied as they are"
assert torch.equal(fast.weight, torch.full((2,), 2.0)), "the model itself must stay as it is"

# %%
walk = 1 - torch.exp(-torch.arange(300) / 60) + 0.15 * torch.randn(300)
lines = {"the weight itself": walk.tolist()}
for decay in (0.5, 0.95, 0.998):
    slow, fast = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.zeros_(slow.weight)
    lines[f"slow copy, decay {decay}"] = path = []
    for value in walk:
        nn.init.constant_(fast.weight, value)
        ema_update(slow, fast, decay)
        path.append(slow.weight.item())
show.curves(
    range(300),
    lines,
    xlim=(0, 450),  # room for the legend
    xlabel="training step",
)

# %% [markdown]
r"""
Too quick a copy (0.5) still jitters. Too slow a copy (0.998) comes too late: it still remembers where it began, which for a network means random weights. Our training loop starts with a small decay and lets it grow: forget the start first, average later.
"""

# %% [markdown]
r"""
## 4. Train

Three tricks make eight minutes enough.

**A head start.** You saw in section 2 that copying the input is a fine answer near pure noise. So the network gets the copy for free, and only has to correct it. (The copy is scaled by the noise's strength: the less noise, the less of it is right.)

$$\text{noise\_pred} = \sqrt{1-\bar\alpha_t}\; x_t + \sqrt{\bar\alpha_t}\cdot\text{unet}(x_t, t)$$

The correction is scaled too: the more noise, the less of it. (Section 7 shows what for.) The UNet's last layer starts at zero, so at first it answers 0 everywhere and the scaled copy stands alone. So at the steps that we practise, your loss begins at about 0.27 ([why](more.md)), far below the ceiling, and only its fall from there has been learnt.

**Practice where it counts.** A digit's shape is decided where there is much noise, but not where there is nothing else. So `middle_steps` draws nine of ten steps around 730, and the tenth evenly from below 450. Where there is little noise the errors are largest, as section 2 showed, but they hardly show in the picture. So `heard_by_noise` lets each picture move the weights only by its share of noise, $1-\bar\alpha_t$: it leaves the loss as it is, and shrinks its gradient. ([More about it](more.md).)

**Less to look at.** The two outermost rows and columns on each side hold hardly any ink. So the network sees only the middle, 24×24 pixels: `model.middle` cuts it out, `model.inside` is the network for it. We treat the margin as empty paper, so whatever else is in it must be noise. (One digit in eight loses a little ink, like the foot of the 7 below.)

Then the picture is *folded*: each block of 2×2 pixels becomes the four channels of one big pixel. Nothing is lost, and the UNet has four times fewer places to visit.
"""

# %%
middle = test_images[:1, :, 2:-2, 2:-2]
folded = F.pixel_unshuffle(middle, 2)  # (1, 1, 24, 24) -> (1, 4, 12, 12)
assert torch.equal(F.pixel_shuffle(folded, 2), middle)  # and back again, without loss
show.show_images(
    [test_images[0], middle[0], *folded[0][:, None]],
    ["1 × 28 × 28", "1 × 24 × 24", "channel 0", "channel 1", "channel 2", "channel 3"],
    alt="A digit, its middle, and the four coarse versions that hold every second pixel each.",
)

# %% [markdown]
r"""
The training loop is lesson 2's, with a slow copy and [another optimiser](more.md):

```python
for x_0 in batches:
    loss = loss_fn(model, x_0)  # your ddpm_loss, each sample with its own t and noise
    model.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # no single batch may push too hard
    optimizer.step()
    ema_update(ema_model, model, decay)  # yours; decay grows from 0.1 to 0.997
```

The second cell takes about 4 to 9 minutes on two CPU cores. Stop it whenever you like (the red text is normal): run the cell again, and it goes on from where it last saved its state, at most a hundred steps back. After any change to `ddpm_loss` or `ema_update`, delete the file that the cell names, else your old weights stay. Read on while it runs! Cells wait for the training, but you can write the next exercise, save the notebook, and grade it in a terminal: `make grade lesson=3 only=predict_x_0`.
"""

# %%
plan = recipe(tier())
model = plan.build().to(device)
schedule = alphas_cumprod.to(device)
size = sum(weights.numel() for weights in model.parameters())
print(f"{size / 1e6:.2f} million weights, {plan.training.steps} steps of {plan.batch_size} digits")


def loss_fn(model: nn.Module, x_0: Tensor) -> Tensor:
    x_0 = model.middle(x_0)  # without the margin
    t = middle_steps(x_0, T)
    predict = heard_by_noise(model.inside, schedule)
    return ddpm_loss(predict, x_0, t, torch.randn_like(x_0), schedule)


# %%
batches = Batches(images, batch_size=plan.batch_size)
file = metrics.DATA / "runs" / f"lesson_3_{tier()}_{len(images)}.safetensors"
checkpoint = pick(smoke=None, cpu=file, gpu=file)  # where to go on after a break
print("state saved in:", checkpoint)
for state in train(model, loss_fn, batches, plan.training, checkpoint, ema_update):
    denoiser = state.ema_model  # the slow copy is the one to keep

# %% [markdown]
r"""
Is that good? Here is your loss with the ceiling at 1.0 and the band in which the same recipe ran when the course was made.

**Predict before you run.** After how many steps will your loss have fallen below 0.1, a tenth of the ceiling: ten, a hundred, or all of them?
"""

# %%
show_ddpm.loss_picture(state.losses, tier())

# %% [markdown]
r"""
This is how it went when the course was made:

![Loss against training step: it falls steeply from about 0.2, then slowly, inside a narrow shaded band far below the ceiling at 1.](figures/loss.png)

It is below 0.1 after about a hundred steps. Then it hardly moves, and yet the digits keep getting better for a long time. That is normal for diffusion models. Most of what is left after the first drop is noise that nobody could predict; what counts for the picture lies in a few thousandths.
"""

# %% [markdown]
r"""
## 5. What does the network think?

The network says which noise it sees. Take that noise away, and what remains is its idea of the clean picture. Lesson 2's `take_off` did that: the equation of section 2, solved for $x_0$ (equation 15):

$$\hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\cdot\text{noise\_pred}}{\sqrt{\bar\alpha_t}}$$

In words: remove the noise, then turn the brightness up again. (Lesson 1's `gather` gives each picture its own $\bar\alpha_t$.)

**Predict before you run.** We will hide a digit under more and more noise and ask for $\hat x_0$. At the last step nothing of the digit is left. What will the network answer there: a wrong digit, grey noise, or something else?
"""

# %%
#| exercise: diffusion.predict_x_0
#| points: 15
#| difficulty: 2
#| minutes: 6
#| hint: Write $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\cdot\text{noise}$ on paper and solve it for $x_0$.
#| hint: Every sample has its own step, so $\bar\alpha_t$ must have the shape (B, 1, 1, 1) to multiply (B, C, H, W). `gather(alphas_cumprod, t, like=x_t)` from lesson 1 gives that.
#| hint: Subtract `(1 - alpha_bar_t).sqrt() * noise_pred` from `x_t`, put brackets around the difference, divide all of it by `alpha_bar_t.sqrt()`.

# %%
#| check: predict_x_0
x_0, noise, t = test_images[:8], torch.randn(8, 1, 28, 28), torch.randint(T // 2, (8,))
x_t = add_noise(x_0, noise, t, alphas_cumprod)
again = predict_x_0(x_t, noise, t, alphas_cumprod)
assert again.shape == x_0.shape, "one clean picture for each noisy one, of the same shape"
assert torch.allclose(again, x_0, atol=1e-3), "given the true noise, it must give back x_0"

# %%
t = torch.tensor(stages)
x_0 = test_images[4:5].expand(len(t), -1, -1, -1)
guesses = {}
for name in ("guess", "other\nnoise", "yet\nother"):
    x_t = add_noise(x_0, torch.randn(x_0.shape), t, alphas_cumprod).to(device)
    with torch.no_grad():
        noise_pred = denoiser(x_t, t.to(device))
    guesses.setdefault("shown", x_t)  # the first guess is made from it
    guesses[name] = predict_x_0(x_t, noise_pred, t.to(device), alphas_cumprod)
show.film_strip(
    guesses,
    [f"t = {step}" for step in stages],
    alt="Above a digit under more and more noise, below it the network's guess at each step, then "
    "its guesses for two other pictures of noise.",
)

# %% [markdown]
r"""
As long as something of the digit is visible, the guess is sharp and right. With more noise it may be a clear digit and the *wrong* one. Then it blurs. The network is not being lazy: if the picture might be a 4 or a 9, the answer with the smallest *mean* square error is the average of both, and an average is a blur.

At the last step nothing is left to see, and the best answer would be the average of *all* digits: a smooth grey blob, the same for every noise. (Lesson 1 drew it.) Yours is a grainy blob, perhaps with the ghost of a digit in it. That is this network's error: `middle_steps` hardly ever draws a step above 985 ([measured](more.md)), so the last ones were practically never practised. That does little harm, as at those steps the noise comes out right without practice: it is the copy, the head start.

So we cannot jump from noise to a digit in one go. We have to **decide a little at a time.** Go one small step towards the guess and look again. Now some of the possibilities have dropped out, so the new guess is sharper. Step again.
"""

# %% [markdown]
r"""
## 6. Between the clean guess and where we are

How far is one small step? Suppose that somebody tells us the clean picture. Then we know both ends, $x_0$ and $x_t$, and ask only: where was the picture one step before $x_t$? Mostly in between. The probability of each place, now that we know the ends, is called the *posterior*: "posterior" just means *after having seen the facts*. Here it is for a single pixel:

![Three panels for t = 30, 4 and 1 of 60. In each a dashed line on the left for the clean value, one on the right for x_t, and a bell between them for the step before. At t = 30 the bell is wide and lies near x_t; at t = 4 it is narrower and two thirds of the way towards x_t; at t = 1 it is very narrow and nearer to the clean value.](figures/posterior.png)

(All three bells are drawn equally high, to be seen.)

Where does it come from? Two bells are multiplied: where may $x_{t-1}$ be, if it was made from $x_0$, and from which of these places does one step lead to $x_t$? The bell sits near $x_t$ for most of the road, as one step cannot take us far. As we come closer it slides towards $x_0$ and gets narrower. Its centre is a weighted sum of both ends, and the variance gives its width (equations 6 and 7):

$$\text{mean} = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,x_0 + \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,x_t, \qquad \text{variance} = \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t$$

with $\alpha_t = \bar\alpha_t/\bar\alpha_{t-1}$, what one step keeps, and $\beta_t = 1 - \alpha_t$, what it adds. Do not learn it by heart. Read it. In the weight of $x_0$ stands $\beta_t/(1-\bar\alpha_t)$: the noise that this one step added, *as a share of all noise in* $x_t$. (The root before it says how strong the picture still is: near 1 at small $t$, near 0 at the noisy end.) The weight of $x_t$ goes with the noise that was there before, $1-\bar\alpha_{t-1}$.

And before $t = 0$? There is the clean picture itself, all signal and no noise: $\bar\alpha_{-1} = 1$. This helper puts that 1 in front:
"""

# %%
#| given: diffusion.previous

# %% [markdown]
r"""
**Predict before you run.** What do mean and variance become at $t = 0$? Put $\bar\alpha_{-1} = 1$ into both formulas.
"""

# %%
#| exercise: diffusion.posterior_mean_variance
#| points: 20
#| difficulty: 3
#| minutes: 15
#| hint: Four numbers a sample are all you need: $\bar\alpha_t$, $\bar\alpha_{t-1}$, then $\alpha_t$ and $\beta_t$ made from those two. Give each the shape (B, 1, 1, 1).
#| hint: `gather(alphas_cumprod, t, like=x_t)` is $\bar\alpha_t$. `gather(previous(alphas_cumprod), t, like=x_t)` is $\bar\alpha_{t-1}$; it is right at $t = 0$ too, while `alphas_cumprod[t - 1]` would wrap round to the last, noisiest step.
#| hint: `alpha_t` is the first divided by the second, `beta_t` is `1 - alpha_t`. Then write the two weights and the variance down as they stand in the equation, and return a pair: the weighted sum of `x_0` and `x_t`, and the variance.

# %%
#| check: posterior_mean_variance
x_0, x_t, t = test_images[:3], torch.randn(3, 1, 28, 28), torch.tensor([0, T // 2, T - 1])
mean, variance = posterior_mean_variance(x_0, x_t, t, alphas_cumprod)
assert mean.shape == x_t.shape, "the mean is a picture"
assert variance.shape == (3, 1, 1, 1), "the variance is one number a sample: (B, 1, 1, 1)"
assert torch.allclose(mean[0], x_0[0], atol=1e-3), "at t = 0 the mean is the clean picture"
assert variance[0].abs() < 1e-6, "at t = 0 nothing is left to decide: variance 0"
assert (variance[1:] > 0).all(), "at other steps the variance is above 0"
two, one, zero = torch.tensor([0.9, 0.5]), torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
mean, variance = posterior_mean_variance(one, zero, torch.tensor([1]), two)  # a film of 2 steps
assert abs(mean - 0.8433) < 1e-3, f"by hand: √0.9 · (4/9) / 0.5 = 0.843 of x_0, not {mean.item()}"
assert abs(variance - 0.0889) < 1e-3, f"by hand: (4/9) · 0.1 / 0.5 = 0.089, not {variance.item()}"
mean, _ = posterior_mean_variance(zero, one, torch.tensor([1]), two)
assert abs(mean - 0.1491) < 1e-3, f"by hand: √(5/9) · 0.1 / 0.5 = 0.149 of x_t, not {mean.item()}"

# %% [markdown]
r"""
Here are your weights, read off by putting in $x_0 = 1, x_t = 0$ and the other way round.
"""

# %%
t = torch.arange(T)
one, zero = torch.ones(T, 1, 1, 1), torch.zeros(T, 1, 1, 1)
weight_x_0, variance = posterior_mean_variance(one, zero, t, alphas_cumprod)
weight_x_t, _ = posterior_mean_variance(zero, one, t, alphas_cumprod)
values = {"weight of x_0": weight_x_0, "weight of x_t": weight_x_t, "√variance": variance.sqrt()}
show.curves(
    t,
    {label: value.flatten() for label, value in values.items()},
    xlabel="step t",
    yscale="log",
    ylim=(1e-3, 2),
)

# %% [markdown]
r"""
For most of the road one guess hardly moves the picture: its weight is a few thousandths. But hundreds of steps add up. Only at small $t$ does it take over, and at $t = 0$ the result *is* the guess.

(At the right edge the weight of $x_t$ drops as well. There the picture is all noise, and each step swaps old noise for new.)
"""

# %% [markdown]
r"""
## 7. One step back

We do not know the clean picture. But we have a guess of it, $\hat x_0$, and we put that in its place:

$$x_{t-1} = \text{mean}(\hat x_0, x_t) + \sqrt{\text{variance}}\cdot\text{fresh noise}$$

**Why may a guess, at worst a blur, stand for the clean picture?** Because the mean is a *weighted sum* of the clean picture and $x_t$. If the clean picture may be a 4 or a 9, the next $x_{t-1}$ lies in a bell round one of two means, and the average of these (each counted as it is likely) is just what the blur, the average of 4 and 9, gives. So the centre is right. All that is lost is a little extra spread, since the two means lie apart. It is little as long as the steps are short ([why](more.md)).

**Why add noise again, when we want to get rid of it?** Since the posterior is a bell and not a point. To land on its centre every time is to lose the spread at every step, until all paths are one. Look at a world with one pixel, where real data are the two blue bumps. Each grey line is one path ([more about them](more.md)):

![Paths of one pixel from noise at the left to data at the right. With fresh noise the paths end spread over two bumps, just as the data do. Without it, all paths run together at once and end at one single value.](figures/why_noise.png)

There is a second reason. In training each picture had *exactly* the noise of its step. Leave the fresh noise out, and our picture is too clean for its step: the network has never seen such a thing.

**Why none at the last step?** Nobody would remove it again. The formula says so by itself, as you found: at $t = 0$ the variance is 0. Other choices of the variance are not 0 there. With few steps, they leave a grain on every picture ([how much](more.md)). Such code must leave out the noise of the last step.

**Why clip the guess to [-1, 1]?** Real pixels lie there, so a guess outside is wrong for certain. At the noisiest steps we divide by $\sqrt{\bar\alpha_t}$, almost zero. Clipping stops an error there before it spreads, though our own network hardly needs that, as you will see. (Clip the *guess*, never $x_{t-1}$, which still holds noise and has every right to lie outside.)

**Predict before you run.** At the noisiest step, let the predicted noise be wrong by just one hundredth. How wrong is the guess: by 0.01, by 1, or by more than 100?
"""

# %%
#| exercise: diffusion.ddpm_step
#| points: 20
#| difficulty: 2
#| minutes: 10
#| hint: You have written both parts. First `predict_x_0`, then (if `clip_sample`) clip, then `posterior_mean_variance`, then one line.
#| hint: Clipping is `x_0_pred.clamp(-1, 1)`. The noise is scaled by the *root* of the variance. No `if t == 0` is needed: there the variance is 0.
#| hint: `x_0_pred` from `predict_x_0`; clamp it if asked; `mean, variance = posterior_mean_variance(x_0_pred, x_t, t, alphas_cumprod)`; return the mean plus `variance.sqrt()` times `noise`.

# %%
#| check: ddpm_step
x_0, noise, t = test_images[:4], torch.randn(4, 1, 28, 28), torch.tensor([0, 1, T // 2, T // 2])
x_t = add_noise(x_0, noise, t, alphas_cumprod)
fresh = torch.randn(4, 1, 28, 28)
x_prev = ddpm_step(x_t, noise, t, fresh, alphas_cumprod)
assert torch.allclose(x_prev[0], x_0[0], atol=1e-3), "at t = 0: the guess itself, without noise"
assert x_prev[2:].abs().max() > 1, "x_{t-1} still holds noise: clip the guess, not the result"
again = ddpm_step(x_t, noise, t, -fresh, alphas_cumprod)
assert not torch.allclose(x_prev[2:], again[2:]), "at other steps the fresh noise must matter"
_, variance = posterior_mean_variance(x_0, x_t, t, alphas_cumprod)
assert torch.allclose((x_prev - again) / 2, variance.sqrt() * fresh, atol=1e-3), (
    "the fresh noise should have the size of the standard deviation, not of the variance"
)
far = ddpm_step(x_t, 50 * noise, torch.zeros(4).long(), fresh, alphas_cumprod)
assert far.abs().max() <= 1, "the guess should be clipped to [-1, 1]"

# %%
t = torch.tensor([T - 1])
x_0, noise = test_images[:1], torch.randn(1, 1, 28, 28)
x_t = add_noise(x_0, noise, t, alphas_cumprod)
off_by_a_hundredth = noise + 0.01
guess = predict_x_0(x_t, off_by_a_hundredth, t, alphas_cumprod)
print(f"the guess is wrong by {(guess - x_0).abs().mean():,.0f}")

# %% [markdown]
r"""
More than 100: the error of 0.01 is divided by $\sqrt{\bar\alpha_{T-1}}$, which is 0.00005.

(Our network is safer than most: the $\sqrt{\bar\alpha_t}$ of its head start undoes this very division. Most networks have no such help.)
"""

# %% [markdown]
r"""
## 8. The whole road

Now only the loop is missing, algorithm 2 of the paper:

> start from pure noise, $x_T$<br>
> for $t = T-1, \dots, 1, 0$: ask the model for the noise, draw fresh noise, take one step

![Film of one digit. Upper row: x_t, from noise to a clean digit. Lower row: the network's guess at each of these moments, from grey fog to the same digit, sharp much earlier.](figures/film.png)

($x_T$ is the papers' name for pure noise. They count their steps from 1; our network sees it at $t = T-1$.)

`generator` is a source of random numbers with a seed: the same seed gives the same pictures again. `on_step` is a function that we call after each step with its number (an int), the new picture and the predicted noise, so that somebody can watch.

**Predict before you run.** In the film, when can *you* first tell which digit it will be: from the upper row, and from the lower row?
"""

# %%
#| exercise: diffusion.sample_ddpm
#| points: 15
#| difficulty: 3
#| minutes: 12
#| hint: One `for` loop over `reversed(range(len(alphas_cumprod)))`. Inside it: t, the model's answer, fresh noise, `ddpm_step`, `on_step`.
#| hint: The model wants one step a sample. `torch.full((len(x),), step, dtype=torch.int64, device=x.device)` makes such a tensor. Draw the noise *inside* the loop, new at each step, with `torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)`.
#| hint: Let `x = x_T`. In the loop: `noise_pred = model(x, t)`, then `x` becomes `ddpm_step` of `x`, `noise_pred`, `t`, the fresh noise, the schedule and `clip_sample`; then `on_step(step, x, noise_pred)` unless it is `None`. After the loop return `x`.


# %%
#| check: sample_ddpm
class PerfectModel(nn.Module):
    """Knows the noise exactly, for data that consist of one picture: a flat grey of 0.5."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
        return (x_t - 0.5 * alpha_bar_t.sqrt()) / (1 - alpha_bar_t).sqrt()


seen = []
grey = sample_ddpm(PerfectModel(), torch.randn(2, 1, 4, 4), alphas_cumprod)
assert grey.shape == (2, 1, 4, 4), "as many pictures as there were in x_T, of the same shape"
assert all(t.shape == (2,) for t in seen), "the model wants one step a sample: t of shape (B,)"
assert [t[0] for t in seen] == list(reversed(range(T))), "every t once, from T - 1 down to 0"
assert torch.allclose(grey, torch.full_like(grey, 0.5), atol=1e-2), "this should be flat grey"

# %% [markdown]
r"""
And now the moment. Thirty pictures of pure noise, a thousand steps, your code. (A minute or two on two cores. `Film` looks on through `on_step` and keeps 25 moments.)
"""

# %%
count = pick(smoke=8, cpu=30, gpu=400)
x_T = torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(3)).to(device)
generator = torch.Generator(device).manual_seed(4)
film = show_ddpm.Film(x_T, predict_x_0, alphas_cumprod)
samples = sample_ddpm(denoiser, x_T, alphas_cumprod, generator, on_step=film).cpu()

# %%
show.show_images(samples[:30], columns=10, alt="Pictures that your network made.")

# %% [markdown]
r"""
They are not all perfect. (Look closely: the black is not quite even. The network's errors at the very last steps leave this faint grain.)

Move the slider to walk along the road yourself, with eight pictures at once: above, where they were; below, what the network took them for.
"""


# %%
def look(moment: int) -> show.Picture:
    t = film.steps[moment]
    rows = {"x_t": film.x[t], "guess": film.guess[t]}
    return show.film_strip(rows, alt=f"Eight pictures at t = {t}, with guesses", caption=f"t = {t}")


show.slider(look, moment=(0, len(film.steps) - 1, 1))

# %% [markdown]
r"""
In the film at the top of this section the guess is a 6 at t = 749; in $x_t$ itself one sees it near 600. When was it in yours? The guess is fog first, then a posture (slanted? round?), then a digit, then the ends of the strokes. On the way it may change its mind, from a 9 to a 7, say. **The large is decided first, the small last.**

## 9. Digits, or copies, or broken?

**Are they digits?** A judge reads them: a small network that was trained on real digits and on non-digits (noise, scribbles, halves of digits, overlaid pairs), to which it should answer "no digit". We count the pictures that it reads as a digit, more than 90 % sure. On its own, such a share means nothing, so the judge reads real test digits and pure noise too.
"""

# %%
real = test_images[:1000]
for name, pictures in {
    "your samples": samples,
    "real digits": real,
    "pure noise": torch.randn(200, 1, 28, 28),
}.items():
    share = metrics.recognisability(pictures)
    print(f"{name:13} read as a digit, with confidence: {share:.1%} of {len(pictures)}")

# %% [markdown]
r"""
(Thirty pictures are few: the next thirty of the same network may well get 10 points more or fewer. Section 10 has thousands.)

**Are they copies?** A program that hands out training pictures would pass every test of beauty. So for each sample we find the most similar of all 60,000 training digits.

![Upper row: eight samples. Lower row: for each the most similar training digit. The pairs are alike in kind, but differ in slant, thickness and stroke ends.](figures/neighbours.png)

(The numbers are distances: the root of the sum of the squared differences of all pixels.)

**Predict before you run.** Test digits were never trained on, so they cannot be copies. If our samples were copies, would their distance to the nearest training digit be smaller than that of test digits, or larger?
"""

# %%
distances, nearest = metrics.nearest_distances(samples, images)
distances_real, _ = metrics.nearest_distances(
    test_images[: pick(smoke=20, cpu=300, gpu=2000)], images
)
print(f"median distance to the nearest training digit: samples {distances.median():.2f}, ", end="")
print(f"real test digits {distances_real.median():.2f}")
show.film_strip(
    {"sample": samples[:8], "nearest": images[nearest[:8]]},
    [f"{distance:.1f}" for distance in distances[:8]],
    alt="Samples, their nearest training digits, and the distance between them.",
)

# %%
show_ddpm.distance_picture(distances, distances_real)

# %% [markdown]
r"""
Less than a million weights have no room for the 47 million pixels of the training pictures: a network has to learn how strokes go. Copies would lie much *nearer* than test digits do, and exact ones at distance 0. Do yours? (With thirty samples, a difference of less than 1 between your two medians may be chance.)

**Training, or broken?** When samples look bad, should you train longer, or search for a bug? Bugs have faces. In each row but the first, one thing was broken. All rows but one come from *the same trained network*.

![Seven rows of eight pictures. The first is healthy. The others, marked A to F, are broken in different ways.](figures/broken.png)

**Predict before you look.** Match A to F with these: *noise is added at the last step too · no fresh noise at all · the guess is clipped to [0, 1] · the square roots are missing in the guess · the sampler uses another schedule (the linear one) than the training · the network was never trained*.
"""

# %% [markdown]
r"""
<details><summary>Which is which?</summary>

- **A: another schedule** (the linear one). Clean strokes, but no digits: there is more noise in the picture than the network is told (at t = 300 its strength, √(1−ᾱ), is 0.78 where 0.46 is expected), and it takes the rest for strokes.
- **B: noise at the last step**, here of size 0.3, so that you see it. Good digits under a grain, stronger than that of section 8.
- **C: never trained.** Noise in, noise out. (The frame is black since the margin needs no network.)
- **D: no fresh noise.** All paths run together, as in the world of one pixel, so all samples are the same.
- **E: clipped to [0, 1].** Black is -1, so the guess can never be black: the frame ends grey. Each picture on the way is brighter than any that the network knows, and its strokes run into blobs.
- **F: square roots missing.** Torn strokes and specks: $1-\bar\alpha_t$ is less than its root, so too little noise is taken away, and a division by $\bar\alpha_t$ in place of its root makes too much of what is left.

Only C gets better with training. And some bugs are *not* in the gallery, as nobody could see them. Without clipping, this network makes nearly the same digits, thanks to its head start. That is why your code is tested and not only looked at.

</details>

Now break your own: change what this step breaks, guess what the digits will look like, and run.
"""


# %%
def broken_step(x_t, noise_pred, t, noise, alphas_cumprod):
    """Adds noise (a lot, to be seen) at the last step too. Break something else if you like."""
    x_prev = ddpm_step(x_t, noise_pred, t, noise, alphas_cumprod)
    return x_prev + 0.3 * noise if t[0] == 0 else x_prev


x = x_T[:4]
for step in tqdm(range(T - 1, -1, -1)):
    t = torch.full((4,), step, device=device)
    with torch.no_grad():
        x = broken_step(x, denoiser(x, t), t, torch.randn_like(x), alphas_cumprod)
show.show_images(x, columns=4, width=4, alt="Four pictures from the broken sampler.")

# %% [markdown]
r"""
## 10. How good is it? The lesson's own table

The figures below are of the course's own network: the CPU recipe, and many more samples than a notebook has time for ([the commands](more.md)).

Our aim was 85 % of what real digits get, a round number. The network just reaches it, but the margin is smaller than chance fluctuations in such a figure. What keeps it from 100 %: strokes break off, loops stay open.

The *Fréchet distance* compares two crowds of pictures instead of single ones: are all digits there, as often and as varied as in real handwriting? (It is measured on the numbers that a digit classifier makes of each picture: how far apart are the crowds' means, how different is their spread? It has no unit.) Two crowds of real digits do not get 0 either, so what they get, the *floor*, stands next to it. Ours is well above the floor: its digits are less varied, or less well made, than people's.
"""

# %%
#| table: show_ddpm.results_table

# %% [markdown]
r"""
## 11. What was left out, and where these lines live in real systems

- **A thousand steps are many.** Lesson 4 makes do with twenty, with the same network.
- **You cannot say which digit you want.** Lesson 5 adds that, and from lesson 6 on it will be words.
- **Copies do happen elsewhere.** Large models that saw the same picture hundreds of times can give it back (Carlini et al. 2023). "It learns structure" is a thing to measure, as you did, and not a law.
- **The papers' words** for what you did (score, Langevin dynamics, ELBO, FID): [Notation](../../NOTATION.md) has them, in this course's symbols.
- **Smaller tricks**, and who clips: [more about the measurements](more.md).

In Hugging Face's *diffusers*, which runs Stable Diffusion, your lines look like this:

| yours | theirs |
|---|---|
| `predict_x_0` | `DDPMScheduler.step`, part 2 |
| `clamp(-1, 1)` | `DDPMScheduler.step`, part 3, `clip_sample` |
| `posterior_mean_variance` | `DDPMScheduler.step`, parts 4 and 5, and `_get_variance` with `variance_type="fixed_small"` |
| `previous` | `previous_timestep` and `self.one` |
| `sample_ddpm` | `DDPMPipeline.__call__` |
| `ema_update` | `diffusers.training_utils.EMAModel.step` |

Both take the same step here, with the same noise:
"""

# %%
from diffusers import DDPMScheduler

theirs = DDPMScheduler(T, beta_schedule="squaredcos_cap_v2", clip_sample=True)
x_t, noise_pred = torch.randn(8, 1, 28, 28), torch.randn(8, 1, 28, 28)
noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(0))
ours = ddpm_step(x_t, noise_pred, torch.full((8,), T // 2), noise, alphas_cumprod)
generator = torch.Generator().manual_seed(0)
step = theirs.step(noise_pred, T // 2, x_t, generator=generator).prev_sample
difference = (ours - step).abs().max()
print(f"largest difference to diffusers: {difference:.1e} (below 1e-5 if yours is right)")

# %% [markdown]
r"""
## Three questions
"""

# %%
#| quiz: fine_grain

# %%
#| quiz: foggy_guess

# %%
#| quiz: far_from_training

# %% [markdown]
r"""
## The papers

- Sohl-Dickstein et al. 2015, *Deep unsupervised learning using nonequilibrium thermodynamics*, [arXiv:1503.03585](https://arxiv.org/abs/1503.03585): the idea.
- Ho, Jain, Abbeel 2020, *Denoising diffusion probabilistic models*, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239): this lesson. Algorithms 1 and 2 stand side by side on page 4; you can read them now.
- Nichol, Dhariwal 2021, *Improved denoising diffusion probabilistic models*, [arXiv:2102.09672](https://arxiv.org/abs/2102.09672): the cosine schedule; the network predicts the variance too, which helps with few steps.
- Carlini et al. 2023, *Extracting training data from diffusion models*, [arXiv:2301.13188](https://arxiv.org/abs/2301.13188): when models do memorise.

**Next, lesson 4:** the same network, fifty times faster.
"""
