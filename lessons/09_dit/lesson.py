# %% [markdown]
r"""
# Lesson 9 · From UNet to DiT

![A scene with a red two and a purple three. An arrow leads to the same picture cut into 64 square patches that are pulled apart, and another one to a long row below: the 64 patches, followed by the 8 words of the caption.](figures/exploded.png)

**A picture is cut into patches, the patches are put in a row, and the words of the caption are put behind them.** To the attention, patches and words alike are *tokens*, and each may look at each. That is how Stable Diffusion 3 and Flux see a picture with its words. By the end of this lesson, so does your own code.

So far our denoiser was a UNet. In 2022 William Peebles and Saining Xie put a plain transformer in its place, the **DiT**, *diffusion transformer*. Today the patches are cut out of pixels; lesson 10 takes latents.

And we measure. The same scenes, as many weights, the same amount of computing: which one learns faster, the UNet or the DiT? And does one of them put the red seven *left of* the blue star?

Plan about two hours. Training takes two to four minutes here.
"""

# %%
from t2i.lesson import start

start(9)

# %%
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from t2i import show
from t2i.attention import merge_heads, split_heads
from t2i.dit import check_picture, time_clocks
from t2i.drawing import show_blocks, show_contest, show_ddpm, show_dit, show_joint
from t2i.guidance import LabelEmbedding
from t2i.joint import check_told, joint_mask
from t2i.lesson import pick, tier
from t2i.patches import check_patches
from t2i.unet_blocks import timestep_embedding

# %% [markdown]
r"""
## 1. Why leave the UNet?

A convolution sees 3×3 pixels. To carry news from the left edge of the picture to the right one, a UNet needs many layers, or has to go down to a coarse picture and up again. It is *built* to believe that neighbours matter most. For strokes that is a good belief. For *a seven left of a star* it is not: there the far end of the picture matters as much.

Lesson 2 mended this with attention at the coarse level. The DiT goes all the way: **attention everywhere, and no convolution that reaches over to the neighbours**. Each patch sees the whole picture from the very first layer.

The price: the transformer has to *learn* that neighbours matter, and that takes data.

The gain, besides seeing far: one kind of block, repeated. To make the network larger one adds blocks or channels.
"""

# %% [markdown]
r"""
## 2. A picture becomes a list

A transformer works on a list of vectors. So cut the picture into squares of p × p pixels, and lay each one out as a vector of p · p · C numbers:

$$(B,\ C,\ H,\ W)\ \longrightarrow\ (B,\ N,\ p\cdot p\cdot C), \qquad N = \frac Hp\cdot\frac Wp$$

Two orders have to be agreed on. **Patches** go row by row over the picture, as one reads. **Inside** a patch, pixels go row by row too, and each pixel brings all its channels: the order (row, column, channel).

Nothing is computed, the numbers are only *moved*. A plain `reshape` gives the right shape and mixes everything up, as with the heads in lesson 6.

**Predict before you run.** A picture of 32×32 pixels with 3 channels, patches of 4×4: how many patches, and how long is each vector? And with patches of 2×2, how many times as many looks at each other?

(`patchify` must neither cut pixels off nor add any in silence; `reshape` and einops raise an error by themselves, and you need not call the reference's `check_patches`. In this lesson nothing else under *Raises* is graded.)
"""

# %%
#| exercise: patches.patchify
#| points: 12
#| difficulty: 2
#| minutes: 10
#| hint: Height is two things at once: which row of patches (`h`), and which row within the patch (`p`). Width likewise: `w` and `q`. Give each an axis of its own, then put them in the right order.
#| hint: einops does it in one line. On the left of the arrow stands `b c (h p) (w q)`. On the right: first the batch, then the patches `(h w)`, then what is inside a patch, with the channel last.
#| hint: `rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=patch_size, q=patch_size)`. In torch: reshape to `(B, C, H // p, p, W // p, p)`, `.permute(0, 2, 4, 3, 5, 1)`, and `reshape` to `(B, N, p * p * C)`. A picture that does not fall into whole patches makes both of them raise an error by themselves.

# %%
#| check: patchify
x = torch.arange(144.0).reshape(2, 3, 4, 6)  # 2 pictures, 3 channels, 4 rows, 6 columns
patches = patchify(x, 2)
assert patches.shape == (2, 6, 12), "2 × 3 patches, each with 2 · 2 · 3 numbers"
assert torch.equal(patches[0, 1, :3], x[0, :, 0, 2]), "first pixel of patch 1: all its channels"
assert torch.equal(patches[0, 1, 3:6], x[0, :, 0, 3]), "then the pixel to the right of it"
assert torch.equal(patches[0, 3, :3], x[0, :, 2, 0]), "patch 3 begins the second row of patches"

print(*(tuple(patchify(torch.zeros(1, 3, 32, 32), p).shape) for p in (4, 2)))  # your prediction

# %% [markdown]
r"""
**What you saw.** 64 patches of 48 numbers, and 256 of 12. So it is 64² = 4,096 looks and then 256² = 65,536, *sixteen* times as many. Patches must not be too small!

At the end of the network comes the way back: the list becomes a picture. 64 patches may be 8×8 or 4×16, so the height and width have to be said.
"""

# %%
#| exercise: patches.unpatchify
#| points: 12
#| difficulty: 2
#| minutes: 8
#| hint: Read patchify's pattern from right to left. The only thing that einops cannot know is how many *rows of patches* there are.
#| hint: `height` and `width` count pixels. There are `height // patch_size` rows of patches.
#| hint: `rearrange(patches, "b (h w) (p q c) -> b c (h p) (w q)", h=height // patch_size, p=patch_size, q=patch_size)`. In torch: reshape to `(B, H // p, W // p, p, p, C)`, `.permute(0, 5, 1, 3, 2, 4)`, `reshape` to `(B, C, height, width)`.

