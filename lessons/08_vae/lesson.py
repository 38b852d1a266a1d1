# %% [markdown]
r"""
# Lesson 8 · VAE latents: the small space that makes it cheap

![Three rows. Top: six small scenes with coloured digits and shapes. Middle: for each of them a much smaller picture in false colours, its latent. Bottom: the scenes as they come back out of the latents, hardly different.](figures/opening.png)

**Top: pictures. Middle: all that is kept of them, their *latents*. Bottom: what comes back.** The middle row, in false colours, holds one twelfth of the numbers, and almost everything is there.

A denoiser that works on the middle row has far less to do. That is the step from lesson 6's little network to Stable Diffusion, which removes noise from a *latent picture* and never sees a pixel. At the end a **decoder** turns it into a picture. The **encoder** turns pictures into latent pictures. The two together, trained to give back what went in, are an **autoencoder**.

Today you write one. It is Stable Diffusion's, at a smaller size: load its weights into yours, and you get its numbers. Plan about two hours, with five minutes of training.
"""

# %%
from t2i.lesson import start

start(8)

# %%
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i import show
from t2i.drawing import show_ddpm, show_vae
from t2i.drawing.in_words import in_words
from t2i.engine.watching import watching
from t2i.latents import LOGVAR_RANGE, BlockMeans
from t2i.lesson import pick, tier
from t2i.runs.vae_runs import psnr
from t2i.unet_blocks import Upsample
from t2i.vae_layers import EPS, Middle
from t2i.world.scenes import scenes

# %% [markdown]
r"""
## 1. What does a step cost?

To make one picture, lesson 6 asks its network 50 times (25 steps, twice in each, for guidance). What would it save if the picture were smaller? We count **FLOPs**, the multiplications and additions of one call, and seconds.

**Predict before you run.** The same UNet once sees 64×64 pixels and once a latent picture of 16×16. How many times cheaper is the small one: 4 times, 16 times, more?
"""

# %%
from t2i.runs.vae_studies import denoising_step
from t2i.speed.flops import count_flops, time_in_turn

