# %% [markdown]
r"""
# Lesson 1 · Noise schedules

**How to ruin a picture so gently that the damage can be undone.**

![Three rows of a handwritten digit that drowns in grey noise from left to right. In the first row, the linear schedule, it is gone soon after the middle; in the second, the cosine schedule, it stays visible much longer; the third, Stable Diffusion's repaired schedule, lies between them.](figures/opening.png)

At the end of this lesson you will make this picture with your own code. It shows one digit drowning in noise, at three speeds. A list of numbers sets the speed: the **noise schedule**. You will write two schedules, the formula that jumps to any moment of the film at once, and a repair for a real flaw in Stable Diffusion's schedule.

Why learn to destroy pictures, when we want to make them? Because destroying is easy, and we can do it in a thousand tiny steps. Every picture on the way is a puzzle: *"here is a noisy picture; which noise is in it?"* A neural network can learn to solve that puzzle. Run the film backwards, let the network take off a little noise each time, and a picture appears where there was none. That is the whole idea of diffusion, and it carries all ten lessons:

![Map of the course: ten numbered stops. Lessons 1 to 3, from noise to digits: noise schedules, the UNet, DDPM. Lessons 4 and 5, faster, on demand: samplers, guidance. Lessons 6 and 7, words: cross-attention, CLIP. Lessons 8 to 10, pictures from words: VAE latents, DiT, text to image.](figures/ten_lessons.png)

You need Python and a little PyTorch. Everything else is explained when it comes up. Take about 90 minutes. All symbols on one page: [Notation](../../NOTATION.md).

| tier | machine | computing time, top to bottom | memory |
|---|---|---|---|
| `cpu`, `gpu` | 2 CPU cores; a GPU is not used | about half a minute; the first `grade(...)` takes some 6 s, the next ones about 2 s | about 1.1 GB |

(A *tier* is the size of everything: how many pictures, how long the training. It is chosen for you. In the code `pick(smoke=…, cpu=…, gpu=…)` asks for it; with `smoke` the course tests itself in seconds.)

**How a lesson works.** You read, look at a picture, *write down a prediction*, and run the cell. At an exercise you replace the line `raise NotImplementedError(...)` with your own code. Each has three folded hints. Run the cell, and then the one below it: its `grade(...)` compares your code with references that you don't see, says how many points it is worth, and if something is wrong, what. The rest of that cell, a few checks that you can read, runs once all is right; until then you are told what they would say. `grade` takes your definition and whatever it uses from the notebook: imports, constants, and your own functions and classes. Values that your cells computed, with functions or classes of your own, are not there. A docstring's last part, *Raises*, tells how the reference answers wrong input. You may leave such checks out, unless the text asks for them.
"""

# %%
from t2i.lesson import start

start(1)

# %%
import math

import torch
from torch import Tensor

from t2i import show
from t2i.data import mnist
from t2i.drawing.in_words import in_words
from t2i.lesson import pick

# %% [markdown]
r"""
## 1 · A picture is a list of numbers

Our pictures are handwritten digits from MNIST: 28 × 28 pixels, one shade of grey each. We store black as −1 and white as 1, so that 0 is middle grey.
"""

# %%
images, labels = mnist("train")
print("images:", tuple(images.shape), " from", images.min().item(), "to", images.max().item())
show.show_images(
    images[:8],
    [str(label) for label in labels[:8].tolist()],
    alt="Eight handwritten digits, white on black, each with its label above it.",
)

# %% [markdown]
r"""
The shape `(N, 1, 28, 28)` reads: N pictures, 1 channel (grey; colour would have 3), 28 rows, 28 columns. The same order, `(B, C, H, W)`, will serve us to the end of the course. B stands for *batch*, the pictures handled together.

We pick one digit to be the hero of this lesson. The clean picture, before any noise, is called $x_0$.
"""

# %%
x_0 = images[labels == 3][:1]
print("x_0:", tuple(x_0.shape))
print("a piece of one row:", x_0[0, 0, 14, 8:20].numpy().round(2))

# %% [markdown]
r"""
## 2 · Noise, and what a Gaussian is

*Noise* is a picture in which every pixel is drawn at random, without regard to its neighbours. We draw from the **Gaussian** distribution, the bell curve: values near 0 are common, values far from 0 are rare. (In pictures, everything below −1 is drawn black and everything above 1 white. Later lessons often draw noise paler, so that its greys show.)

![Left: the bell curve. Two thirds of its area lie between minus 1 and plus 1 and are shaded. Right: a picture of pure Gaussian noise, an even grey speckle without any structure.](figures/gaussian.png)

Two numbers describe a Gaussian. The **mean** says where its middle is. The **variance** says how wide it is: the average squared distance from the mean. The square root of the variance is called *standard deviation*; about two thirds of all values lie within one standard deviation of the mean.

The Gaussian with mean 0 and variance 1 is called *standard* and written $\mathcal N(0, 1)$. If all pixels of a picture are drawn from it, we write $\mathcal N(0, I)$. (I: pixels independent, each with variance 1.) In PyTorch it is `torch.randn`.

**Predict.** If you multiply Gaussian noise by 3, what happens to its variance? Write it down, then run.
"""

# %%
torch.manual_seed(0)
noise = torch.randn(1, 1, 28, 28)
many = torch.randn(100_000)
print(f"variance of noise: {many.var():.2f}     of 3 · noise: {(3 * many).var():.2f}")

