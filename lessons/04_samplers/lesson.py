# %% [markdown]
r"""
# Lesson 4 · Faster samplers

![Four rows of ten digits, made from the same noise: by DDPM in 1,000 steps, by DDIM in 20, by DPM-Solver++(2M) in 20 and by its form with fresh noise, SDE-DPM-Solver++(2M), in 20. In the second and the third row several digits are broken.](figures/headline.png)

**One network, one noise, four samplers.** The first row took a thousand calls of the network from lesson 3. The others took twenty. Nothing was trained in between: all of the saving is arithmetic, and you are about to write most of it. Look closely, though: in the second and the third row several digits came out broken. Section 9 measures what that costs, and what the fourth row does about it. (The first and the fourth row show other digits because they add fresh noise on the way.)

Three ideas get you there:

1. **Skip steps, but say so.** A step may be long if its formula knows how long it is.
2. **Keep the noise.** DDPM throws the noise away at each step and draws new. DDIM keeps it, and the road becomes smooth (Song et al. 2021).
3. **Look where the guess is heading.** DPM-Solver++ remembers one guess and cuts the corner less (Lu et al. 2022).

Plan about 90 minutes. There is no training in this lesson.
"""

# %%
from t2i.lesson import start

start(4)

# %%
from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from t2i import sampler_tables, show, show_samplers
from t2i.data import mnist
from t2i.diffusion import ddpm_step, predict_x_0
from t2i.lesson import pick
from t2i.mixture import Mixture
from t2i.sampler_parts import check_pictures, check_signal, check_step
from t2i.sampler_runs import Ruler, load_denoiser

# The three checks only name an argument that does not fit: you need not call them.
from t2i.samplers import PREDICTION_TYPES, SPACINGS
from t2i.schedules import add_noise, gather
from t2i.show_samplers import slerp

# %% [markdown]
r"""
## 1. Why not simply skip?

We take the network that you trained in lesson 3. If your training never came to its end, the course's own network stands in; the cell says which.
"""

# %%
device = "cuda" if torch.cuda.is_available() else "cpu"
denoiser, which = load_denoiser()
denoiser = denoiser.to(device)
alphas_cumprod = denoiser.alphas_cumprod.cpu()
T = len(alphas_cumprod)
test_images, _ = mnist("test")
print(f"Sampling with {which}, {T} steps, on {device}.")


# %%
def start_noise(count: int, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, 28, 28, generator=generator).to(device)


# %% [markdown]
r"""
A thousand steps are slow because the network is called a thousand times. So let's call it less: visit every fiftieth step and use `ddpm_step` from lesson 3 as it is.

**Predict before you run.** Twenty steps in place of a thousand, with a step that believes it goes from $t$ to $t-1$. What comes out: blurred digits, other digits, or noise?
"""

