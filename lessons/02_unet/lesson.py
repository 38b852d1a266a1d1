# %% [markdown]
r"""
# Lesson 2 · The denoiser: a UNet

**How a machine looks at a ruined picture and says what ruined it.**

![Eight digits in five rows. First row: digits under more and more noise, the last ones unreadable. Second row: the noise that was really added. Third row: the network's answer before training, a dull grey with faint traces of the digits. Fourth row: its answer after training, which looks like the true noise. Fifth row: the digits with that answer taken off, all clean and readable.](figures/opening.png)

You will make this picture in section 7, with a network whose every forward step you wrote. When asked, it sees only the first row and the $t$ above it. It answers with the fourth. Take that answer away from the first row, and the digits are back.

(One honest word first: this network has learnt only these eight pictures, with exactly this noise, by heart. That is a test which every network must pass. The real training is lesson 3.)

The network is called a **UNet**. It's the engine of DDPM and of Stable Diffusion. Nothing in it is large: six short pieces of code, each of them an idea that you can see. Take about two hours; the computer needs two or three minutes, and no GPU.
"""

# %%
from t2i.lesson import start

start(2)

# %%
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from tqdm.auto import tqdm

from t2i import show
from t2i.data import mnist
from t2i.drawing import show_unet
from t2i.drawing.in_words import in_words
from t2i.engine.watching import watching
from t2i.lesson import pick
from t2i.schedules import add_noise, alphas_cumprod, cosine_betas, gather

# %% [markdown]
r"""
## 1 · The question, and why the answer is noise

In lesson 1 you mixed a clean picture with noise:

$$x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1-\bar\alpha_t}\;\text{noise}$$

Now somebody shows us $x_t$ and tells us $t$. There are two unknowns left, $x_0$ and the noise. But they are tied together by this one line: **whoever knows one of them knows the other.** So we may choose what the network should answer.

![An equation made of pictures: a noisy digit equals 0.71 times a digit with a question mark, plus 0.71 times noise with a question mark. Below: find either one, and the other follows by subtraction.](figures/question.png)

Check it: we take the true noise off again.
"""

# %%
images, labels = mnist("train")
alpha_bar = alphas_cumprod(cosine_betas(1000))
digits = images[:8]
t = torch.linspace(100, 800, 8).long()
noise = torch.randn(digits.shape, generator=torch.Generator().manual_seed(0))
x_t = add_noise(digits, noise, t, alpha_bar)


