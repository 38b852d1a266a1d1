# %% [markdown]
r"""
# Lesson 6 · Cross-attention: words steer the picture

![An animation. On the left the network's guess of a picture, from the first step to the last: a spotted heart at first, a clean pink one at last. Beside it one map for each word of the caption shows in yellow where the picture looks at that word.](figures/film.gif)

**On the left is the network's guess of the picture, from the first step, when the picture itself is still all noise, to the last. Beside it is one map for each word: yellow where the picture looks at that word most, dark blue where hardly at all.** (Each map has a scale of its own; section 9 explains the percentages.) In this lesson you write the part that does the looking, seven short pieces of code, and put it into the UNet of lesson 2. Then you write a sentence, and it paints.

In lesson 5 you could ask for one of ten digits. Now you can ask for *a drawing of a heart that is pink*, and even for pairs of colour and object that training never showed.

Plan about two hours. Training takes two minutes here, as the course brings trained weights.
"""

# %%
from t2i.lesson import start

start(6)

# %%
import copy
import math
import textwrap

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from t2i import show
from t2i.drawing import show_attention, show_ddpm
from t2i.engine.watching import watching
from t2i.lesson import pick, tier

# %% [markdown]
r"""
## 1. Why a label is not enough

A label reached every block of the UNet as one vector, added to the time. Every place heard the same message: *a seven*. For a sentence this is too little:

- A sentence has several words, and a different number of them each time.
- Not every place needs every word. The middle needs to know *seven* and *red*, the corner only that nothing is there.

So each place should be able to **look at the words it needs**. That is cross-attention: *cross*, because the picture looks across at something else, the words. Lesson 2's self-attention is the same machine, with the picture looking at itself.

## 2. Attention is a soft look-up

Query, key, value, softmax, $\sqrt d$, heads: you met all of that in lesson 2, for pixels, where PyTorch could do the middle of it for you. Now it comes in pieces, and with a mask. First another way to see it: a look-up. Python's `meaning["seven"]` compares your *query* with all *keys* and returns the *value* of the one that matches. In attention a place of the picture asks, and the words answer:

![Left: a dictionary. The query “seven” matches one of three keys exactly, and its value comes back. Right: attention. The query “which digit is it?” is compared with all three keys, gets the weights 0.7, 0.2 and 0.1, and a mixture of all three values comes back.](figures/lookup.png)

A network cannot learn from a yes-or-no match: there is no slope to walk down. So attention matches softly. A dot product says how alike query and key are, a softmax turns the likenesses into shares that sum to 1, and the answer is the **mixture of all values** in these shares:

$$\text{weights} = \text{softmax}\!\left(\frac{\text{query}\cdot\text{key}^{\top}}{\sqrt d}\right), \qquad \text{output} = \text{weights}\cdot\text{value}$$

N places look at L words, so the weights are a table with N rows and L columns. Each *row* sums to 1. ($d$ is the number of channels of a query.)

**Predict before you run.** Three words have the keys (1, 0), (0, 1) and (-1, 0). The queries are (0, 0), (1, 0) and (8, 0). Sketch the three rows of weights.
"""

# %%
scores = torch.tensor([[0.0, 0, 0], [1, 0, -1], [8, 0, -8]])  # each query · each key
powers = (scores / math.sqrt(2)).exp()  # d = 2
weights = powers / powers.sum(dim=-1, keepdim=True)  # a softmax, written out
words = ["right", "up", "left"]
show_attention.weight_bars(weights, words, ["query (0, 0)", "query (1, 0)", "query (8, 0)"])

# %% [markdown]
r"""
The rows are 0.33, 0.33, 0.33; 0.58, 0.28, 0.14; and 1.00 for the first word alone. A query of zeros has no wish, and gets the average. One with larger numbers chooses more sharply, up to a dictionary's hard look-up.

### Words that are not there

A batch holds captions of different lengths, but a tensor is rectangular. So short captions are filled up with *padding*, and a **mask** says which words are real. The course has one convention, everywhere:

> `True` means: **look at this word.**

The mask must act *before* the softmax, on the scores: a word with a hugely negative score (as negative as its dtype allows, but not minus infinity) gets a share of 0, and the others still sum to 1. If you *only* zero shares after the softmax, less than one whole look is left. (Stretching the rest to 1 is no way out: beside a masked word with a large score, the other shares may already be rounded to 0.)

One case is left: a row whose words are *all* masked. There is nothing to share out, but the softmax shares all the same: evenly, as all scores are equal (or NaN, where they are minus infinity). We define: **no words, no answer. Weights and output are 0.** For guidance, a mask of nothing but False takes the place of lesson 5's null class.

(Below, the docstring names a `ValueError` for wrong input. No test asks for it.)
"""

# %%
#| exercise: attention.scaled_dot_product_attention
#| points: 20
#| difficulty: 3
#| minutes: 15
#| hint: Three lines without a mask: the scores, the softmax over the *words*, the mixture. `key.transpose(-1, -2)` turns the last two axes round, however many stand before them. $d$ is `query.shape[-1]`.
#| hint: With a mask: `scores.masked_fill(~mask, very_negative)` before the softmax. `~mask` is True where one must *not* look. Take `torch.finfo(scores.dtype).min` and not minus infinity: a row that is minus infinity throughout has a softmax of NaN.
#| hint: A row that is fully masked is now shared out evenly, as all its scores are equally bad. So set the masked shares to 0 once more, after the softmax: `weights.masked_fill(~mask, 0.0)`. In all other rows this changes nothing. Return `weights @ value` and `weights`, both.