# %%
#| check: unpatchify
x = torch.randn(2, 3, 4, 6)
assert unpatchify(patchify(x, 2), 2, 4, 6).shape == x.shape, "back to (B, C, height, width)"
assert torch.equal(unpatchify(patchify(x, 2), 2, 4, 6), x), "there and back again changes nothing"
patches = torch.randn(2, 6, 5)  # with patches of one pixel, too
assert torch.equal(patchify(unpatchify(patches, 1, 2, 3), 1), patches), "and the other way round"

# %% [markdown]
r"""
With a real scene: the row below is what the transformer gets. Each patch is then sent through one linear layer, `patch_in`, to `dim` channels.
"""

# %%
from t2i.world.scenes import scenes

pictures, captions = scenes(range(200), world="many")  # lesson 8's world: one to three things
rows = [i for i, caption in enumerate(captions) if "left of" in caption]
row = min(rows, key=lambda i: len(captions[i]))
show_dit.exploded(pictures[row], 4)

# %% [markdown]
r"""
## 3. Where is a patch?

You saw in lesson 6 that attention does not care about order. So the transformer has no idea where a patch was! Try it on patches, and on the same patches shuffled.
"""

# %%
patches = patchify(pictures[:1], 4)
order = torch.randperm(64)
seen = F.scaled_dot_product_attention(patches, patches, patches)
shuffled = F.scaled_dot_product_attention(*[patches[:, order]] * 3)
print(f"largest difference: {(seen[:, order] - shuffled).abs().max():.1e}")

# %% [markdown]
r"""
The shuffled picture gives the shuffled result: for attention, a picture is a bag of patches.

So another vector, which says where the patch is, is added to each patch's vector. You know how to make a vector of a number: the **clocks** of lesson 2, fast ones and slow ones. A place is *two* numbers, column x and row y. So half of the vector tells x, the other half y:

$$\text{table}[y\cdot\text{width} + x] = \big[\,\text{clocks}(x),\ \text{clocks}(y)\,\big]$$

The column comes first. That is mere custom, but trained weights count on it. The sines come before the cosines here, while lesson 2 has the cosines first. `clocks` turns them round:
"""

# %%
#| given: patches.clocks

# %% [markdown]
r"""
**Predict before you write.** A grid of 2 rows and 3 columns. Write down the list of the six x, in the order of the patches, and the list of the six y.
"""

# %%
#| exercise: patches.sincos_position_embedding_2d
#| points: 14
#| difficulty: 3
#| minutes: 12
#| hint: First make two lists of height · width whole numbers: the column x of each patch and its row y, in the order of the patches (row by row). Then `clocks` of both, side by side.
#| hint: x runs 0 1 2 0 1 2, y runs 0 0 0 1 1 1. `torch.arange(width).repeat(height)` gives the first. For the second look at `repeat_interleave`, or use `torch.meshgrid(..., indexing="ij")` and `flatten`.
#| hint: `torch.cat([clocks(x, dim // 2), clocks(y, dim // 2)], dim=-1)`, where `y = torch.arange(height).repeat_interleave(width)`. Each half gets half of the channels.

# %%
#| check: sincos_position_embedding_2d
table = sincos_position_embedding_2d(16, height=2, width=3)
assert table.shape == (6, 16), "one vector for each of the 2 · 3 places"
assert torch.equal(table[0, :8], table[3, :8]), "patches 0 and 3 are in one column: same first half"
assert torch.equal(table[0, 8:], table[2, 8:]), "patches 0 and 2 are in one row: same second half"
assert not torch.equal(table[0, :8], table[1, :8]), "neighbours in a row are in different columns"
quarter = 16 // 4
assert not table[0, :quarter].any() and (table[0, quarter:8] == 1).all(), (
    "each half begins with its sines, then come the cosines: sin 0 = 0, cos 0 = 1"
)

# %% [markdown]
r"""
**What you saw.** x is 0 1 2 0 1 2 and y is 0 0 0 1 1 1: the column runs, the row waits.

How alike are the vectors of two places? Each panel compares the ringed place with all others. The colour is the cosine of the angle between two vectors: 1 means the same direction.
"""

# %%
table = sincos_position_embedding_2d(64, 8, 8)
show_dit.similarity_map(table, 8, 8, [(0, 0), (3, 5), (7, 4)])

# %% [markdown]
r"""
All places are rather alike: the colour bar begins at 0.71. Neighbours side by side are most alike, 0.98, and places in the same row or column stay above 0.85. So the table shows which places are near. (How far a far one is, it hardly shows: farther along a row the likeness hardly falls any more.)
"""

# %% [markdown]
r"""
## 4. Steering every channel: modulate

How is the network told the time t and the class? In the UNet the time vector was added in each ResBlock. The DiT has a stronger way. Before the attention and before the MLP each patch's channels are normalised to mean 0 and variance 1. Usually a layer norm then has a learnt scale and shift for each channel. Here they are *computed from the condition*, anew for each picture:

![Left, three patches with three channels each. In the middle the one wish of their picture: scale 0, 1, 0 and shift 0, 0, 1. Right, the result: in all three patches the first channel is left alone, the second doubled, the third lifted by 1.](figures/modulate.png)

$$\text{modulate}(x,\ \text{shift},\ \text{scale}) = x\cdot(1 + \text{scale}) + \text{shift}$$

So the condition can turn every channel up, down or off. (This is called *adaptive layer norm*, adaLN.) Why 1 + scale? So that a scale of 0 means *leave it as it is*.

x is `(B, N, D)`: N patches. But shift and scale are `(B, D)`: one wish for each picture, and all its patches hear it.

**Predict before you write.** A channel has the scale −1 and the shift 5. What stands in it afterwards, in each patch?
"""

