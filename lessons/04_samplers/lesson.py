# %% [markdown]
r"""
# Lesson 4 · Faster samplers

![Four rows of ten digits, made from the same noise: by DDPM in 1,000 steps, by DDIM in 20, by DPM-Solver++(2M) in 20 and by its form with fresh noise, SDE-DPM-Solver++(2M), in 20. In the second and the third row several digits are broken.](figures/headline.png)

**One network, one noise, four samplers.** The first row took a thousand calls of the network from lesson 3, the others twenty. Nothing was trained in between: the saving is all arithmetic, and you will write most of it. Look closely, though: in the second and the third row several digits are broken. Section 9 measures that, and shows what the fourth row does about it. (Rows one and four add fresh noise on the way, hence the other digits.)

Three ideas get you there:

1. **Skip steps, but say so.** A step may be long if its formula knows how long it is.
2. **Keep the noise.** At each step DDPM swaps a part of the noise for fresh noise, and the longer the step, the larger the part. DDIM keeps it all, and the road becomes smooth (Song et al. 2021).
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

from t2i import show
from t2i.data import mnist
from t2i.diffusion import ddpm_step, predict_x_0
from t2i.drawing import sampler_tables, show_samplers
from t2i.drawing.show_samplers import slerp
from t2i.lesson import pick
from t2i.mixture import Mixture
from t2i.runs.sampler_runs import Ruler, load_denoiser
from t2i.sampler_parts import check_pictures, check_signal, check_step
from t2i.samplers import PREDICTION_TYPES, SPACINGS
from t2i.schedules import add_noise, gather

# %% [markdown]
r"""
## 1. Why not simply skip?

We take the network that you trained in lesson 3, or the course's own if your training never came to its end. The cell says which.
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
A thousand steps mean a thousand calls of the network. So let's call it less: visit every fiftieth step and use `ddpm_step` from lesson 3 as it is.

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

A long step needs a formula that knows both ends: where it starts, $t$, and where it lands, `t_prev`. Before we write it, two preparations: what the network tells us, and which steps to visit.
"""

# %% [markdown]
r"""
## 2. Three ways to say one thing

In lesson 3, noise and clean picture were two sides of one statement: if you know $x_t$ and one of them, you know the other. There is a third side:

![A quarter circle. The clean picture x_0 lies to the right, the noise at the top, x_t on the arc between them at an angle φ. An arrow as long as x_t touches the circle there and points on along the arc, towards the noise: v. A paler copy of it begins where x_t begins; the two make a right angle.](figures/circle.png)

Since $\bar\alpha_t$ and $1-\bar\alpha_t$ add up to 1, their roots are the cosine and the sine of some angle $\varphi$. So $x_t$ lies on an arc from the clean picture ($\varphi = 0$) to pure noise ($\varphi = 90°$). (Why a right angle? In 784 dimensions, one per pixel, a random direction has next to nothing in common with any given picture. And picture and noise are about equally long: per pixel a digit's mean square is 0.93, the noise's is 1.) **To sample is to walk along the arc from the top down to the right.**

$$x_t = \underbrace{\sqrt{\bar\alpha_t}}_{\cos\varphi}\,x_0 + \underbrace{\sqrt{1-\bar\alpha_t}}_{\sin\varphi}\;\text{noise}, \qquad v = \sqrt{\bar\alpha_t}\;\text{noise} - \sqrt{1-\bar\alpha_t}\;x_0$$

The new thing, $v$, is the direction of the arc at $x_t$ (the "velocity", Salimans and Ho 2022). It points towards *more* noise, so against our walk. The paler copy of $v$ begins at the corner and shows it: $x_t$ and $v$ are $x_0$ and the noise, both turned by $\varphi$. So if you know $x_t$ and $v$, you only have to turn them back, by $-\varphi$ (the cosine stays, the sine changes its sign). You need not divide by anything.