# %% [markdown]
r"""
<details><summary>What to see</summary>

Nine, not three. Variance is a *squared* distance, so multiplying by 3 multiplies it by 9. Turned around: to make noise with variance $\beta$, multiply it by $\sqrt\beta$. **Every square root in this lesson comes from here.**

</details>

## 3 · One small step

One step of the *forward process* mixes a picture with a little fresh noise. How much is set by one number between 0 and 1, called $\beta$ ("beta"): the share of the new picture's variance that is *fresh* noise (for a picture of variance 1).

![An equation made of pictures: the square root of 1 minus beta times a digit, plus the square root of beta times a picture of noise, equals a slightly noisy digit.](figures/mix.png)

(Here $\beta = 0.1$, so that you see something. A real first step is a thousand times smaller.)

$$x_t = \sqrt{1-\beta_t}\; x_{t-1} + \sqrt{\beta_t}\;\text{noise}$$

Two square roots, and a picture that is made *weaker* before noise is added. Why not simply add the noise? Let three recipes compete. We apply each of them 300 times to numbers of variance 1.

**Predict.** In which recipe does the variance grow and grow, in which does it shrink, and in which does it stay?
"""

# %%
beta, values = 0.02, torch.randn(5000)
recipes = {
    "x + √β·noise": lambda x, n: x + beta**0.5 * n,
    "(1−β)·x + β·noise": lambda x, n: (1 - beta) * x + beta * n,
    "√(1−β)·x + √β·noise": lambda x, n: (1 - beta) ** 0.5 * x + beta**0.5 * n,
}
variances = {}
for name, recipe in recipes.items():
    x, variances[name] = values, []
    for _ in range(300):
        x = recipe(x, torch.randn(5000))
        variances[name].append(x.var().item())

# %%
show.curves(
    range(1, 301),
    variances,
    xlabel="steps taken",
    yscale="log",
    ylabel="variance (log)",
)

# %% [markdown]
r"""
The first recipe adds 0.02 at each step, without end: 1 + 300 · 0.02 = 7. The second weakens the picture by more than its noise makes up for, and levels off near 0.01. Only the third, with both square roots, keeps the variance at 1, however often you apply it. It is called **variance preserving**. The reason fits in one line. Variances of independent things add up, and multiplying by $\sqrt{c}$ multiplies a variance by $c$:

$$\underbrace{(1-\beta)\cdot 1}_{\text{what is left of the picture}} + \underbrace{\beta\cdot 1}_{\text{new noise}} = 1$$

That is worth having. (Our digits have a variance of about 0.4, not 1; that does no harm, and section 12 says why.) The network of lesson 2 will see numbers of about the same size at every step. And we know exactly where the film ends: at $\mathcal N(0, I)$, from which we can draw with one line of code. That is where making new pictures will start.

## 4 · A schedule: one beta for each step

A schedule is the list of all betas: $\beta_0, \beta_1, \dots, \beta_{T-1}$. We count steps from 0, as Python does. So step 0 already adds a little noise, and the picture "at step t" has been through t + 1 steps. T is the number of steps, usually 1000.

![A chain: a clean digit, labelled x 0; an arrow, step 0 with beta 0; the digit at t = 0; an arrow, step 1 with beta 1; the digit at t = 1; dots; an arrow, step T minus 1; noise, labelled t = T minus 1.](figures/counting.png)

One exception, by tradition: $x_0$ is the *clean* picture on the very left, not the one at t = 0. That one has been through step 0, so a little noise is in it; it has no symbol of its own. And at step 0 the formula's $x_{t-1}$ is the clean picture. (The first steps are drawn stronger than they are.)

The schedule that made diffusion famous, DDPM's of 2020, is the simplest. Start at a tiny beta (a ten-thousandth: the first steps must not hurt the fine details), end at a larger one, and go up in equal strides. The formula, for $t = 0, \dots, T-1$:

$$\beta_t = \beta_\text{start} + \frac{t}{T-1}\,(\beta_\text{end} - \beta_\text{start})$$

Both ends belong to the list. Your first exercise warms you up.
"""

# %%
#| exercise: schedules.linear_betas
#| points: 10
#| difficulty: 1
#| minutes: 5
#| hint: T values in equal strides, with both ends included. How many strides lie between T posts of a fence?
#| hint: PyTorch has a function that makes exactly such a list from the first value, the last value and the number of values. Its name begins with `lin`.
#| hint: Return `torch.linspace` of three things in this order: where it starts, where it ends, how many values. It gives float32 by itself.

# %%
#| check: linear_betas
betas = linear_betas(5, beta_start=0.1, beta_end=0.5)
assert betas.shape == (5,), f"five steps need five betas, these have shape {tuple(betas.shape)}"
goal = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
assert torch.allclose(betas, goal), f"these do not go from 0.1 to 0.5 in equal strides: {betas}"

# %% [markdown]
r"""
Now use it. `walk` takes all 1000 steps, one after the other, and keeps every picture on the way.
"""


# %%
def walk(x: Tensor, betas: Tensor) -> Tensor:
    """The picture after each step 0 … T−1, made one step at a time."""
    film = []
    for beta in betas:
        x = (1 - beta).sqrt() * x + beta.sqrt() * torch.randn_like(x)
        film.append(x)
    return torch.cat(film)


# %%
film = walk(x_0, linear_betas(1000))
steps = torch.linspace(0, 999, 10).long()
show.film_strip(
    {"walked": film[steps]},
    [f"t = {t}" for t in steps.tolist()],
    alt="A digit at ten moments of the walk: speckled at t = 111, hard to read at 444, "
    "gone from 666 on.",
)