# %%
#| exercise: dit.modulate
#| points: 8
#| difficulty: 1
#| minutes: 4
#| hint: shift and scale lack the axis of the patches. Put one of size 1 there; the rest is the formula.
#| hint: `scale[:, None]` (the same as `scale.unsqueeze(1)`) has the shape (B, 1, D), and that fits to (B, N, D).
#| hint: `return x * (1 + scale[:, None]) + shift[:, None]`.

# %%
#| check: modulate
x, shift, scale = torch.randn(2, 5, 3), torch.randn(2, 3), torch.randn(2, 3)
out = modulate(x, shift, scale)
assert out.shape == x.shape, "the result should have x's shape"
assert torch.equal(modulate(x, 0 * shift, 0 * scale), x), "shift 0 and scale 0 change nothing"
assert torch.allclose(out[1, 4], x[1, 4] * (1 + scale[1]) + shift[1], atol=1e-5), (
    "picture 1 has its own wish"
)
square = torch.randn(3, 3, 4)  # as many patches as pictures: here a missing axis would go unnoticed
out = modulate(square, torch.tensor([[1.0], [2.0], [3.0]]).expand(3, 4), torch.zeros(3, 4))
assert torch.allclose((out - square)[1], torch.tensor(2.0)), (
    "the wish is each picture's, not each patch's"
)
x = torch.tensor([[[1.0, 1.0], [-2.0, -2.0]]])  # your prediction: two patches, two channels
print(modulate(x, shift=torch.tensor([[0.0, 5.0]]), scale=torch.tensor([[0.5, -1.0]])))

# %% [markdown]
r"""
**What you saw.** The second channel holds 5 in both patches, whatever it held before: 1 + scale is 0.

## 5. The block that begins by doing nothing

A DiT block is lesson 6's transformer block without the words: the patches look at each other, then each thinks for itself. (In a plain MLP, without GEGLU's gate. The gates below are something else.) The condition `c` (time plus class, one vector a picture) steers both halves, each with three wishes: shift, scale and a **gate**. A gate is `(B, D)`, like shift and scale. `modulate` gives those two the axis for the patches; the gate gets it from you.

![A column of boxes from x, (B, N, D), down: norm1, modulate, attention, gate1, plus x; norm2, modulate, mlp, gate2, plus x. From the side the condition c, (B, D), through SiLU and a linear layer that is zero at first, gives (B, 6 · D): shifts, scales, gates.](figures/block.png)

$$\begin{aligned}\text{shift}_1, \text{scale}_1, \text{gate}_1, \text{shift}_2, \text{scale}_2, \text{gate}_2 &= \text{modulation}(c)\\ x &\leftarrow x + \text{gate}_1\cdot\text{attn}(\text{modulate}(\text{norm1}(x), \text{shift}_1, \text{scale}_1))\\ x &\leftarrow x + \text{gate}_2\cdot\text{mlp}(\text{modulate}(\text{norm2}(x), \text{shift}_2, \text{scale}_2))\end{aligned}$$

`modulation` is a SiLU and one linear layer from D to 6·D channels, in an `nn.Sequential`, which numbers them 0 and 1. And now the trick that gives it its name, adaLN-**Zero**: *this linear layer starts with all weights and biases at 0.* Then all six wishes are 0 at first, and a gate of 0 adds nothing. **A new block hands x on as it is**, and so does any pile of them.

Why is that good? The way from the first layer to the last is free at the start, and each block opens its gates as far as it has something useful to add.

The parts are given. In your block they must be called `norm1`, `attn`, `norm2`, `mlp` and `modulation`, since saved weights are found by these names. (`norm_eps` is for norm2 alone, as in diffusers.)
"""

# %%
#| given: dit.plain_norm dit.mlp dit.zero_linear clip_layers.SelfAttention

# %% [markdown]
r"""
**Predict before you write.** Right after the start, which parts of the block get a gradient at all: `attn`, `mlp`, `modulation`? And of the six wishes, which? Think of what a gate of 0 does to the gradient of all that it multiplies.
"""

# %%
#| exercise: dit.DiTBlock
#| points: 20
#| difficulty: 3
#| minutes: 20
#| hint: In `__init__` call `super().__init__()` and make five parts under these names: `norm1` and `norm2` (plain_norm; norm2 gets norm_eps), `attn` (SelfAttention), `mlp`, and `modulation`, an `nn.Sequential` of `nn.SiLU()` and a linear layer from dim to 6 · dim that begins with zeros. Which of the given helpers makes one?
#| hint: In `forward`: `self.modulation(c).chunk(6, dim=-1)` gives the six wishes, (B, dim) each, in the order of the equation. `modulate` takes them as they are. A gate has to be multiplied with (B, N, dim), so it needs the axis that `modulate` adds inside: `gate1[:, None]`.
#| hint: `self.modulation = nn.Sequential(nn.SiLU(), zero_linear(dim, 6 * dim))`. Then `x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))`, and the second line with `gate2`, `self.mlp`, `self.norm2`, `shift2`, `scale2`. Return x.

# %%
#| check: DiTBlock
block = DiTBlock(dim=8, num_heads=2)
x, c = torch.randn(2, 5, 8), torch.randn(2, 8)
assert block(x, c).shape == x.shape, "as many patches as before, with as many channels"
assert torch.equal(block(x, c), x), "a new block should change nothing: its wishes are all 0"
nn.init.normal_(block.modulation[1].weight)  # as if it had learnt something
before, out = x.clone(), block(x, c)
assert torch.equal(x, before), "x belongs to the caller: don't change it in place"
assert not torch.equal(out, x), "with other wishes something else should come out"
assert not torch.equal(block(x, c)[0], block(x, c.flip(0))[0]), "another condition, another result"