A network may predict any of the three. Their names in *diffusers*: `"epsilon"` is the noise (papers write $\varepsilon$), `"sample"` is $x_0$, `"v_prediction"` is $v$. A sampler must translate.

**Predict before you run.** Let a network be wrong by 0.01 in what it predicts. Read as a clean picture, how wrong is that near pure noise, if it predicted the noise? If it predicted $v$?
"""

# %% [markdown]
r"""
("Raises" in a docstring tells what the course's version refuses. No test asks for it, unless an exercise says so. So you need not call the three `check_…` functions.)
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
alt = "Error of the clean picture: noise explodes at the last t, x_0 stays at 0.01, v grows to it."
labels = {"xlabel": "step t", "ylabel": "error of the clean picture", "yscale": "log"}
show.curves(t, wrong, alt=alt, **labels)

# %% [markdown]
r"""
A small error in the *noise* becomes a huge one in the clean picture at the noisy end, since we divide by $\sqrt{\bar\alpha_t}$: 1.6 where this curve ends, and more than 100 a few steps further, at the very last one, as lesson 3 found. With `"sample"` it stays the same, with $v$ it never exceeds the network's own 0.01. This is one reason why so many newer models predict $v$. (You have trained one without knowing: what lesson 3's UNet answers, the correction of its head start, *is* $v$.)

## 3. Which steps?

We want to visit $N$ of $T$ steps. The list is called `timesteps` and runs from noisy to clean, for example 999, 749, 499, 249. From its last step we jump to the clean end, which we call step $-1$ and leave out of the list. Three ways to space the steps "evenly" differ **at the ends**, just where it hurts.

| spacing | how it goes, smallest step first | 4 of 1,000 |
|---|---|---|
| leading | from 0 upwards, in strides of $\lfloor T/N\rfloor$ | 0, 250, 500, 750 |
| trailing | from $T$ downwards, in strides of $T/N$; round, and take 1 off, because we count from 0 | 249, 499, 749, 999 |
| linspace | $N$ numbers from 0 to $T-1$, both included, all equally far apart; round | 0, 333, 666, 999 |

($\lfloor\cdot\rfloor$ means rounded down. A number halfway between two steps may go to either.) Your function returns them in falling order, as the sampler walks. With $N = 1$, linspace gives the step 0. Any other name of a spacing must raise a `ValueError`: here a test does ask for it.

**Predict before you run.** Take $T = 1000$ and $N = 5$, and write down the three lists (499.5 rounds to 500). In which one is the network given pure noise and told "there is still some picture in here"? In which one does it never get to see an almost clean picture?
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
six = spaced_timesteps(1000, 6, "linspace")
assert six.tolist() == [999, 799, 599, 400, 200, 0], "linspace, 6 of 1000: round, don't cut off"
assert few["leading"].dtype == torch.int64, "steps are whole numbers: int64"
for name in SPACINGS:
    timesteps = spaced_timesteps(1000, 7, name)
    assert len(timesteps) == 7 and (timesteps[:-1] > timesteps[1:]).all(), f"{name}, 7 of 1000"
three = spaced_timesteps(10, 3, "trailing")
assert three.tolist() == [9, 6, 2], f"trailing, 3 of 10: strides of 10/3, rounded; not {three}"

# %%
show_samplers.spacing_picture({name: spaced_timesteps(T, 5, name) for name in SPACINGS}, T)

# %% [markdown]
r"""
Read the picture from left to right, as the sampler walks.

- **Leading** begins late (orange-red). The sampler starts with pure noise all the same, but tells the network that part of the picture should already be visible. The network believes it, and takes accidents of the noise for strokes of a digit.
- **Trailing** begins where it should, but jumps from its final dot to the clean end at once (green). The last details are guessed from a picture that is still noisy.
- **Linspace** does neither. Its price: longer strides, since one of the $N$ calls is spent at $t = 0$, where next to nothing is left to do.

With few steps "trailing" is usually the best choice, and it is our default. Section 5 compares all three.

## 4. DDIM: keep the noise

Look at the arc again. The network tells us both its ends: a guess of the clean picture $\hat x_0$, and the noise. We want to stand at a lower angle, at `t_prev`. Why not simply **mix the same two again, with less noise?**

![Two panels with the same quarter circle. Left, DDIM with η = 0: the step goes along the arc to a lower angle, with the same noise. Right, η = 1: the noise is shortened and fresh noise in a new direction is added.](figures/ddim_step.png)

(In the right panel $x_{\text{prev}}$ only seems to leave the circle: fresh noise is at right angles to both axes, so its arrow really points out of the page.)

$$x_{\text{prev}} = \sqrt{\bar\alpha_{\text{prev}}}\;\hat x_0 + \sqrt{1-\bar\alpha_{\text{prev}} - \sigma^2}\;\text{noise\_pred} + \sigma\cdot\text{noise}$$

Take $\sigma = 0$ first. Then it is just `add_noise` with the *predicted* noise. It knows both ends of the step, so the step may be long. (What that costs, section 7 tells.) And nothing is random any more: the same $x_T$ always gives the same digit. This is DDIM.

(In lesson 3 all paths ran together without fresh noise: the old noise grew weaker, and nothing took its place. Here the *predicted* noise goes back in at the full strength of `t_prev`, so the spread stays.)

With $\sigma > 0$, part of the predicted noise is swapped for fresh noise. The variances of the two parts, $1-\bar\alpha_{\text{prev}}-\sigma^2$ and $\sigma^2$, always sum to the $1-\bar\alpha_{\text{prev}}$ of `t_prev`. (So here $\sigma$ is the strength of the *fresh* noise alone.) We set it by a knob $\eta$ ("eta"), from 0 to 1:

$$\sigma = \eta\,\sqrt{\frac{1-\bar\alpha_{\text{prev}}}{1-\bar\alpha_t}}\,\sqrt{1 - \frac{\bar\alpha_t}{\bar\alpha_{\text{prev}}}}$$

Squared, the two roots are lesson 3's variance, $\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t$: for a single step $1-\bar\alpha_t/\bar\alpha_{\text{prev}}$ is $\beta_t$. **At $\eta = 1$ this is DDPM**, for steps of any length.
"""

# %% [markdown]
r"""
Two details. If the guess $\hat x_0$ is clipped to [-1, 1], the noise no longer fits, as guess and noise must make up $x_t$ together. So work the noise out again, $\text{noise\_pred} = (x_t - \sqrt{\bar\alpha_t}\,\hat x_0)/\sqrt{1-\bar\alpha_t}$. And near pure noise with $\eta = 1$, $1-\bar\alpha_{\text{prev}}-\sigma^2$ is almost 0. Rounding can push it a hair *below* zero, where the root is NaN, so clamp it to at least 0 first.

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
nothing = torch.zeros_like(x_t)  # with it only the third term is left
half, full = (
    ddim_step(nothing, nothing, t, t - 1, alphas_cumprod, eta=eta, noise=noise) for eta in (0.5, 1)
)
assert torch.allclose(half, 0.5 * full, atol=1e-6), "half of eta should be half of σ"
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
class KnowsGrey(nn.Module):
    """Knows the noise exactly, for data that consist of one picture: a flat grey of 0.5."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(int(t[0]))
        alpha_bar_t = gather(alphas_cumprod, t, like=x_t)
        return (x_t - 0.5 * alpha_bar_t.sqrt()) / (1 - alpha_bar_t).sqrt()


knows_grey, seen, few = KnowsGrey(), [], spaced_timesteps(T, 4)
grey = sample_ddim(knows_grey, torch.randn(2, 1, 4, 4), alphas_cumprod, few)
assert seen == few.tolist(), "the model should be asked at each of the timesteps, once, in order"
assert torch.allclose(grey, torch.full_like(grey, 0.5), atol=1e-2), "this should be flat grey"
grey = sample_ddim(knows_grey, torch.randn(2, 1, 4, 4), alphas_cumprod, few, eta=1.0)
assert torch.allclose(grey, torch.full_like(grey, 0.5), atol=1e-2), (
    "with eta = 1 too: no noise at the end"
)


class Says(nn.Module):
    """Gives one number for all pixels, whatever it sees."""

    def __init__(self, number: float):
        super().__init__()
        self.number = number

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(x_t, self.number)


start = torch.ones(2, 1, 4, 4)
for clip, end in ((True, 1.0), (False, 3.0)):
    told = {"prediction_type": "sample", "clip_sample": clip}
    bright = sample_ddim(Says(3.0), start, alphas_cumprod, few, **told)
    assert torch.allclose(bright, torch.tensor(end)), f"a model that says 3, with {told}: {end}"
dice = [torch.Generator().manual_seed(4) for _ in range(2)]
twice = [
    sample_ddim(Says(0.0), start, alphas_cumprod, few, eta=1.0, generator=each) for each in dice
]
assert torch.equal(*twice), "fresh noise comes from generator: the same seed, the same pictures"

# %% [markdown]
r"""
First a world in which we can see the roads: pictures of two pixels, so that each is a point in the plane. The data are three clouds. For them the best possible noise prediction is known exactly (the class `Mixture`), so no network is to blame.
"""

# %%
centres = torch.tensor([[-1.3, -0.8], [1.3, -0.8], [0.0, 1.4]])
clouds = Mixture(centres, 0.18, alphas_cumprod)
points = torch.randn(14, 2, generator=torch.Generator().manual_seed(1))


def road(sampler: Callable, steps: int, **options) -> Tensor:
    """Where each point was after each step: (steps + 1, 14, 2)."""
    places = [points]
    options["generator"] = torch.Generator().manual_seed(11)
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
With fresh noise at every step a point staggers about, and ends wherever chance takes it. Without it, the roads are smooth curves, and **a smooth curve can be walked in long strides**: five of them end nearly where five hundred did. (They cut the corners; section 7 mends that.) With fresh noise five strides are too few: look for the point that ends outside every cloud. (With another seed it is another point, or none.)

(A rule that says, at each point, which way to go and how fast is an *ordinary differential equation*, ODE. DDIM with $\eta = 0$ follows one in steps: it is an ODE *solver*.)

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
With the course's own network seven of the eight columns agree: from some 10 steps on hardly a stroke moves (a speck may still go). More steps follow the same road more exactly. The third column is the exception: first a zero, at last something like a one. Its road runs close by a fork, where roads to zeros and to ones part, and long strides cut the corner on the wrong side.

So $x_T$ is no longer just a start, it is the digit's *code*. (Add `eta=1.0` after `few` in the call, and look again.)

And the spacings? The same noise again, with few steps:
"""

# %%
rows = {}
for name in SPACINGS:
    few = spaced_timesteps(T, pick(smoke=3, cpu=5), name)
    rows[name] = sample_ddim(denoiser, x_T, alphas_cumprod, few).cpu()
show.film_strip(rows, alt="DDIM with each of the three spacings, few steps, from the same noise.")

# %% [markdown]
r"""
Eight pictures are too few to judge by. So here is a table of many more (lesson 3's Fréchet distance: how far is the crowd of samples from the crowd of real digits? Smaller is better):
"""

# %%
#| table: sampler_tables.spacing_table

# %% [markdown]
r"""
Leading loses clearly. Between the other two, trailing leads at 5 steps; at 20 it hardly matters.

## 6. A walk among codes

If each noise is the code of one digit, what lies *between* two codes? The straight line won't do: a half-half mixture of two noises has only half the variance, and the network has never seen noise that weak. Gaussian noise lies near a sphere, so walk along the sphere. That is `slerp`, spherical interpolation:

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

No double exposures. A stroke bends, a loop opens, and at some point the digit *is* another one. The network never learnt to do this. It follows from two facts: the end of the road depends smoothly on its start, and most starts lead to something like a digit. (Not all: some walks pass shapes that are no digits, or even begin or end at one.)

## 7. Look where the guess is heading

Why is DDIM off when steps are long? During a whole step it keeps one guess $\hat x_0$. In truth the guess changes along the way, from fog to digit.

![The guess of one pixel as the noise falls, a smooth curve. DDIM takes the value at the start of the step for all of it: a flat line. 2M draws a line through the last two guesses and reads it in the middle of the step, much nearer to the curve.](figures/heading.png)

DDIM's flat line is wrong in proportion to the length of the step. Suppose we remember the guess from **the step before**. Then we can draw a straight line through the two and ask where the guess will be *in the middle* of this step. (On a straight line, what stands in the middle is the average over the step. Strictly, the later part of the step counts a little more; in short steps that hardly matters.) That costs no call of the network, only memory. This is DPM-Solver++(2M): M for *multistep*, as it uses the guesses of more than one step, 2 for its *order* (section 8).

The right measure of "how far" on this axis is not $t$. It is half of the natural logarithm of lesson 1's signal-to-noise ratio (which lesson 1 drew with $\log_{10}$), $\lambda = \log(\sqrt{\bar\alpha}/\sqrt{1-\bar\alpha})$. It is very negative for noise and grows as the picture appears. On this axis a step of length $h$ means the same everywhere: the ratio of noise to picture falls to $e^{-h}$ of what it was.
"""

# %%
#| given: dpm_solver.half_log_snr

# %% [markdown]
r"""
The names are easily mixed up: $\ldots_{\text{last}}$ marks the step *before* this one, at the noisier `t_last`; $\ldots_{\text{prev}}$ marks where we land, which comes *next* in sampling.

Let $h = \lambda_{\text{prev}} - \lambda_t$ be the length of this step and $h_{\text{last}} = \lambda_t - \lambda_{\text{last}}$ that of the step before. Half of this step is $h/(2h_{\text{last}})$ of the step before, so:

$$\text{aim} = \hat x_0 + \frac{h}{2\,h_{\text{last}}}\,(\hat x_0 - \hat x_0^{\text{last}}), \qquad x_{\text{prev}} = \frac{\sqrt{1-\bar\alpha_{\text{prev}}}}{\sqrt{1-\bar\alpha_t}}\,x_t + \sqrt{\bar\alpha_{\text{prev}}}\,\big(1-e^{-h}\big)\;\text{aim}$$

The second equation is an old friend: if the aim is $\hat x_0$ itself, it *is* DDIM with $\eta = 0$. ([more.md](more.md) shows it in two lines, and your check below compares the two.)

Two steps aim at $\hat x_0$ itself: the **first**, which has no guess before it, and the **final** one, whose end, $\bar\alpha_{\text{prev}} = 1$, is infinitely far away on this axis, so that it has no middle. There $x_t$ has the share 0, and we return the guess. (Infinity times 0 is NaN: choose with `torch.where`, don't multiply by 0.) (In one batch each sample has its own `t_prev`: some may be final steps, others not.)

**Predict before you run.** $h$ is positive. If the guess of a pixel was 0.2 at the step before and is 0.3 now, does the solver aim below 0.3 or above it?
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
assert ((second - first) * (guess - last) >= 0).all(), "aim on, to where the guess is heading"
same = dpmpp_2m_step(x_t, guess, t, t_prev, alphas_cumprod, guess, t_last)
assert torch.allclose(same, first, atol=1e-5), "if the guess has not changed, aim at it"
for h_last, share in ((1, 1 / 2), (2, 1 / 4)):  # λ rises by h_last in the last step, by 1 in this
    steps = torch.sigmoid(2 * torch.tensor([1.0, 0.0, -h_last]))
    t_prev, t, t_last = torch.arange(3)[:, None].expand(3, 3)
    aimed = dpmpp_2m_step(x_t, guess, t, t_prev, steps, last, t_last)
    right = dpmpp_2m_step(x_t, guess + share * (guess - last), t, t_prev, steps)
    assert torch.allclose(aimed, right, atol=1e-4), (
        f"h = 1 and h_last = {h_last}: the guess goes on by {share} of its last change"
    )

# %% [markdown]
r"""
(Your prediction: it aims where the guess is going, above 0.3. If both steps are equally long, at 0.35.)

The loop carries two things from step to step: the guess of the step before, and the $t$ it was made at. Clip the guess, not $x$, before it is used and remembered.
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
ddim = sample_ddim(clouds, start_points, alphas_cumprod, spaced_timesteps(T, 40), clip_sample=False)
assert not torch.allclose(fast, ddim, atol=1e-3), "this is DDIM: is the guess before it forgotten?"


def bright_walk(sampler: Callable) -> Tensor:
    """Where a walk with a model that always says 3 was after each step."""
    places, told = [], {"prediction_type": "sample"}
    told["on_step"] = lambda t, x_prev, prediction: places.append(x_prev)
    sampler(Says(3.0), start, alphas_cumprod, few, **told)
    return torch.stack(places)


assert torch.allclose(bright_walk(sample_dpmpp_2m), bright_walk(sample_ddim), atol=1e-4), (
    "if the model always says 3, the clipped guess never changes, and this is DDIM: "
    "clip the guess, then use *and* remember it"
)

# %% [markdown]
r"""
## 8. How fast does the error fall?

To judge a solver, ask **how fast its error falls** when you take more steps. If twice as many steps halve the error, the solver has order 1; if they quarter it, order 2. On axes that are both logarithmic, the order is the slope.

To measure it we must know the exact end of the road. For one Gaussian cloud, with mean $m$ and spread $s$, we do: the road keeps each point at the same number of spreads from the mean, all the way down.

**Predict before you run.** DDIM keeps one guess for each step, 2M follows a line. Which slopes?
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


# %%
counts = pick(smoke=[10, 20, 40], cpu=[10, 20, 40, 80, 160])
errors = {
    "DDIM": [error(sample_ddim, n) for n in counts],
    "DPM-Solver++(2M)": [error(sample_dpmpp_2m, n) for n in counts],
}
show_samplers.order_picture(counts, errors)

# %% [markdown]
r"""
Order 1 and order 2 (the slopes are negative, as the lines fall). Look at the left edge too: **at 10 and 20 steps 2M is *worse* than DDIM here**, and the lines cross near 27 steps. It is bold to draw a line far beyond its two points, and with linspace the last stride, down to $t = 0$, is four or five times as long in $\lambda$ as the one before. Order says how fast the error shrinks once there are many steps. It promises nothing about ten.

## 9. Quality against steps

Which sampler would you buy? Again the **Fréchet distance** tells. Two crowds of real digits don't get 0 either; that is the *floor*. It falls as the crowds grow, so compare only at the same number of samples.

**Our aim:** a distance at most a tenth above that of DDPM with all 1,000 steps.

First a small chart, live, with your own samplers. (Two or three minutes on two CPU cores; read on meanwhile.)
"""

# %%
count, step_counts = pick(smoke=60, cpu=500, gpu=1000), pick(smoke=(2, 4), cpu=(5, 10, 20, 50))
ruler, x_T = Ruler(count, seed=0), start_noise(count, seed=20)
lines = {"ddpm": {}, "ddim": {}, "dpmpp_2m": {}}
for steps in tqdm(step_counts):
    given = denoiser, x_T, alphas_cumprod, spaced_timesteps(T, steps)
    dice = torch.Generator(device).manual_seed(1000 + steps)
    samples = {
        "ddpm": sample_ddim(*given, eta=1.0, generator=dice),
        "ddim": sample_ddim(*given),
        "dpmpp_2m": sample_dpmpp_2m(*given),
    }
    for name, digits in samples.items():
        lines[name][steps] = [ruler.distance(digits.cpu())]

# %%
show_samplers.quality_picture(lines, ruler.floor, count)

# %% [markdown]
r"""
### Two ideas, one empty box

Your three samplers differ in two things only:

| | keeps one guess | follows the last two guesses |
|---|---|---|
| the same noise all the way | DDIM ($\eta = 0$) | DPM-Solver++(2M) |
| fresh noise at every step but the final one | DDPM ($\eta = 1$) | ? |

(With fewer steps than the thousand, the charts call DDPM *respaced*.)

Why want fresh noise back? The network errs a little at every step. A smooth road carries each error along to the end. Fresh noise drowns a part of the picture, and old errors with it; the network looks again (Karras et al. 2022). The price: the fresh noise must be removed, too, and a handful of steps is too few for that.

How does a step that must land at `t_prev` make room for fresh noise? **Walk twice as far as asked, then let fresh noise carry you half of the way back.** (Why twice? Then, without memory, it is DDPM: [more.md](more.md).)

![A line with λ growing to the right, and three noisy pictures of one digit on it. From x_t a long arrow of length 2h goes past x_prev to a clearer picture, further down; from there a shorter green arrow, fresh noise, leads back by h to x_prev.](figures/there_and_back.png)

On the axis of $\lambda$ the step has length $h$. We walk $2h$. There the noise is too weak for `t_prev`, and fresh noise fills up what is missing:

$$x_{\text{prev}} = \frac{\sqrt{1-\bar\alpha_{\text{prev}}}}{\sqrt{1-\bar\alpha_t}}\,e^{-h}\,x_t + \sqrt{\bar\alpha_{\text{prev}}}\,\big(1-e^{-2h}\big)\;\text{aim} + \sqrt{1-\bar\alpha_{\text{prev}}}\,\sqrt{1-e^{-2h}}\;\text{noise}$$

Compare it with the step that you wrote: $x_t$ has an extra $e^{-h}$, the factor before the aim has $2h$ in the place of $h$, and the third term is new. The aim itself stays as it was, and the final step returns the guess.

This is SDE-DPM-Solver++(2M), in many programs "DPM++ 2M SDE". (An SDE, a *stochastic* differential equation, has random noise added all along the way. To make up for that, it must pull harder towards the picture than the ODE: here twice as hard.) The course gives it to you: `sample_sde_dpmpp_2m`.

**Predict before you run.** Both good ideas at once: at which numbers of steps will the new line lie below the other three, and at which not?
"""

# %%
from t2i.dpm_sde import sample_sde_dpmpp_2m

lines["sde_dpmpp_2m"] = {}
for steps in tqdm(step_counts):
    few, dice = spaced_timesteps(T, steps), torch.Generator(device).manual_seed(2000 + steps)
    digits = sample_sde_dpmpp_2m(denoiser, x_T, alphas_cumprod, few, generator=dice)
    lines["sde_dpmpp_2m"][steps] = [ruler.distance(digits.cpu())]
show_samplers.quality_picture(lines, ruler.floor, count)

# %% [markdown]
r"""
Your chart is a sketch: with 500 samples, a distance can be off by a third. So it cannot say which of two near lines is lower, nor whether a line really rises at its end. The big chart has more samples, two seeds, and up to all thousand steps (`make measure-samplers`, which takes hours).

**Predict before you look.** Will the lines meet at the right? And will the best of them reach the floor?
"""

# %%
sampler_tables.reference_chart()

# %% [markdown]
r"""
<details><summary>Reading without a kernel? The chart, as drawn when the course was made</summary>

![Fréchet distance against the number of steps, both on logarithmic axes, for four samplers. With 5 steps all are far from the floor, DPM-Solver++(2M) the nearest. The two smooth lines flatten from 20 steps on; from there the two with fresh noise lie below them: SDE-DPM-Solver++(2M) is nearly as low as it gets at 20 steps, DDPM at 50.](figures/quality.png)

</details>

The bands are too wide to tell *a tenth*. So for our aim alone there are four times as many samples and one more seed (`make measure-headline`):
"""

# %%
#| table: sampler_tables.headline

# %% [markdown]
r"""
So twenty steps are enough with fresh noise and memory, and fifty with fresh noise alone: your `ddim_step` with $\eta = 1$. On the smooth road neither twenty nor fifty are enough. Back to the big chart:

- **With a handful of steps a smooth sampler wins. With more steps the noisy ones do.** Memory helps most where steps are few. (In section 8 it did harm there. That was linspace, with its long last stride; here the steps are trailing.)
- **The lines flatten.** What is left at the right is the network's error: a better sampler cannot draw better digits than its network knows. So no line reaches the floor, and they meet two by two: the smooth ones, and below them the noisy ones.
- **Which one to take?** With a network like this one: fresh noise and memory from about ten steps on, 2M with fewer. Only smooth roads give each digit a code.

### A better road, or a better network?

Are the network's errors to blame? Here is the same network, trained eight times as long.

**Predict before you look.** Will 2M's twenty steps come nearer to DDPM's thousand in points of the distance? And as a ratio, which is what our aim is about?
"""

# %%
#| table: sampler_tables.longer

# %% [markdown]
r"""
**What you saw.** Every distance falls to less than half: a sampler saves time, training buys quality. **In points** the smooth road has come nearer: 2.6 above DDPM before, 1.6 now. **As a ratio**, and so measured by our aim, it has fallen behind: from 1.7 times DDPM's distance to 2.1 times, since DDPM gained even more. And fresh noise with memory is now a tenth worse than DDPM, just past our aim. That may be chance: the two ranges overlap.

(And *where* does the smooth road go wrong? A good part of it between $t = 900$ and $800$, where a digit's shape begins to be decided: [measured](more.md).)

## 10. What was left out, and where these lines live in real systems

- **Where to put the steps** is an art. Some samplers space them evenly in $\lambda$, or as Karras et al. 2022 propose.
- **Fewer than five steps** need more than arithmetic: the network itself is trained again to jump far (distillation, consistency models).
- **Differential equations.** Papers write such walks as an SDE (with fresh noise) or an ODE (without): [Notation](../../NOTATION.md) tells which is which.

What found no place here has a page of its own: [more about the measurements](more.md).

In *diffusers*, which runs Stable Diffusion, your lines look like this:

| yours | theirs |
|---|---|
| `convert_prediction` | `DPMSolverMultistepScheduler.convert_model_output` |
| `spaced_timesteps` | `timestep_spacing` in `DDIMScheduler.set_timesteps` |
| `ddim_step` | `DDIMScheduler.step(…, use_clipped_model_output=True)` |
| `alpha_bar_at`, at $-1$ | `set_alpha_to_one=True`, `final_sigmas_type="zero"` |
| `dpmpp_2m_step` | `DPMSolverMultistepScheduler` with its default settings, but for the spacing: its `"linspace"` makes one step more and drops the lowest |
| `sample_sde_dpmpp_2m` (given) | the same with `algorithm_type="sde-dpmsolver++"` |

Both take the same twenty steps:
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
- Lu et al. 2022, *DPM-Solver++*, [arXiv:2211.01095](https://arxiv.org/abs/2211.01095): algorithm 2 is your second loop. The form with fresh noise is theirs, too.
- Salimans, Ho 2022, *Progressive distillation for fast sampling of diffusion models*, [arXiv:2202.00512](https://arxiv.org/abs/2202.00512): where $v$ comes from, in appendix D.
- Lin et al. 2023, *Common diffusion noise schedules and sample steps are flawed*, [arXiv:2305.08891](https://arxiv.org/abs/2305.08891): table 2 has the three spacings.
- Karras et al. 2022, *Elucidating the design space of diffusion-based generative models*, [arXiv:2206.00364](https://arxiv.org/abs/2206.00364): the art of choosing steps.

**Next, lesson 5:** you say which digit you want.
"""