# %%
#| check: scaled_dot_product_attention
query, key, value = torch.randn(2, 4, 8), torch.randn(2, 5, 8), torch.randn(2, 5, 3)
output, weights = scaled_dot_product_attention(query, key, value)
assert output.shape == (2, 4, 3), "one mixture of values for each query"
assert weights.shape == (2, 4, 5), "one row a query, one column a word"
assert torch.allclose(weights.sum(-1), torch.ones(2, 4)), "each row of the weights sums to 1"
theirs = F.scaled_dot_product_attention(query, key, value)
assert torch.allclose(output, theirs, atol=1e-6), "PyTorch's own attention says something else"
mask = torch.tensor([[[True, True, False, False, False]], [[False] * 5]])  # (2, 1, 5)
output, weights = scaled_dot_product_attention(query, key, value, mask)
assert not weights[0, :, 2:].any(), "a masked word must get the weight 0"
assert torch.allclose(weights[0].sum(-1), torch.ones(4)), "the other words share one whole look"
assert not weights[1].any() and not output[1].any(), "nothing to look at: weights and output 0"

# %%
key = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
query = torch.tensor([[1.0, 0.0]] * 3)
mask = torch.tensor([[True, True, True], [True, True, False], [False, False, False]])
_, weights = scaled_dot_product_attention(query, key, key, mask)
show_attention.weight_bars(weights, words, ["all words", "“left” masked", "all masked"])

# %% [markdown]
r"""
## 3. Why the square root

Lesson 2 gave the reason: a dot product of two random vectors with $d$ channels is a sum of $d$ terms, so its spread grows like $\sqrt d$.

**Predict before you run.** Sixteen words with random keys, random queries, and d grows from 4 to 1024. How large is the largest of the sixteen weights on average: with the division by $\sqrt d$, and without?
"""

# %%
sizes, largest = [4, 16, 64, 256, 1024], {"with": [], "without": []}
for d in sizes:
    query, key = torch.randn(500, d), torch.randn(16, d)
    for name, factor in {"with": 1.0, "without": math.sqrt(d)}.items():
        _, weights = scaled_dot_product_attention(factor * query, key, key)
        largest[name].append(weights.amax(-1).mean())
show.curves(
    sizes,
    {f"{name} the division by √d": values for name, values in largest.items()},
    xscale="log",
    xlabel="d, the number of channels of queries and keys",
    ylabel="largest of 16 weights",
    ylim=(0, 1.05),
)

# %% [markdown]
r"""
With the division it stays near a quarter. Without, it climbs to almost 1: a fresh network would look at one word only, at random, and so firmly that hardly any gradient comes through to mend it.

And what if we shuffle the words?
"""

# %%
query, key, value = torch.randn(6, 8), torch.randn(5, 8), torch.randn(5, 3)
order = torch.randperm(5)
output, _ = scaled_dot_product_attention(query, key, value)
shuffled, _ = scaled_dot_product_attention(query, key[order], value[order])
print(f"order {order.tolist()}: largest difference {(output - shuffled).abs().max():.1e}")

# %% [markdown]
r"""
Nothing changes: *dog bites man* and *man bites dog* would be the same to it. The order has to be put into the words' vectors themselves: section 8 does it.

## 4. Several looks at once

One look gives one mixture. But a place may want to know the colour from one word *and* the object from another. So, as in lesson 2, the channels are divided among several **heads**, and each head looks for itself.

![Left: two pictures with three places each. A place is a row of eight numbered channels, four blue and four orange, together (2, 3, 8). After split_heads there are four blocks of three places and four channels, (2, 2, 3, 4): for each picture the blue one is head 0, the orange one head 1. After merge_heads the same numbers stand as they stood before, (2, 3, 8).](figures/heads.png)

Nothing is computed here; each number only stands somewhere else. With two heads of $d = 4$ channels, head 0 takes channels 0 to 3 of every place, head 1 channels 4 to 7. Heads become an axis of their own, *before* the places. Then your attention works on all heads at once, since it only touches the last two axes.

Beware of the shortcut: a plain `x.reshape(B, heads, N, d)` has the right shape and the wrong contents. Nothing crashes; the network just learns badly.

(Here a test does ask for an error, where the channels cannot be shared out evenly. Any kind of error will do.)
"""

# %%
#| exercise: attention.split_heads
#| points: 8
#| difficulty: 2
#| minutes: 6
#| hint: Follow one number in the drawing, say that of picture 0, place 1, channel 5. Which head does it go to, and which channel is it there? So which axis is cut in two, and where does the new one go?
#| hint: The last axis `heads · d` becomes two, `heads` and `d`; then `heads` moves in front of the places. With einops it is one line. With torch: `reshape` (or `unflatten`), then `transpose`.
#| hint: `rearrange(x, "b n (heads d) -> b heads n d", heads=num_heads)`. In torch: reshape to `(B, N, num_heads, d)`, then `.transpose(1, 2)`. If the channels cannot be shared out evenly, both ways raise an error by themselves.