# %% [markdown]
r"""
That was the whole forward process. Nothing in it is trained, there is no network: only known noise, added in a known amount.

## 5 · How much of the picture is left? ᾱ

The walk has a drawback. Training will need millions of noisy pictures, each at a random step. Walking 500 steps for every single one would be far too slow. Can we jump?

Look at what happens to the *picture's share of the variance*. Step 0 leaves a share $1-\beta_0$ of it. Step 1 leaves a share $1-\beta_1$ *of what was left*. Shares of shares multiply:

$$\bar\alpha_t = (1-\beta_0)(1-\beta_1)\cdots(1-\beta_t)$$

Read $\bar\alpha$ as **"alpha bar"**. (The plain alpha is short for $1-\beta$; the bar says "all of them multiplied up to here".) $\bar\alpha_t$ is the share of the variance that is still picture at step $t$. It starts near 1, a clean picture, and falls towards 0, pure noise.

**Predict.** Suppose every beta is 0.02, and think of 100 steps. Is the picture's share then $1 - 100\cdot 0.02 = -1$? If not, what is it, roughly?
"""

# %%
#| exercise: schedules.alphas_cumprod
#| points: 15
#| difficulty: 2
#| minutes: 8
#| hint: First turn each beta into what that step leaves over. Then multiply, from the first step to the current one, and keep the result after every step.
#| hint: "Add up and keep every partial sum" is called `cumsum` in PyTorch. What might "multiply and keep every partial product" be called? The exercise's own name is a clue.
#| hint: `torch.cumprod` of `1 - betas`, along dimension 0. The order matters: subtract first, then multiply.

# %%
#| check: alphas_cumprod
two = alphas_cumprod(torch.tensor([0.1, 0.5]))
assert two.shape == (2,), f"one value for each step, please; the shape is {tuple(two.shape)}"
goal = torch.tensor([0.9, 0.45])
assert torch.allclose(two, goal), f"0.9 is left, then half of it, 0.45; you have {two.tolist()}"

# %%
alpha_bar = alphas_cumprod(linear_betas(1000))
print(f"after 100 steps of 0.02: {alphas_cumprod(torch.full((100,), 0.02))[-1]:.3f}")
show.curves(
    range(1000),
    {"ᾱ: the picture's share of the variance": alpha_bar},
    xlabel="step t",
    ylabel="ᾱ",
    height=2.4,
)

# %% [markdown]
r"""
The share after 100 steps of 0.02 is 0.133, not −1: each step takes 2 % of *what is left*, so there is always something left.

A small warning: we call the result `alpha_bar`, because a variable called `alphas_cumprod` would overwrite your function of that name, and the next call would end in `'Tensor' object is not callable`. (As the name of an *argument* it is harmless: inside `add_noise`, which comes now, `alphas_cumprod` is the tensor of all ᾱ that the caller hands over.)

## 6 · Jump instead of walking

How much noise is in $x_t$? Each step weakens the old noise along with the picture, and adds its own. So after steps 0 and 1 its variance is $(1-\beta_1)\,\beta_0+\beta_1 = 1-\bar\alpha_1$, whatever the picture is (multiply it out). It goes on like that: at every step it is $1-\bar\alpha_t$.

And here Gaussians do us a great favour: *the sum of independent Gaussian noises is again Gaussian noise*. All these portions together look exactly like one big portion. So the whole walk fits into one line:

$$x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1-\bar\alpha_t}\;\text{noise}$$

It looks like the single step, with ᾱ in the place of $1-\beta$. And "noise" now means *all* the noise that is in $x_t$, not only what the last step added. This is what the network will be asked for. (Whoever knows it knows the clean picture as well: in this formula, $x_0$ is then the only unknown.)

The two factors are the *strengths* of picture and noise. Being roots, they are larger than the shares:
"""

# %%
strengths = {
    "√ᾱ: strength of the picture": alpha_bar.sqrt(),
    "√(1−ᾱ): strength of the noise": (1 - alpha_bar).sqrt(),
}
show.curves(
    range(1000),
    strengths,
    xlabel="step t",
    height=2.4,
    caption="Where the lines cross, at ᾱ = ½, both factors are √½ = 0.71.",
)

# %% [markdown]
r"""
In training, every picture of a batch gets *its own* step $t$. So we must look up one ᾱ for each picture, and multiply *all pixels of that picture* by it. The helper `gather` is given. It picks the values, in the picture's number type, and gives them the shape `(B, 1, 1, 1)`. PyTorch stretches every dimension of size 1 to fit; that is called *broadcasting*. The next cell shows how `gather` does it; you need not read it.
"""

# %%
#| given: schedules.gather

# %%
t = torch.tensor([0, 500, 999])
batch = images[:3]
gathered = gather(alpha_bar, t, like=batch)
print("plain lookup:", tuple(alpha_bar[t].shape), "   gather:", tuple(gathered.shape))
print("times the batch:", tuple((gathered * batch).shape))

# %% [markdown]
r"""
**Predict.** What would go wrong if you multiplied a batch of shape `(28, 1, 28, 28)` by the plain lookup of shape `(28,)`, without reshaping? Would you get an error?

<details><summary>Answer</summary>

No error! PyTorch lines shapes up from the right, so each *column of pixels* would get a step, instead of each picture. The code runs, and trains on nonsense. `gather` protects you from this.

</details>
"""

# %%
#| exercise: schedules.add_noise
#| points: 25
#| difficulty: 3
#| minutes: 15
#| hint: Three things happen: look up ᾱ for each picture, make the two strengths from it, mix. The noise comes in as an argument, so don't draw your own.
#| hint: `gather(alphas_cumprod, t, like=x_0)` gives ᾱ in the right shape and dtype. The picture's strength is the square root of it. What is the noise's?
#| hint: With `a` for the gathered ᾱ: the root of `a` times `x_0`, plus the root of `1 - a` times `noise`. Subtract first, then take the root. (Checking the shapes and raising a ValueError is optional: `gather` does most of it.)