side = pick(smoke=32, cpu=64, gpu=64)
steps = {
    f"pixels, 3 × {side} × {side}": denoising_step(3, side, batch=8),
    f"latents, 4 × {side // 4} × {side // 4}": denoising_step(4, side // 4, batch=8),
}
seconds = time_in_turn(steps, repeats=pick(smoke=1, cpu=7, gpu=7))
flops = {name: count_flops(step) for name, step in steps.items()}
show_vae.cost_bars({"FLOPs of one step": flops, "seconds of one step": seconds})

# %% [markdown]
r"""
The small picture has a sixteenth of the places. So what the network does at each place by itself costs a sixteenth. Attention, where each place looks at every other place, costs a 256th. In total that is 24 times fewer FLOPs. Seconds follow only roughly, now above and now below: starting an operation takes time too, and the numbers of a large picture no longer fit into the fast memory beside the processor.

But something has to translate, there and back, and must not lose what matters. Here is an autoencoder that needs no learning: keep the mean colour of each block of pixels, and paint the block in it again.
"""

# %%
pictures, captions = scenes(range(6), "heldout_pairs", "many", seed=8, digits="test")
rows = {"picture": pictures}
for f in (2, 4, 8):
    means = BlockMeans(f)
    small = means.encode(pictures).mode()  # the latent picture itself (section 4: no dice)
    rows[f"{f}×{f} means"] = means.decode(small)
    print(f"{f}×{f} means: {psnr(pictures, rows[f'{f}×{f} means']).mean():.1f} dB")
show.film_strip(rows, alt="Six scenes, and the same in blocks of 2, 4 and 8 pixels: ever coarser.")

# %% [markdown]
r"""
**dB**, decibels, measure what came back. The *peak signal-to-noise ratio* compares the mean square error with the square of the largest step there is, from −1 to 1:

$$\text{PSNR} = 10\cdot\log_{10}\frac{2^2}{\text{mean}\,(x_0 - \hat x_0)^2}$$

Larger is better; with 6 dB more, pixels are off by half as much. Below 25 dB everybody sees the damage; from about 30 dB one has to look for it.

These pictures have 32×32 pixels, not 64×64 as in the count above, and so have the later ones (in the GPU tier, where you train, 64×64). Remember the 4×4 means. At 32×32 they keep 3 · 8 · 8 = 192 numbers of a picture. Our *learned* autoencoder will keep 4 · 8 · 8 = 256, and has to beat them by far.

## 2. The encoder: a UNet's way down

![Boxes with shapes. An encoder: 32 by 32 pixels with 3 channels become 16 by 16, then 8 by 8, with a middle block, and 2 times 4 channels come out. Of these, four are means and four are log-variances. A draw goes into the decoder, which mirrors the encoder, one block longer at each level.](figures/autoencoder.png)

(Drawn for the CPU tier. Grey numbers are the sizes *inside* a level or a block. A level resizes at its end, so the encoder's first one hands on 16 × 16 × 16. Section 4 explains mean, logvar and σ, at the right.)

You know half of it: the encoder is the way down of lesson 2's UNet, the decoder the way up. But there are no skip connections: with them, the picture would take that path, and the latents would not have to hold anything.

Two parts are given. First lesson 2's block, now without the time:
"""

# %%
#| given: vae_layers.ConvBlock

# %% [markdown]
r"""
Then the level, which is what happens at one resolution:
"""

# %%
#| given: vae_layers.Level

# %% [markdown]
r"""
Where the picture is smallest stands the **middle**, `Middle`: a block, lesson 2's self-attention, and a block again.

One part is new. Lesson 2's `Downsample` is a 3×3 convolution with stride 2 and a border of zeros *on all sides*. Stable Diffusion's autoencoder puts the border **below and to the right only**:

![Two grids of 6 by 6 pixels. Left, a border of zeros on all sides: the first three by three window hangs over the upper left edge, and the last one ends at the lower right pixel. Right, a border below and to the right: the first window starts at the first pixel, and the last one hangs over the lower right edge.](figures/padding.png)

Weights that were trained with one border are wrong with the other. Nothing crashes; section 5 shows what happens.

`F.pad(x, (left, right, top, bottom))` adds a border of zeros. The *last* axis, the width, comes first.

(What a docstring promises under *Raises* is welcome in this lesson, and not graded.)
"""

# %%
#| exercise: vae_layers.PaddedDownsample
#| points: 10
#| difficulty: 2
#| minutes: 6
#| hint: In `__init__`, call `super().__init__()` and make `self.conv`, a convolution from `channels` to `channels`, kernel 3, stride 2. It must not pad by itself.
#| hint: In `forward`, put one column of zeros on the right and one row of zeros below, then convolve. `F.pad` takes (left, right, top, bottom).
#| hint: `self.conv = nn.Conv2d(channels, channels, 3, stride=2)`; and `return self.conv(F.pad(x, (0, 1, 0, 1)))`.

# %%
#| check: PaddedDownsample
down = PaddedDownsample(1)
nn.init.ones_(down.conv.weight)
nn.init.zeros_(down.conv.bias)
assert down(torch.ones(1, 1, 6, 8)).shape == (1, 1, 3, 4), "height and width should be halved"
corner = down(torch.ones(1, 1, 4, 4))[0, 0]  # how many real pixels each window sees
assert corner[0, 0] == 9, "the first window should see nine pixels and no border"
assert corner[1, 1] == 4, "the last window should see four pixels, the rest is border"

# %% [markdown]
r"""
Now the encoder. Its `__init__` is given; read there which parts it has. It ends as lesson 2's UNet does: norm, SiLU, convolution. What comes out has `2 · latent_channels` channels; section 4 says why twice as many. To try out what you write, small sizes will do:
"""

# %%
sizes = {"block_channels": (16, 32, 32), "layers_per_block": 1, "norm_groups": 8}

# %% [markdown]
r"""
**Predict before you write.** With `block_channels=(16, 32, 64, 64)`, four latent channels and pictures of 48×48: what comes out, how many channels of which size?
"""

# %%
#| exercise: vae.Encoder.forward
#| points: 12
#| difficulty: 2
#| minutes: 8
#| hint: A column, from the top: `conv_in`, every level of `self.down` in turn, `self.mid`, and the way out.
#| hint: The levels resize by themselves. The way out is as in every network of this course: norm, SiLU, convolution.
#| hint: `h = self.conv_in(x_0)`; `for level in self.down: h = level(h)`; `h = self.mid(h)`; return `self.conv_out(F.silu(self.norm_out(h)))`.

# %%
#| check: Encoder.forward
encoder = Encoder(3, 4, **sizes)
out = encoder(torch.randn(2, 3, 16, 24))
assert out.shape == (2, 8, 4, 6), "a quarter as high and wide, with 2 · 4 channels"
assert not torch.equal(out, encoder(torch.zeros(2, 3, 16, 24))), "the picture must matter"
order = []
with watching(encoder, before=lambda name, *_: order.append(name)):
    encoder(torch.randn(1, 3, 8, 8))
assert order.count("mid") == 1, "everything should pass through self.mid, once"
levels = [place for place, name in enumerate(order) if name.startswith("down.")]
assert max(levels) < order.index("mid"), "self.mid comes after all the levels"
nn.init.zeros_(encoder.norm_out.weight), nn.init.constant_(encoder.norm_out.bias, -50.0)
out = encoder(torch.randn(1, 3, 8, 8))
assert torch.equal(out, encoder(torch.randn(1, 3, 8, 8))), "norm_out, if it is 0, lets nothing pass"
nn.init.constant_(encoder.norm_out.bias, -60.0)
assert torch.allclose(out, encoder(torch.randn(1, 3, 8, 8)), atol=1e-5), (
    "SiLU makes 0 of -50 and of -60: it comes between norm_out and conv_out"
)

larger = Encoder(3, 4, block_channels=(16, 32, 64, 64), layers_per_block=1, norm_groups=8)
print(tuple(larger(torch.zeros(1, 3, 48, 48)).shape))  # your prediction

# %% [markdown]
r"""
**What you saw.** 6×6, since each level but the last one halves; and 8 channels, twice the 4 of a latent.

## 3. The decoder: build the mirror

Now `forward` is given, and you build the parts. Going up, everything is the other way round:

- The middle comes first, at the width of the coarsest level.
- Then the levels, from the coarsest to the finest: the channels come in reverse.
- Each level has **one block more** than the encoder's.
- Each level but the last ends with `Upsample(width)`, lesson 2's: at the last, all pixels are already there.
- `conv_in` takes latent channels, `conv_out` makes the picture's.

Use the names that `forward` uses, since saved weights are found by them: `conv_in`, `mid`, `up` (an `nn.ModuleList` of levels), `norm_out`, `conv_out`. All group norms here have `eps=EPS`, a millionth, which keeps them from dividing by 0.
"""

# %%
#| exercise: vae.Decoder.__init__
#| points: 18
#| difficulty: 3
#| minutes: 15
#| hint: Look at `Encoder.__init__` and turn it round. First `super().__init__()`, then `widths = list(reversed(block_channels))`. The network begins and goes through the middle with `widths[0]` channels.
#| hint: For each width one `Level(channels, width, layers_per_block + 1, resize, norm_groups)`, where `channels` are those that the level before left (at first `widths[0]`), and `resize` is `Upsample(width)`, or `None` at the last level.
#| hint: After the loop `channels` is `widths[-1]`: `self.norm_out = nn.GroupNorm(norm_groups, channels, eps=EPS)` and `self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)`. `self.conv_in` goes from `latent_channels` to `widths[0]`, and `self.mid = Middle(widths[0], norm_groups)`.

# %%
#| check: Decoder.__init__
decoder = Decoder(3, 4, **sizes)
assert decoder(torch.randn(2, 4, 4, 6)).shape == (2, 3, 16, 24), "back to four times the size"
assert [len(level.blocks) for level in decoder.up] == [2, 2, 2], "one block more than the encoder"
assert decoder.up[-1].resize is None, "the last level has all pixels already"
assert decoder.conv_in.out_channels == 32, "the middle is as wide as the coarsest level"
assert decoder.conv_out.in_channels == 16, "the channels come in reverse: the finest level is last"
assert decoder.norm_out.eps == EPS, "the norms of this network have eps=EPS"

# %% [markdown]
r"""
## 4. Not a point, but a cloud

A denoiser will have to *make* latents, and it will miss a little. What does the decoder do with a latent that lies a little off the ones it knows? Nobody told it. It may paint anything.

![Left: latents are scattered dots. Small crosses lie beside three of them, each with a question mark. Right: each latent is the middle of a small cloud, and the crosses lie within the clouds. A dashed circle round all of them says: farther out costs more.](figures/clouds.png)

(Not to scale: real clouds are much smaller.) The *variational* autoencoder, **VAE**, has two rules against that:

1. The encoder says only **roughly** where a picture lies: for each latent value a mean and a variance, a Gaussian *cloud*. The decoder gets one **draw** from it. So everything within a cloud must decode to nearly the same picture: a small miss does no harm.
2. Being unlike the standard Gaussian **costs** something: being far out, narrow, or wide. So the clouds don't run away from each other, and don't shrink to points for nothing.

So the encoder's output has twice the channels: first the means, then the logarithms of the variances, **logvar**. (A network's output can be any number; a variance must be positive.)

### The draw

How can a gradient get through dice? It cannot. So the randomness comes from outside:

$$z = \text{mean} + \sigma\cdot\text{noise}, \qquad \sigma = \sqrt{\text{variance}}$$

Now z has a slope with respect to mean and to logvar, and noise is just a number: the **reparameterisation trick**.

**Predict before you write.** What is σ where logvar is 0? And where it is −4?
"""

# %%
#| exercise: latents.reparameterize
#| points: 10
#| difficulty: 1
#| minutes: 5
#| hint: One line. What multiplies the noise is the standard deviation, not the variance, and not its logarithm.
#| hint: The variance is `logvar.exp()`. The standard deviation is its square root, which is the same as `(logvar / 2).exp()`.
#| hint: `return mean + torch.exp(0.5 * logvar) * noise`.

# %%
#| check: reparameterize
mean, logvar = torch.zeros(2, 3), torch.zeros(2, 3)
noise = torch.randn(2, 3)
assert torch.equal(reparameterize(mean, logvar, noise), noise), "mean 0, variance 1: the noise"
assert torch.allclose(
    reparameterize(mean + 2, logvar - 2, noise), 2 + noise / torch.e, atol=1e-6
), "a variance of e^(-2) is a standard deviation of 1/e"
logvar.requires_grad_()
reparameterize(mean, logvar, noise).sum().backward()
assert logvar.grad is not None, "a gradient has to reach logvar"
print(reparameterize(torch.zeros(2), torch.tensor([0.0, -4.0]), torch.ones(2)))  # your prediction

# %% [markdown]
r"""
(σ is 1 where logvar is 0, and $e^{-2} \approx 0.14$ where it is −4.)

### The price

How far is a Gaussian from the standard one? The **Kullback-Leibler divergence** (KL) says so, in *nats* (a nat is 1.44 bits). Think of the latents as a message to the decoder, which knows the standard Gaussian. Only how this picture's cloud *differs* from it has to be written. The farther out its middle, the longer the message: a mean of 2, with variance 1, costs 2 nats. A narrower cloud takes more words, since it says more exactly where the picture lies. So does a wider one: its draws often lie far out, where the standard Gaussian hardly ever is. Each latent value adds a term:

$$\text{KL} = \tfrac12\sum\left(\text{mean}^2 + \text{variance} - 1 - \log\text{variance}\right)$$

The sum runs over all latent values of *one* picture, so the result is one number a picture, `(B,)`.

**Predict before you run.** Which costs more: a variance of 2, or of ½?
"""

# %%
#| exercise: latents.kl_divergence
#| points: 15
#| difficulty: 2
#| minutes: 10
#| hint: First the term of each value, in the shape of `mean`; then the sum over everything but the first axis; then the half.
#| hint: The variance is `logvar.exp()`, the logarithm of the variance is `logvar` itself. For the sum over all axes but the first, whatever their number: `flatten(1)`, then `sum(dim=1)`.
#| hint: `terms = mean**2 + logvar.exp() - 1 - logvar`, then `return 0.5 * terms.flatten(1).sum(dim=1)`.

# %%
#| check: kl_divergence
mean, logvar = torch.randn(3, 4, 2, 5), torch.randn(3, 4, 2, 5)
assert kl_divergence(mean, logvar).shape == (3,), "one number a picture"
assert not kl_divergence(0 * mean, 0 * logvar).any(), "the standard Gaussian itself costs nothing"
assert (kl_divergence(mean, 0 * logvar) > 0).all(), "a mean that is not 0 costs something"
standard = torch.distributions.Normal(0.0, 1.0)
theirs = torch.distributions.kl_divergence(
    torch.distributions.Normal(mean, (logvar / 2).exp()), standard
)
assert torch.allclose(kl_divergence(mean, logvar), theirs.flatten(1).sum(1)), "torch says otherwise"

# %%
variance = torch.logspace(-2, 2, 121, base=2)  # from a quarter to 4
price = kl_divergence(torch.zeros(121, 1), variance.log()[:, None])
figure, (axes,) = show.panels(1, 1, 8, 3)
show.draw_curves(axes, variance, {"mean 0": price}, xlabel="variance of one latent value")
axes.set(xscale="log", ylabel="nats", ylim=(0, 0.9))
for v in (0.5, 1, 2):
    nats = kl_divergence(torch.zeros(1, 1), torch.tensor([[v]]).log()).item()
    axes.plot(v, nats, "o", color=show.VERMILLION)
    axes.annotate(f"{nats:.2f}", (v, nats), (0, 8), textcoords="offset points", ha="center")
axes.set_xticks([0.25, 0.5, 1, 2, 4], ["¼", "½", "1", "2", "4"], minor=False)
axes.minorticks_off()
show.Picture(figure, in_words(variance, {"mean 0": price}, "variance", "nats"))

# %% [markdown]
r"""
Twice the variance costs 0.15 nats, half of it 0.10: the price of a wide cloud grows like the variance, that of a narrow one only like its logarithm.

A standard Gaussian costs nothing and says nothing: it is the same for each picture. The encoder will spend nats where they buy most.

### The whole

What the encoder says of a picture, mean and logvar, is called the **posterior**: what one knows of the latents *after* having seen the picture. Your two functions become its methods. (`LOGVAR_RANGE` is −30 to 20: inside it, `exp()` of logvar stays finite.)
"""

# %%
#| given: latents.Posterior

# %% [markdown]
r"""
Here all parts come together. Round the latents stand two 1×1 convolutions, `quant_conv` and `post_quant_conv`; each mixes the channels of one place ([why they are there](more.md)).
"""

# %%
#| given: vae.AutoencoderKL

# %% [markdown]
r"""
## 5. The loss, and what its weight does

What should a VAE pay for? For every colour that comes back wrong, and, at a price `kl_weight`, for every nat:

$$\text{loss} = \frac{1}{C\,H\,W}\Big(\sum (x_0 - \hat x_0)^2 + \text{kl\_weight}\cdot\text{KL}\Big), \quad\text{averaged over the pictures}$$

The first sum runs over all $C\cdot H\cdot W$ colour values of a picture, the KL over all its latent values. Dividing *both* by $C\cdot H\cdot W$ only keeps the number handy. Dividing *one* of them changes the price: `F.mse_loss(...) + kl_weight * kl.mean()` looks innocent, and charges 3,072 times as much for a nat at 32×32 pixels.

What does the weight mean? The latents are not the whole message: the decoder's colours are a little off, and the true ones have to be told, too. If the errors are Gaussian, of about the size $s$, telling one takes $\text{error}^2/(2s^2)$ nats, plus a constant that no training changes. With $s = 0.02$, being wrong by 0.02 costs half a nat, and by 0.2 fifty nats. Add the nats of the KL and multiply all by $2s^2$: that is our loss, with `kl_weight` $= 2s^2$. ([more.md](more.md) has the derivation.)

So the weight answers a plain question: *how wrong may a colour be before it is worth writing more?* Ours is 0.001, so $s$ is 0.022, a hundredth of the way from −1 to 1. (The default in the code below, a millionth, is Stable Diffusion's. It counts errors in another way, and its nats cost next to nothing.)

The square has a habit: where the decoder is in doubt between two pictures, the best answer is their mean, **blur**.
"""

# %%
#| exercise: latents.vae_loss
#| points: 12
#| difficulty: 2
#| minutes: 8
#| hint: For each picture two numbers: the sum of its squared errors, and your `kl_divergence`. Then the mean over the pictures.
#| hint: `(x_0 - reconstruction).square().flatten(1).sum(dim=1)` is `(B,)`, like the KL. Both go into one sum, and the whole is divided by the number of colour values of one picture, `x_0[0].numel()`.
#| hint: `each = wrong + kl_weight * kl_divergence(mean, logvar)`, then `return each.mean() / x_0[0].numel()`.

# %%
#| check: vae_loss
x_0, mean, logvar = torch.randn(2, 3, 8, 8), torch.randn(2, 4, 2, 2), torch.zeros(2, 4, 2, 2)
assert vae_loss(x_0, x_0, 0 * mean, logvar, 1.0) == 0, "all right, and nothing written: no loss"
assert torch.isclose(vae_loss(x_0, x_0 + 0.5, 0 * mean, logvar), torch.tensor(0.25)), (
    "each colour wrong by a half: a loss of a quarter"
)
price = vae_loss(x_0, x_0, mean, logvar, 6.0)
assert torch.isclose(price, 6 * kl_divergence(mean, logvar).mean() / 192), (
    "the KL too is divided by the number of colour values, 3 · 8 · 8"
)
x_0, nothing = torch.randn(5, 3, 4, 8), torch.zeros(5, 4, 1, 2)
assert torch.isclose(vae_loss(x_0, x_0 + 0.5, nothing, nothing), torch.tensor(0.25)), (
    "other sizes, the same loss a colour"
)

# %% [markdown]
r"""
### Train

The pictures are scenes of one to three things, with backgrounds now. They need no captions: what went in is to come out. Training takes two and a half minutes. (In the smoke tier two seconds: then only fog comes back.)
"""

# %%
import time

from t2i.files.places import DATA
from t2i.runs.vae_recipes import load_vae, vae_recipe
from t2i.training import train

whole_training = tier() == "gpu"
device = "cuda" if torch.cuda.is_available() and tier() == "gpu" else "cpu"
plan = vae_recipe(tier())
model = plan.build(kind=AutoencoderKL).to(device)
print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} million weights")