# %%
#| check: split_heads
x = torch.arange(2 * 3 * 8).reshape(2, 3, 8)  # 2 pictures, 3 places, 8 channels
heads = split_heads(x, 2)
assert heads.shape == (2, 2, 3, 4), "the shape should be (B, num_heads, N, d)"
assert torch.equal(heads[0, 0, 1], x[0, 1, :4]), "head 0 has the first 4 channels of place 1"
assert torch.equal(heads[0, 1, 1], x[0, 1, 4:]), "head 1 has the last 4 channels of place 1"

# %%
#| exercise: attention.merge_heads
#| points: 7
#| difficulty: 1
#| minutes: 4
#| hint: Walk the same way back, last step first.
#| hint: The heads' axis returns to its place beside `d`, then the two become one. With einops no size needs to be given here.
#| hint: `rearrange(x, "b heads n d -> b n (heads d)")`. In torch: `.transpose(1, 2)`, then `reshape` to `(B, N, heads * d)` (`view` would complain, as the memory is out of order now).

# %%
#| check: merge_heads
x = torch.randn(2, 3, 8)
assert merge_heads(split_heads(x, 4)).shape == x.shape, "back to (B, N, channels)"
assert torch.equal(merge_heads(split_heads(x, 4)), x), "there and back again changes nothing"

# %% [markdown]
r"""
And the shortcut? Below, each number says which *place* (tens) and which *channel* (ones) it came from.
"""

# %%
x = torch.tensor([[[10 * place + channel for channel in range(4)] for place in range(4)]])
print("right, head 0:\n", split_heads(x, 2)[0, 0].numpy())
print("shortcut, head 0:\n", x.reshape(1, 2, 4, 2)[0, 0].numpy())

# %% [markdown]
r"""
The shortcut cuts the list of *places* in two: its head 0 never sees places 2 and 3.

## 5. Cross-attention

Where do queries, keys and values come from? Each from a linear layer without bias (the layer behind it, `to_out`, has one):

- the **query** from the picture: *what does this place look for?*
- **key** and **value** from the words: *how can this word be found? What does it have to say?*

The three are split into heads, each head looks up, the answers are merged, and a last layer, `to_out`, leads back to x's channels.

![Boxes. From x, the picture's places, an arrow through to_q gives the query. From the context, the words, arrows through to_k and to_v give key and value. All three enter attention, and through to_out the result has the shape of x.](figures/cross.png)

`context` is `(B, L, context_dim)`, the words' vectors. Give no context, and x looks at itself: that is self-attention.

The mask comes as `(B, L)`, one row per picture, and must fit scores of shape `(B, heads, N, L)`: give it two more axes of size 1, where the heads and the N places stand.

From here on you may use `F.scaled_dot_product_attention(query, key, value, attn_mask=mask)` in place of yours. With all words masked it gives 0, too. (Yours works as well; it gives back two things.)
"""

# %%
#| exercise: attention.CrossAttention.forward
#| points: 20
#| difficulty: 3
#| minutes: 15
#| hint: Five steps: no context? then context is x. Make query, key and value. Split each into heads. Attend, with the mask. Merge the heads and apply `to_out`.
#| hint: Only the query is read from `x`. `split_heads(self.to_q(x), self.num_heads)`, and the same with `to_k` and `to_v` of the context.
#| hint: `mask = None if context_mask is None else context_mask[:, None, None, :]`. Then `looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)` and return `self.to_out(merge_heads(looked))`.

# %%
#| check: CrossAttention.forward
attend = CrossAttention(query_dim=12, context_dim=10, num_heads=3, head_dim=4)
x, context = torch.randn(2, 6, 12), torch.randn(2, 5, 10)
assert attend(x, context).shape == x.shape, "the result should have the shape of x"
mask = torch.tensor([[True] * 2 + [False] * 3, [True] * 5])
changed = context.clone()
changed[0, 2:] = 7.0  # other words, but only where nobody may look
assert torch.allclose(attend(x, context, mask), attend(x, changed, mask), atol=1e-6), (
    "masked words must not matter"
)
assert not torch.allclose(attend(x, context), attend(x, changed)), "without a mask they must"
nn.init.eye_(attend.to_out.weight), nn.init.zeros_(attend.to_out.bias)
out = attend(x, context)
nn.init.normal_(attend.to_q.weight[:4])  # the first head asks something else
changed = (attend(x, context) - out).abs().amax(dim=(0, 1)) > 1e-6
assert changed.tolist() == [True] * 4 + [False] * 8, "each head makes its own 4 channels of 12"
nn.init.zeros_(attend.to_out.weight)
assert not attend(x, context).any(), "all that comes out has passed through to_out"
myself = CrossAttention(query_dim=12, num_heads=3, head_dim=4)
assert torch.allclose(myself(x), myself(x, x), atol=1e-5), "without a context, x looks at itself"

# %% [markdown]
r"""
What does an *inverted* mask do? It is the classic mistake, for half of the world's code says True where one may *not* look. Here is a short caption in a long row (`encode` gives each word its number, called its *token*, and 0 to the padding). The bar over each word is the share of the look that it gets, averaged over the places. (Keys and queries are random; only the mask matters.)

**Predict before you run.** Which words does the inverted mask look at?
"""

# %%
from t2i.world.caption_reading import encode, words_of