# %%
#| check: add_noise
black, white = -torch.ones(2, 1, 4, 6), torch.ones(2, 1, 4, 6)
x_t = add_noise(black, white, torch.tensor([0, 1]), torch.tensor([0.64, 0.36]))
assert x_t.shape == black.shape, f"x_t should have the shape of x_0, not {tuple(x_t.shape)}"
assert torch.allclose(x_t[0], -0.2 * white[0]), "ᾱ = 0.64 means 0.8 picture and 0.6 noise"
assert torch.allclose(x_t[1], 0.2 * white[1]), "sample 1 has its own t, so it needs its own ᾱ"


# %%
def drown(x_0: Tensor, alpha_bar: Tensor, steps: Tensor) -> Tensor:
    """One picture at several steps, always with the same noise, so that only t differs."""
    same = torch.Generator().manual_seed(1)
    noise = torch.randn(x_0.shape, generator=same).expand(len(steps), -1, -1, -1)
    return add_noise(x_0.expand(len(steps), -1, -1, -1), noise, steps, alpha_bar)


titles = [f"t = {t}" for t in steps.tolist()]
show.film_strip(
    {"walked": film[steps], "jumped": drown(x_0, alpha_bar, steps)},
    titles,
    alt="Two film strips of a digit drowning, one walked and one jumped: equally noisy "
    "at every step, with other speckles.",
    caption="The grains of noise differ, the amount is the same. (The jumps all use one picture of "
    "noise, so below, the last pictures look alike.)",
)

# %% [markdown]
r"""
Is the jump really the same as the walk? Test it. We send 2,000 copies of one white pixel on the walk. The jump's formula predicts their average, $\sqrt{\bar\alpha_t}$, and their spread, $\sqrt{1-\bar\alpha_t}$. So at every step two thirds of the walkers should lie in the shaded band.

**Predict.** Where will the average be at the end? How wide will the band be?
"""

# %%
walkers = walk(torch.ones(1, 2000), linear_betas(1000))
middle, spread = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
figure, (axes,) = show.panels(1, 1, height=3.2)
axes.fill_between(range(1000), middle - spread, middle + spread, color=show.SKY, alpha=0.35)
axes.plot(walkers[:, :6], color=show.GREY, linewidth=0.5)
lines = {"average of 2,000 walkers": walkers.mean(1), "the jump's formula: √ᾱ": middle}
show.draw_curves(axes, range(1000), lines, xlabel="step t", ylabel="value", ylim=(-3.6, 3.6))
show.Picture(
    figure,
    alt=f"Six jagged grey paths start at 1 and scatter. The average of 2,000 goes from 1 to "
    f"{walkers[-1].mean():.2f}, as the formula does; the band ends {spread[-1]:.2f} to either side.",
    caption="Six of the 2,000 walkers, in grey.",
)

# %%
inside = ((walkers - middle[:, None]).abs() < spread[:, None]).float().mean(1)
for t in (10, 100, 500, 999):
    print(f"t = {t}: {inside[t]:.0%} of the walkers are inside the band")

# %% [markdown]
r"""
The average ends at 0 and the band is ±1 wide there: pure noise. And about 68 % lie inside at every step, as they should for a Gaussian. The jump is no approximation, it is exact, since a sum of Gaussian noises *is* one.

## 7 · A gentler schedule: cosine

Look at the film strip again. From about $t=600$ there is next to nothing left to see. Four hundred steps turn noise into noise, and a network learns little from them. Alex Nichol and Prafulla Dhariwal asked in 2021: what if we first choose the ᾱ that we *want*, and compute the betas from it?

They wanted a gentle start, an even fall and a gentle end. A quarter of a cosine wave, squared, looks just like that:

$$f(u)=\cos^2\!\left(\frac{u+s}{1+s}\cdot\frac{\pi}{2}\right)$$

$f(u)$ is the ᾱ that we want at moment $u$, which runs from 0 (the film's beginning) to 1 (its end); $s$ is a small offset, explained below. How do we get betas from it? ᾱ is a product, so dividing two neighbours leaves just the one step between them: $\bar\alpha_t/\bar\alpha_{t-1} = 1-\beta_t$. T steps lie between T + 1 moments: step t leads from $u = t/T$, where $\bar\alpha_{t-1}$ is left, to $(t+1)/T$, where $\bar\alpha_t$ is left. So

$$\beta_t = \min\!\left(1-\frac{f\!\left(\frac{t+1}{T}\right)}{f\!\left(\frac{t}{T}\right)},\ \text{max\_beta}\right)$$

With only T = 4 steps, and s = 0 to keep the numbers simple:

| $u$ | 0 | 1/4 | 2/4 | 3/4 | 1 |
|---|--:|--:|--:|--:|--:|
| $f(u)$, the ᾱ that we want | 1 | 0.85 | 0.50 | 0.15 | 0 |
| 1 − ratio to the left neighbour | | 0.15 | 0.41 | 0.71 | 1, so cut to 0.999 |
| this is | | $\beta_0$ | $\beta_1$ | $\beta_2$ | $\beta_3$ |

Without the offset $s=0.008$ the first beta would be 0.0000025, too tiny even for the finest details. (With it, f(0) is a hair below 1. The first ratio divides by this f(0), not by 1.) The limit is needed because $f(1)=0$: the last beta would be exactly 1, and lesson 3 would have to divide by what is left of the picture: 0.

**Predict.** The opening picture told you that cosine keeps the digit longer. Yet both films end in noise, so somewhere cosine must catch up. From about which step on will its betas be the larger ones: 500, 700, 900?
"""