def loss_fn(model: AutoencoderKL, batch: tuple) -> Tensor:
    """There and back through a draw."""
    x_0 = batch[0]
    posterior = model.encode(x_0)
    z = posterior.sample(torch.randn_like(posterior.mean))
    return vae_loss(x_0, model.decode(z), posterior.mean, posterior.logvar, plan.kl_weight)


# %%
checkpoint = DATA / "runs" / f"lesson_8_{tier()}.safetensors" if whole_training else None
losses, begun = [], time.perf_counter()
for state in train(model, loss_fn, plan.batches().on(device), plan.training, checkpoint):
    losses.append(state.loss)
    if not whole_training and time.perf_counter() - begun > pick(smoke=2, cpu=150, gpu=150):
        break
window = max(1, len(losses) // 40)
show.curves(
    range(1, len(losses) + 1),
    {"loss": show_ddpm.smooth(torch.tensor(losses), window)},
    xlabel="training step",
    ylabel="loss",
    yscale="log",
)

# %%
with torch.no_grad():
    back = state.ema_model.cpu()(pictures)
print(f"after {len(losses)} steps: {psnr(pictures, back.clamp(-1, 1)).mean():.1f} dB")
show.film_strip(
    {"picture": pictures, "came back": back},
    alt="Six scenes and what comes back after the short training: softer, some colours off.",
)

# %% [markdown]
r"""
**What you saw.** It is the right scene everywhere, but soft, and now and then a colour is wrong. (After only a few hundred steps, on a busy machine, most colours are wrong, and the dB are barely above the 4×4 means'.) That is no mistake of yours: training stopped long before its 7,500 steps. (A hump in the curve is a step that was too long; it recovers.)

### Trained weights

Weights of the whole training now go into *your* autoencoder. If your code is right, sharp pictures come back.
"""

# %%
try:
    trained, info = load_vae()
    plan = vae_recipe(info.get("tier", "cpu"))
except (OSError, ValueError, RuntimeError) as error:
    print(f"{show_vae.MISSING} Why: {str(error)[:200]}")
    trained = state.ema_model
if whole_training:
    trained = state.ema_model
    plan = vae_recipe(tier())
vae = plan.build(kind=AutoencoderKL)
vae.load_state_dict(trained.state_dict())  # the same names: every weight finds its place
vae = vae.eval().requires_grad_(False)

# %%
pictures, captions = scenes(range(6), "heldout_pairs", "many", 8, size=plan.size, digits="test")
posterior = vae.encode(pictures)
z = posterior.sample(torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(0)))
back = vae.decode(z)
fours = BlockMeans(4)
by_means = psnr(pictures, fours.decode(fours.encode(pictures).mode())).mean()
print(f"{psnr(pictures, back.clamp(-1, 1)).mean():.1f} dB (the 4×4 means: {by_means:.1f} dB)")
print(f"{posterior.kl().mean():.0f} nats a picture")
show.film_strip({"picture": pictures, "came back": back}, alt="Six scenes, and sharp copies.")