caption = "a red seven"
tokens, mask = encode([caption], 8)
print(tokens.tolist(), mask.tolist())
key, query = torch.randn(1, 8, 16), torch.randn(1, 50, 16)
rows = [scaled_dot_product_attention(query, key, key, m)[1][0].mean(0) for m in (mask, ~mask)]
show_attention.weight_bars(
    torch.stack(rows), [*words_of(caption), *"·····"], ["the mask", "the mask inverted"]
)

# %% [markdown]
r"""
The padding and nothing else. And nothing crashes. Train like this, and the loss still falls: the network learns to paint without words.

## 6. Thinking it over: GEGLU

After looking, each place thinks about what it found: a small network of two layers works on every place alone. Between the two a place has four times as many channels (`dim_out` is four times `dim_in` here). The first layer has a **gate**: its one linear layer, `proj`, makes twice as many as that. The first half is the *content*; the second half, passed through the curve GELU, says how far each channel of the content is let through. Such a layer is a *gated linear unit*, GLU; with GELU it is a GEGLU. So `GEGLU` is the first of the two layers, gate included; the second one is a plain linear layer behind it.

$$\text{out} = \text{content}\cdot\text{gelu}(\text{gate})$$

GELU is $z\cdot\Phi(z)$, where $\Phi(z)$ is the probability that a standard Gaussian value lies below $z$: almost 0 for $z \ll 0$ (shut), almost $z$ for $z \gg 0$ (open). (This exact form is `F.gelu`'s default.) It bends more sharply than lesson 2's SiLU:
"""

# %%
z = torch.linspace(-4, 4, 200)
show.curves(
    z,
    {"gelu(z)": F.gelu(z), "silu(z), of lesson 2": F.silu(z), "max(z, 0)": F.relu(z)},
    xlabel="z",
    height=2.6,
)

# %%
#| exercise: transformer.GEGLU
#| points: 10
#| difficulty: 2
#| minutes: 8
#| hint: In `__init__`, after `super().__init__()`, one linear layer called `self.proj`. How many channels must it make, so that both halves have `dim_out`?
#| hint: In `forward`: `self.proj(x).chunk(2, dim=-1)` cuts the last axis in two halves. The first is the content, the second the gate.
#| hint: `self.proj = nn.Linear(dim_in, 2 * dim_out)`; then `content, gate = self.proj(x).chunk(2, dim=-1)` and return `content * F.gelu(gate)`.

# %%
#| check: GEGLU
layer = GEGLU(6, 10)
x = torch.randn(2, 5, 6)
assert layer(x).shape == (2, 5, 10), "the last axis goes from dim_in to dim_out"
assert layer.proj.weight.shape == (20, 6), "proj makes twice dim_out channels"
with torch.no_grad():
    layer.proj.weight.zero_()
    layer.proj.bias.copy_(torch.tensor([2.0] * 10 + [-20.0] * 10))
assert layer(x).abs().max() < 1e-6, "with a gate far below zero nothing should pass"
nn.init.constant_(layer.proj.bias, 2.0)
assert (layer(x) - 2 * 1.9545).abs().max() < 1e-4, "content 2 and gate 2: 2 · gelu(2) = 2 · 1.9545"

# %% [markdown]
r"""
## 7. The block, and the way to a picture and back

A **transformer block** is three corrections in turn: `attn1` looks at the picture, `attn2` looks at the words, `ff` thinks it over. Each one normalises what it reads, with a norm of its own, and *adds* what it found:

$$x \leftarrow x + \text{part}(\text{norm}(x))$$

You know the pattern from the ResBlock. The norms are *layer norms*: each place's channels are brought to mean 0 and variance 1. (Each sum is a new tensor: x belongs to the caller, and the way back needs each x as it was.) `attn1` gets x alone; context and mask are for `attn2`.

**Predict before you write.** Set the last layer of all three parts to zero. What does the block do then?
"""

# %%
#| exercise: transformer.TransformerBlock.forward
#| points: 15
#| difficulty: 2
#| minutes: 10
#| hint: The equation three times, each time with the next part and its norm, on the x of the line before. Which of the parts needs the context and its mask?
#| hint: `x = x + self.attn1(self.norm1(x))`. Write `x = x + …` and not `x += …`: the latter changes the tensor of whoever called you.
#| hint: Second line: `self.attn2(self.norm2(x), context, context_mask)` is added. Third line: return x plus `self.ff` of `self.norm3(x)`.

# %%
#| check: TransformerBlock.forward
block = TransformerBlock(dim=8, num_heads=2, head_dim=4, context_dim=10)
x, context = torch.randn(2, 6, 8), torch.randn(2, 5, 10)
before = x.clone()
out = block(x, context)
assert out.shape == x.shape, "as many places as before, with as many channels"
assert torch.equal(x, before), "the block must not change its input in place"
assert not torch.equal(out, block(x, context.flip(0))), "other words, other result"
mask, changed = torch.arange(5).expand(2, 5) < 2, context.clone()
changed[:, 2:] = torch.randn(2, 3, 10)
assert torch.allclose(block(x, context, mask), block(x, changed, mask), atol=1e-5), (
    "masked words must not matter: is the mask handed on?"
)
order = []
with watching(block, before=lambda name, *_: order.append(name)):
    block(x, context)