def wish(**wishes: float) -> Tensor:
    """The block's answer where every channel has these wishes, whatever c is."""
    names = ["shift1", "scale1", "gate1", "shift2", "scale2", "gate2"]
    listed = torch.tensor([wishes.get(name, 0.0) for name in names])
    nn.init.zeros_(block.modulation[1].weight)
    block.modulation[1].bias.data = listed.repeat_interleave(8)
    return block(x, c)


first, second = block.attn(block.norm1(x)), block.mlp(block.norm2(x))
assert torch.allclose(wish(gate1=1), x + first, atol=1e-5), "gate1 alone: x + attn(norm1(x))"
assert torch.allclose(wish(gate2=1), x + second, atol=1e-5), "gate2 alone: x + mlp(norm2(x))"
wanted = x + block.mlp(3 * block.norm2(x) + 1)
assert torch.allclose(wish(shift2=1, scale2=2, gate2=1), wanted, atol=1e-5), (
    "scale by 1 + 2, then + 1"
)

# %% [markdown]
r"""
The same picture, drawn from *your* block, with the shapes of 8 digits of 28×28 pixels in patches of 4×4:
"""

# %%
block = DiTBlock(dim=64, num_heads=4)
show_blocks.draw_block(block, torch.randn(8, 49, 64), torch.randn(8, 64))

# %% [markdown]
r"""
And your prediction about the gradients?
"""

# %%
out = block(torch.randn(8, 49, 64), torch.randn(8, 64))
(out * torch.randn_like(out)).sum().backward()
names = ("shift1", "scale1", "gate1", "shift2", "scale2", "gate2")
gradients = dict(zip(names, block.modulation[1].weight.grad.chunk(6), strict=True))
gradients |= {"attn": block.attn.to_v.weight.grad, "mlp": block.mlp[0].weight.grad}
for name, gradient in gradients.items():
    print(f"{name:7} gradient {gradient.abs().sum():.3g}")

# %% [markdown]
r"""
**What you saw.** Only the two gates learn at first. No gradient reaches what a shut gate multiplies: not attn and mlp, nor the shifts and scales, which act only through these two.
"""

# %% [markdown]
r"""
## 6. The whole DiT

Now put it together. `forward` reads as a column of shapes:

![Left, from x_t, 8×1×28×28, down: patchify, 8×49×16; patch_in, plus positions, the blocks, 8×49×64; final, 8×49×16; unpatchify, 8×1×28×28. Right: t through time_clocks and time_mlp, the label through labels. Their sum c, 8×64, enters the blocks and the final layer.](figures/dit.png)

- `time_clocks(t)`, `(B, 256)`, is lesson 2's embedding with 128 clocks, the slow ones a little slower, as in diffusers.
- `labels` is your `LabelEmbedding` of lesson 5, with one more vector for *no class*, so that guidance works.
- `positions`, `(N, dim)`, is your table.
- `final` is a norm, steered by c, and a linear layer.

(`check_picture(x_t, t, self.picture)` says what is wrong with bad input; you may call it first, or leave it out.)

**Predict before you write.** A new DiT, not trained at all: what does it answer? And in which training step does a gradient first reach attn and mlp?
"""

# %%
#| given: dit.FinalLayer

# %%
#| exercise: dit.DiT.forward
#| points: 14
#| difficulty: 2
#| minutes: 12
#| hint: A column, from the top of the picture to its bottom; before it the sum c. The parts are all in `__init__`: `time_mlp`, `labels`, `patch_in`, `positions`, `blocks`, `final`, `patch_size`.
#| hint: `c = self.time_mlp(time_clocks(t).to(x_t.dtype)) + self.labels(label)`. The patches: `self.patch_in(patchify(x_t, self.patch_size)) + self.positions`. Then a loop over `self.blocks`.
#| hint: `for block in self.blocks: x = block(x, c)`, then `x = self.final(x, c)`, and return `unpatchify(x, self.patch_size, height, width)` with `height, width = x_t.shape[2:]`. A line with `check_picture(x_t, t, self.picture)` may stand before all that; it may stay away.

# %%
#| check: DiT.forward
dit = DiT(
    in_channels=3, sample_size=(8, 12), patch_size=4, dim=16, depth=2, num_heads=2, num_classes=5
)
x_t, t, label = torch.randn(2, 3, 8, 12), torch.tensor([3, 900]), torch.tensor([0, 5])
assert dit(x_t, t, label).shape == x_t.shape, "the result should be a picture of x_t's shape"
assert not dit(x_t, t, label).any(), "a new DiT should answer 0: its final layer is zero"
nn.init.normal_(dit.final.patch_out.weight)
for block in dit.blocks:
    nn.init.normal_(block.modulation[1].weight)
out = dit(x_t, t, label)
assert out.shape == x_t.shape and out.any(), "with weights that say something, the answer is not 0"
assert not torch.allclose(out, dit(x_t, t.flip(0), label)), "another time, another answer"
assert not torch.allclose(out, dit(x_t, t, label.flip(0))), "another class, another answer"
assert not torch.allclose(out.roll(4, 3), dit(x_t.roll(4, 3), t, label), atol=1e-3), (
    "moved by one patch, the picture should not just give the moved answer: no positions added?"
)

# %%
dit = DiT(1, None, 8, 4, dim=16, depth=2, num_heads=2, num_classes=5)
x_t, t, label = torch.randn(2, 1, 8, 8), torch.tensor([3, 900]), torch.tensor([0, 5])
print("all numbers that a new DiT answers with:", dit(x_t, t, label).unique().tolist())
optimizer = torch.optim.SGD(dit.parameters(), lr=0.1)
layers = {"final": dit.final.patch_out, "modulation": dit.blocks[0].modulation[1]}
layers["attn"] = dit.blocks[0].attn.to_v
for step in (1, 2, 3):
    optimizer.zero_grad()
    F.mse_loss(dit(x_t, t, label), torch.randn_like(x_t)).backward()
    sizes = [f"{name} {layer.weight.grad.abs().sum():.1e}" for name, layer in layers.items()]
    print(f"gradients in step {step}:", ", ".join(sizes))
    optimizer.step()