# %%
def take_off(x_t: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Solve the equation for the clean picture."""
    a = gather(alpha_bar, t, like=x_t)
    return (x_t - (1 - a).sqrt() * noise) / a.sqrt()


show.film_strip(
    {"noisy, x_t": x_t, "true noise": noise / 3, "taken off": take_off(x_t, noise, t)},
    [f"t = {i}" for i in t.tolist()],
    alt="Three rows: eight noisy digits, their noise, and the eight clean digits that come out when the noise is taken off.",
    caption="Noise goes from about −3 to 3, so it is drawn at a third of its strength.",
)

# %% [markdown]
r"""
Why ask for the *noise*, and not for the picture? Both would do. The noise is easy to name where there is hardly anything else, and the clean picture where there is hardly any noise. And whatever the pictures are, the noise always has mean 0 and variance 1. Jonathan Ho and colleagues tried both in 2020 and got better pictures by asking for noise. (Later lessons ask for other mixtures.)

How wrong is an answer? We take the average squared difference over all pixels. Two lazy answers will give us a ruler: "zero everywhere", and "all of $x_t$ is noise".

**Predict.** What error does the answer "zero" get? At which end does the answer "$x_t$" do well?
"""

# %%
some = images[:100]
fresh = torch.randn(some.shape, generator=torch.Generator().manual_seed(1))
steps = torch.arange(0, 1000, 25)
noisy = [add_noise(some, fresh, torch.full((100,), i), alpha_bar) for i in steps.tolist()]
lazy = {
    "answer: zero": [F.mse_loss(torch.zeros_like(fresh), fresh) for _ in noisy],
    "answer: x_t itself": [F.mse_loss(x, fresh) for x in noisy],
}
show.curves(
    steps,
    lazy,
    xlabel="step t",
    ylabel="mean squared error",
    ylim=(0, 2),
    height=2.4,
)

# %% [markdown]
r"""
Keep this number: **1.0 is what an answer of zero gets**, because the variance of the noise is 1. A network whose loss stays at 1.0 has learnt to keep silent, and nothing else. (The answer $x_t$ begins at 1.9: 1 from the noise that it misses, 0.4 from the digits' variance, and a little over 0.5 from their mean, squared.) And at the noisy end even the laziest copy is nearly right, so a small loss there is no great feat.

## 2 · Telling the network what time it is

The network will be told $t$, a whole number from 0 to 999. A bare number is a poor thing to feed to a network: 999 is huge beside pixel values, and 500 and 501 are hardly different in proportion.

Think of a wall of clocks. The first turns fast, the next slower, the last hardly moves. To tell two neighbouring moments apart you look at the fast ones; to tell early from late, at the slow ones. The positions of all hands together name a moment *exactly* and *smoothly*.

![Five rows of eight clock faces, for t = 0, 1, 10, 100 and 500. At t = 0 all hands point to the right. At t = 1 the leftmost has moved far, the next two less, the others hardly. At t = 500 all have moved, the last only a little.](figures/clocks.png)

The hands start at three o'clock and turn anticlockwise. The position of a hand is its cosine and its sine, two numbers between −1 and 1. With $d$ numbers in all (`dim`) we can afford $d/2$ clocks. Clock $i$ runs at the speed $\omega_i$ ("omega"):

$$\omega_i = \text{max\_period}^{-2i/d},\qquad \text{emb} = [\cos(t\,\omega_0),\dots,\cos(t\,\omega_{d/2-1}),\ \sin(t\,\omega_0),\dots,\sin(t\,\omega_{d/2-1})]$$

First *all* the cosines, then *all* the sines. It's called a **sinusoidal embedding**. An *embedding* is simply a vector that stands for something. An odd `dim` has no half: raise a `ValueError`.

**Predict.** How many of the eight clocks can tell $t=500$ from $t=501$ at a glance? And $t=0$ from $t=500$?
"""

# %%
#| exercise: unet_blocks.timestep_embedding
#| points: 15
#| difficulty: 2
#| minutes: 12
#| hint: Make the list of speeds first, one for each clock. There are `dim // 2` of them; the first is 1, and the last stays above 1 / max_period (the larger dim, the closer to it). Then every step times every speed: a table of B rows and dim / 2 columns.
#| hint: A power is best taken through `exp` and `log`: max_period to the power −x is `torch.exp(-math.log(max_period) * x)`, and here x is `i / (dim / 2)` for i = 0, 1, 2, … For the table, multiply a column by a row: `t[:, None]` has the shape (B, 1).
#| hint: `half = dim // 2`; x is `torch.arange(half) / half`; angles are `t.float()[:, None] * speeds[None, :]`; join `angles.cos()` and `angles.sin()` with `torch.cat(..., dim=-1)`. Before all that: an odd dim raises a ValueError.

# %%
#| check: timestep_embedding
emb = timestep_embedding(torch.tensor([0, 1, 500]), 8)
assert emb.shape == (3, 8), (
    f"three steps and dim = 8 make a (3, 8) table; yours is {tuple(emb.shape)}"
)
assert emb.dtype == torch.float32, f"float32, please, even for whole steps; yours is {emb.dtype}"
assert torch.allclose(emb[0], torch.tensor([1.0] * 4 + [0.0] * 4)), (
    f"at t = 0 each cosine is 1 and each sine 0: {emb[0]}"
)
assert abs(emb[1, 0] - math.cos(1)) < 1e-4, (
    "clock 0 has speed 1: after one step its angle is 1 (in radians)"
)
assert abs(emb[1, 5] - math.sin(0.1)) < 1e-4, "of 4 clocks, clock 1 has speed 10000^(-1/4) = 0.1"
emb = timestep_embedding(torch.tensor([1]), 4, max_period=100.0)
assert abs(emb[0, 1] - math.cos(0.1)) < 1e-4, "of 2 clocks, clock 1 has speed max_period^(-1/2)"

# %%
table = timestep_embedding(torch.arange(1000), 64)
figure, (axes,) = show.panels(1, 1, height=3.2)
show_unet.heat_map(
    axes,
    table.T,
    xlabel="step t",
    ylabel="place in the vector",
    title="cosines above the middle, sines below; fast clocks on top of each half",
)
show.Picture(
    figure,
    alt="Heat map of the embedding: t from left to right, 64 places from top to bottom, two halves.",
)

# %% [markdown]
r"""
Each column of this picture is what the network is told about one $t$. No two are alike.

Did you predict? 500 or 501: the fastest two clocks tell, perhaps three. 0 or 500: all eight, the last by 9°. Move the slider and watch the hands turn; the figure above the exercise shows five of its positions.
"""


# %%
def wall(t: int) -> show.Picture:
    """All clocks at step t."""
    return show_unet.clocks(timestep_embedding(torch.tensor([t]), 16), [f"t = {t}"])


show.slider(wall, t=(0, 999, 1))

# %% [markdown]
r"""
Inside the network a small *MLP* (two linear layers, and between them a *bend*, the SiLU that section 3 explains) turns these clock hands into a longer vector; from here on *this* one is called `emb`. The network learns for itself what it wants to know about the time.

## 3 · The brick: a residual block

Most of a UNet is one brick, repeated. It looks at small neighbourhoods and refines what it finds there. You need five words:

- A **convolution** slides a 3 × 3 window over the picture; each new pixel is a learnt mixture of the nine under the window. Pictures inside a network have many **channels**: not red, green and blue, but *edge here*, *bright spot here*.
- **Normalisation** (`GroupNorm`) brings the numbers back to mean 0 and variance 1, within each picture and each group of neighbouring channels (there are `norm_groups` of them), so that no layer gets numbers much larger than it is used to.
- **SiLU** is the bend: $\text{silu}(x) = x\cdot\text{sigmoid}(x)$ lets positive numbers through and nearly silences negative ones. Without a bend, many layers would be no better than one: a mixture of mixtures is a mixture.
- **Residual** means: add what came in to what comes out. The brick learns only *what to change*, and news finds a straight road through a hundred bricks. (So do gradients, on their way back.)
- **Dropout** sets some values to zero in training, so that the network never relies on one value alone. We mostly leave it at 0.

![Diagram of a ResBlock. x goes right through norm1, SiLU, conv1, then a plus sign, norm2, SiLU, dropout, conv2 and a final plus sign. From below, emb passes SiLU and time_proj into the first plus sign. Above, a road called skip leads from x straight to the final plus sign.](figures/resblock.png)

$$h = \text{conv1}(\text{silu}(\text{norm1}(x))) + \text{time\_proj}(\text{silu}(\text{emb}))$$
$$\text{out} = \text{skip}(x) + \text{conv2}(\text{dropout}(\text{silu}(\text{norm2}(h))))$$

Where does the time come in? `time_proj` makes *one number for each channel*, and adds it to all pixels of that channel: "at this $t$, watch for fine edges a little more". In shapes: `(B, C)` must be added to `(B, C, H, W)`.

If the brick changes the number of channels, $x$ can't be added as it is. Then `skip` is a 1 × 1 convolution that only mixes channels; otherwise it does nothing. The layers are all made for you in `__init__`. You write what happens to the data.

**Predict.** Suppose conv2 has only zeros in it. What does the brick do to its input?
"""

# %%
#| exercise: unet_blocks.ResBlock.forward
#| points: 20
#| difficulty: 3
#| minutes: 15
#| hint: Follow the drawing from left to right, one line of code for each line of the equation. SiLU is `F.silu`.
#| hint: `self.time_proj(F.silu(emb))` has the shape (B, C). Two new dimensions of size 1 at its end make it (B, C, 1, 1), and PyTorch stretches it over all pixels: index it with `[:, :, None, None]`.
#| hint: Three steps: h is conv1 of silu of norm1 of x. Add the time to h. Then h is conv2 of dropout of silu of norm2 of h. Return `self.skip(x) + h`, with the x that came in.

# %%
#| check: ResBlock.forward
block = ResBlock(8, 12, emb_channels=6, norm_groups=4).eval()
x, emb = torch.randn(2, 8, 7, 5), torch.randn(2, 6)
out = block(x, emb)
assert out.shape == (2, 12, 7, 5), (
    f"channels change from 8 to 12, height and width stay; yours: {tuple(out.shape)}"
)
assert not torch.allclose(out, block(x, emb + 1)), (
    "another time should give another answer: is emb used?"
)
assert torch.allclose(block(x, emb - 50), block(x, emb - 60), atol=1e-5), (
    "SiLU makes 0 of -50 and of -60: emb goes through it before time_proj"
)
nn.init.zeros_(block.time_proj.weight), nn.init.zeros_(block.time_proj.bias)
out = block(x, emb)
nn.init.ones_(block.time_proj.bias)
assert torch.allclose(block(x, emb), out, atol=1e-4), (
    "1 more in all channels alike should change nothing: the time comes before norm2, which takes "
    "off what the channels of a group share"
)
nn.init.zeros_(block.conv2.weight), nn.init.zeros_(block.conv2.bias)
assert torch.allclose(block(x, emb), block.skip(x), atol=1e-5), (
    "with a silent conv2, only skip(x) should be left"
)

# %% [markdown]
r"""
With a silent conv2 only `skip(x)` is left: the brick hands its input on.

What did the residual buy? We stack 1 to 28 bricks and ask: how much of a tug at the *output* arrives at the *input*? That tug is the gradient, all that a layer ever learns from. Then we take away the roads called skip.

**Predict.** In which tower does the tug depend more on how tall it is?
"""


# %%
class Silent(nn.Module):
    """A skip that carries nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def tug(depth: int, with_skip: bool) -> float:
    torch.manual_seed(0)
    x = h = torch.randn(1, 8, 8, 8, requires_grad=True)
    for _ in range(depth):
        block = ResBlock(8, 8, emb_channels=4, norm_groups=4)
        block.skip = block.skip if with_skip else Silent()
        h = block(h, torch.zeros(1, 4))
    return torch.autograd.grad(h.square().mean().sqrt(), x)[0].norm().item()


# %%
depths = range(1, 30, pick(smoke=14, cpu=3))
tugs = {"with skip": [tug(d, True) for d in depths], "without": [tug(d, False) for d in depths]}
show.curves(
    depths,
    tugs,
    yscale="log",
    xlabel="bricks in the tower",
    ylabel="gradient at the input",
    height=2.4,
)

# %% [markdown]
r"""
With skips, the tug on the first brick hardly depends on the tower's height: at most by a factor of two. Without, it changes by two orders of magnitude: here it grows (without the norms, it would often fade to nothing). No single learning rate suits such a tower.

## 4 · Small, to see the whole; big again, to place it

A 3 × 3 window sees three pixels across. Stack another, and each pixel knows about five; then seven. To know whether it belongs to a 3 or an 8, a pixel would need more than a dozen layers, all at full size. That is expensive.

The trick: make the picture *smaller*. In a picture of half the size, a 3 × 3 window looks at 6 × 6 of the original pixels and more, for a quarter of the work. So a UNet shrinks the picture, thinks about the whole, and grows it again.

![Left: a 6 by 6 grid with nine windows' centres marked on every second pixel, an arrow, and a 3 by 3 grid: downsampling visits every second pixel. Right: a 3 by 3 grid, an arrow, and a 6 by 6 grid in which each pixel has become a block of four equal pixels, an arrow, and the same grid smoothed: upsampling repeats, then convolves.](figures/resize.png)

**Down:** a convolution with *stride* 2. It visits every second pixel only, so height and width are halved: $\lceil H/2\rceil \times \lceil W/2\rceil$. What to keep is learnt.

**Up:** repeat every pixel, so that each becomes a block of 2 × 2; then smooth with an ordinary convolution.

Both keep the number of channels, and both hold one 3 × 3 convolution with `padding=1` (a border of zeros, so that the window may stand at the edge). This time you write the whole class. Two things are fixed: **call the convolution `self.conv`**, so that saved weights find it, and begin `__init__` with `super().__init__()`.

**Predict.** A picture of 7 × 4 goes through Downsample, then through Upsample. What size comes out?
"""

# %%
#| exercise: unet_blocks.Downsample
#| points: 10
#| difficulty: 2
#| minutes: 8
#| hint: One layer made in `__init__`, one call in `forward`. `nn.Conv2d` takes the channels in, the channels out and the size of the window; how far it moves and how wide the border is are keyword arguments.
#| hint: The two keyword arguments are called `stride` and `padding`.
#| hint: After `super().__init__()`: `self.conv` is an `nn.Conv2d` from channels to channels, 3, with stride 2 and padding 1. `forward` returns `self.conv(x)`.

# %%
#| check: Downsample
down = Downsample(4)
assert hasattr(down, "conv"), "call the convolution self.conv"
assert down(torch.randn(2, 4, 8, 6)).shape == (2, 4, 4, 3), (
    f"8 × 6 should become 4 × 3: {tuple(down(torch.randn(2, 4, 8, 6)).shape)}"
)
assert down(torch.randn(1, 4, 7, 5)).shape == (1, 4, 4, 3), (
    "odd sizes are rounded up: 7 × 5 becomes 4 × 3 (padding=1)"
)
nn.init.ones_(down.conv.weight), nn.init.zeros_(down.conv.bias)  # a window that adds up all it sees
spot = torch.zeros(1, 4, 7, 7)
spot[:, 0, 3, 3] = 1
assert down(spot)[0, 0].sum() == 4, "stride 2: four windows overlap on the pixel in the middle"
assert down(torch.ones(1, 4, 7, 7))[0, 0, 0, 0] == 16, "the border is made of 0"

# %%
#| exercise: unet_blocks.Upsample
#| points: 10
#| difficulty: 2
#| minutes: 8
#| hint: Two moves in `forward`: first make the picture larger by repeating, then convolve. The convolution is an ordinary one, with no stride.
#| hint: `F.interpolate` enlarges pictures. It has a `scale_factor` and a `mode`; one of the modes takes the value of the nearest old pixel.
#| hint: `self.conv` is like Downsample's without the stride. `forward` returns `self.conv(...)` of `F.interpolate(x, scale_factor=2, mode="nearest")`.

# %%
#| check: Upsample
up = Upsample(4)
x = torch.randn(2, 4, 3, 5)
assert up(x).shape == (2, 4, 6, 10), f"3 × 5 should become 6 × 10; yours: {tuple(up(x).shape)}"
nn.init.dirac_(up.conv.weight)  # a window that copies its middle pixel
nn.init.zeros_(up.conv.bias)
assert torch.equal(up(x)[:, :, ::2, 1::2], x), (
    "with a copying window, each pixel should stand there four times, unblended"
)
nn.init.ones_(up.conv.weight)  # a window that adds up all it sees
spot = torch.zeros(1, 4, 5, 5)
spot[:, 0, 2, 2] = 1
assert (up(spot)[0, 0] > 0).sum() == 16, "repeat first, then convolve: 2 × 2, seen from 4 × 4"

# %% [markdown]
r"""
7 × 4 becomes 4 × 2, then 8 × 4. Odd sizes don't come back, so in a UNet, height and width must be divisible by two at every Downsample.

Now look at what the detour through the small picture buys. Both little networks have six convolutions. For each we ask which input pixels can influence the one in the middle: its **receptive field**. (The gradient tells us: where it is zero, there is no influence.)

**Predict.** Six windows of 3 × 3, one after the other: how wide is the field of the flat network?
"""


# %%
def field(*layers: nn.Module) -> Tensor:
    """(28, 28): 1 where an input pixel can change the middle of the output, else 0."""
    x = torch.randn(1, 4, 28, 28, requires_grad=True)
    nn.Sequential(*layers)(x)[0, :, 14, 14].sum().backward()
    return (x.grad[0].abs().sum(0) > 0).float()


flat = field(*[nn.Conv2d(4, 4, 3, padding=1) for _ in range(6)])
detour = field(
    Downsample(4),
    Downsample(4),
    *[nn.Conv2d(4, 4, 3, padding=1) for _ in range(2)],
    Upsample(4),
    Upsample(4),
)
show.show_images(
    [images[0], 1.4 * flat[None] - 1, 1.4 * detour[None] - 1],
    ["a digit, for scale", f"flat: {flat.sum():.0f} pixels", f"detour: {detour.sum():.0f} pixels"],
    width=6,
    alt=f"Squares of 28 by 28, light where a pixel has influence: {flat.sum():.0f} and {detour.sum():.0f}.",
    caption="Light: pixels that can influence the middle one. Both networks have six convolutions.",
)

# %% [markdown]
r"""
Six windows are 13 across, 169 pixels: each adds one on every side. The detour sees everything.

One more question about growing: PyTorch has a layer that does it in one go, the *transposed convolution*. Why don't we use it? Its windows overlap unevenly, so some pixels get more paint than others. Feed it a *perfectly even* picture and look.
"""

# %%
even = torch.ones(1, 1, 7, 7)
grown = {"transposed": [], "repeat + conv": []}
for seed in range(6):
    torch.manual_seed(seed)
    layers = nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=1), Upsample(1)
    for name, layer in zip(grown, layers, strict=True):
        y = layer(even)[0, :, 2:-2, 2:-2].detach()  # without the border
        grown[name].append((y - y.mean()) / 0.5)
show.film_strip(
    grown,
    alt="Six even pictures enlarged in two ways: by transposed convolution, by repeating and a convolution.",
    caption="Input: an even picture. Fresh weights, six times. Middle grey is the average.",
    width=7,
)

# %% [markdown]
r"""
The upper row has **checkerboards** before anything has been learnt, and training must fight them. Repeat-then-convolve starts out clean (Odena et al., 2016).

## 5 · Attention: every pixel asks, the others answer

Convolutions pass news from neighbour to neighbour. Sometimes a pixel needs news from far away *at once*: the left end of a stroke wants to know where the right end went. **Attention** gives every pixel a direct line to every other.

Each pixel makes three small vectors from its channels, by three learnt linear layers. The **query** $q$: what I'm looking for. The **key** $k$: what I can tell about. The **value** $v$: what I tell. A pixel compares its query with everybody's key; where they match, it listens.

![One asking pixel on the stroke of a digit, with lines to other pixels. The lines to pixels on the same stroke are thick, those to the black background thin. Beside it: q times k gives scores, softmax makes weights that sum to 1, and the weighted mean of the values is the answer.](figures/attention.png)

"Compare" is a *dot product*: multiply number by number and add up; large means alike. For N = H·W pixels that makes an N × N table of scores, one row for each asking pixel. **Softmax** turns every row into weights that are positive and sum to 1. The answer is the mean of all values, with these weights; a last linear layer, `proj`, mixes its channels, and it is added to what came in:

$$\text{out} = x + \text{proj}\!\left(\text{softmax}\!\left(\frac{q\,k^\top}{\sqrt d}\right) v\right),\qquad q, k, v \text{ read from norm}(x)$$

($q\,k^\top$ is that table: each row of $q$ with each row of $k$.) Why $\sqrt d$? The dot product of two random vectors with $d$ numbers each is typically as large as $\sqrt d$. With many channels and without the division, softmax would bet nearly everything on one pixel before the network has learnt anything. And **heads**: the C channels are split into groups of $d = C/\text{heads}$ neighbouring channels, and each group holds its own round of questions. One head may look for the stroke's end, another for the background.

The difficulty is only in the shapes. Write them down at each line:

| | |
|---|---|
| picture | `(B, C, H, W)` |
| one row for each pixel | `(B, N, C)` with N = H·W |
| q, k, v, split into heads | `(B, heads, N, d)` |
| scores | `(B, heads, N, N)` |
| answers | `(B, heads, N, d)`, and all the way back |

`rearrange` from einops makes such moves readable: you name the axes before and after the arrow, and brackets join or split them. To split, it must know a size: give it as a keyword (`heads=2`; on the way back `h=…, w=…`). Try it:
"""

# %%
x = torch.randn(2, 6, 4, 5)
pixels = rearrange(x, "b c h w -> b (h w) c")
print("picture", tuple(x.shape), "-> pixels", tuple(pixels.shape))
print("-> two heads", tuple(rearrange(pixels, "b n (heads d) -> b heads n d", heads=2).shape))

# %% [markdown]
r"""
**Predict.** If q were zero for every pixel, whom would each pixel listen to?
"""

# %%
#| exercise: unet_blocks.SelfAttention2d.forward
#| points: 20
#| difficulty: 4
#| minutes: 20
#| hint: Five moves: normalise and turn the picture into rows of pixels; make q, k, v and split them into heads; scores, softmax, weighted mean; put the heads side by side again and apply proj; turn the rows back into a picture and add x.
#| hint: You may write scores, division and softmax yourself (`q @ k.transpose(-1, -2)`, then `.softmax(dim=-1)`), or call `F.scaled_dot_product_attention(q, k, v)`, which does exactly that. The splits are in the cell above this exercise; the way back is the same pattern with both sides exchanged.
#| hint: pixels = rearrange(self.norm(x), "b c h w -> b (h w) c"). For each of self.to_q, to_k, to_v: apply it to pixels, then "b n (heads d) -> b heads n d". Afterwards "b heads n d -> b n (heads d)", self.proj, "b (h w) c -> b c h w" with h and w from x.shape, and `x +` in front.

# %%
#| check: SelfAttention2d.forward
layer = SelfAttention2d(8, num_heads=2, norm_groups=4)
x = torch.randn(2, 8, 3, 5)
assert layer(x).shape == x.shape, (
    f"attention keeps the shape {tuple(x.shape)}; yours: {tuple(layer(x).shape)}"
)
layer.to_q.weight.data.mul_(4)  # so that it matters by what the scores are divided
theirs, qkv = nn.MultiheadAttention(8, 2, batch_first=True), (layer.to_q, layer.to_k, layer.to_v)
theirs.load_state_dict(
    {
        "in_proj_weight": torch.cat([linear.weight for linear in qkv]),
        "in_proj_bias": torch.cat([linear.bias for linear in qkv]),
        "out_proj.weight": layer.proj.weight,
        "out_proj.bias": layer.proj.bias,
    }
)
pixels = layer.norm(x).flatten(2).mT
answer = x + theirs(pixels, pixels, pixels)[0].mT.unflatten(2, (3, 5))
assert torch.allclose(layer(x), answer, atol=1e-5), (
    "PyTorch's attention with the same weights says otherwise: the √d of one head? neighbouring "
    "channels in one head? axes exchanged there and back?"
)
for linear in (layer.to_v, layer.proj):
    nn.init.zeros_(linear.weight), nn.init.zeros_(linear.bias)
assert torch.allclose(layer(x), x, atol=1e-5), "with a silent proj nothing but x should be left"
nn.init.ones_(layer.to_v.bias), nn.init.eye_(layer.proj.weight)  # each pixel says 1, and is heard
assert torch.allclose(layer(x), x + 1, atol=1e-5), (
    "each pixel's weights should sum to 1: softmax(dim=-1)"
)
nn.init.zeros_(layer.to_q.weight), nn.init.zeros_(layer.to_q.bias), nn.init.zeros_(layer.to_v.bias)
nn.init.eye_(layer.to_v.weight)  # now the values are norm(x)
mean = layer.norm(x).mean(dim=(2, 3), keepdim=True)
assert torch.allclose(layer(x), x + mean, atol=1e-5), (
    "with queries of zero, each pixel should hear the average of all pixels"
)

# %% [markdown]
r"""
(With queries of zero all scores are equal: each pixel listens to all alike.)

To see attention without any training, we build the questions by hand. For its channels, each pixel gets its own 3 × 3 neighbourhood, scaled to length 1 (in place of the norm). Query and key are both just that: "who looks like me?"
"""

# %%
small = F.avg_pool2d(images[2:3], 2)
patches = F.unfold(small, 3, padding=1).unflatten(2, (14, 14))  # (1, 9, 14, 14)
alike = SelfAttention2d(9, num_heads=1, norm_groups=1)
alike.norm = nn.Identity()
for linear in (alike.to_q, alike.to_k):
    # query and key seven times as large: 49 sharpens the softmax
    nn.init.eye_(linear.weight).data.mul_(7), nn.init.zeros_(linear.bias)
maps = show_unet.attention_weights(alike, F.normalize(patches, dim=1))
print("the weights of each asking pixel sum to", maps.sum(dim=(1, 2)).mean().item())

# %%
asking = [(4, 2), (7, 5), (1, 1)]  # an upright stroke, a level stroke, the background
show_unet.attention_map(
    images[2],
    maps,
    asking,
    alt="A four with three marked pixels, and for each a map of where it looks. The pixel on an upright stroke looks at upright strokes, also on the other side; the one on the level stroke looks at its neighbours on it; the one in the background looks at the background.",
    caption="Bright: listens a lot (each map has its own scale; both grids are 14 × 14). Pixel 1 finds what is like it on the other side of the digit; pixel 2 has its like only next to itself. "
    "(The border is dark: there the window hangs over the edge, into zeros.)",
)

# %% [markdown]
r"""
Attention compares all pixels with all pixels: 784² at full size, 196² at half size, sixteen times less. So a UNet that works on pixels uses it only where the picture is small.

## 6 · The whole: down, across, up

![The UNet as twelve slabs in the shape of a U, joined by arrows from left to right. Top left, at 28 by 28: a convolution and a ResBlock. Below, at 14 by 14: a Downsample, four ResBlocks with attention and one without. Top right, at 28 by 28 again: an Upsample, two ResBlocks, a convolution. Four dashed bridges, numbered 1 to 4, lead from the four slabs on the way down to the four ResBlocks on the way up: 4 is used first, then 3, 2 and 1.](figures/unet.png)

Follow the arrows: each slab is a layer at work, or a brick with its attention. Under it are the channels, then the height × width, of what comes out; 48→16 means that 48 channels went in and 16 came out.

The way down makes something hard: at 14 × 14 four pixels share one place, and *where exactly* an edge was has to be squeezed into the channels. But noise is all about exact places! So the network keeps every intermediate picture on the way down, and hands it over on the way up, when the size is the same again. These numbered bridges are **skip connections**. The deep road says *what* it is; the skips say *where*. (They cross the U; the `skip` inside a brick is a different kind.)

Handing over means putting the channels side by side, first $h$, then the skip (`torch.cat` along dimension 1). Find 48→16: 32 channels of $h$ and 16 of a skip. The brick mixes them.

The skips are a **stack**, like plates. What is kept goes on top; what is taken comes from the top: last in, first out.

**Predict.** What would go wrong if the skips were taken first in, first out?
"""

# %% [markdown]
r"""
One resolution of the network is called a **stage**: some bricks, attention after each of them if wanted, and at the end a resize that leads to the next resolution (in the drawing it stands where it leads to). `Stage` only holds them; you will need its `.blocks`, `.attentions` and `.resize`, and need not read how they are made:
"""

# %%
#| given: unet.Stage

# %% [markdown]
r"""
Now write the road through the network. You need not read `__init__`: `self.down` and `self.up` are lists of stages in the order of work, and `self.mid` is one stage, the third and fourth slab at 14 × 14. (Its second attention is an `Identity`, which does nothing.)

The drawing has the order, and shows which pictures are kept and which bricks take one. Your code is for any number of stages R with any number of bricks L. (It comes out even: R·(L + 1) pictures are kept, and the way up has L + 1 bricks at each of the R resolutions.)

Two ends are not in the drawing:

- **Time.** Embed $t$ (length `self.embedding_channels`), bring it to the dtype of `x_t` (not always float32: GPUs like shorter numbers), and send it through `self.time_mlp`, which makes it four times as long. If a `cond` is given, add it to the result (it has this longer length; lesson 5 will use it to say which digit is wanted).
- **Out.** Before the last convolution, `conv_out`, come `norm_out` and SiLU, as in a brick.
"""

# %%
#| exercise: unet.UNet.forward
#| points: 25
#| difficulty: 4
#| minutes: 25
#| hint: Go through the drawing slab by slab; a brick and its attention are one slab, and what is kept is what came out of both. A Python list is a good stack: `skips.append(h)` puts on top, `skips.pop()` takes from the top. Each stage has `.blocks`, `.attentions` (as many) and `.resize` (a layer, or None).
#| hint: `zip(stage.blocks, stage.attentions)` gives the pairs. A block wants two things, `block(h, emb)`; attention wants one. `self.mid` is a stage too, without a resize and without skips.
#| hint: emb = self.time_mlp(timestep_embedding(t, self.embedding_channels).to(x_t.dtype)), plus cond if it is not None. Append what `conv_in` gives. On the way down: h = attention(block(h, emb)), append; after a resize, append again. On the way up: h = attention(block(torch.cat([h, skips.pop()], dim=1), emb)). The order in the cat is h first. Ask `if stage.resize is not None` in both directions. At the end: conv_out of F.silu of norm_out of h.

# %%
#| check: UNet.forward
tiny = UNet(block_channels=(16, 32), layers_per_block=1, head_channels=16, norm_groups=8)
x = torch.randn(2, 1, 12, 8)
answer = tiny(x, torch.tensor([3, 700]))
assert answer.shape == x.shape, (
    f"one number of noise for each pixel: {tuple(x.shape)}; yours: {tuple(answer.shape)}"
)
assert not torch.allclose(answer, tiny(x, torch.tensor([4, 700]))), (
    "another t should give another answer"
)
assert torch.allclose(answer[:1], tiny(x[:1], torch.tensor([3])), atol=1e-5), (
    "a picture's answer must not depend on the others in the batch"
)
assert not torch.allclose(answer, tiny(x, torch.tensor([3, 700]), torch.randn(2, 64))), (
    "with a cond the answer should be another one"
)
read = {}
with watching(tiny, before=lambda name, layer, inputs: read.update({name: inputs[0]})):
    tiny(x, torch.tensor([3, 700]))
kept = read["down.0.blocks.0"]  # what conv_in gave
assert torch.equal(read["up.1.blocks.1"][:, -16:], kept), (
    "the last brick gets h and, behind it, the first picture that was kept"
)

# %% [markdown]
r"""
That was the hardest exercise of the lesson. (First in, first out? The way up begins at 14 × 14 and would get a 28 × 28 picture: `torch.cat` refuses. With a single resolution nobody would complain, and the answer would be quietly wrong.)

Let your network draw itself. The next cell runs it once, and notes the shape at every layer.
"""


# %%
def small_unet(seed: int = 0) -> UNet:
    """The network of this lesson: 28 × 28 and 14 × 14, one brick each on the way down."""
    torch.manual_seed(seed)
    return UNet(block_channels=(16, 32), layers_per_block=1, head_channels=16, norm_groups=8)


net = small_unet()
print(f"{sum(p.numel() for p in net.parameters()):,} numbers to learn")
show_unet.draw_unet(net, x_t, t)

# %% [markdown]
r"""
There is the U again, drawn from your own code this time: a slab in another place, or another number of channels, would be a mistake. Stable Diffusion's UNet is such a U with four resolutions and up to 1,280 channels. (Attention stands at three of them: its pictures are small, see lesson 8.)

## 7 · Can it learn one batch?

Before you train any network for hours, ask it to learn *one small batch by heart*. It takes seconds, and a sound network manages, if the learning rate fits. If it does not, something stops all learning: weights that never move, or targets that do not belong to the inputs. Our batch: the eight noisy digits of section 1, always the same.

The training loop is four lines. Ask for the answer, measure the error, compute the gradient, take a step. (`cooling` raises the learning rate, then lowers it to almost 0; ignore it for now.)
"""


# %%
def fit(net: nn.Module, draw_batch, steps: int, learning_rate: float = 3e-3) -> list[float]:
    """Train on batches (x_t, t, noise); returns the loss of each step."""
    optimizer = torch.optim.Adam(net.parameters(), lr=learning_rate)
    cooling = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    losses = []
    for _ in tqdm(range(steps), mininterval=1):
        x_t, t, noise = draw_batch()
        loss = F.mse_loss(net(x_t, t), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cooling.step()
        losses.append(loss.item())
    return losses


# %% [markdown]
r"""
**Predict.** Where will the loss start, roughly? Where is the lowest place that it can reach on this batch?
"""

# %%
net = small_unet()
with torch.no_grad():
    before = net(x_t, t)
losses = fit(net, lambda: (x_t, t, noise), steps=pick(smoke=6, cpu=160, gpu=400))
with torch.no_grad():
    after = net(x_t, t)
print(f"loss: {losses[0]:.2f} at the start, {losses[-1]:.4f} at the end")

# %%
copy = F.mse_loss(x_t, noise).item()
rulers = {
    "your UNet": losses,
    "always answering zero": [1.0] * len(losses),
    "answering x_t": [copy] * len(losses),
}
show.curves(
    range(len(losses)),
    rulers,
    xlabel="training step",
    ylabel="mean squared error",
    yscale="log",
    height=2.8,
)

# %%
show.film_strip(
    {
        "noisy, x_t": x_t,
        "true noise": noise / 3,
        "answer before": before / 3,
        "answer after": after / 3,
        "taken off": take_off(x_t, after, t),
    },
    [f"t = {i}" for i in t.tolist()],
    alt="Five rows: noisy digits, true noise, the untrained answer, the trained answer, the digits recovered.",
    caption=f"Its answers on a batch that it has seen {len(losses)} times.",
)

# %% [markdown]
r"""
It passes. (The loss starts a little above 1: an untrained answer has nothing to do with the noise, so it is worse than none. The lowest possible loss here is 0, because this batch holds no surprises any more.) But what has it *understood*? We mix the same digits with **new** noise.

**Predict.** Will the error stay near 0, or jump?
"""

# %%
new_noise = torch.randn(digits.shape, generator=torch.Generator().manual_seed(5))
new_x_t = add_noise(digits, new_noise, t, alpha_bar)
with torch.no_grad():
    new_answer = net(new_x_t, t)
print(f"same noise {F.mse_loss(after, noise):.4f}")
print(f"new noise  {F.mse_loss(new_answer, new_noise):.4f}")
show.film_strip(
    {"new noise": new_x_t, "taken off": take_off(new_x_t, new_answer, t)},
    [f"t = {i}" for i in t.tolist()],
    alt="The same digits under new noise, and what the network makes of them.",
)

# %% [markdown]
r"""
More than a hundred times worse, though on average still better than the lazy answers. (The digits look worst at high noise. Taking the noise off multiplies an error of the noise by $\sqrt{1-\bar\alpha_t}/\sqrt{\bar\alpha_t}$: by 3.1 at $t=800$, and by 0.17 at $t=100$.) Learning by heart is not denoising. In lesson 3 the network sees fresh digits with fresh noise each time. Then it can only win by learning what strokes look like.

What do the skips carry? We cut the two bridges at full size (their 16 channels are set to zero) and look again at the batch that it knows.
"""


# %%
def cut(block: nn.Module, inputs: tuple) -> tuple:
    """Called before a block runs: silence the last 16 channels, those of the skip."""
    h, emb = inputs
    return torch.cat([h[:, :-16], torch.zeros_like(h[:, -16:])], dim=1), emb


cuts = [block.register_forward_pre_hook(cut) for block in net.up[-1].blocks]
with torch.no_grad():
    without = net(x_t, t)
for handle in cuts:
    handle.remove()

# %%
print(f"error with skips {F.mse_loss(after, noise):.4f}, without {F.mse_loss(without, noise):.2f}")
show.film_strip(
    {"true noise": noise / 3, "with skips": after / 3, "without": without / 3},
    [f"t = {i}" for i in t.tolist()],
    alt="True noise, the answer with skips, and the answer without.",
)

# %% [markdown]
r"""
The fine grain came over the bridges. What is left, a smooth grey with dark ghosts, says roughly where the digit is. That is no better than answering zero, for this network never had to do without its skips. How about one that is *trained* without these two bridges, from the start? We give it, and a whole network for comparison, two tasks: the old batch, to be learnt by heart, and fresh digits with fresh noise at each step.

**Predict.** At which of the two tasks will the network without bridges fall behind?
"""


# %%
def fresh_batch(pictures: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    x_0 = images[torch.randint(len(images), (pictures,))]
    t, noise = torch.randint(0, 1000, (pictures,)), torch.randn(x_0.shape)
    return add_noise(x_0, noise, t, alpha_bar), t, noise


# %%
tasks = {"by heart": lambda: (x_t, t, noise), "fresh": fresh_batch}
for task, draw_batch in tasks.items():
    for name in ("whole", "without bridges"):
        other = small_unet()
        for block in other.up[-1].blocks if name == "without bridges" else ():
            block.register_forward_pre_hook(cut)
        ends = fit(other, draw_batch, steps=pick(smoke=4, cpu=200, gpu=600))[-40:]
        with torch.no_grad():
            new = F.mse_loss(other(new_x_t, t), new_noise)
        loss = sum(ends) / len(ends)
        print(f"{task:8}  {name:15}  loss {loss:.2g}, on the new noise of above {new:.2g}")

# %% [markdown]
r"""
By heart, both get down to about a thousandth or below, and the one without bridges much lower still. (Why so much, we don't know.) The last column shows what that is worth, where the same digits meet other noise: 0.8, hardly better than answering zero, while the whole network has begun to *look* at the noise (0.2). With fresh noise both have to look, and without bridges the error stays about a third larger (0.12 against 0.09, or near it). So the bridges help where it counts. And **passing the test does not prove that the wiring is right**: networks without any bridge, without attention or deaf to the time pass it as well. (We tried.) It finds networks that cannot learn at all. For the wiring there is `grade`.

## 8 · What if nobody told it the time?

Must the network be told $t$? Couldn't it *see* how noisy the picture is? Often it can: a digit's black background shows the grain plainly. But imagine pictures of **sand**. A clean picture of sand already looks like noise. Is this a noisy picture of calm sand, or a clean picture of rough sand? Nobody can tell by looking.

We make the extreme case, so that we know the right answer exactly: clean pictures that are themselves pure Gaussian grain. Then $x_t$ looks the same at every $t$: grain of variance 1. How much of it is noise? The best answer is some share $c$ of it, $c\,x_t$. Multiply out the mean of $(\text{noise} - c\,x_t)^2$: it is $1 - 2c\sqrt{1-\bar\alpha_t} + c^2$, and smallest at $c = \sqrt{1-\bar\alpha_t}$. So whoever knows $t$ says: *this share of what you see is noise*, and is left with an error of $\bar\alpha_t$. Somebody who doesn't know $t$ must say the same share every time; the best is the average share, $c = 0.642$ for our schedule.

**Predict.** Draw both error curves against $t$. Where is the blind network worst?
"""


# %%
def sand_batch(pictures: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    x_0, noise = torch.randn(2, pictures, 1, 8, 8)
    t = torch.randint(0, 1000, (pictures,))
    return add_noise(x_0, noise, t, alpha_bar), t, noise


def blind_batch() -> tuple[Tensor, Tensor, Tensor]:
    x_t, t, noise = sand_batch()
    return x_t, torch.zeros_like(t), noise  # it hears "t = 0", whatever t is


# %%
nets = {}
for name, batch in {"told the time": sand_batch, "blind": blind_batch}.items():
    torch.manual_seed(0)
    nets[name] = UNet(
        block_channels=(16,),
        layers_per_block=1,
        attention_levels=(False,),
        head_channels=16,
        norm_groups=4,
    )
    fit(nets[name], batch, steps=pick(smoke=4, cpu=150, gpu=600), learning_rate=4e-3)


# %%
@torch.no_grad()
def error_at(name: str, step: int, pictures: int = pick(smoke=8, cpu=128)) -> float:
    t = torch.full((pictures,), step)
    x_0, noise = torch.randn(2, pictures, 1, 8, 8)
    told = t if name == "told the time" else torch.zeros_like(t)
    return F.mse_loss(nets[name](add_noise(x_0, noise, t, alpha_bar), told), noise).item()


at = torch.arange(0, 1000, 111)
c = (1 - alpha_bar).sqrt().mean()
best = {  # the error of answering c · x_t: the mean square of noise − c · x_t
    "told: best possible": alpha_bar[at],
    "blind: best possible": 1 - 2 * c * (1 - alpha_bar[at]).sqrt() + c**2,
}

# %%
figure, (axes,) = show.panels(1, 1, height=3.0)
show.draw_curves(axes, at, best, xlabel="step t", ylabel="mean squared error")
for (name, marker), colour in zip(
    {"told the time": "o", "blind": "s"}.items(), show.COLOURS, strict=False
):
    errors = [error_at(name, i) for i in at.tolist()]
    style = {"color": colour, "ms": 8, "mfc": "none", "mew": 2}
    axes.plot(at, errors, marker, label=f"{name}: your UNet", **style)
axes.legend(ncols=2)
told = in_words(at, best, "t", "the best possible error")
show.Picture(figure, alt=told, caption="Lines: theory. Marks: your networks.")

# %% [markdown]
r"""
Both networks found their best possible curve, with no formula given. The blind one takes off too much noise from clean pictures and too little from noisy ones; only in the middle is its one answer right. It is worst at $t=0$: an error of 1.4, worse than answering zero.

Digits are kinder than sand. When we trained two such networks on digits for 200 steps, told and blind, we could measure no difference (0.101 and 0.101 at $t=200$). Kaiming He's group found in 2025 that most kinds of diffusion models lose surprisingly little without the time, and some even gain. But telling it costs almost nothing, and samplers and guidance will lean on it.

## 9 · What was simplified, and where these lines live

- **One picture in, one out.** Stable Diffusion's UNet also listens to words: a second kind of attention, from pixels to words, stands beside yours. That is lesson 6.
- **How time enters.** We *add* the time to each channel. Many models also *multiply* by it (scale and shift).
- **Small things.** Some networks start conv2 at zero, so that each brick begins as "do nothing"; some shrink inside the brick. All the same idea.
- **Is a UNet the last word?** No. Newer models drop the U and use attention alone. You will build one in lesson 9.

The same lines live in `diffusers`, under other names. The proof: we load the weights of *their* network into *yours*, and compare the answers.
"""

# %%
from diffusers import UNet2DModel

from t2i.pretrained.convert import unet2d_state_dict

torch.manual_seed(0)
theirs = UNet2DModel(
    in_channels=1,
    out_channels=1,
    block_out_channels=(32, 64),
    layers_per_block=2,
    attention_head_dim=32,
    down_block_types=("DownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "UpBlock2D"),
).eval()
yours = UNet(block_channels=(32, 64), head_channels=32).eval()
yours.load_state_dict(unet2d_state_dict(theirs.state_dict()))
with torch.no_grad():
    difference = (yours(x_t, t) - theirs(x_t, t).sample).abs().max()
print(f"{sum(p.numel() for p in yours.parameters()):,} weights loaded")
print(f"the answers differ by at most {difference:.0e}")

# %% [markdown]
r"""
| yours | in `diffusers` |
|---|---|
| `timestep_embedding(t, dim)` | `get_timestep_embedding(t, dim, flip_sin_to_cos=True, downscale_freq_shift=0)` |
| `ResBlock` | `ResnetBlock2D` (models/resnet.py) |
| `SelfAttention2d` | `Attention` (models/attention_processor.py) |
| `Downsample`, `Upsample` | `Downsample2D`, `Upsample2D` |
| `Stage` | `DownBlock2D`, `AttnDownBlock2D`, `UNetMidBlock2D`, `UpBlock2D`, … |
| `UNet` | `UNet2DModel` |

## 10 · Three questions
"""

# %%
#| quiz: loss_of_one

# %%
#| quiz: skips

# %%
#| quiz: one_batch

# %% [markdown]
r"""
## What you have now

A network that takes a noisy picture and a time, and answers with the noise; every step of its way is yours, and the weights of *diffusers*' UNet fit into it. In **lesson 3** you train it on all of MNIST and let it draw digits that nobody ever wrote.

**The papers.** Ronneberger, Fischer and Brox 2015, [arXiv:1505.04597](https://arxiv.org/abs/1505.04597): the UNet, made for cells under the microscope. He et al. 2015, [arXiv:1512.03385](https://arxiv.org/abs/1512.03385): residual blocks. Vaswani et al. 2017, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762): attention (equation 1) and the wall of clocks (section 3.5). Odena, Dumoulin and Olah 2016, [Deconvolution and checkerboard artifacts](https://distill.pub/2016/deconv-checkerboard/). Ho, Jain and Abbeel 2020, [arXiv:2006.11239](https://arxiv.org/abs/2006.11239): this very network (appendix B). Sun et al. 2025, [arXiv:2502.13129](https://arxiv.org/abs/2502.13129): is the time needed at all?
"""