parts = [name for name in order if name and "." not in name]  # not what lies inside of them
assert parts == "norm1 attn1 norm2 attn2 norm3 ff".split(), (
    f"each part after its own norm, in the order of the text; yours run like this: {parts}"
)
for last in (block.attn1.to_out, block.attn2.to_out, block.ff[1]):
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
assert torch.equal(block(x, context), x), "with all three corrections at zero, x passes unchanged"

# %% [markdown]
r"""
Set to zero, the three parts add nothing, and the block hands x on as it is.

A UNet's picture is `(B, C, H, W)`; a transformer wants a list `(B, N, C)`. The **spatial transformer** leads there and back:

![A row of boxes with shapes: x, B C H W; group norm; proj_in, a 1 by 1 convolution to C′ channels; the pixels in a row, B, H times W, C′; transformer blocks, with words from the side; back to a picture; proj_out, to C channels again; plus x.](figures/spatial.png)

$$\text{out} = x + \text{proj\_out}\big(\text{blocks}(\text{proj\_in}(\text{norm}(x)),\ \text{context})\big)$$

`proj_in` and `proj_out` are 1×1 convolutions: linear layers at every pixel. Between them there are C′ = num_heads · head_dim channels, often as many as C. `proj_out` starts at zero, so a new spatial transformer passes the picture on as it is: the words gain influence only as they prove useful.

Again, the way to a list must exchange axes, not just rename them. And pictures need not be square: remember height and width for the way back.
"""

# %%
#| exercise: transformer.SpatialTransformer.forward
#| points: 20
#| difficulty: 3
#| minutes: 12
#| hint: Six steps: norm, `proj_in`, picture to list, every block in turn, list to picture, `proj_out` and the sum. Read height and width from `x.shape` first.
#| hint: Picture to list: `rearrange(h, "b c h w -> b (h w) c")`, or `h.flatten(2).transpose(1, 2)`. On the way back einops wants to know `h=height, w=width`.
#| hint: `for block in self.blocks: h = block(h, context, context_mask)`. After it `rearrange(h, "b (h w) c -> b c h w", h=height, w=width)`, and return `x + self.proj_out(h)`.

# %%
#| check: SpatialTransformer.forward
layer = SpatialTransformer(channels=16, num_heads=2, head_dim=4, context_dim=10, norm_groups=4)
x, context = torch.randn(2, 16, 3, 5), torch.randn(2, 6, 10)
assert torch.equal(layer(x, context), x), "proj_out is zero at first: x should pass unchanged"
nn.init.normal_(layer.proj_out.weight)
out = layer(x, context)
assert out.shape == x.shape, "the result should be a picture of x's shape"
mask, changed = torch.arange(6).expand(2, 6) < 2, context.clone()
changed[:, 2:] = torch.randn(2, 4, 10)
assert torch.allclose(layer(x, context, mask), layer(x, changed, mask), atol=1e-5), (
    "masked words must not matter: is the mask handed on?"
)
mirrored = layer(x.transpose(2, 3), context).transpose(2, 3)  # height and width exchanged
assert torch.allclose(mirrored, out, atol=1e-5), (
    "a picture mirrored across its diagonal should give the mirrored result"
)

# %% [markdown]
r"""
The last check mirrors the picture, and the result is mirrored, too: the transformer does not know where a pixel is. The convolutions around the transformer know the pixel's neighbours.

## 8. The UNet gets words

Below is the UNet of lesson 2 once more. Two things change, and their lines are marked `# new`: where a stage had self-attention, it now has *your* `SpatialTransformer`; and `forward` hands the words on to it. (`look` calls it; a stage without attention passes `h` on as it is.) Look for the marks, and skip the rest.
"""

# %%
from t2i.text_unet import SceneDenoiser, UNet, check_inputs, look, timestep_embedding

# %%
#| given: text_unet.TextUNet

# %% [markdown]
r"""
How does a word become a vector? In the simplest way there is: a table with one learnt vector for each word of a small vocabulary, plus a learnt vector for the word's place in the sentence. This is `WordEncoder`; lesson 7 replaces it by CLIP.

![Boxes. The words a, red, seven and a grey padding go into WordEncoder, which gives a vector for each. From there two ways lead to the UNet, whose three parts down, mid and up each hold a ResBlock and a SpatialTransformer. The lower way: the context, all vectors, goes to every SpatialTransformer. The upper way: the mean of the real words goes through to_cond, is added to the time's vector, and the sum goes to every ResBlock.](figures/ways.png)

From there the words go **two ways**. *Below*: all of their vectors are the context, and each place looks at the words it needs. *Above*: their mean (of the real words, not of the padding; 0 if all are masked) is added to the time vector, as the label was in lesson 5. `SceneDenoiser` is all of this together.

What is there to paint? **Scenes**, rendered without end: a digit or a shape (circle, square, triangle, star, cross, heart) in one of eight colours, with a caption in one of many phrasings.
"""

# %%
from t2i.runs.scene_recipes import draw_captions, load_scenes, scene_loss, scene_recipe
from t2i.world.scenes import scenes

pictures, captions = scenes(range(12))
show.show_images(
    pictures,
    [caption.replace(" see ", " see\n").replace(" of ", " of\n") for caption in captions],
    columns=4,
    width=6.5,
    alt="Twelve small pictures on black, each with its caption: " + "; ".join(captions),
)