# %%
x = start_noise(8)
for step in range(T - 1, -1, -T // 20):
    t = torch.full((8,), step, device=device)
    with torch.no_grad():
        x = ddpm_step(x, denoiser(x, t), t, torch.randn_like(x), alphas_cumprod)
show.show_images(x.cpu(), alt="What comes out when lesson 3's step is used at every fiftieth t.")

# %% [markdown]
r"""
Almost nothing but noise. Each step removed *one* step's worth of noise, and then we told the network that fifty steps' worth were gone. The picture and the number $t$ no longer belong together.

A long step needs a formula that knows both ends: where it starts, $t$, and where it lands, `t_prev`, which may lie far below. That is all that needs mending. Before we get to it, two preparations: what the network tells us, and which steps to visit.
"""

# %% [markdown]
r"""
## 2. Three ways to say one thing

Lesson 3 found that noise and clean picture are two sides of one statement: know $x_t$ and the one, and you know the other. There is a third side. It comes from a picture that we'll need all lesson long:

![A quarter circle. The clean picture x_0 lies to the right, the noise at the top, x_t on the arc between them at an angle φ. An arrow as long as x_t touches the circle there and points on along the arc, towards the noise: v. A paler copy of it begins where x_t begins; the two make a right angle.](figures/circle.png)

Since $\bar\alpha_t$ and $1-\bar\alpha_t$ add up to 1, their roots are the cosine and the sine of some angle $\varphi$. So $x_t$ lies on an arc that begins at the clean picture ($\varphi = 0$) and ends at pure noise ($\varphi = 90°$). (The two are drawn at right angles because they really are, almost: in 784 dimensions a random direction has next to nothing in common with any given picture.) **To sample is to walk along the arc from the top down to the right.**

$$x_t = \underbrace{\sqrt{\bar\alpha_t}}_{\cos\varphi}\,x_0 + \underbrace{\sqrt{1-\bar\alpha_t}}_{\sin\varphi}\;\text{noise}, \qquad v = \sqrt{\bar\alpha_t}\;\text{noise} - \sqrt{1-\bar\alpha_t}\;x_0$$

The new thing, $v$, is the direction of the arc at $x_t$ (the "velocity", Salimans and Ho 2022). It points towards *more* noise, so against our walk. See in the picture, where a paler copy of $v$ begins at the corner: $x_t$ and $v$ are $x_0$ and the noise, both turned by $\varphi$. So whoever knows $x_t$ and $v$ only has to turn them back, by $-\varphi$, and need not divide by anything.

Networks out there predict any of the three. The names are those of *diffusers*: `"epsilon"` is the noise (papers write $\varepsilon$), `"sample"` is $x_0$, `"v_prediction"` is $v$. A sampler must translate.

**Predict before you run.** Let a network be wrong by 0.01 in what it predicts. Read as a clean picture, how wrong is that near pure noise, if it predicted the noise? If it predicted $v$?
"""

# %% [markdown]
r"""
(On docstrings: "Raises" tells what the course's own version refuses. Only one of these errors is graded in this lesson, the `ValueError` for an unknown spacing in section 3. Elsewhere, with arguments that make no sense, any error or none is fine.)
"""

# %%
#| exercise: samplers.convert_prediction
#| points: 20
#| difficulty: 2
#| minutes: 12
#| hint: Do it in two halves. First get *both* `x_0` and `noise`, whatever `source` is. Then hand out what `target` asks for.
#| hint: `alpha_bar_t = gather(alphas_cumprod, t, like=x_t)`; its root and the root of `1 - alpha_bar_t` are all the numbers you need. From "epsilon": solve the first equation for `x_0`, as in lesson 3. From "sample": solve it for the noise. From "v_prediction": you have two equations, for x_t and for v, with two unknowns. Multiply one by the cosine and the other by the sine, so that in their sum or difference one unknown drops out.
#| hint: With `c` and `s` for the two roots (cosine and sine): "epsilon" gives `x_0` as `(x_t - s * prediction) / c`; "sample" gives the noise as `(x_t - c * prediction) / s`; "v_prediction" gives `c * x_t - s * prediction` and `s * x_t + c * prediction`. At the end return the noise, the clean picture, or `c * noise - s * x_0`.

# %%
#| check: convert_prediction
x_0, noise, t = test_images[:4], torch.randn(4, 1, 28, 28), torch.tensor([10, 300, 600, 900])
x_t, a = add_noise(x_0, noise, t, alphas_cumprod), gather(alphas_cumprod, t, like=x_0)
truth = {"epsilon": noise, "sample": x_0, "v_prediction": a.sqrt() * noise - (1 - a).sqrt() * x_0}
for source, prediction in truth.items():
    for target, expected in truth.items():
        found = convert_prediction(prediction, x_t, t, alphas_cumprod, source, target)
        assert torch.allclose(found, expected, atol=1e-3), f"{source} to {target} is not right"

# %%
t = torch.arange(5, T, 5)
x_0 = test_images[:1].expand(len(t), -1, -1, -1)
noise = torch.randn(x_0.shape)
x_t = add_noise(x_0, noise, t, alphas_cumprod)
wrong = {}
for kind in PREDICTION_TYPES:
    right = convert_prediction(noise, x_t, t, alphas_cumprod, "epsilon", kind)
    guess = convert_prediction(right + 0.01, x_t, t, alphas_cumprod, kind, "sample")
    wrong[kind] = (guess - x_0).abs().mean(dim=(1, 2, 3))
show.curves(
    t,
    wrong,
    xlabel="step t",
    ylabel="error of the clean picture",
    yscale="log",
    alt="Error of the clean picture for an error of 0.01 in the prediction: noise explodes towards "
    "the last t, x_0 stays at 0.01, v grows from near 0 to 0.01.",
)

# %% [markdown]
r"""
A small error in the *noise* becomes a huge one in the clean picture at the noisy end, since we divide by $\sqrt{\bar\alpha_t}$. With `"sample"` it stays the same, with $v$ it never exceeds the network's own 0.01. This is one reason why so many newer models predict $v$, and it is the head start of lesson 3's network: inside, it predicts $v$, and translates.

## 3. Which steps?

We want to visit $N$ of $T$ steps. The list is called `timesteps` and runs from noisy to clean, for example 999, 749, 499, 249. From its last step we always jump to the clean end, which we call step $-1$ and leave out of the list. "Evenly spaced" sounds clear, but there are three ways to do it, and they differ **at the ends**, which is just where it hurts.

| spacing | how it goes, smallest step first | 4 of 1,000 |
|---|---|---|
| leading | from 0 upwards, in strides of $\lfloor T/N\rfloor$ | 0, 250, 500, 750 |
| trailing | from $T$ downwards, in strides of $T/N$; round, and take 1 off, because we count from 0 | 249, 499, 749, 999 |
| linspace | $N$ numbers from 0 to $T-1$, both included, all equally far apart; round | 0, 333, 666, 999 |

($\lfloor\cdot\rfloor$ means rounded down. What lies half way between two steps may go to either.) Your function returns them in falling order, as the sampler walks. With $N = 1$, linspace cannot include both ends; there it gives the step 0.

**Predict before you run.** Take $T = 1000$ and $N = 5$, and write down the three lists (499.5 rounds to 500). In which one is the network told "there is still some picture in here" about pure noise? In which one does it never get to see an almost clean picture?
"""

# %%
#| exercise: samplers.spaced_timesteps
#| points: 15
#| difficulty: 2
#| minutes: 10
#| hint: Two numbers make a spacing: where it begins, and its stride. With `i = torch.arange(num_inference_steps)`, all steps are the beginning plus `i` times the stride. Write the three pairs down first. At the end, turn whole numbers out (`.long()`) and see to the order (`.flip(0)` reverses it).
#| hint: Whole-number division `//` belongs to "leading" only. For the other two use floating point numbers (`dtype=torch.float64`) and `.round()`; merely cutting off the decimals shifts some of the steps by one.
#| hint: leading: `i * (T // N)`. trailing: `((i + 1) * T / N).round() - 1`. linspace: `(i * (T - 1) / max(N - 1, 1)).round()`; the `max` is for N = 1, which gives 0. Then `.long().flip(0)`. An unknown spacing should raise a `ValueError`.

# %%
#| check: spaced_timesteps
few = {name: spaced_timesteps(1000, 4, name) for name in SPACINGS}
assert few["leading"].tolist() == [750, 500, 250, 0], "leading, 4 of 1000"
assert few["trailing"].tolist() == [999, 749, 499, 249], "trailing, 4 of 1000"
assert few["linspace"].tolist() == [999, 666, 333, 0], "linspace, 4 of 1000"
five = spaced_timesteps(1000, 5, "linspace")
assert five.tolist() == [999, 749, 500, 250, 0], "linspace, 5 of 1000: round, don't cut off"
assert few["leading"].dtype == torch.int64, "steps are whole numbers: int64"
for name in SPACINGS:
    timesteps = spaced_timesteps(1000, 7, name)
    assert len(timesteps) == 7 and (timesteps[:-1] > timesteps[1:]).all(), f"{name}, 7 of 1000"

# %%
show_samplers.spacing_picture({name: spaced_timesteps(T, 5, name) for name in SPACINGS}, T)

# %% [markdown]
r"""
Read the picture from left to right, as the sampler walks.

- **Leading** begins late (orange-red). The sampler starts with pure noise all the same, but tells the network that it is at the first dot, where part of the picture should already be visible. The network believes it, and takes accidents of the noise for strokes of a digit.
- **Trailing** begins where it should, but from its final dot it jumps to the clean end at once (green). The last details are guessed from a picture that is still noisy.
- **Linspace** does neither. Its price: all strides are longer, since one of the $N$ calls is spent at $t = 0$, where there is next to nothing left to do.

How big is the lie that leading tells? This is the share of the variance that should be picture, at its first step:
"""

# %%
for count in (5, 10, 20, 50):
    first = spaced_timesteps(T, count, "leading")[0]
    print(f"{count:3} steps: leading begins at t = {first}, ", end="")
    print(f"where {alphas_cumprod[first]:.2%} should be picture; there is none")

# %% [markdown]
r"""
Lin et al. 2023 found that a famous text-to-image model could make no really dark and no really bright pictures: it was trained on pictures drowned in noise that still let their average brightness through, so it trusts the average of the pure noise that it starts from. With few steps "trailing" is usually the best choice, and it is our default. You will test that yourself in section 5.

## 4. DDIM: keep the noise

Look at the arc again. The network has told us both ends of it: a guess of the clean picture $\hat x_0$, and the noise. We want to stand at a lower angle, at `t_prev`. Why not simply **mix the same two again, with less noise?**

![Two panels with the same quarter circle. Left, DDIM with η = 0: the step goes along the arc to a lower angle, with the same noise. Right, η = 1: the noise is shortened and fresh noise in a new direction is added.](figures/ddim_step.png)

(In the right panel $x_{\text{prev}}$ seems to leave the circle. Fresh noise is at right angles to both axes, so its arrow really points out of the page; the length comes out right.)

$$x_{\text{prev}} = \sqrt{\bar\alpha_{\text{prev}}}\;\hat x_0 + \sqrt{1-\bar\alpha_{\text{prev}} - \sigma^2}\;\text{noise\_pred} + \sigma\cdot\text{noise}$$

Take $\sigma = 0$ first. Then it is just `add_noise` with the *predicted* noise. It knows both ends of the step, so it may be as long as we like. And nothing is random any more: the same $x_T$ always gives the same digit. This is DDIM.

(Why don't all paths run together, as in lesson 3 when its fresh noise was left out? There each step weakened the old noise, and nothing came in its place. Here the *predicted* noise goes back in at the full strength that belongs to `t_prev`, so the spread stays.)

With $\sigma > 0$, part of the predicted noise is swapped for fresh noise. The two parts have variances $1-\bar\alpha_{\text{prev}}-\sigma^2$ and $\sigma^2$; together that is the $1-\bar\alpha_{\text{prev}}$ that belongs to `t_prev`, whatever $\sigma$ is. We set it by a knob $\eta$ ("eta"), from 0 to 1:

$$\sigma = \eta\,\sqrt{\frac{1-\bar\alpha_{\text{prev}}}{1-\bar\alpha_t}}\,\sqrt{1 - \frac{\bar\alpha_t}{\bar\alpha_{\text{prev}}}}$$

The two roots should look familiar: for a single step $1-\bar\alpha_t/\bar\alpha_{\text{prev}}$ is $\beta_t$, so squared they are the variance from lesson 3. **At $\eta = 1$ this is DDPM**, for steps of any length. So one formula holds both samplers.
"""

# %% [markdown]
r"""
Two details. If the guess $\hat x_0$ is clipped to [-1, 1], the noise no longer fits: guess and noise must still make up $x_t$ together. So after clipping work the noise out again, $\text{noise\_pred} = (x_t - \sqrt{\bar\alpha_t}\,\hat x_0)/\sqrt{1-\bar\alpha_t}$. And near pure noise with $\eta = 1$, $1-\bar\alpha_{\text{prev}}-\sigma^2$ is almost 0; rounding can push it a hair *below* zero, where the root is NaN. So clamp it to at least 0 before you take the root.

Finally, `t_prev` may be $-1$, the clean end. This helper knows that $\bar\alpha_{-1} = 1$:
"""

# %%
#| given: sampler_parts.alpha_bar_at

# %% [markdown]
r"""
**Predict before you run.** What is $\sigma$ in the final step, where $\bar\alpha_{\text{prev}} = 1$? And what is left of the formula then?
"""

# %%
#| exercise: samplers.ddim_step
#| points: 20
#| difficulty: 3
#| minutes: 15
#| hint: Collect first: $\bar\alpha_t$ (with `gather`), $\bar\alpha_{\text{prev}}$ (with `alpha_bar_at`), the guess (with `predict_x_0(x_t, noise_pred, t, alphas_cumprod)`). Then clip, then σ, then the sum of three terms.
#| hint: After `clamp(-1, 1)` the noise must be worked out again from `x_t` and the clipped guess. σ is `eta` times a *root*; under the other root stands σ squared. `noise` may be None when `eta` is 0, so add the third term only if `eta > 0`.
#| hint: With `a` for $\bar\alpha_t$ and `p` for $\bar\alpha_{\text{prev}}$, σ is `eta` times the root of `(1 - p) / (1 - a) * (1 - a / p)`. The middle term is `(1 - p - sigma**2).clamp(min=0).sqrt()` times the noise; the clamp guards against a tiny negative number from rounding.

# %%
#| check: ddim_step
x_0, noise, fresh = test_images[:4], torch.randn(4, 1, 28, 28), torch.randn(4, 1, 28, 28)
t, t_prev = torch.tensor([900, 500, 500, 30]), torch.tensor([700, 499, 100, -1])
x_t = add_noise(x_0, noise, t, alphas_cumprod)
x_prev = ddim_step(x_t, noise, t, t_prev, alphas_cumprod, clip_sample=False)
expected = add_noise(x_0, noise, t_prev.clamp(min=0), alphas_cumprod)
assert torch.allclose(x_prev[:3], expected[:3], atol=1e-3), "eta = 0: the same noise, less of it"
assert torch.allclose(x_prev[3], x_0[3], atol=1e-3), "t_prev = -1: the clean picture itself"
one_step = ddim_step(x_t, fresh, t, t - 1, alphas_cumprod, eta=1.0, noise=noise)
assert torch.allclose(one_step, ddpm_step(x_t, fresh, t, noise, alphas_cumprod), atol=1e-3), (
    "eta = 1 and t_prev = t - 1 should be lesson 3's ddpm_step, with clipping too"
)
top, t_prev = torch.full((4,), 999), torch.tensor([0, 49, 100, 799])
x_prev = ddim_step(fresh, x_t, top, t_prev, alphas_cumprod, eta=1.0, noise=noise)
assert x_prev.isfinite().all(), "NaN from t = 999: is the number under the root clamped at 0?"

# %% [markdown]
r"""
(Your prediction: in the final step the first root in $\sigma$ is 0, so $\sigma = 0$; the root before noise_pred is 0 as well. Only $\hat x_0$ is left.)

## 5. The loop

The loop is lesson 3's with a list of steps. This helper pairs each step with the one after it, and the last with $-1$:
"""

# %%
#| given: sampler_parts.pairs

# %%
pairs(spaced_timesteps(1000, 4), alphas_cumprod)

# %%
#| exercise: samplers.sample_ddim
#| points: 15
#| difficulty: 2
#| minutes: 10
#| hint: `for step, step_prev in pairs(timesteps, alphas_cumprod):` and inside it what you know: t, the model's answer, fresh noise, the step, `on_step`. Two things are new: `t_prev`, and the translation of what the model says.
#| hint: `torch.full((len(x),), step, device=x.device)` makes `t`, and the same with `step_prev` makes `t_prev`. Translate with your own `convert_prediction(…, prediction_type, "epsilon")`. Draw noise only if `eta > 0`, else hand on `None`.
#| hint: In the loop, five things in this order: ask the model; `convert_prediction(…, prediction_type, "epsilon")`; noise from `torch.randn(x.shape, generator=generator, …)` in `x`'s dtype and on its device, or None; `ddim_step(…, eta, noise, clip_sample)`, whose result is the new `x`; then `on_step` with the step, the new `x` and the predicted noise, unless it is None.


# %%
#| check: sample_ddim
def knows_grey(x_t: Tensor, t: Tensor) -> Tensor:
    """Knows the noise exactly, for data that consist of one picture: a flat grey of 0.5."""
    seen.append(int(t[0]))
    alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
    return (x_t - 0.5 * alpha_bar_t.sqrt()) / (1 - alpha_bar_t).sqrt()


seen, few = [], spaced_timesteps(T, 4)
grey = sample_ddim(knows_grey, torch.randn(2, 1, 4, 4), alphas_cumprod, few)
assert seen == few.tolist(), "the model should be asked at each of the timesteps, once, in order"
assert torch.allclose(grey, torch.full_like(grey, 0.5), atol=1e-2), "this should be flat grey"
grey = sample_ddim(knows_grey, torch.randn(2, 1, 4, 4), alphas_cumprod, few, eta=1.0)
assert torch.allclose(grey, torch.full_like(grey, 0.5), atol=1e-2), (
    "with eta = 1 too: no noise at the end"
)

# %% [markdown]
r"""
First a world in which we can see the roads: pictures of two pixels only, so that each is a point in the plane. The data are three clouds. For such data the best possible noise prediction is known exactly (it is the class `Mixture`), so no network can be blamed for anything.
"""

# %%
centres = torch.tensor([[-1.3, -0.8], [1.3, -0.8], [0.0, 1.4]])
clouds = Mixture(centres, 0.18, alphas_cumprod)
points = torch.randn(14, 2, generator=torch.Generator().manual_seed(1))


def road(sampler: Callable, steps: int, **options) -> Tensor:
    """Where each point was after each step: (steps + 1, 14, 2)."""
    places = [points]
    options["on_step"] = lambda t, x_prev, prediction: places.append(x_prev)
    few = spaced_timesteps(T, steps)
    sampler(clouds, points, alphas_cumprod, few, clip_sample=False, **options)
    return torch.stack(places)


# %% [markdown]
r"""
**Predict before you run.** Same starting points, the same perfect predictions. Which road is jagged and which is smooth: $\eta = 1$ or $\eta = 0$? And if you take 5 steps instead of many, in which of the two does each point still end where it ended before?
"""

# %%
many = pick(smoke=50, cpu=500)
roads = {
    f"η = 1, {many} steps": road(sample_ddim, many, eta=1.0),
    f"η = 0, {many} steps": road(sample_ddim, many),
    "η = 1, 5 steps": road(sample_ddim, 5, eta=1.0),
    "η = 0, 5 steps": road(sample_ddim, 5),
}
show_samplers.roads_picture(roads, clouds.draw(600))

# %% [markdown]
r"""
With fresh noise at every step a point staggers about, and ends wherever chance takes it. Without it, the roads are smooth curves, and **a smooth curve can be walked in long strides**: five of them end nearly where five hundred did. That is one secret of fast sampling; section 9 shows how far it goes. (A rule that says, at each point, which way to go and how fast is called an *ordinary differential equation*, ODE; the roads are its *solutions*. DDIM with $\eta = 0$, and what you'll write in section 7, are ODE *solvers*.)

Nearly, not exactly: the five-step roads cut the corners. Section 7 mends that.

Now digits. All rows start from the same noise.

**Predict before you run.** Will the digits in a column be the same at 5, 10, 20, 50 and 250 steps? From how many steps on?
"""

# %%
x_T = start_noise(8)
rows = {}
for steps in pick(smoke=(2, 5), cpu=(5, 10, 20, 50, 250)):
    few = spaced_timesteps(T, steps)
    rows[f"{steps} steps"] = sample_ddim(denoiser, x_T, alphas_cumprod, few).cpu()
show.film_strip(rows, alt="DDIM with growing numbers of steps, each column from the same noise.")

# %% [markdown]
r"""
With the course's own network seven of the eight columns agree: the same noise gives nearly the same picture, and from some 10 steps on hardly a stroke moves. More steps follow the road more exactly. A badly written digit stays one, since the road itself leads to it.

There the third column is the exception: a zero, then a zero with a bar, then something like a T, at last a one. Its road runs close by a fork, where roads to zeros and roads to ones part, and long strides cut the corner on the wrong side. From some 100 steps on this one stands still, too.

So $x_T$ is no longer just a start, it is the digit's *code*. (In the cell above, add `eta=1.0` at the end of the call, `sample_ddim(denoiser, x_T, alphas_cumprod, few, eta=1.0)`, and look at the columns again.)

And the spacings? The same noise again, with few steps:
"""

# %%
rows = {}
for name in SPACINGS:
    few = spaced_timesteps(T, pick(smoke=3, cpu=10), name)
    rows[name] = sample_ddim(denoiser, x_T, alphas_cumprod, few).cpu()
show.film_strip(rows, alt="DDIM with each of the three spacings, few steps, from the same noise.")

# %% [markdown]
r"""
Eight pictures are too few to judge by. Here is a table measured on many more (section 9 explains the Fréchet distance: smaller is better):
"""

# %%
#| table: sampler_tables.spacing_table

# %% [markdown]
r"""
## 6. A walk among codes

If each noise is the code of one digit, what lies *between* two codes? Not on the straight line between them: a half-half mixture of two noises has only half the variance, and the network has never seen so weak a noise. Gaussian noise lies near a sphere, so walk along the sphere. That is `slerp`, spherical interpolation:

$$\text{slerp}(w) = \frac{\sin((1-w)\,\theta)}{\sin\theta}\,\text{start} + \frac{\sin(w\,\theta)}{\sin\theta}\,\text{end}, \qquad \theta\text{ the angle between them}$$

**Predict before you run.** Will the digits between two digits be double exposures, noise, or digits?
"""

# %%
codes = start_noise(6, seed=11)
weights, walks = torch.linspace(0, 1, 9), {}
for i in (0, 2, 4):
    way = slerp(codes[i], codes[i + 1], weights)
    few = spaced_timesteps(T, pick(smoke=3, cpu=30))
    walks[f"walk {i // 2 + 1}"] = sample_ddim(denoiser, way, alphas_cumprod, few).cpu()
titles = [f"{w:.2f}" for w in weights]
show.film_strip(walks, titles, alt="Three walks between two noises; each picture on the way.")

# %% [markdown]
r"""
![Film of three such walks side by side, there and back: each shape changes smoothly into another one. About half of the six ends are clean digits, the others doubtful ones.](figures/walk.gif)

No double exposures. A stroke bends, a loop opens, and at some point the digit *is* another one. Some walks pass shapes that are no digits, and some even begin or end at such a shape: the network is small, and not every code leads to a good digit. The network never learnt to do this. It follows from two facts: the end of the road depends smoothly on its start, and nearly every start leads to something like a digit.

## 7. Look where the guess is heading

Why is DDIM off when steps are long? Because during a whole step it stands by one guess $\hat x_0$. In truth the guess changes along the way: while the noise falls it goes from fog to digit.

![The guess of one pixel as the noise falls, a smooth curve. DDIM takes the value at the start of the step for all of it: a flat line. 2M draws a line through the last two guesses and reads it in the middle of the step, much nearer to the curve.](figures/heading.png)

DDIM's flat line is wrong by an amount in proportion to the step. Suppose we remember the guess from **the step before** this one. Then we can draw a straight line through the two and ask where the guess will be *in the middle* of this step: for a whole step we want the average guess, and a straight line's average is its middle. That costs no call of the network, only memory. This is DPM-Solver++(2M): M for *multistep*, as it uses the guesses of more than one step, and 2 for its *order*, which section 8 explains.

What is the right measure of "how far" on this axis? Not $t$. The solver's authors found that everything becomes simple in half of the logarithm of lesson 1's signal-to-noise ratio, $\lambda = \log(\sqrt{\bar\alpha}/\sqrt{1-\bar\alpha})$. It is very negative for noise and grows as the picture appears:
"""

# %%
#| given: dpm_solver.half_log_snr

# %% [markdown]
r"""
First the names, which are easily mixed up: $\ldots_{\text{last}}$ marks the step *before* this one, at the noisier `t_last`; $\ldots_{\text{prev}}$ marks where we land, which comes *next* in sampling.

Let $h = \lambda_{\text{prev}} - \lambda_t$ be the length of this step and $h_{\text{last}} = \lambda_t - \lambda_{\text{last}}$ that of the step before. Half of this step is $h/(2h_{\text{last}})$ of the step before, so:

$$\text{aim} = \hat x_0 + \frac{h}{2\,h_{\text{last}}}\,(\hat x_0 - \hat x_0^{\text{last}}), \qquad x_{\text{prev}} = \frac{\sqrt{1-\bar\alpha_{\text{prev}}}}{\sqrt{1-\bar\alpha_t}}\,x_t + \sqrt{\bar\alpha_{\text{prev}}}\,\big(1-e^{-h}\big)\;\text{aim}$$

The second equation is an old friend. If the aim is $\hat x_0$ itself, it *is* DDIM with $\eta = 0$, written in another way. (Try it on paper: replace the noise in DDIM by $(x_t - \sqrt{\bar\alpha_t}\,\hat x_0)/\sqrt{1-\bar\alpha_t}$, and use that $e^{-h}$ is the noise-to-signal ratio at `t_prev` over the one at $t$: $e^{-h} = \frac{\sqrt{1-\bar\alpha_{\text{prev}}}}{\sqrt{\bar\alpha_{\text{prev}}}} \Big/ \frac{\sqrt{1-\bar\alpha_t}}{\sqrt{\bar\alpha_t}}$.)

Two steps have no line to follow and aim at $\hat x_0$ itself: the **first**, which has no guess before it, and the **final** one, where $\bar\alpha_{\text{prev}} = 1$ makes $h$ infinite. There $e^{-h} = 0$, the share of $x_t$ is 0 too, and the guess is what we return.

**Predict before you run.** $h$ is positive. So if the guess of a pixel was 0.2 at the step before and is 0.3 now, does the solver aim below 0.3 or above it?
"""

# %%
#| exercise: dpm_solver.dpmpp_2m_step
#| points: 20
#| difficulty: 4
#| minutes: 18
#| hint: Compute `alpha_bar_t` and `alpha_bar_prev` as in ddim_step, and `h` as the difference of their `half_log_snr`. Start with `aim = x_0_pred` and change it only if there is a guess before this one.
#| hint: With a guess before: `h_last` is λ at `t` minus λ at `t_last`. The factor is `h / (2 * h_last)`. Samples whose `t_prev` is -1 have `h` infinite; for those the factor must be 0: `torch.where(h.isinf(), 0, …)`, since every sample has its own step.
#| hint: With `a` for $\bar\alpha_t$ and `p` for $\bar\alpha_{\text{prev}}$, return `((1 - p) / (1 - a)).sqrt() * x_t + p.sqrt() * (1 - torch.exp(-h)) * aim`. (`-torch.expm1(-h)` is the same as `1 - torch.exp(-h)`, but exact for tiny h.)

# %%
#| check: dpmpp_2m_step
x_t, guess, last = (torch.randn(3, 1, 6, 5) for _ in range(3))
t, t_prev, t_last = (
    torch.tensor([500, 300, 100]),
    torch.tensor([400, 50, -1]),
    torch.tensor([700, 400, 150]),
)
noise_pred = convert_prediction(guess, x_t, t, alphas_cumprod, "sample", "epsilon")
first = dpmpp_2m_step(x_t, guess, t, t_prev, alphas_cumprod)
ddim = ddim_step(x_t, noise_pred, t, t_prev, alphas_cumprod, clip_sample=False)
assert torch.allclose(first, ddim, atol=1e-4), "without a guess before it, it should be DDIM"
second = dpmpp_2m_step(x_t, guess, t, t_prev, alphas_cumprod, last, t_last)
assert torch.allclose(second[2], guess[2], atol=1e-5), "the step to the clean end returns the guess"
assert not torch.allclose(second[:2], first[:2]), "the guess before should make a difference"
same = dpmpp_2m_step(x_t, guess, t, t_prev, alphas_cumprod, guess, t_last)
assert torch.allclose(same, first, atol=1e-5), "if the guess has not changed, aim at it"

# %% [markdown]
r"""
(Your prediction: it aims where the guess is going, above 0.3. If both steps are equally long, at 0.35.)

The loop carries two things from step to step: the guess of the step before, and the $t$ it was made at. Clipping is done here too: the guess is clipped, not $x$, before it is used and remembered.
"""

# %%
#| exercise: dpm_solver.sample_dpmpp_2m
#| points: 10
#| difficulty: 2
#| minutes: 8
#| hint: Copy your `sample_ddim` and leave the noise away. This solver wants clean pictures, so translate to "sample".
#| hint: Before the loop there is no guess yet: both memories, of the guess and of its step, are `None`. In it, after the translation: clip the guess if asked. After the step: remember this step's guess and its `t`.
#| hint: In the loop, in this order: ask the model; `convert_prediction(…, prediction_type, "sample")`; clamp the guess to [-1, 1] if asked; `dpmpp_2m_step` with the two memories as its final arguments, whose result is the new `x`; renew both memories; then `on_step` with the step, the new `x` and the guess, unless it is None.

# %%
#| check: sample_dpmpp_2m
seen, few = [], spaced_timesteps(T, 4)
grey = sample_dpmpp_2m(knows_grey, torch.randn(2, 1, 4, 4), alphas_cumprod, few)
assert seen == few.tolist(), "the model should be asked at each of the timesteps, once, in order"
assert torch.allclose(grey, torch.full_like(grey, 0.5), atol=1e-2), "this should be flat grey"
start_points = torch.randn(5, 2)
fast = sample_dpmpp_2m(clouds, start_points, alphas_cumprod, spaced_timesteps(T, 40), False)
slow = sample_ddim(clouds, start_points, alphas_cumprod, spaced_timesteps(T, T), clip_sample=False)
assert (fast - slow).norm(dim=1).median() < 0.1, "40 steps should end near DDIM's long road"

# %% [markdown]
r"""
## 8. How fast does the error fall?

How good is a solver? Don't ask how big its error is. Ask **how fast the error falls** when you take more steps. If twice as many steps halve the error, the solver has order 1; if they quarter it, order 2. On axes that are both logarithmic, the order is the slope.

To measure it we need to know the exact end of the road. For one Gaussian cloud, with mean $m$ and spread $s$, it is known in closed form: the road keeps each point at the same number of spreads from the mean, all the way down.

**Predict before you run.** DDIM stands by one guess a step, 2M follows a line. Which slopes?
"""


# %%
def error(sampler: Callable, steps: int, m: float = 0.3, s: float = 0.5) -> float:
    """Mean distance from the exact end of the road, for data from one Gaussian."""
    ac = alphas_cumprod.double()
    cloud = Mixture(torch.tensor([[m]]), s, ac)
    x_T = torch.randn(200, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = sampler(cloud, x_T, ac, spaced_timesteps(T, steps, "linspace"), clip_sample=False)
    # At the top the cloud has mean √ᾱ·m and variance ᾱ·s² + 1 - ᾱ: so many spreads from it.
    exact = m + s * (x_T - ac[-1].sqrt() * m) / (ac[-1] * s**2 + 1 - ac[-1]).sqrt()
    return (found - exact).abs().mean().item()


counts = pick(smoke=[10, 20, 40], cpu=[10, 20, 40, 80, 160])
errors = {
    "DDIM": [error(sample_ddim, n) for n in counts],
    "DPM-Solver++(2M)": [error(sample_dpmpp_2m, n) for n in counts],
}
show_samplers.order_picture(counts, errors)

# %% [markdown]
r"""
Order 1 and order 2 (the slopes are negative, as the lines fall). Look at the left edge too: **at 10 and 20 steps 2M is *worse* than DDIM here**, and the lines cross near 27 steps. A line through two guesses, drawn on far beyond them, is a bold extrapolation: with linspace the last stride, down to $t = 0$, is four or five times as long on the axis of $\lambda$ as the one before it. Order says how fast the error shrinks once there are many steps; it promises nothing about which error is smaller at ten.

(We used linspace here because it begins and ends where the exact road does. With trailing, the final jump adds an error of its own, of the other sign; the total wiggles and shows no clean slope.)

## 9. Quality against steps

Back to real digits. Which sampler would you buy? As in lesson 3 we use the **Fréchet distance**: how far is the crowd of samples from the crowd of real digits? Smaller is better. Two crowds of real digits don't get 0 either; that is the *floor*. It also falls with the size of the crowds, so only figures at the same number of samples may be compared.

We'll be content with a sampler if its distance is at most a tenth above that of DDPM with all 1,000 steps.

First a small chart, live, with your own three samplers. (A minute or two on two CPU cores.)
"""

# %%
count, step_counts = pick(smoke=60, cpu=200, gpu=1000), pick(smoke=(2, 4), cpu=(5, 10, 20, 50))
ruler, x_T = Ruler(count, seed=0), start_noise(count, seed=20)


def dice() -> torch.Generator:
    """The same fresh noise at every run."""
    return torch.Generator(device).manual_seed(1)


samplers = {
    "ddpm": lambda *given: sample_ddim(denoiser, *given, eta=1.0, generator=dice()),
    "ddim": lambda *given: sample_ddim(denoiser, *given),
    "dpmpp_2m": lambda *given: sample_dpmpp_2m(denoiser, *given),
}
lines = {name: {} for name in samplers}
for steps in tqdm(step_counts):
    for name, sampler in samplers.items():
        samples = sampler(x_T, alphas_cumprod, spaced_timesteps(T, steps)).cpu()
        lines[name][steps] = [ruler.distance(samples)]

# %%
show_samplers.quality_picture(lines, ruler.floor, count)

# %% [markdown]
r"""
### Two ideas, one empty box

Your three samplers all clip their guess. They differ in two things only:

| | stands by one guess | follows the last two guesses |
|---|---|---|
| the same noise all the way | DDIM ($\eta = 0$) | DPM-Solver++(2M) |
| fresh noise at every step but the final one | DDPM ($\eta = 1$) | ? |

(On a shorter list of steps than the thousand, DDPM is called *respaced*; so it is in the charts.)

Why would anyone want fresh noise back? Because the network errs a little at every step. A smooth road carries each error along to the end. Fresh noise drowns a part of the picture, and old errors with it; the network looks again (Karras et al. 2022). The price: the fresh noise must be removed, too, and a handful of steps is too few for that.

And how does a step that must land at `t_prev` make room for it? **Walk twice as far as asked, then let fresh noise carry you half of the way back.**

![A line with λ growing to the right, and three noisy pictures of one digit on it. From x_t a long arrow of length 2h goes past x_prev to a clearer picture, further down; from there a shorter green arrow, fresh noise, leads back by h to x_prev.](figures/there_and_back.png)

On the axis of $\lambda$ the step has length $h$. We walk $2h$. At that far point, noise divided by picture is $e^{-h}$ times what it is at `t_prev`. Now multiply the whole far point, picture and noise alike, by one number, so that its picture is as strong as it should be at `t_prev`. Its noise is too weak for `t_prev` then: it has the variance $e^{-2h}\,(1-\bar\alpha_{\text{prev}})$, and fresh noise fills up the missing $(1-e^{-2h})\,(1-\bar\alpha_{\text{prev}})$:

$$x_{\text{prev}} = \frac{\sqrt{1-\bar\alpha_{\text{prev}}}}{\sqrt{1-\bar\alpha_t}}\,e^{-h}\,x_t + \sqrt{\bar\alpha_{\text{prev}}}\,\big(1-e^{-2h}\big)\;\text{aim} + \sqrt{1-\bar\alpha_{\text{prev}}}\,\sqrt{1-e^{-2h}}\;\text{noise}$$

Compare it with the step that you wrote: the share of $x_t$ has an extra $e^{-h}$, the share of the aim has $2h$ in the place of $h$, and the third term is new. The aim itself is the one you know, factor and all. (If it is $\hat x_0$, this is DDPM.) In the final step $h$ is infinite: the guess is returned, with no noise.

Its authors call this step SDE-DPM-Solver++(2M), many programs "DPM++ 2M SDE". An SDE, a *stochastic* differential equation, is an ODE with random noise added all along the way. The course gives you this sampler: `sample_sde_dpmpp_2m`.

**Predict before you run.** Both good ideas at once: at which numbers of steps will the new line lie below the other three, and at which not?
"""

# %%
from t2i.dpm_sde import sample_sde_dpmpp_2m

lines["sde_dpmpp_2m"] = {}
for steps in tqdm(step_counts):
    few = spaced_timesteps(T, steps)
    samples = sample_sde_dpmpp_2m(denoiser, x_T, alphas_cumprod, few, generator=dice()).cpu()
    lines["sde_dpmpp_2m"][steps] = [ruler.distance(samples)]
show_samplers.quality_picture(lines, ruler.floor, count)

# %% [markdown]
r"""
And now the big one: more samples, up to all thousand steps, two seeds for most of it. It comes from `make measure-samplers`, which takes hours on two cores, so you needn't run it. Your own chart above is a sketch of it: it shows that few steps are bad and that all lines fall steeply at first. But of 200 samples from one noise, a distance can be off by a third or more. Which of two near lines is the lower one, and whether a line still falls or rises again at its end, it cannot say.

**Predict before you look.** Will the lines meet at the right? And will the best of them reach the floor?
"""

# %%
sampler_tables.reference_chart()

# %% [markdown]
r"""
<details><summary>Reading without a kernel? The chart, as drawn when the course was made</summary>

![Fréchet distance against the number of steps, both on logarithmic axes, for four samplers. With 5 steps all are far from the floor, DPM-Solver++(2M) the nearest. The two smooth lines flatten from 20 steps on; from there the two with fresh noise lie below them: SDE-DPM-Solver++(2M) is nearly as low as it gets at 20 steps, DDPM at 50.](figures/quality.png)

</details>

The bands are wide: with other noise, the figure of the same sampler may change by a third. A thousand samples show how the lines run; whether 20 steps lie within *a tenth* of DDPM they cannot tell. For that question alone there are four times as many samples and one more seed (`make measure-headline`):
"""

# %%
#| table: sampler_tables.headline

# %% [markdown]
r"""
What to look for in the big chart:

- **At the left edge** all four are far from the floor. There the memory saves most, and fresh noise costs most.
- **The lines flatten** towards the right. From some number of steps on, more steps hardly help: what is left is not the sampler's error any more but the network's. A better sampler cannot draw better digits than its network knows. That is also why no line reaches the floor. The two smooth lines meet there: twenty steps of 2M have come most of the way that their road leads, and fifty hardly come further. So the smooth road misses the aim not for want of steps: it carries the network's errors along. Only fresh noise leads further, and with it and with memory twenty steps are enough.
- **Who wins depends on the number of steps.** With a handful a smooth one wins: there is no time to remove fresh noise again. With more, the noisy ones: they wash out the network's errors, while a smooth road is exact about those, too. Memory helps in both rows of the table, and most where steps are few; at a thousand there is nothing left for it to do. (In section 8 it did harm at 10 and 20 steps. That was linspace with its one long stride at the end, and section 5's table says the same of digits: with linspace and ten steps, 2M is worse than DDIM. Here the steps are trailing.)
- **The first idea saved most.** Your `ddim_step` with $\eta = 1$ is lesson 3's sampler with a formula that knows both ends of its step. With a small part of the thousand steps it comes near the distance of all; the table says how near. Smooth roads win below ten steps, and they alone give each digit a code (section 6).
- **Which one to take?** With a network like this one: fresh noise and memory from about ten steps on, 2M with fewer. (An $\eta$ between 0 and 1 mixes the two rows of the table. Try 0.5 in the small chart!)

### A better road, or a better network?

"It is the network's errors," we said of the smooth road. That can be tried: here is the same network once more, trained eight times as long (`make train-ddpm tier=long`, an hour on one core).

**Predict before you look.** Now the errors are smaller. Will 2M's twenty steps come nearer to DDPM's thousand, counted in points of the distance? And counted as a ratio, which is what our aim is about?
"""

# %%
#| table: sampler_tables.longer

# %% [markdown]
r"""
**What you saw.** Every distance falls to less than half. Twenty smooth steps with the better network beat a thousand of DDPM's with the other: a sampler saves time, training buys quality.

- **In points** the smooth road has come nearer: 2.6 above DDPM before, 1.6 now. And with 50 steps in place of 20 it gains only about 0.3, before as after. So what keeps it from DDPM is not the number of its steps, and a better network mends it in part. That is what we claimed.
- **As a ratio** it has fallen behind, from 1.7 times DDPM's distance to 2.1 times: DDPM, which washes errors out all the way, gained even more from the training. So the aim is missed by more than before. A better network alone is not the way to it, as far as this trial goes. (A larger one was not tried.)
- **With fresh noise and memory**, twenty steps were as good as DDPM's thousand, and now they are a tenth worse, just past our aim. That may be chance: the two ranges overlap. Or its own step errors, too small to see beside those of the first network, have become a visible share.

![Two rows of ten digits, made from the same noise by 20 steps of DPM-Solver++(2M), the upper ones after lesson 3's training, the lower ones after eight times as much. Most columns show the same digit twice. In the third a zero with a bar has become a plain zero, in the ninth loose strokes have become nearly a four; in the eighth a doubtful six has become a blot.](figures/longer.png)

Column by column it is nearly the same digit. Where a road leads is mostly decided by the data, and both networks have learnt nearly the same roads. (Both began with the same first weights, which helps.) But not quite: the third column is the one from section 5. Walked in small steps, the upper network's road ends at a one, the lower one's at a zero. And the eighth shows that a road may still end nowhere.

## 10. What was left out, and where these lines live in real systems

- **Where to put the steps** is an art. Some schedules space them evenly in $\lambda$, or as Karras et al. 2022 propose.
- **The lowest rung.** A schedule whose last $\bar\alpha$ is exactly 0 (lesson 1's `rescale_zero_terminal_snr`) makes predicted noise useless at $t = T-1$: nothing can be read from it. A network that predicts $v$ or $x_0$ has no such trouble, and your `sample_dpmpp_2m` works with it as it is.
- **Order 3, and samplers that fix their own mistakes** (UniPC, Heun). Beyond 2M the gains are small.
- **Fewer than five steps** need more than arithmetic: the network itself is trained again to jump far (distillation, consistency models).

In *diffusers*, which runs Stable Diffusion, your lines look like this:

| yours | theirs |
|---|---|
| `convert_prediction` | `DPMSolverMultistepScheduler.convert_model_output` |
| `spaced_timesteps` | `timestep_spacing` in `DDIMScheduler.set_timesteps` |
| `ddim_step` | `DDIMScheduler.step(…, use_clipped_model_output=True)` |
| `alpha_bar_at`, at $-1$ | `set_alpha_to_one=True`, `final_sigmas_type="zero"` |
| `dpmpp_2m_step` | `DPMSolverMultistepScheduler` with its default settings |
| `sde_dpmpp_2m_step` (given) | the same with `algorithm_type="sde-dpmsolver++"` |

One thing in there is worth knowing: diffusers' DDIM always steps down by $\lfloor T/N\rfloor$, whatever the spacing. With linspace its strides don't quite fit its own list of steps; ours go from each step of the list to the next.

Do not take our word for it. Here both take the same twenty steps:
"""

# %%
from diffusers import DPMSolverMultistepScheduler

theirs = DPMSolverMultistepScheduler(timestep_spacing="trailing")
theirs.set_timesteps(20)
x = ours = torch.randn(4, 1, 8, 8)
for t in theirs.timesteps:
    x = theirs.step(torch.sin(2 * x), t, x).prev_sample
ours = sample_dpmpp_2m(
    lambda x, t: torch.sin(2 * x), ours, theirs.alphas_cumprod, spaced_timesteps(1000, 20), False
)
difference = (ours - x).abs().max() / x.abs().max()
print(f"largest difference to diffusers: {difference:.1e} (below 1e-4 if yours is right)")

# %% [markdown]
r"""
## Four questions
"""

# %%
#| quiz: too_many_strokes

# %%
#| quiz: same_noise

# %%
#| quiz: which_sampler

# %%
#| quiz: smooth_or_fresh

# %% [markdown]
r"""
## The papers

- Song, Meng, Ermon 2021, *Denoising diffusion implicit models*, [arXiv:2010.02502](https://arxiv.org/abs/2010.02502): DDIM. Equation 12 is your step, equation 16 your σ.
- Lu et al. 2022, *DPM-Solver++*, [arXiv:2211.01095](https://arxiv.org/abs/2211.01095): algorithm 2 is your second loop. Their $M$ and $r$ are our steps and $h_{\text{last}}/h$. The form with fresh noise is theirs, too.
- Salimans, Ho 2022, *Progressive distillation for fast sampling of diffusion models*, [arXiv:2202.00512](https://arxiv.org/abs/2202.00512): where $v$ comes from, in appendix D.
- Lin et al. 2023, *Common diffusion noise schedules and sample steps are flawed*, [arXiv:2305.08891](https://arxiv.org/abs/2305.08891): table 2 has the three spacings.
- Karras et al. 2022, *Elucidating the design space of diffusion-based generative models*, [arXiv:2206.00364](https://arxiv.org/abs/2206.00364): the art of choosing steps.

**Next, lesson 5:** you say which digit you want.
"""