# %% [markdown]
r"""
Two things were wanted before the network was trained: 28 dB, and copies that a judge reads nearly as well as the originals, at most 3 pictures in a hundred worse. This judge, like lesson 6's, says whether a picture shows what its caption says: all things, their colours and their places. It errs in some of the originals, too, so both are counted.
"""

# %%
#| table: show_vae.results_table

# %% [markdown]
r"""
**±** and the brackets are 95 % intervals. *Spread* is the standard deviation from picture to picture, *worst 5 %* what one picture in twenty falls below. *Points lost* is how many percentage points worse the judge reads the copies than the originals.

All scenes are new. *Held-out pairs* are colours with objects that training never joined; *held-out triples* (lesson 9 calls them *unseen relations*) are "this thing, placed like this, that thing" in combinations that it never showed, for instance a nine left of a star.

The first aim is reached everywhere. The second is reached as measured; but the intervals of the first and the last row go up to 3.1, so a little more than 3 points may be lost there.

### The wrong border

Here are the same trained weights with lesson 2's border of zeros on all sides.

**Predict before you run.** What will be wrong with the pictures?
"""

# %%
import copy

other = copy.deepcopy(vae)
for level in other.encoder.down:
    if level.resize is not None:
        level.resize = level.resize.conv  # its convolution alone, with lesson 2's border
        level.resize.padding = (1, 1)