# %%
#| exercise: schedules.cosine_betas
#| points: 20
#| difficulty: 3
#| minutes: 12
#| hint: First make the list of all u: 0, 1/T, 2/T, …, 1. That is T + 1 values, because T ratios need T + 1 neighbours.
#| hint: Put the list into f, all at once (`torch.cos` takes a whole tensor; π is `math.pi`). Then divide "all but the first" by "all but the last": slices `[1:]` and `[:-1]`.
#| hint: betas are 1 minus these ratios, cut with `.clamp(max=max_beta)`. More exact with `dtype=torch.float64` for the list of u and `.float()` at the end: the first ratios differ from 1 by only a few hundred-thousandths, and the last ones divide tiny numbers. In both places float32 gets coarse.

# %%
#| check: cosine_betas
betas = cosine_betas(10)
assert betas.shape == (10,), f"ten steps need ten betas, these have shape {tuple(betas.shape)}"
assert (betas.diff() > 0).all(), f"each beta should be larger than the one before: {betas}"
assert abs(betas[-1] - 0.999) < 1e-6, f"the last beta should be max_beta, not {betas[-1]:.4f}"
assert (cosine_betas(10, max_beta=0.3) <= 0.3).all(), "max_beta is an argument: use it"
half = (1 - betas[:5]).prod()
assert abs(half - 0.494) < 0.002, f"ᾱ should be about one half in the middle, yours is {half:.3f}"

# %%
betas_of = {"linear": linear_betas(1000), "cosine": cosine_betas(1000)}
schedules = {name: alphas_cumprod(betas) for name, betas in betas_of.items()}
show.film_strip(
    {name: drown(x_0, a, steps) for name, a in schedules.items()},
    titles,
    alt="The digit drowning at ten steps, above under the linear schedule, below under the cosine.",
    caption="The same picture and the same noise in both rows.",
)

# %%
figure, axes = show.panels(1, 2, height=2.8)
show.draw_curves(axes[0], range(1000), betas_of, title="β: noise in each step", ylim=(0, 0.05))
show.draw_curves(axes[1], range(1000), schedules, title="ᾱ: picture left after it", xlabel="step t")
axes[1].axhline(0.5, color=show.GREY, lw=0.8)
axes[0].set(xlabel="step t")
show.Picture(
    figure,
    alt=f"Left: {in_words(range(1000), betas_of, 't', 'β')} Right: "
    + in_words(range(1000), schedules, "t", "ᾱ"),
    caption=f"The left picture is cut at 0.05; the largest beta is {betas_of['cosine'].max():.3f}.",
)

# %% [markdown]
r"""
Only from about $t = 890$ on are the cosine betas the larger ones, and then they climb steeply, to 0.999. Cosine takes the picture away evenly (on the right), and as less and less of it is left, an even portion becomes a larger *share*.

## 8 · Signal-to-noise ratio

ᾱ near the end is hard to compare by eye: 0.001 and 0.00001 both look like zero. Engineers have a better ruler for signals in noise, the **signal-to-noise ratio**, SNR. It says how many times stronger the picture's variance is than the noise's:

$$\text{SNR}_t = \frac{\bar\alpha_t}{1-\bar\alpha_t}$$

SNR = 1 means "equally strong", for a picture of variance 1. (Our digits have a variance of only 0.4, so noise overtakes them earlier than the formula says. People quote the formula's SNR all the same, and so do we.) 100 is a faint grain; 0.01 is a ghost of a picture. Because it runs through so many powers of ten, one draws its logarithm.

**Predict.** At which step does each schedule reach SNR = 1? (Look at the picture above: which value must ᾱ have?)
"""

# %%
#| exercise: schedules.snr
#| points: 10
#| difficulty: 1
#| minutes: 3
#| hint: Above the line stands the picture's share of the variance, below it the noise's share.
#| hint: Both are *variances*, so no square root here. Mind the brackets.
#| hint: `alphas_cumprod` divided by the bracket `(1 - alphas_cumprod)`.

# %%
#| check: snr
ratio = snr(torch.tensor([0.9, 0.5, 0.2]))
goal = torch.tensor([9.0, 1.0, 0.25])
assert torch.allclose(ratio, goal), f"0.9 against 0.1 is nine to one; you have {ratio.tolist()}"

# %%
logs = {name: snr(a).log10() for name, a in schedules.items()}
show.curves(
    range(1000),
    logs,
    xlabel="step t",
    ylabel="log₁₀ SNR",
    ylim=(-6, 4.5),
    caption="Upwards: 4 is clean, at 0 picture and noise are equally strong, −4 is noise. The frame "
    "ends at −6; one of the two goes on.",
)

# %%
for name, a in schedules.items():
    below = (snr(a) < 1).nonzero()[0].item()
    print(f"{name:7} SNR < 1 from t = {below};  at the last step SNR = {snr(a)[-1]:.1e}")