# %% [markdown]
r"""
Some pairs of colour and object are **held out**: training shows every colour and every object, but never these together. If the network can paint them anyway, it *composes*: colour and object are two things to it. Eight captions of such pairs:
"""

# %%
pictures, captions = scenes(range(22, 30), split="heldout_pairs")
print(*captions, sep="\n")

# %% [markdown]
r"""
### Train

The loss is lesson 5's `noise_loss`, on 48 pictures of 32×32 pixels per step. One caption in ten is fully masked, for guidance. It runs for two minutes. (`whole_training = True` does all: about 6 minutes on two quiet cores, 18 on one.)

**Predict before you run.** Will the loss of the first two minutes tell you whether the network listens to the words?
"""

# %%
import time

from t2i.files.places import DATA
from t2i.runs.scene_recipes import LENGTH
from t2i.training import train
from t2i.world.caption_reading import VOCABULARY

whole_training = tier() == "gpu"
plan = scene_recipe(tier())
device = "cuda" if torch.cuda.is_available() and tier() == "gpu" else "cpu"


def build(plan) -> SceneDenoiser:
    """A fresh network with your TextUNet inside."""
    return SceneDenoiser(len(VOCABULARY), max_length=LENGTH, kind=TextUNet, **plan.model)


torch.manual_seed(0)
model = build(plan).to(device)
size = sum(weights.numel() for weights in model.parameters())
print(f"{size / 1e6:.2f} million weights, {plan.training.steps} steps for the whole training")

# %%
checkpoint = DATA / "runs" / f"lesson_6_{tier()}.safetensors" if whole_training else None
losses, begun = [], time.perf_counter()
batches = plan.batches().on(device)  # painted where they are needed
for state in train(model, scene_loss, batches, plan.training, checkpoint):
    losses.append(state.loss)
    if not whole_training and time.perf_counter() - begun > pick(smoke=2, cpu=120, gpu=120):
        break

# %%
window = max(1, len(losses) // 40)
show.curves(
    range(1, len(losses) + 1),
    {"loss": show_ddpm.smooth(torch.tensor(losses), window)},
    xlabel="training step",
    ylabel="loss",
    yscale="log",
)

# %% [markdown]
r"""
Hardly. Your curve falls as the network learns to see the noise. In one run the loss was 0.19 after 50 steps and 0.027 after 400. With the course's weights it is 0.0105, and 0.0123 with all words masked. So words help. But you see that only if you ask with words and without about the same batches: from one batch of 48 scenes to the next the loss changes by more than this difference ([more](more.md)). One curve cannot tell. So ask for pictures. Here are yours (25 steps of lesson 4's DDIM with $\eta = 1$, guidance scale 3):
"""

# %%
wishes = ["a red seven", "a star that is blue", "a drawing of a pink heart", "a green 4"]
wishes += ["a yellow circle", "an orange two", "a picture of a cyan cross", "a purple 8"]
steps = pick(smoke=3, cpu=25, gpu=25)
mine = build(plan)
mine.load_state_dict(state.ema_model.state_dict())
drawn = draw_captions(mine.eval(), wishes, seed=1, num_inference_steps=steps)
show.show_images(drawn, wishes, columns=4, width=7, alt="Your training: " + "; ".join(wishes))

# %% [markdown]
r"""
The colours come first, the objects later. In one run when the course was made, most wishes were blots of the right colour after 250 steps. After 700 the star, the circle and the cross were plain, and several digits still broken.

### Trained weights

From here on, **your** network gets weights that were trained for longer.
"""

# %%
denoiser = mine
if not whole_training:
    try:
        trained, info = load_scenes()
    except (OSError, ValueError, RuntimeError) as error:
        print(f"{show_attention.MISSING} Why: {str(error)[:200]}")
    else:
        denoiser = build(scene_recipe(info.get("tier", "cpu")))
        denoiser.load_state_dict(trained.state_dict())  # every weight finds its place by its name
denoiser = denoiser.eval().requires_grad_(False)

# %%
drawn = draw_captions(denoiser, wishes, seed=1, num_inference_steps=steps)
show.show_images(drawn, wishes, columns=4, width=7, alt="Trained: " + "; ".join(wishes))

# %% [markdown]
r"""
Are the colours and the shapes right? Then so is your code. (The course's weights break the orange two and the purple eight: digits are the hard part.)

Your turn: put your own wishes in the cell below. It knows the colours, the six shapes, the digits as words and as figures, and words like *a*, *of*, *that is*, *drawing*. Unknown words are refused, as they have no vector; lesson 7 mends that. Some twenty more (*white*, *small*, *left*) have vectors that no caption of this training used, so these are still random: expect the white circle in some other colour.
"""

# %%
my_wishes = ["a white circle", "a green star", "a pink 7"]
my_pictures = draw_captions(denoiser, my_wishes, seed=2, num_inference_steps=steps)
show.show_images(my_pictures, my_wishes, columns=4, width=7, alt="Yours: " + "; ".join(my_wishes))

# %% [markdown]
r"""
## 9. Look inside

### Who looks at which word, and when

The layers do not keep a record of who looked where. So we watch from outside: `WordFilm` stands before every cross-attention, notes what goes in, and works out the weights by section 2's formula (averaged over the heads and layers).

**Predict before you run.** Caption: *a drawing of a pink heart*. When all is noise, will the maps have a shape? Later, which words will be looked at inside the heart, and which outside?
"""

# %%
captions = ["a drawing of a pink heart", "a star that is blue"]
film = show_attention.WordFilm(denoiser, captions)
with film:
    draw_captions(denoiser, captions, seed=5, num_inference_steps=steps, on_step=film)
show_attention.map_strip(film, 0, moments=pick(smoke=3, cpu=7, gpu=7))

# %% [markdown]
r"""
Yellow: from here the word is looked at most. Grey: about half as much. Dark blue: hardly at all. Each word has a scale of its own: the number beside it is the largest share of a look that it ever gets.

The maps are coarse, as this network has attention only where the picture is small: at 8×8 places.

When the course was made:

![A table of small maps. Top row: the guess of the picture at seven moments, a heart from the first on, spotted, then pink. Below it a row for each word. Pink is yellow on the whole heart, at the last moment with fainter spots; heart first as an arch in the heart's upper part, later on its upper half; both words a are yellow round the heart; drawing and of are dark but for a few spots at the start.](figures/maps.png)

The maps have a shape from the very first step, as the guess is a heart already: the caption leaves only one shape, and every object here is large and central. All of the heart looks at *pink*, its upper part at *heart*, and the background at the two *a*.

Read such maps with care. They say where the network *looked*, not what it made of it. A little word such as *a* says nothing, and still gets the most: a place that wants nothing has to look somewhere. Even inside the heart *a* gets more than *pink*: the map of *a* is grey there, but its yellow means 63 %, and *pink*'s only 27 %.

The other caption as a film:
"""

# %%
show_attention.show_film(film, 1)

# %% [markdown]
r"""
With the course's weights only *blue* lies on the star. *Star* is yellow along the border and darker on the star itself. So a word's map need not show where its object is.

### One word swapped

The same noise (and none added later: $\eta = 0$), and the same caption except for one word. *A blue seven* is a pair that training never showed.

**Predict before you run.** *a red seven* becomes *a blue seven*: will the seven keep its shape? *a red seven* becomes *a red star*: what can stay?
"""

# %%
from t2i.samplers import sample_ddim, spaced_timesteps

T = len(denoiser.alphas_cumprod)


@torch.no_grad()
def paint(tokens: Tensor, mask: Tensor, x_T: Tensor, guidance_scale: float = 3.0) -> Tensor:
    """Lesson 5's guidance by hand: ask with these words and with all words masked."""
    nothing = torch.zeros_like(mask)

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        cond, uncond = (denoiser(x_t, t, tokens, may_look) for may_look in (mask, nothing))
        return uncond + guidance_scale * (cond - uncond)

    return sample_ddim(guided, x_T, denoiser.alphas_cumprod, spaced_timesteps(T, steps))


# %%
swaps = ["a red seven", "a blue seven", "a green seven", "a red star", "a red two", "a blue star"]
noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(9))
swapped = paint(*encode(swaps, LENGTH), noise.expand(len(swaps), -1, -1, -1))
show.show_images(swapped, swaps, columns=6, alt="From one noise: " + "; ".join(swaps))