moved = other.decode(other.encode(pictures).mode())  # the mean, without dice
print(f"{psnr(pictures, moved.clamp(-1, 1)).mean():.1f} dB")
show.film_strip({"your border": back, "lesson 2's": moved}, alt="The scenes with either border.")

# %% [markdown]
r"""
Everything has moved to the right and down by three pixels: one in the first level, and one in the second, where a step is two pixels wide. On the left and at the top there is a frame of nonsense.

### What the latents look like

Here is each of a latent's four channels on its own, blue for small, grey for middling and yellow for large values.

**Predict before you run.** Will you recognise the scene in them?
"""

# %%
show_vae.channel_strip(pictures[:4], z[:4], back[:4])

# %% [markdown]
r"""
Hardly. One channel shows how bright the background is, and *where* something is can be seen in some; *what* it is, now and then. Still they are *pictures*: what is on the left in the scene is on the left in the latents. So a UNet or a transformer can work on them.

### A little off

Let us miss on purpose, by noise of several sizes, and decode.

**Predict before you run.** The latents' values are about as large as 1. At which miss will you first see the damage: 0.1, 0.3, or 1?
"""

# %%
noise, rows = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(1)), {}
for miss in (0.0, 0.1, 0.3, 1.0):
    rows[f"{miss} off"] = vae.decode(posterior.mean + miss * noise)
    decibels = psnr(pictures, rows[f"{miss} off"].clamp(-1, 1)).mean()
    print(f"{miss} off: {decibels:.1f} dB")