# %% [markdown]
r"""
SNR = 1 means ᾱ = ½. Linear is there in the first third of its steps, cosine halfway: cosine spends half of its steps on either side. Near that line the digit is full of speckles, and you can still read it: look at the film strips. On both sides of it a network has much to learn: above it fine strokes, below it the shape. (Far above, hardly any noise is left to find; far below, hardly any picture.) From the next lesson on we use the cosine schedule for digits.

## 9 · Does the film end in pure noise?

We want to *start* from $\mathcal N(0, I)$ when we make new pictures. So the film must end there. Let us look at all pixels of 1,000 noisy digits at the last step, and lay the bell curve over them.

Someone is in a hurry and takes only 100 steps, with the usual betas: `linear_betas(100)`.

**Predict.** Which histogram will *not* fit the bell curve? Is its middle too far left or right? (Most pixels of a digit are black, −1.)
"""

# %%
digits = images[: pick(smoke=200, cpu=1000, gpu=1000)]  # fewer digits on slow machines
big_noise = torch.randn(digits.shape, generator=torch.Generator().manual_seed(2))


def last(betas: Tensor) -> Tensor:
    """Many digits at the last step of a schedule."""
    t = torch.full((len(digits),), len(betas) - 1)
    return add_noise(digits, big_noise, t, alphas_cumprod(betas))


# %%
ends = {
    "linear, 1000 steps": linear_betas(1000),
    "cosine, 1000 steps": cosine_betas(1000),
    "linear, only 100 steps": linear_betas(100),
}
figure, axes = show.panels(1, 3, height=2.6)
for panel, (name, betas) in zip(axes, ends.items(), strict=True):
    title = f"{name}\nlast ᾱ: {alphas_cumprod(betas)[-1]:.2g}"
    show.draw_histogram(panel, last(betas), title=title, ylim=(0, 0.62))
axes[0].set_ylabel("how common")
told = [
    f"{name}: mean {last(b).mean():.2f}, variance {last(b).var():.2f}" for name, b in ends.items()
]
show.Picture(
    figure,
    alt=f"Histograms of pixels at the last step, the bell curve over them. {'; '.join(told)}.",
    caption="Blue: how often each value occurs among the pixels.",
)

# %% [markdown]
r"""
The third one: too far left, as most pixels of a digit are black, and a little too narrow, as a digit's own variance is only 0.4: 0.36 · 0.4 + 0.64 is less than 1. After 100 steps ᾱ is still 0.36: the digit is there with $\sqrt{0.36} = 0.6$ of its strength. So a schedule belongs to its number of steps; 100 steps need larger betas. A model trained on that third schedule has never seen pure noise, and would be lost when it has to start there.

The same thing happened, more quietly, to a famous model. Stable Diffusion 1.5 uses betas whose *roots* lie on a line. Its ᾱ ends at 0.0047. That looks like nothing. But $\sqrt{0.0047}\approx 0.07$: seven percent of the picture's *strength* is still there. Single pixels hardly show it. *All* pixels of a picture together do, because in their sum the noise cancels and the picture adds up.

We measure the brightness of each noisy digit: the sum of its 784 pixels, divided by 28. For pure noise, that is again $\mathcal N(0, 1)$, because the variances of 784 pixels add up to 784, which is 28².
"""

# %%
stable_diffusion = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
print(f"its last ᾱ: {alphas_cumprod(stable_diffusion)[-1]:.4f}")


def brightness(x: Tensor) -> Tensor:
    """One number for each picture; N(0, 1) for pictures of pure noise."""
    return x.sum(dim=(1, 2, 3)) / 28


# %%
noisy, wide = last(stable_diffusion), {"bins": 40, "limits": (-5.0, 5.0)}
figure, axes = show.panels(1, 2, height=2.6)
show.draw_histogram(axes[0], noisy, xlabel="single pixels", **wide)
show.draw_histogram(axes[1], brightness(noisy), xlabel="brightness of whole pictures", **wide)
axes[0].set_ylabel("how common")
show.Picture(
    figure,
    alt=f"Histograms with the bell curve. Left, single pixels: mean {noisy.mean():.2f}. Right, the "
    f"brightness of whole pictures: mean {brightness(noisy).mean():.2f}.",
)

# %% [markdown]
r"""
Single pixels look almost exactly like noise. Their sum shows that the pictures were dark (a digit's average pixel is −0.74, and 0.07 · (−0.74) · 784/28 is −1.4), and the model learned to read this from it. (In ours the two bells overlap. The larger the picture, the further they part: a sum of N pixels, all a little too dark, shifts by N times that little, and its noise spreads only by √N.) When it generates, it starts from real noise, whose brightness is always middling. So it made middling pictures; it could hardly paint a black night or a white page. Shanchuan Lin and colleagues traced this to the schedule in 2023, and gave the repair: *bend the schedule so that its last SNR is exactly zero*.

The strength of the picture is $\sqrt{\bar\alpha}$. Shift that curve down until it ends at 0. Then stretch it so that it starts where it did. With "first" and "last" for the ends of the old curve:

$$\sqrt{\bar\alpha_t}^{\,\text{new}} = \left(\sqrt{\bar\alpha_t} - \text{last}\right)\cdot\frac{\text{first}}{\text{first}-\text{last}}$$

Then go back: square to get ᾱ, divide neighbours to get each $1-\beta_t$, and you have betas again. The first step has no earlier neighbour: there $1-\beta_0$ is $\bar\alpha_0$ itself. The last beta becomes exactly 1, so that nothing is left. (Inside your function you will call `alphas_cumprod`, so give its result another name here too.) (In §7 we avoided a beta of 1. It needs other formulas; see "Zero SNR has a price" below.)

**Predict.** Before the repair, the last two betas are both about 0.012. The last one becomes 1. And the one before it: does it stay near 0.012, or roughly where will it be?
"""