# %% [markdown]
r"""
When the course was made:

![Six pictures from one noise: a red, a blue and a green seven of nearly the same shape, then a red star, a broken red two and a blue star.](figures/swapped.png)

With another colour the seven stays nearly the same, even the blue one. With another object only the colour stays, and the place. (The two is broken, as twos often are.)

### Two ways for the words

The words come by cross-attention, and as their mean. Silence each in turn, by setting a layer to zero.

**Predict before you run.** What carries the colour, and what the shape: the one, the other, or both?
"""

# %%
looks, mean = copy.deepcopy(denoiser), copy.deepcopy(denoiser)
looks.to_cond.weight.zero_()  # the mean of the words says nothing
for name, layer in mean.named_modules():
    if name.endswith("attn2"):
        layer.to_v.weight.zero_()  # whoever looks at a word gets nothing
rows = {}
for name, half in {"both": denoiser, "attention alone": looks, "mean alone": mean}.items():
    rows[name] = draw_captions(half, wishes, seed=1, num_inference_steps=steps)
titles = ["\n".join(textwrap.wrap(wish, 10)) for wish in wishes]
show.film_strip(
    rows, titles, alt="The wishes with both ways, by attention alone, by the mean alone."
)

# %% [markdown]
r"""
With the course's weights, by attention alone most objects are right, but the 4 is almost gone; by the mean alone the star, the circle and the 4 are right, and the rest is rough. A network that names colour and object (section 10 introduces this judge) saw 320 pictures of each row: the object was right in 78 % by attention alone, in 44 % by the mean alone, and the colour in 82 % and 86 % ([more](more.md)). So both carry the colour, and attention more of the object. (They were trained together: this does not show what either could have learnt alone.)

### The mask inverted

Now the classic mistake, in a network that was trained without it. First row: the right mask. Second row: the mask inverted, so that only the padding is looked at (and its mean is taken). Third row: all words masked.

**Predict before you run.** In which row are the objects what was asked for? And will the two deaf rows look alike?
"""

# %%
tokens, mask = encode(wishes[:6], LENGTH)
noise = torch.randn(len(tokens), 3, 32, 32, generator=torch.Generator().manual_seed(2))
rows = {
    "right": paint(tokens, mask, noise),
    "inverted": paint(tokens, ~mask, noise),
    "no words": paint(tokens, torch.zeros_like(mask), noise),
}
show.film_strip(
    rows,
    [wish.replace(" of ", " of\n").replace(" that ", "\nthat ") for wish in wishes[:6]],
    alt="Three rows from the same noise: with the words, with the mask inverted, without words.",
)