print(f"σ of the clouds themselves, on average: {posterior.std.mean():.2f}")
show.film_strip(rows, alt="Six scenes, decoded from 0, 0.1, 0.3 and 1 off their latents.")

# %% [markdown]
r"""
**What you saw.** At a tenth off, almost nothing is lost: the cloud itself is about as wide on average, and training showed such draws all the time. Three tenths lie outside it: colours begin to run, but the decoder is still fairly calm. That is rule 1, and it is what a denoiser needs. At one whole unit off, strokes of other things hang in the air.

### Halfway between two pictures

**Predict before you run.** Between two pictures there are two straight lines: one through the pixels, one through the latents. What will you see in the middle of each?
"""

# %%
shares = torch.linspace(0, 1, 7)[:, None, None, None]
ends, means = pictures[[0, 3]], posterior.mean[[0, 3]]
show.film_strip(
    {
        "pixels": (1 - shares) * ends[0] + shares * ends[1],
        "latents": vae.decode((1 - shares) * means[0] + shares * means[1]),
    },
    alt="From one scene to another in seven steps: through pixels, and through latents.",
)

# %% [markdown]
r"""
A cross-fade, twice, the second with stranger colours and lines. No digit *turns into* another. A cloud is far smaller than the distance to the next picture ([more.md](more.md) has the lengths), so no training told the decoder what to paint there. Staying where the clouds are is the denoiser's job: **the autoencoder knows how pieces look, the denoiser knows what goes together.**

### When the weight is wrong

Here are short trainings that differ in `kl_weight` alone. (Short, so the usual weight, 0.001, is not sharp yet either.)

![Five rows of six scenes: the originals, then what comes back with weight 0, with the usual weight, with weight 1 and with weight 1000. The first two are alike; then, the higher the weight, the less comes back; with weight 1000 hardly more than one and the same picture for all.](figures/weights.png)
"""

# %%
#| table: show_vae.study_table kl_weight

# %% [markdown]
r"""
*Idle* are latent values with σ above 0.9: about as wide as the standard Gaussian, so they say little, and nothing where their mean is near 0. With too high a weight, nats are too expensive. The network gives up details first: **blur**. At last it writes nothing, and the decoder paints the same thing for every picture: **posterior collapse**. The KL is a wonderful 0 then, and the loss stays where it is, high.

With a weight of 0, hardly more comes back than with 0.001, for twice as many nats: nothing keeps the clouds from shrinking to points, and the latents from spreading as far as they like.

## 6. The scale

Diffusion adds noise of variance 1, and takes it for granted that the *picture* has about the same size: at ᾱ = ½, both are equally strong. But latents have the size that the encoder happened to choose. To see that, here is the same autoencoder in other units: means and clouds are 5.49 times larger.

**Predict before you run.** Which of its pictures will differ, and by how much?
"""

# %%
import math

loud, k = copy.deepcopy(vae), 5.49
loud.quant_conv.weight[:4] *= k  # the means
loud.quant_conv.bias[:4] *= k
loud.quant_conv.bias[4:] += 2 * math.log(k)  # σ times k: the variance times k²
loud.post_quant_conv.weight /= k
difference = (vae(pictures) - loud(pictures)).abs().max()
print(f"largest difference between the pictures: {difference:.0e}")

# %%
many, _ = scenes(range(pick(smoke=60, cpu=600, gpu=600)), "train", "many", size=plan.size)
posteriors = {"ours": vae.encode(many), "loud": loud.encode(many)}
draws = {name: p.sample(torch.randn_like(p.mean)) for name, p in posteriors.items()}
figure, axes = show.panels(1, 2, 8, 2.6)
for panel, (name, draw) in zip(axes, draws.items(), strict=True):
    title = f"{name}: standard deviation {draw.std():.1f}"
    show.draw_histogram(panel, draw, limits=(-15, 15), title=title, xlabel="latent value")
axes[1].set_ylim(axes[0].get_ylim())
told = [f"{name}, standard deviation {draw.std():.1f}" for name, draw in draws.items()]
show.Picture(figure, f"Histograms of latent values beside N(0, 1): {'; '.join(told)}.")

# %% [markdown]
r"""
No picture differs (but for rounding), since the decoder's first step divides by 5.49. But the latents do. Stable Diffusion's encoder happened to choose 5.49. Ours landed near 1. But nobody set the spread to 1: do not rely on it. (The spread of all pictures' draws together is meant. Each picture's own cloud is far narrower.)

The remedy is one number, measured once on many latents and kept for ever: the **scaling factor**. Drawn latents that are multiplied by it have standard deviation 1, all channels and places together. Stable Diffusion's is 0.18215.

**Predict before you write.** The standard deviation of its latents is 5.49. How are the two numbers related?
"""

# %%
#| exercise: latents.latent_scaling_factor
#| points: 8
#| difficulty: 1
#| minutes: 4
#| hint: One number from all values together: not one a channel, not one a picture. What does multiplying by a number do to the standard deviation?
#| hint: `latents.std()` without any axis takes all values. The factor is what makes the standard deviation 1 when you *multiply* by it.
#| hint: `return 1 / latents.std()`.

# %%
#| check: latent_scaling_factor
spreads = torch.tensor([1.0, 3.0, 5.0, 9.0])[:, None, None]  # one a channel
latents = 3 + spreads * torch.randn(200, 4, 3, 3)
factor = torch.as_tensor(latent_scaling_factor(latents))
assert factor.ndim == 0, "one number for all channels and places"
assert torch.isclose((factor * latents).std(), torch.tensor(1.0), atol=1e-3), (
    "multiplied by it: spread 1"
)