# %%
#| exercise: schedules.rescale_zero_terminal_snr
#| points: 20
#| difficulty: 4
#| minutes: 15
#| hint: Only √ᾱ can be shifted and stretched. So how do you get from betas to √ᾱ, and how back from a new √ᾱ to betas? You know each of these moves already; write them down as a plan first.
#| hint: The plan: betas → √ᾱ → shift and stretch → square → ratios of neighbours → 1 minus these. With `root` for √ᾱ, first is `root[0]` and last is `root[-1]`. The ratios are `new[1:] / new[:-1]`, one value short: put `new[:1]` in front with `torch.cat`.
#| hint: Do not change `betas` itself (no `betas[...] =`). Square *before* you take ratios, and end with 1 minus the alphas. If the last beta is not exactly 1, look at what you subtracted.

# %%
#| check: rescale_zero_terminal_snr
old = torch.tensor([0.19, 5 / 9, 0.75])  # √ᾱ is 0.9, 0.6, 0.3
new = rescale_zero_terminal_snr(old)
assert new.shape == old.shape, f"as many betas as before, please: {tuple(new.shape)}"
assert new[-1] == 1, f"nothing of the picture may be left, so the last beta is 1, not {new[-1]}"
why = "1 minus that is missing" if new[0] > 0.8 else "stretched by first/(first − last)? squared?"
assert torch.allclose(new[0], old[0]), f"the first beta stays 0.19; it became {new[0]:.3f} ({why})"
assert torch.allclose(new[1], torch.tensor(0.75)), (
    f"√ᾱ should go from 0.9, 0.6, 0.3 to 0.9, 0.45, 0, so the second beta is 0.75, not {new[1]:.3f}"
)
assert old[-1] == 0.75, "the betas that came in were changed: work on new tensors"

# %%
repaired = rescale_zero_terminal_snr(stable_diffusion)
print("the last three betas, repaired:", [round(b, 3) for b in repaired[-3:].tolist()])
figure, axes = show.panels(1, 2, height=2.8)
before_and_after = {"before": stable_diffusion, "repaired": repaired}
roots = {name: alphas_cumprod(betas).sqrt() for name, betas in before_and_after.items()}
show.draw_curves(axes[0], range(1000), roots, xlabel="step t", ylabel="strength of the picture, √ᾱ")
bright = brightness(last(repaired))
show.draw_histogram(axes[1], bright, xlabel="brightness, repaired", ylabel="how common", **wide)
show.Picture(
    figure,
    alt=f"Left: {in_words(range(1000), roots, 't', '√ᾱ')} Right: a histogram of brightness, the bell "
    f"curve over it; its mean is {bright.mean():.2f}.",
)

# %% [markdown]
r"""
<details><summary>What to see</summary>

The last but one is 0.75, far from 0.012. Near its end, √ᾱ now runs down to 0 in nearly equal strides: its last four values are as 3, 2, 1 and 0. From 2 to 1 the strength is halved, so a quarter of the share is left, and three quarters are taken away. The beginning changes little: the very first beta stays as it is, and the next ones grow by 7 %, as all of the strength has to go now, not just 93 % of it.

A small shift of the curve, and the trace of brightness is gone. (A thousand pictures are few, so the bars are jumpy.)

</details>

## 10 · Why not noise in one go?

A last question: if we can jump to pure noise in one line, why so many steps? Because of the way *back*. Let us play the network ourselves.

Somebody shows you $x_t$ and asks for your best guess of the clean digit. (The noise follows from it, by section 6's formula.) You know many other digits. A fair guess is their *average*, where a digit counts more the better it explains what you see: if this digit were $x_0$, the noise in each pixel would be $(x_t-\sqrt{\bar\alpha_t}\,x_0)/\sqrt{1-\bar\alpha_t}$. Its weight is the bell curve's height there, $e^{-\text{noise}^2/2}$, multiplied over all pixels. (If these were all the digits in the world, that would be the best guess possible: the one with the smallest squared error. It is also what a network learns to give.)

**Predict.** From pure noise, what will this best guess look like?
"""

# %%
known = mnist("test")[0][: pick(smoke=2000, cpu=5000, gpu=10_000)]  # fewer on slow machines


def best_guess(x_t: Tensor, alpha_bar_t: Tensor) -> Tensor:
    """The average of the known digits, each weighted by how well it explains x_t."""
    misfit = ((x_t - alpha_bar_t.sqrt() * known) ** 2).sum(dim=(1, 2, 3))
    # the bell curve is exp(−squared distance / (2 · variance)); softmax: exp, and a sum of 1
    weight = torch.softmax(-misfit / (2 * (1 - alpha_bar_t)), dim=0)
    return (weight.view(-1, 1, 1, 1) * known).sum(dim=0)


# %%
cosine = schedules["cosine"]
back = torch.tensor([999, 980, 960, 940, 920, 900, 850, 800, 600])
seen = drown(x_0, cosine, back)
guesses = torch.stack([best_guess(x_t, cosine[t]) for x_t, t in zip(seen, back, strict=True)])
show.film_strip(
    {"what you see": seen, "best guess": guesses},
    [f"t = {t}" for t in back.tolist()],
    alt="Upper row: the noisy digit from t = 999 down to 600. Lower row: the best guess at each.",
    caption="The noise is the same at all steps, so the first pictures above look alike.",
)