# %% [markdown]
r"""
**What you saw.** It answers 0. And it is a chain of locks. In step 1 only the final layer learns, for it multiplies all the rest by 0. In step 2 it lets gradients through to the modulation, and there to the gates. In step 3 the gates are a crack open, and attn learns, too (and so does mlp).

Is it *the* DiT? We give it and diffusers' the same random weights.
"""

# %%
from diffusers import DiTTransformer2DModel

from t2i.pretrained.dit_files import dit_state_dict, share_embedding

# norm_eps is norm2's: large here, so that norm1 in its place would be seen
sizes = {"num_layers": 3, "sample_size": 8, "num_embeds_ada_norm": 10, "norm_eps": 0.1}
theirs = DiTTransformer2DModel(3, 16, 4, **sizes).eval()
theirs.load_state_dict(share_embedding(theirs.state_dict()))
ours = DiT(4, None, 8, 2, dim=48, depth=3, num_heads=3, num_classes=10, norm_eps=0.1).eval()
# other names, and another order of the numbers in the first layer; the numbers are the same
ours.load_state_dict(dit_state_dict(theirs.state_dict()))
x_t, t, label = torch.randn(2, 4, 8, 8), torch.tensor([7, 980]), torch.tensor([3, 10])
with torch.no_grad():
    difference = (ours(x_t, t, label) - theirs(x_t, t, label).sample).abs().max()
print(f"largest difference to diffusers: {difference:.1e} (below 1e-5 if yours is right)")

# %% [markdown]
r"""
### The zeros, kept and lost

A classic way to spoil a DiT: build the blocks with their zeros, and then run *one tidy initialisation over all linear layers*. The zeros are gone, and nothing crashes. What does it cost? Two tiny DiTs learn lesson 5's digits at half their size, from the same batches with the same noise. Both get the tidy initialisation; in one of them it spares the layers that hold zeros. (`FirstGuess` is lesson 3's head start: x_t, scaled as there, is the first guess of the noise, and the network corrects it.)

**Predict before you run.** How will the two losses differ at the first step? And at the end?
"""

# %%
from t2i.data import mnist
from t2i.engine.batches import Batches
from t2i.engine.train_config import TrainConfig
from t2i.folded_unet import noise_loss
from t2i.guidance import drop_condition, sample_guided
from t2i.runs.class_recipes import Told
from t2i.runs.dit_studies import gate_sizes
from t2i.runs.joint_denoiser import FirstGuess
from t2i.samplers import spaced_timesteps
from t2i.training import train

NO_CLASS = 10
images, labels = mnist("train")


def digit_loss(model, batch):
    """Lesson 5's loss (`Told` hands the labels to the model): one label in ten is taken away."""
    x_0, label = batch
    return noise_loss(Told(model, drop_condition(label, NO_CLASS, 0.1)), x_0)


def tidy(layer, keep_zeros):
    """Initialise a linear layer anew; without keep_zeros also one that holds zeros."""
    if isinstance(layer, nn.Linear) and (layer.weight.any() or not keep_zeros):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)


# %%
small, lines = F.avg_pool2d(images[:10_000], 2), {}
config = TrainConfig(steps=pick(smoke=4, cpu=150, gpu=300), learning_rate=1e-3)
for name, keep in {"zeros kept": True, "zeros lost": False}.items():
    torch.manual_seed(0)
    tiny = DiT(1, None, 14, 2, dim=32, depth=6, num_heads=4, num_classes=10)
    tiny.apply(partial(tidy, keep_zeros=keep))
    run = train(
        FirstGuess(tiny), digit_loss, Batches(small, labels[:10_000], batch_size=32), config
    )
    lines[name] = show_ddpm.smooth(torch.tensor([state.loss for state in run]), 5)
show.curves(
    range(1, config.steps + 1),
    lines,
    xlabel="training step",
    ylabel="loss",
    yscale="log",
)

# %% [markdown]
r"""
**What you saw.** Without the zeros the loss begins several times higher, since random layers spoil the first guess, and dozens of steps go into coming down. If the two curves touch for a while, the run without zeros has not caught up: they part again, and it ends higher, in the CPU tier more than 1.5 times as high. (Seconds cannot tell what is left of the gap after days.)

### Train it, and watch the gates

Now the digits in full size, with lesson 5's guidance and sampler. While it trains we look at the gates now and then: how far open is each one, on average?

**Predict before you run.** Will all blocks open at the same pace? Which half opens further: the look at the others (attention), or the thinking (MLP)?
"""

# %%
sizes = pick(smoke=(32, 2, 2), cpu=(64, 4, 4), gpu=(384, 12, 6))  # dim, depth, heads
steps = pick(smoke=12, cpu=1000, gpu=2000)
batches = Batches(images, labels, batch_size=pick(smoke=16, cpu=64, gpu=256))
# Muon, an optimiser made for matrices, moves the weights that are matrices (at muon_rate), and
# AdamW the rest. on_gpu="recorded" makes small networks faster on a GPU; elsewhere it does nothing.
config = TrainConfig(steps=steps, learning_rate=3e-3, muon_rate=0.02, on_gpu="recorded")
torch.manual_seed(0)
dit = DiT(1, None, 28, 4, *sizes, num_classes=10)
device = "cuda" if torch.cuda.is_available() and tier() == "gpu" else "cpu"
model = FirstGuess(dit).to(device)
print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} million weights, {steps} steps")