# %% [markdown]
r"""
So 0.18215 is 1 / 5.49. `encode` leads into the latent world: draw, then **multiply**. `decode` leads out: **divide**, then decode. Forget one of the two, and nothing crashes.

The factor belongs to the weights without being learnt. So keep it as a **buffer** called `scaling_factor` (`self.register_buffer`): a tensor that is saved and moved with the module. The autoencoder is done: keep it as `self.vae`, in eval mode, and frozen.
"""

# %%
#| exercise: latents.LatentSpace
#| points: 15
#| difficulty: 3
#| minutes: 12
#| hint: In `__init__`: `super().__init__()`, then keep the autoencoder, in eval mode and frozen, as `self.vae`. The factor is a *buffer*: a tensor that is saved with the weights and moves to the GPU with them, but is not learnt.
#| hint: `self.vae = vae.eval().requires_grad_(False)` and `self.register_buffer("scaling_factor", torch.as_tensor(scaling_factor, dtype=torch.float32))`. In `encode`: `posterior = self.vae.encode(x_0)`; without noise take its `mode()`, with noise its `sample(noise)`.
#| hint: `encode` returns `self.scaling_factor * z`, `decode` returns `self.vae.decode(z_0 / self.scaling_factor)`.

# %%
#| check: LatentSpace
coarse = BlockMeans(2, logvar=-4.0)
coarse.decode = torch.tanh  # no straight line: here it matters *what* is divided
quarter = LatentSpace(coarse, 0.25)
x_0 = torch.randn(2, 3, 4, 6)
noise = torch.randn(2, 3, 2, 3)
mean = coarse.encode(x_0).mean
assert torch.allclose(quarter.encode(x_0), 0.25 * mean, atol=1e-5), "without noise: the mean"
drawn = coarse.encode(x_0).sample(noise)
assert torch.allclose(quarter.encode(x_0, noise), 0.25 * drawn, atol=1e-5), "draw first, then scale"
assert torch.allclose(quarter.decode(quarter.encode(x_0)), coarse.decode(mean), atol=1e-5), (
    "there and back again, the factor must cancel out: divide the latents, then decode"
)
assert "scaling_factor" in quarter.state_dict(), "the factor should be a buffer"
assert not quarter.vae.training, "the autoencoder is done: eval mode"

# %%
factors = {name: latent_scaling_factor(latents) for name, latents in draws.items()}
space = LatentSpace(vae, factors["ours"])
z_0 = space.encode(many, torch.randn_like(draws["ours"]))
for name, factor in factors.items():
    print(f"{name}: standard deviation {draws[name].std():.2f}, scaling factor {factor:.3f}")
print(f"variance of our scaled latents: {z_0.var():.3f}")

# %% [markdown]
r"""
(Our latents have a standard deviation a little above 1 to begin with, so the loud factor is a little below 0.18215.)

### What happens without it

**Predict before you run.** Three ways to go wrong with the loud autoencoder: forget to multiply, forget to divide, or multiply once more in place of dividing. Which gives grey pictures, which burnt ones?
"""

# %%
factor, z = factors["loud"], loud.encode(pictures).mode()
wrong = {"never multiplied": z / factor, "never divided": z * factor}
wrong["multiplied twice"] = z * factor * factor
show.film_strip(
    {name: loud.decode(latents) for name, latents in wrong.items()},
    alt=f"Six scenes each: {', '.join(wrong)}.",
)

# %% [markdown]
r"""
*Never multiplied* gives the decoder latents that are 5.5 times too large, and the colours burn: too strong in places, or others than they were. In the other two the latents are too small, by factors of 5.5 and 30: the pictures are grey (with a few coloured specks, where it is 5.5 and the background should be white). And with no factor at all, in either direction, nothing shows until diffusion adds its noise.

Lesson 1's film, with the loud latents: each moment is decoded. In one row somebody forgot the factor.

**Predict before you run.** Which of the two rows drowns later?
"""

# %%
from t2i.schedules import add_noise, alphas_cumprod, cosine_betas

ac, steps_shown = alphas_cumprod(cosine_betas()), [0, 200, 400, 600, 800, 950]
rows = {}
for name, kind in {
    "scaled": LatentSpace(loud, factors["loud"]),
    "forgotten": LatentSpace(loud, 1.0),
}.items():
    z_0 = kind.encode(pictures[:1])
    noise = torch.randn(z_0.shape, generator=torch.Generator().manual_seed(3))
    noisy = [add_noise(z_0, noise, torch.tensor([t]), ac) for t in steps_shown]
    rows[name] = torch.cat([kind.decode(each) for each in noisy])
show.film_strip(rows, [f"t = {t}" for t in steps_shown], alt="One scene drowning in both ways.")

# %% [markdown]
r"""
The upper row ends in decoded noise. It is not a snow of pixels, but shreds of strokes: pieces are what the decoder knows.

The lower row drowns later: at t = 600 the scene is still plainly readable. Its latents are more than five times as large as the noise, and outlast it. (It ends in snow, then in grey: [more.md](more.md) says why.)

What is wrong with drowning late? At most steps the network has next to nothing to do. What a picture shows is decided in the few noisiest ones, in long jumps. Latents that are too small drown at once: then most steps have nothing to see, and decide nothing. Either way it is not the schedule that you chose in lesson 1.

How much does it matter, and which way is worse? Lesson 6's network learnt to paint latents of three sizes from words, in short trainings of 500 steps: a fifth of the right one, the right one, and Stable Diffusion's without its factor. Seeds and steps were the same. The judge counts satisfied captions, with a 95 % interval.
"""

# %%
#| table: show_vae.scaling_table