# %% [markdown]
r"""
One jump back from pure noise can only give a smudge, the average of all digits. But where a little less noise is left, the guess is a little clearer. So take a *small* step back; that helps the next step, and so on. Each small step makes a small decision: round or straight? open or closed?

(Here we cheated: all of these noisy pictures were made from a real three. When a model generates there is no three behind the noise. Then chance, in the noise itself, tips each decision. You will write that walk in lesson 3.)

One honest remark. At low noise our guesser simply picks the stored digit that fits best: compare t = 600, that three is another person's. A network with a million weights can't store the 47 million pixels of MNIST. It has to learn what strokes look like, and that is what lets it draw digits that nobody ever wrote. You will measure that in lesson 3.

## 11 · Your laboratory

First the promised picture, now entirely from your own functions:
"""

# %%
schedules["Stable Diffusion, repaired"] = alphas_cumprod(repaired)
moments = torch.tensor([0, 100, 200, 300, 400, 500, 600, 700, 850, 999])
show.film_strip(
    {name.replace(" ", "\n"): drown(x_0, a, moments) for name, a in schedules.items()},
    [f"t = {t}" for t in moments.tolist()],
    alt="Three rows of a handwritten digit that drowns in grey noise. Linear: gone "
    "soon after the middle. Cosine: visible much longer. Stable Diffusion, repaired: between them.",
    caption="The picture from the top of this lesson, made by you.",
)

# %% [markdown]
r"""
Now move the slider. All three schedules see the same noise. Find the step at which *you* can no longer read the digit, for each schedule. Is that near SNR = 1?
"""


# %%
def look(t: int) -> show.Picture:
    """The digit at step t under each schedule."""
    pictures = [drown(x_0, a, torch.tensor([t]))[0] for a in schedules.values()]
    titles = [f"{name}\nSNR = {snr(a)[t]:.2g}" for name, a in schedules.items()]
    return show.show_images(pictures, titles, alt=f"The digit at step {t} under three schedules.")


show.slider(look, t=(0, 999, 1))

# %% [markdown]
r"""
Without a running kernel nothing moves, so here are six positions of the slider:

![The digit at t = 0, 200, 400, 600, 800 and 999 in three rows: linear, cosine, and Stable Diffusion's repaired schedule. Under linear it is all but gone at 600, under cosine it is still readable there; at 999 all three are pure noise.](figures/slider.png)

<details><summary>What to see</summary>

You can still read the digit long after SNR = 1, which the schedules reach at t = 259, 496 and 337: down to an SNR of perhaps 0.1. A stroke is dozens of pixels, and the eye averages over them, as the brightness in section 9 does over all. A network does the same.

</details>

## 12 · What was simplified, and where these lines live

- **Our digits don't have variance 1.** Most of their pixels are −1; the variance is about 0.4. So the variance of $x_t$ drifts from there to 1. That does no harm: the numbers hardly change their size on the way, and the film still ends in pure noise. Stable Diffusion scales its data to variance 1 on purpose (lesson 8).
- **Zero SNR has a price.** At a last step of pure noise, "which noise was added?" teaches nothing about the picture. One then lets the network predict another mixture, called *v* (lesson 4).
- **There are other films.** Noise can also be added without weakening the picture ("variance exploding"), or along a straight line from picture to noise. The straight line has won in the newest models; you will build it in lesson 10.
- **The best schedule depends on the size of the picture.** Neighbouring pixels of a large picture resemble each other, so it survives more noise, and its schedules must be harsher.

The same lines live in Hugging Face's `diffusers`, the library behind most open image models. Compare:
"""

# %%
from diffusers import DDPMScheduler

theirs = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
t = torch.tensor([10, 500, 900])
clean, fresh = images[:3], torch.randn(3, 1, 28, 28)
print("betas differ by at most    ", f"{(theirs.betas - cosine_betas(1000)).abs().max():.1e}")
difference = theirs.add_noise(clean, fresh, t) - add_noise(clean, fresh, t, schedules["cosine"])
print("noisy digits by at most    ", f"{difference.abs().max():.1e}")

# %% [markdown]
r"""
0 is a perfect match. A few 1e-5 come from cosines computed in float32, the usual precision, and are fine too.

| yours | in `diffusers` |
|---|---|
| `linear_betas(1000)` | `DDPMScheduler(beta_schedule="linear").betas` |
| `cosine_betas(1000)` | `DDPMScheduler(beta_schedule="squaredcos_cap_v2").betas` |
| `alphas_cumprod(betas)` | `scheduler.alphas_cumprod` |
| `add_noise(x_0, noise, t, alphas_cumprod)` | `scheduler.add_noise(x_0, noise, t)` |
| `snr(alphas_cumprod)` | `diffusers.training_utils.compute_snr` |
| `rescale_zero_terminal_snr(betas)` | the same name, in `schedulers/scheduling_ddpm.py` |

## 13 · Three questions
"""

# %%
#| quiz: strength

# %%
#| quiz: chain_or_jump

# %%
#| quiz: terminal

# %% [markdown]
r"""
## What you have now

You can ruin any picture, to any degree, in one line, and you know exactly how. In **lesson 2** you build the machine that looks at the ruin and says which noise was added: a UNet.

**The papers.** Sohl-Dickstein et al. 2015, [arXiv:1503.03585](https://arxiv.org/abs/1503.03585): the idea. Ho, Jain and Abbeel 2020, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239): DDPM, with the linear schedule (section 4) and the jump (equation 4). Nichol and Dhariwal 2021, [arXiv:2102.09672](https://arxiv.org/abs/2102.09672): the cosine schedule (equation 17). Kingma et al. 2021, [arXiv:2107.00630](https://arxiv.org/abs/2107.00630): SNR as the heart of the matter. Lin et al. 2023, [arXiv:2305.08891](https://arxiv.org/abs/2305.08891): zero terminal SNR (algorithm 1).
"""