# %% [markdown]
r"""
When the course was made:

![Three rows of six pictures from the same noise. With the right mask each shows what its caption asks for, but for a broken two. With the mask inverted all six show dark red strokes in coloured noise, some like a digit, none asked for. Without words each shows some object in some colour.](figures/mask.png)

No words at all is something the network knows from training. At padding it has never looked before: the padding's vectors mean nothing to it, and guidance makes the nonsense three times as loud. As padding is always the same word, it is nearly the same nonsense for all six. (A network that was *trained* with the inverted mask, section 5's, would paint well, but what it likes.)

## 10. Does it do as it is told? The lesson's own table

Eight pictures are no measurement. So a large number of captions are drawn, as in section 8. A *judge*, a network trained on different handwriting from the painter's, says which colour and which object it sees. There are three kinds of captions: pairs of colour and object that training showed, pairs that were **held out**, and phrasings that were held out (such as *there is a blue star shape*). Our aim: *both* right for 97 % of the seen and 95 % of the held-out captions.
"""

# %%
#| table: scene_tables.results_table

# %% [markdown]
r"""
*Both*: colour and object right. *Shuffled*: each picture judged by the caption of another one; chance gives this. (It is higher for held-out pairs, as there are only 16.) *Ceiling*: rendered scenes judged by their own captions. What is missing there, the judge could not read. Brackets: where the true share lies, with 95 % confidence.

Compare downwards: held-out pairs and held-out phrasings do about as well as seen ones. So the network composes, and it copes with phrasings it never saw. (Not with every phrasing: go back and try *seven* alone.)

The aim is reached. And compare with the ceiling. What is missing is drawing, not listening: the failures are digits, twos most of all, which the judge reads as another digit or as none.

## 11. What was left out, and where these lines live in real systems

- **One object only.** With two, the network has to know which colour belongs to which object. Words alone, looked at one by one, don't say that; lesson 7's text encoder reads the words in their sentence.
- **Attention is expensive.** Every pixel looks at every pixel. That is why Stable Diffusion works on a small *latent* picture: lesson 8.
- **Numbers.** At which steps the words help, and what fresh noise is worth: [more about the measurements](more.md).

In Hugging Face's *diffusers*:

| yours | theirs |
|---|---|
| `scaled_dot_product_attention` | `Attention.get_attention_scores` in `models/attention_processor.py` |
| `split_heads`, `merge_heads` | `Attention.head_to_batch_dim`, `batch_to_head_dim` |
| `CrossAttention.forward` | `AttnProcessor2_0.__call__` |
| `GEGLU` | `models/activations.py`, `GEGLU` |
| `TransformerBlock` | `models/attention.py`, `BasicTransformerBlock` |
| `SpatialTransformer` | `Transformer2DModel` |
| `TextUNet` | `UNet2DConditionModel` |
| `context`, `context_mask` | `encoder_hidden_states`, `encoder_attention_mask` |

Their mask is 1 where one may look, just as ours is True there. Here your `SpatialTransformer` and theirs get the same weights, and compute the same:
"""

# %%
from diffusers import Transformer2DModel

from t2i.pretrained.convert import transformer_state_dict

theirs = Transformer2DModel(2, 8, in_channels=32, cross_attention_dim=10).eval()
ours = SpatialTransformer(channels=32, num_heads=2, head_dim=8, context_dim=10)
ours.load_state_dict(transformer_state_dict(theirs.state_dict()))
x, context = torch.randn(3, 32, 5, 8), torch.randn(3, 6, 10)
mask = torch.rand(3, 6) < 0.7
mask[:, 0] = True
expected = theirs(x, context, encoder_attention_mask=mask.long(), return_dict=False)[0]
difference = (ours(x, context, mask) - expected).abs().max()
print(f"largest difference to diffusers: {difference:.1e} (below 1e-5 if yours is right)")

# %% [markdown]
r"""
## Three questions
"""

# %%
#| quiz: rows_that_sum

# %%
#| quiz: deaf_network

# %%
#| quiz: who_asks

# %% [markdown]
r"""
## The papers

- Vaswani et al. 2017, *Attention is all you need*, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762): attention, heads, the square root. Section 3.2 is two pages.
- Rombach et al. 2021, *High-resolution image synthesis with latent diffusion models*, [arXiv:2112.10752](https://arxiv.org/abs/2112.10752): Stable Diffusion. Section 3.3 is this lesson.
- Shazeer 2020, *GLU variants improve transformer*, [arXiv:2002.05202](https://arxiv.org/abs/2002.05202): GEGLU, on three pages.
- Tang et al. 2022, *What the DAAM: interpreting Stable Diffusion using cross attention*, [arXiv:2210.04885](https://arxiv.org/abs/2210.04885): our heat maps, in the large.
- Jain and Wallace 2019, *Attention is not explanation*, [arXiv:1902.10186](https://arxiv.org/abs/1902.10186): why to read them with care.

**Next, lesson 7:** where the words' vectors really come from. CLIP reads sentences and looks at pictures, and learns what belongs together.
"""