# %% [markdown]
r"""
It matters, and too large is worse than too small. *Nothing recognised*: the judge is not even half sure of any thing. ([more.md](more.md) shows what they paint.)

## 7. Paint in latents

The network and the loss are lesson 6's, the sampler is lesson 5's. Only what goes in changes: in the CPU tier, four channels of 8×8 in place of three of 32×32. One setting has to go: the sampler's `clip_sample`. It keeps every guess of the clean picture within [−1, 1], right for colours, but wrong for latents, which have no such bounds. (`draw_latents` leaves it out.) Encoding the scenes takes up to a minute, training two minutes.
"""

# %%
from t2i.runs.latent_recipes import draw_latents, latent_recipe

recipe = latent_recipe(tier())
space = space.to(device)
batches = recipe.batches(space)  # scenes of one object, encoded once
painter = recipe.build().to(device)
begun = time.perf_counter()
for state in train(painter, recipe.loss, batches, recipe.training):
    painter_ema = state.ema_model
    if not whole_training and time.perf_counter() - begun > pick(smoke=2, cpu=120, gpu=120):
        break
print(
    f"{state.step} steps of {recipe.training.steps}, {state.images_per_second:.0f} latents a second"
)

# %%
wishes = ["a red seven", "a star that is blue", "a pink heart", "a green 4"]
wishes += ["a yellow circle", "an orange two", "a cyan cross", "a purple 8"]
drawn = draw_latents(painter_ema, space, wishes, 1, size=plan.size)
show.show_images(drawn, wishes, columns=4, width=7, alt="Painted in latents: " + "; ".join(wishes))

# %% [markdown]
r"""
**What you saw.** After about a thousand steps colours are right, and most shapes can be told; a heart may still be a shield. Some digits cannot be read yet. After a few hundred steps there are blobs or rough shapes, and some colours are still wrong. (The smoke tier's two seconds give shreds.) And this is what the same recipe painted after all its 1,200 steps:

![Eight pictures on black, each as its caption asks: a red seven, a blue star, a pink heart, a green 4, a yellow circle, an orange two, a cyan cross and a purple 8. Outlines are a little soft, and the two is cut off at the right.](figures/painted.png)

In each of its 25 steps the network looked at 8×8 places, and at no pixel.

## 8. How small can it be?

Why a quarter of the height and width, and not half, or an eighth? Short trainings again, all with four latent channels; height and width are divided by **f**.

![Four rows of six scenes: the originals, and what comes back from latents of half, a quarter and an eighth of the height and width: the smaller the latents, the softer the copies.](figures/compressions.png)
"""

# %%
#| table: show_vae.study_table f

# %% [markdown]
r"""
Each doubling of f makes the denoiser four to five times cheaper, and quarters what the decoder has to go by.

After 400 steps only f = 2 can be read. With more training f = 4 gets there, too: in the fourth row, section 5's weights, the judge reads almost everything that it reads in the originals. The cheaper one is enough. With f = 8, trained just as long, one picture in five can no longer be read. (One training of each.)

## 9. What was left out, and where these lines live in real systems

- **Sharpness.** Stable Diffusion's autoencoder was trained with two more losses: one compares what a picture-recognising network sees (*perceptual*), the other is a network that tries to tell copies from originals (*adversarial*). Both make photographs crisp.
- **Numbers.** Seconds, lesson 10's autoencoder, how far apart the clouds lie: [more about the measurements](more.md).

| yours | in Hugging Face's *diffusers* |
|---|---|
| `PaddedDownsample` | `Downsample2D` with `padding=0`, in `models/downsampling.py` |
| `Encoder`, `Decoder` | `models/autoencoders/vae.py`, the same names |
| `Posterior`, `reparameterize`, `kl_divergence` | `DiagonalGaussianDistribution`, its `sample` and `kl` |
| `AutoencoderKL` | `AutoencoderKL` |
| `latent_scaling_factor` | `vae.config.scaling_factor` |
| `LatentSpace` | the lines with `scaling_factor` in each `pipeline_*.py` |

With the same weights, both compute the same:
"""

# %%
import diffusers

from t2i.pretrained.vae_files import autoencoder_state_dict

theirs = diffusers.AutoencoderKL(
    down_block_types=("DownEncoderBlock2D",) * 3,
    up_block_types=("UpDecoderBlock2D",) * 3,
    block_out_channels=(16, 32, 32),
    layers_per_block=1,
    norm_num_groups=8,
).eval()
ours = AutoencoderKL(**sizes)
ours.load_state_dict(autoencoder_state_dict(theirs.state_dict()))
x_0 = torch.randn(3, 3, 16, 24)
with torch.no_grad():
    difference = (ours(x_0) - theirs(x_0).sample).abs().max()
print(f"largest difference to diffusers: {difference:.1e} (below 1e-5 if yours is right)")

# %% [markdown]
r"""
`t2i.pretrained.vae_files.load_autoencoder(folder)` loads Stable Diffusion 1.5's folder `vae`, scaling factor included.

## Three questions
"""

# %%
#| quiz: wonderful_kl

# %%
#| quiz: pale_pictures

# %%
#| quiz: no_skips

# %% [markdown]
r"""
## The papers

- Kingma and Welling 2013, *Auto-encoding variational Bayes*, [arXiv:1312.6114](https://arxiv.org/abs/1312.6114): the VAE.
- Rombach et al. 2021, *High-resolution image synthesis with latent diffusion models*, [arXiv:2112.10752](https://arxiv.org/abs/2112.10752): Stable Diffusion. Section 3.1 is today's lesson.

**Next, lesson 9:** the denoiser itself changes. A picture is cut into patches, and a transformer takes the UNet's place. Lesson 10 lets it work on your latents.
"""