# %%
some, some_labels = images[:16].to(device), labels[:16].to(device)
t = torch.full((16,), 500, device=device)
gates = {}
for state in train(model, digit_loss, batches, config):
    if state.step == 1 or state.step % max(1, steps // 25) == 0:
        opened = gate_sizes(model.eval(), lambda: model(some, t, some_labels))
        gates[state.step] = list(opened.values())

# %%
show_dit.gate_chart(list(gates), list(gates.values()))

# %% [markdown]
r"""
**What you saw.** The gates open, each block at its own pace. The line below the picture says which half opened further. When the course was made, on a CPU, it was the MLP, in every block.

Now the digits:
"""

# %%
denoiser = state.ema_model.cpu().eval().requires_grad_(False)
ac, wanted = denoiser.alphas_cumprod, torch.arange(10).repeat(2)
x_T = torch.randn(20, 1, 28, 28, generator=torch.Generator().manual_seed(0))
timesteps = spaced_timesteps(len(ac), pick(smoke=3, cpu=25, gpu=50))
drawn = sample_guided(denoiser, x_T, wanted, NO_CLASS, ac, timesteps, 2.0)
show.show_images(
    drawn,
    [str(d) for d in wanted.tolist()],
    columns=10,
    alt="Two rows of digits drawn by your DiT.",
)

# %% [markdown]
r"""
No convolution reaches from patch to patch, and yet many strokes go on across the borders: the network saw in the data that neighbouring pixels belong together. Others break: look for seams every 4 pixels, the typical fault of a young DiT.

## 7. Words and patches in one sequence

So far the condition was one vector. A sentence needs more. In lesson 6 the picture looked across at the words, and the words stayed the same in each layer.

In Stable Diffusion 3 **the words go into the same sequence as the patches**, and attention runs over all tokens at once:

![Left the patches, right the words, each with its own norm, to_q, to_k and to_v. One attention, (B, heads, N + L, d), runs over all of them, one behind the other. Then they are cut in two, each with its own to_out and MLP. At the edges each has its own modulation of c: shift1 and scale1, gate1, then shift2, scale2 and gate2. The lower right part is dashed: not in the last block.](figures/joint.png)

- Patches look at patches: that is self-attention.
- Patches look at words: that is lesson 6's cross-attention.
- Words look at words: they read the sentence.
- **Words look at patches**: new! *left of* can see what there is.
"""

# %% [markdown]
r"""
But words and patches are different things, so each kind keeps its **own weights** and shares nothing but the attention itself. We call these weights a *stream*; a joint block has two.

Here is a stream: your DiTBlock, cut in two at the attention. `offer` comes before it, `take` after it. The condition c is now the time plus the mean of the words, as in lesson 6. (`ends` is for the last block of a network, after which nobody reads the words any more: there they only offer. `qk_norm` is only handed on, for now.)
"""

# %%
#| given: joint.Stream

# %% [markdown]
r"""
The block itself is what you write. Its `__init__` makes two streams, `self.patches` and `self.words` (saved weights look for these names). Both get `dim`, `num_heads` and `qk_norm`; only the words may end, `ends=context_pre_only`. Its `forward` is the picture above, from top to bottom:

- One behind the other means **patches first**, then words. Heads stand before the tokens: `(B, heads, N + L, d)`.
- `joint_mask(context_mask, N)` makes the mask of the attention: all patches may be looked at, but only those words that are real (lesson 6's convention: True = look). For None it gives None: no mask, look at all.
- With `context_pre_only` the words end here: return None for them.

**Predict before you write.** A caption stays the same, but its picture changes. Do the words that come out change: in a new block, and in one that has learnt something?
"""

# %%
#| exercise: joint.JointAttentionBlock
#| points: 20
#| difficulty: 4
#| minutes: 25
#| hint: `__init__`: call `super().__init__()`, remember `context_pre_only`, and make two streams, `self.patches` and `self.words`. Both get dim, num_heads and qk_norm; only the words' stream can end: `ends=context_pre_only`.
#| hint: `query_x, key_x, value_x, rest_x = self.patches.offer(x, c)` and the same for `self.words` with `context`. Join with `torch.cat([…_x, …_w], dim=2)`. After the attention, `seen.split([N, L], dim=2)` cuts in two.
#| hint: `seen = F.scaled_dot_product_attention(query, key, value, attn_mask=joint_mask(context_mask, x.shape[1]))`. Then `self.patches.take(x, seen_x, rest_x)` is the new x. The new context is `self.words.take(context, seen_w, rest_w)`, or None if `self.context_pre_only`. Return both, x first.

# %%
#| check: JointAttentionBlock
block = JointAttentionBlock(dim=8, num_heads=2)
x, context, c = torch.randn(2, 6, 8), torch.randn(2, 3, 8), torch.randn(2, 8)
out, words = block(x, context, c)
assert out.shape == x.shape and words.shape == context.shape, "both come back, x first"
assert torch.equal(out, x) and torch.equal(words, context), "a new block should change nothing"
for stream in (block.patches, block.words):
    nn.init.normal_(stream.modulation[1].weight)
out, words = block(x, context, c)
assert not torch.allclose(words, block(x.flip(0), context, c)[1]), (
    "the words should see the patches"
)
mask = torch.tensor([[True, True, False], [True] * 3])
changed = context.clone()
changed[0, 2] = 7.0  # a word that nobody may look at
assert torch.allclose(block(x, context, c, mask)[0], block(x, changed, c, mask)[0], atol=1e-5), (
    "a masked word must not matter to the patches: is the mask used, and are the patches first?"
)
assert JointAttentionBlock(8, 2, context_pre_only=True)(x, context, c)[1] is None, "no words after"

# %% [markdown]
r"""
**What you saw.** The check asserts both: a new block's gates are shut, so its words stay what they were; later they depend on the picture.

Now the other switch. In a long training queries and keys may grow, and with them their products, until each softmax picks one token alone. `qk_norm` brings them all to one length. (It divides each by the root of its mean square, an *RMS norm*.)

The same numbers as diffusers' block of Stable Diffusion 3?
"""

# %%
from diffusers.models.attention import JointTransformerBlock

from t2i.pretrained.dit_files import joint_state_dict

theirs = JointTransformerBlock(24, 3, 8, context_pre_only=False, qk_norm="rms_norm").eval()
ours = JointAttentionBlock(24, 3, qk_norm=True)
ours.load_state_dict(joint_state_dict(theirs.state_dict()))
x, context, c = torch.randn(2, 16, 24), torch.randn(2, 5, 24), torch.randn(2, 24)
with torch.no_grad():
    expected_words, expected = theirs(x, context, c)  # the words come first there
    out, words = ours(x, context, c)
difference = max((out - expected).abs().max(), (words - expected_words).abs().max())
print(f"largest difference to diffusers: {difference:.1e} (below 1e-5 if yours is right)")

# %% [markdown]
r"""
### A transformer that reads captions

A pile of your blocks, with patches in front and the final layer behind, is Stable Diffusion 3's transformer in small. You know most of these lines from `DiT`; those marked `# new` let the words in.
"""

# %%
#| given: joint.JointDiT
x_t, words = torch.randn(2, 3, 32, 32), torch.randn(2, 5, 64)  # two pictures, five words each
network = JointDiT(dim=64, depth=4, num_heads=4)
print(tuple(network(x_t, torch.tensor([3, 900]), words).shape))

# %% [markdown]
r"""
The course has trained weights for this transformer. They go into **your** blocks. (Around them, `JointDenoiser` makes vectors of the words.)
"""

# %%
from t2i.runs.dit_recipes import dit_contest
from t2i.world.caption_reading import VOCABULARY

painter = show_joint.painter(JointDiT)  # saved weights, each in its place by its name
print("Words that it knows:", *VOCABULARY[1:])

# %%
wishes = ["a red square left of a blue circle", "a blue circle to the left of a red square"]
wishes += ["a green star above a pink heart", "a yellow cross below a purple triangle"]
wishes += ["an orange circle", "a cyan heart on a white background"]
show_joint.painted(painter, wishes, pick(smoke=2, cpu=25, gpu=50))

# %% [markdown]
r"""
Do not expect beauty after twenty minutes of training. Backgrounds and colours come first, then places, and shapes last: many are blobs. Compare the first two pictures: the same things, the other way round. A relation may be turned round, a thing painted twice or left out. Put captions of your own into `wishes`, made of the words above: one thing or two, each with its colour.

### Who looks at whom

In lesson 6 the table of weights was places × words. Now it is tokens × tokens, with four fields. The network gets section 2's scene under noise, with its caption. We watch the third of its four blocks (block 2), averaged over all heads.

**Predict before you run.** Where in the table is the self-attention of lesson 2? Where is lesson 6? And what is the field at the lower left?
"""

# %%
tables = show_joint.looks(painter, pictures[row], captions[row], step=400)
display(show_joint.joint_table(tables, captions[row]))
show_joint.word_looks(tables, pictures[row], captions[row])

# %% [markdown]
r"""
<details><summary>Reading without a kernel? The two pictures, as drawn when the course was made</summary>

![A large square table of looks, parted by two white lines: 64 patches and 8 words look at each other. A bright line just beside the diagonal: most patches look most at their right-hand neighbour. Fainter lines 8 places from it: the patches above and below. At the right, a few patches look brightly at red and at purple. The words' looks, below, are fainter.](figures/who_looks.png)

![The scene of a red two left of a purple three, and for each of five words two maps. Upper row, which patches look at the word: red lights up on the two, purple on the three, the other words nowhere. Lower row, which patches the word looks at: red and purple look at their things, two and 3 towards the three, left between both.](figures/word_looks.png)

</details>

**What you saw.** Each row is one look, and sums to 1. Upper left, patches look at patches: lesson 2. (The bright line is not the diagonal, but one beside it: when the course was made, of all patches, 55 of the 56 that have a right-hand neighbour looked most at that one.) Upper right, patches look at words: lesson 6. Lower right, words read each other. Lower left, words look at patches: that is new.

In the upper row of the second picture (its two rows have scales of their own) only the colours find their things: *red* lights up on the two, *purple* on the three. *Two* and *3* do not: their rings stand on the background. So in this picture, this block's looks follow colour. In the lower row *red* and *purple* look at their things again, and *left* looks between both. But even *two* looks towards the three.
"""

# %% [markdown]
r"""
## 8. UNet against DiT

Now the contest, between lesson 6's UNet with words and section 7's transformer, called DiT for short. (Its large one is the painter that you just saw.) **The same scenes and captions, as many weights (within 10 %), the same amount of computing**, in floating-point operations. So the network whose step is cheaper takes more steps.

**Predict before you run.** Two networks with the same number of weights: does one step of each cost the same?
"""

# %%
show_contest.step_table(dit_contest(pick(smoke="smoke", cpu="cpu", gpu="cpu")))  # its networks

# %% [markdown]
r"""
**What you saw.** The UNet's step costs more, since its weights work at more places (fourth column, the average). A convolution's weight works at each pixel of its level, most of a DiT's weights at 64 patches or at up to 32 words. But **equal operations are not equal seconds**: how fast they are done depends on the network and on the machine (last column).

`python -m t2i.runs.dit_runs` has trained three sizes of each, with the same optimiser and the same learning rates.

**Predict before you run.** The UNet is born with the belief that neighbours matter; the DiT has to learn it, and takes more steps. Whose loss is lower at the end?
"""

# %%
contest = show_contest.measured()
show_contest.loss_chart(contest)

# %%
#| table: show_contest.contest_table
#| fold: In numbers, as measured when the course was made

# %% [markdown]
r"""
<details><summary>Reading without a kernel? The chart, as drawn when the course was made</summary>

![Loss against the operations of the training, both on logarithmic axes: six falling lines. At each of three sizes the DiT's line lies below the UNet's.](figures/losses.png)

</details>

A line is one training. Compare the *ends*, where the learning rate has fallen to 0. (Where lines of different sizes overlap, the smaller network is nearer to its end.)

**What you saw.** With the same operations the DiT's loss is lower at all three sizes: 0.0088 against 0.0121 at the largest. One possible reason: it took more than twice as many steps (and 1.7 to 1.8 times as many seconds). Nobody has tested it. And do not read too much into the result: each network was trained once, for minutes, and is hundreds of times smaller than the papers' largest.

### How far do they look?

For each layer in which the picture looks at itself: at what distance, on average, is what a patch looks at? A dot is a head, a bar the mean of its layer. The dotted line: looking at everything alike.

**Predict before you run.** In the DiT, which blocks look near, which look far? And the UNet's attention, which has convolutions to do the near work?
"""

# %%
show_contest.distance_chart(contest)

# %% [markdown]
r"""
<details><summary>Reading without a kernel? The chart, as drawn when the course was made</summary>

![Bars of the mean distance, with a dot for each head and a dotted line at 16.5 pixels. UNet: all near the line. DiT: in block 0 three heads lie at 7.5 pixels, in block 2 one at 9; the rest is near the line.](figures/distances.png)

</details>

**What you saw.** In the DiT's block 0 three heads of four look some 7.5 pixels away. They have learnt by themselves what a convolution is built for. Block 2 has one more near head, at 9 pixels: the one that draws section 7's bright line. All others, and all of the UNet's, look some 14 pixels far or more: they hardly choose by distance. (The chart leaves out the UNet's convolutions, which do its near work.)

### Left of, above

Does one of them put the red seven left of the blue star? **Not yet.** Where the large DiT paints both colours, they are no seven and no star. But do they stand as asked?

Pictures were drawn from captions with two objects and a relation, and lesson 6's judge said which colours it sees, and where:

- *Both colours*: are both there? *And right*: and do they stand as asked?
- *Right, if both*: of the pictures with both, in how many do the colours stand as asked? There are four relations: left, right, above, below. A model that does not read them is right in about one picture in four: *chance*. (It is a quarter of those pictures that fit one of the four at all.)
- *All satisfied*: both objects, both colours, the background, and nothing besides.

*Unseen relations* are those that training never showed for these objects; the *seen* ones it did. The last line tells how well the judge sees. Brackets: 95 % intervals.
"""

# %%
#| table: show_contest.relation_table

# %% [markdown]
r"""
**What you saw.** The large DiT paints both colours more often, but even so in only 31 % of its pictures (27 % with unseen relations). *Right, if both* is above chance for it, with unseen relations, too: it reads the relation, but not reliably. The UNet's 34 % has chance within its interval.

Does the DiT read *better*? Look at the interval of the *difference*, below the table: for seen and unseen relations together it lies above 0. (Each half alone is too small to tell.) So of these two networks the DiT places its colours right more often, where both are there. (The UNet has both less often, so the two were not asked about quite the same captions.) One training of each cannot say whether two other trainings would agree.

*All satisfied* is about 0 % for both. The judge finds 97 % right among real scenes.
"""

# %% [markdown]
r"""
## 9. What was left out, and where these lines live in real systems

- **Scale.** DiT-XL has 28 blocks of 1,152 channels; Stable Diffusion 3's largest has 38 of 2,432. The code is what you wrote.
- **Latents.** Both work on the latent pictures of lesson 8, with patches of 2×2. In pixels, 1024×1024 would make 262,144 such patches.

The smaller networks of section 8, and more numbers: [more about the measurements](more.md).

| yours | diffusers |
|---|---|
| `patchify` and `patch_in` | `PatchEmbed` in `models/embeddings.py` (a convolution whose windows do not overlap: the same numbers) |
| `sincos_position_embedding_2d` | `get_2d_sincos_pos_embed`, with `base_size` the size of the grid (else it stretches the places to 16) |
| `modulate`, `modulation` | `AdaLayerNormZero` in `models/normalization.py` |
| `DiTBlock` | `BasicTransformerBlock` with `norm_type="ada_norm_zero"` |
| `DiT` | `DiTTransformer2DModel` |
| `JointAttentionBlock` | `JointTransformerBlock`, with `JointAttnProcessor2_0` |
| `JointDiT` | `SD3Transformer2DModel` |
| `c` | `temb` |

## Three questions
"""

# %%
#| quiz: row_first

# %%
#| quiz: right_start

# %%
#| quiz: two_streams

# %% [markdown]
r"""
## The papers

- Peebles and Xie 2022, *Scalable diffusion models with transformers*, [arXiv:2212.09748](https://arxiv.org/abs/2212.09748): DiT. Figure 3 is sections 2 to 6.
- Esser et al. 2024, *Scaling rectified flow transformers for high-resolution image synthesis*, [arXiv:2403.03206](https://arxiv.org/abs/2403.03206): Stable Diffusion 3 and its *MM-DiT*, the multimodal DiT. Figure 2 is section 7.
- Dosovitskiy et al. 2020, *An image is worth 16×16 words*, [arXiv:2010.11929](https://arxiv.org/abs/2010.11929): the vision transformer.

**Next, lesson 10:** your words, your latents, your transformer, and one command that paints what one types.
"""
