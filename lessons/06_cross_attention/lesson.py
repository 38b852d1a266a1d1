# %% [markdown]
r"""
# Lesson 6 · Cross-attention: words steer the picture

![An animation. On the left the network's guess of a picture, from the first step to the last: a spotted heart at first, a clean pink one at last. Beside it one map for each word of the caption shows in yellow where the picture looks at that word.](figures/film.gif)

**On the left is the network's guess of the picture, from the first step, when all is noise, to the last. On the right you see which place looks at which word meanwhile.** By the end of this lesson you will have written the part that does the looking, seven short pieces of code, and put it into the UNet of lesson 2. Then you write a sentence, and the network paints it.

In lesson 5 you could ask for a digit, one of ten. Now you can ask for *a drawing of a heart that is pink*, and even for pairs of colour and object that the network never saw in training. The same parts sit in Stable Diffusion; section 11 gives yours and a library's the same weights, and they give the same answers.

Plan about two hours. Training takes two minutes here, since the course brings trained weights; the full training is one switch away.
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

from t2i import show, show_attention, show_ddpm
from t2i.lesson import pick, tier

# %% [markdown]
r"""
## 1. Why a label is not enough

A label reached every block of the UNet as one vector, added to the time. Every place of the picture heard the same message: *a seven*. For a sentence this is too little:

- A sentence has several words, and another number of them each time.
- Not every place needs every word. The middle of the picture needs to know *seven* and *red*. The corner only needs to know that nothing is there.

So each place should be able to **look at the words it needs**. That is cross-attention: *cross*, because the picture looks across at something else, the words. In lesson 2 you met self-attention, where the picture looks at itself. It is the same machine with another thing to look at, and this time you build all of it.

## 2. Attention is a soft look-up

You know look-ups from Python's dictionaries: `meaning["seven"]` compares your *query* with all *keys* and returns the *value* of the one that matches. In attention a place of the picture asks, and the words answer:

![Left: a dictionary. The query “seven” matches one of three keys exactly, and its value comes back. Right: attention. The query “which digit is it?” is compared with all three keys, gets the weights 0.7, 0.2 and 0.1, and a mixture of all three values comes back.](figures/lookup.png)

A network cannot learn from a yes-or-no match: there is no slope to walk down. So attention matches softly:

1. Queries and keys are vectors. **How alike are they?** Lesson 2's dot product says so: large when they point the same way.
2. **Turn the likenesses into shares** that sum to 1, with a softmax.
3. Return the **mixture of all values** in these shares.

$$\text{weights} = \text{softmax}\!\left(\frac{\text{query}\cdot\text{key}^{\top}}{\sqrt d}\right), \qquad \text{output} = \text{weights}\cdot\text{value}$$

Here N places look at L words, so the weights are a table with N rows and L columns. Each *row* sums to 1: what a place takes in is a mixture, so much of this word and so much of that one. ($d$ is the number of channels of a query; section 3 says why there is a root.)

(Some docstrings of this lesson name a `ValueError` for wrong input. The hidden tests ask for an error in `split_heads` alone; elsewhere write checks if you like.)

**Predict before you run.** Three words have the keys (1, 0), (0, 1) and (-1, 0). One query is (0, 0), one is (1, 0) and one is (8, 0). Sketch the three rows of weights.
"""

# %%
scores = torch.tensor([[0.0, 0, 0], [1, 0, -1], [8, 0, -8]])  # each query · each key
powers = (scores / math.sqrt(2)).exp()  # d = 2
weights = powers / powers.sum(dim=-1, keepdim=True)  # a softmax, written out
words = ["right", "up", "left"]
show_attention.weight_bars(weights, words, ["query (0, 0)", "query (1, 0)", "query (8, 0)"])

# %% [markdown]
r"""
The rows are 0.33 three times; 0.58, 0.28, 0.14; and 1.00 for the first word alone. A query of zeros has no wish, and gets the average. One with larger numbers chooses more sharply, up to a dictionary's hard look-up. The network can learn both: *how large* the query is says how much it matters.

### Words that are not there

A batch holds captions of different lengths, and a tensor has to be rectangular. So short captions are filled up with *padding*, and nobody should look at that. A **mask** says which words are real. The course has one convention, everywhere:

> `True` means: **look at this word.**

The mask must act *before* the softmax, on the scores: a word with a hugely negative score gets a share of exactly 0, and the others still sum to 1. Zeroing shares *after* the softmax would leave a place with less than one whole look.

One case is left: a row whose words are *all* masked. There is nothing to share out, and a careless softmax answers NaN. We define: **no words, no answer. Weights and output are 0.** It is not a corner case! It is how we will take a caption away, and lesson 5 told you why one wants to.
"""

# %%
#| exercise: attention.scaled_dot_product_attention
#| points: 20
#| difficulty: 3
#| minutes: 15
#| hint: Three lines without a mask: the scores, the softmax over the *words*, the mixture. `key.transpose(-1, -2)` turns the last two axes round, however many stand before them. $d$ is `query.shape[-1]`.
#| hint: With a mask: `scores.masked_fill(~mask, very_negative)` before the softmax. `~mask` is True where one must *not* look. Take `torch.finfo(scores.dtype).min` and not minus infinity: a row that is minus infinity throughout has a softmax of NaN.
#| hint: A row that is masked throughout is now shared out evenly, as all its scores are equally bad. So set the masked shares to 0 once more, after the softmax: `weights.masked_fill(~mask, 0.0)`. In all other rows this changes nothing. Return `weights @ value` and `weights`, both.

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
assert not weights[1].any() and not output[1].any(), "nothing to look at: weights and output 0"

# %%
key = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
query = torch.tensor([[1.0, 0.0]] * 3)
mask = torch.tensor([[True, True, True], [True, True, False], [False, False, False]])
_, weights = scaled_dot_product_attention(query, key, key, mask)
show_attention.weight_bars(weights, words, ["all words", "“left” masked", "all masked"])

# %% [markdown]
r"""
Three times the query (1, 0). With *left* masked, the other two share out its part.

## 3. Why the square root

A dot product of two random vectors with $d$ channels is a sum of $d$ terms, so its spread grows like $\sqrt d$.

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
    alt="With the division the largest weight stays near a quarter; without, it climbs to almost 1.",
)

# %% [markdown]
r"""
With the division it is about 0.25 at every d. Without, it climbs from about 0.4 to about 0.96. So without the division, a fresh network whose queries have many channels looks at one word only, at random, and so firmly that small changes of the scores change nothing: hardly any gradient comes through to mend it. With the division, it begins by looking round.

One more thing to see. Shuffle the words, and nothing changes: a look-up does not care about the order of the entries.
"""

# %%
query, key, value = torch.randn(6, 8), torch.randn(5, 8), torch.randn(5, 3)
order = torch.randperm(5)
output, _ = scaled_dot_product_attention(query, key, value)
shuffled, _ = scaled_dot_product_attention(query, key[order], value[order])
print(f"order {order.tolist()}: largest difference {(output - shuffled).abs().max():.1e}")

# %% [markdown]
r"""
So *dog bites man* and *man bites dog* would be the same to it. The order has to be put into the words' vectors themselves: in section 8, each word gets a vector for its place added.

## 4. Several looks at once

One look gives one mixture. But a place may want to know the colour from one word *and* the object from another. So the channels are divided among several **heads**, and each head makes a look-up of its own with its share of the channels.

![Left: two pictures with three places each. A place is a row of eight numbered channels, four blue and four orange, together (2, 3, 8). After split_heads there are four blocks of three places and four channels, (2, 2, 3, 4): for each picture the blue one is head 0, the orange one head 1. After merge_heads the same numbers stand as they stood before, (2, 3, 8).](figures/heads.png)

Nothing is computed here. Each number is the same before and after; it only stands somewhere else. With two heads of $d = 4$ channels, head 0 takes channels 0 to 3 of every place and head 1 takes channels 4 to 7. Heads become an axis of their own, *before* the places. Then the attention you wrote works on all heads at once, without a change, since it only touches the last two axes.

Beware of the shortcut: a plain `x.reshape(B, heads, N, d)` has the right shape and the wrong contents. It cuts the list of *places* into pieces, and mixes places and channels. Nothing crashes; the network just learns badly. This is one of the most common bugs there is.
"""

# %%
#| exercise: attention.split_heads
#| points: 8
#| difficulty: 2
#| minutes: 6
#| hint: Follow one number in the drawing, say that of picture 0, place 1, channel 5. Which head does it go to, and which channel is it there? So which axis is cut in two, and where does the new one go?
#| hint: The last axis `heads · d` becomes two, `heads` and `d`; then `heads` moves in front of the places. With einops it is one line. With torch: `reshape` (or `unflatten`), then `transpose`.
#| hint: `rearrange(x, "b n (heads d) -> b heads n d", heads=num_heads)`. In torch: reshape to `(B, N, num_heads, d)`, then `.transpose(1, 2)`. If the channels cannot be shared out evenly, both ways raise an error by themselves; any kind of error will do.

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
And the shortcut? Below, each number says which *place* (tens) and which *channel* (ones) it came from. Look at head 0 of each.
"""

# %%
x = torch.tensor([[[10 * place + channel for channel in range(4)] for place in range(4)]])
print("right, head 0:\n", split_heads(x, 2)[0, 0].numpy())
print("shortcut, head 0:\n", x.reshape(1, 2, 4, 2)[0, 0].numpy())

# %% [markdown]
r"""
In the shortcut, head 0 holds only places 0 and 1, each cut in two: the lower half of the picture is not there at all.

## 5. Cross-attention

Now the pieces come together. Where do queries, keys and values come from? Each from a linear layer without bias:

- the **query** from the picture: *what does this place look for?*
- **key** and **value** from the words: *how can this word be found? What does it have to say?*

The three are split into heads, each head looks up, and the heads' answers are merged. A last layer, `to_out`, leads back to x's channels.

![Boxes. From x, the picture's places, an arrow through to_q gives the query. From the context, the words, arrows through to_k and to_v give key and value. All three enter attention, and through to_out the result has the shape of x.](figures/cross.png)

`context` is `(B, L, context_dim)`, the words' vectors. Give no context, and x looks at itself: the self-attention of lesson 2 is a special case. The result always has x's shape: as many places as before, each a little wiser.

Two remarks before you write. The mask comes as `(B, L)`, one row a picture, and must meet scores of shape `(B, heads, N, L)`: give it two more axes of size 1. And from here on you may use PyTorch's `F.scaled_dot_product_attention(query, key, value, attn_mask=mask)` in place of yours. It gives the same output, but works in small blocks and never holds the whole table of weights: on large pictures that saves gigabytes. (Yours works as well; it gives back two things.)
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
myself = CrossAttention(query_dim=12, num_heads=3, head_dim=4)
assert torch.allclose(myself(x), myself(x, x)), "without a context, x looks at itself"

# %% [markdown]
r"""
What does a mask that is *inverted* do? It is the classic mistake: half of the world's code says True where one may look, and the other half says True where one may not. Here is a short caption in a long row (`encode` gives each word its number, called its *token*, and 0 to the padding); below each word the share of the look that it gets, averaged over the places. (Keys and queries are random here, nothing is trained. Only the mask matters.)

**Predict before you run.** Which words does the inverted mask look at?
"""

# %%
from t2i.caption_reading import encode, words_of

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
It looks at the padding and at nothing else. And nothing crashes. Train with this mistake, and the loss still falls, for the network learns to paint without words. Invert the mask of a network that was trained without the mistake, and it falls apart; section 9 shows that.

## 6. Thinking it over: GEGLU

After looking, each place thinks by itself about what it found: a small network of two layers that works on every place alone. Stable Diffusion's has a **gate**. One linear layer makes twice as many channels as needed. The first half is the *content*; the second half, through the curve GELU, says how far each channel of it is let through. Such a layer is a *gated linear unit*, GLU; with GELU it is a GEGLU.

$$\text{out} = \text{content}\cdot\text{gelu}(\text{gate})$$

GELU is $z\cdot\Phi(z)$, where $\Phi(z)$ is the probability that a standard Gaussian value lies below $z$: almost 0 for $z \ll 0$ (shut), almost $z$ for $z \gg 0$ (open). There is an approximation by tanh as well; Stable Diffusion takes the exact one, which is what `F.gelu` does by default.
"""

# %%
z = torch.linspace(-4, 4, 200)
show.curves(
    z,
    {"gelu(z)": F.gelu(z), "silu(z), of lesson 2": F.silu(z), "max(z, 0)": F.relu(z)},
    xlabel="z",
    height=2.6,
    alt="Three curves: near 0 for negative z and near z for positive z. GELU bends more sharply "
    "than SiLU, and dips below 0 less.",
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

# %% [markdown]
r"""
## 7. The block, and the way to a picture and back

A **transformer block** is three corrections in turn: `attn1` looks at the picture, `attn2` looks at the words, `ff` thinks it over. Each one normalises what it reads, with a norm of its own, and *adds* what it found:

$$x \leftarrow x + \text{part}(\text{norm}(x))$$

You know the pattern from the ResBlock: nobody replaces x, everybody adds to it. The norms are *layer norms*: each place's channels are brought to mean 0 and variance 1. They stand before the layers (*pre-norm*), so the way along the sums stays free from the first block to the last.

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
for last in (block.attn1.to_out, block.attn2.to_out, block.ff[1]):
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
assert torch.equal(block(x, context), x), "with all three corrections at zero, x passes unchanged"

# %% [markdown]
r"""
A UNet's picture is `(B, C, H, W)`; a transformer wants a list `(B, N, C)`. The **spatial transformer** leads there and back:

![A row of boxes with shapes: x, B C H W; group norm; proj_in, a 1 by 1 convolution to C′ channels; the pixels in a row, B, H times W, C′; transformer blocks, with words from the side; back to a picture; proj_out, to C channels again; plus x.](figures/spatial.png)

$$\text{out} = x + \text{proj\_out}\big(\text{blocks}(\text{proj\_in}(\text{norm}(x)),\ \text{context})\big)$$

`proj_in` and `proj_out` are 1×1 convolutions: they see one pixel at a time, so each is a linear layer at every pixel. Between them there are C′ = num_heads · head_dim channels (mostly as many as C). `proj_out` starts at zero, so a new spatial transformer passes the picture on as it is: the words gain influence only as they prove useful.

Again, the way from a picture to a list must exchange axes, not just rename them. And pictures need not be square: height and width have to be remembered for the way back.
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
    "a picture mirrored at its diagonal should give the mirrored result"
)

# %% [markdown]
r"""
That last check is worth a thought. The transformer does not know where a pixel is: mirror the picture at its diagonal, and you get the same result, mirrored. It can afford that, since the convolutions round it know the neighbourhood.

## 8. The UNet gets words

Now put it to work. Below is the UNet of lesson 2 once more. Everything is as it was, but for two things, marked `# new` in the code: where a level (lesson 2's stage) had self-attention, it now has *your* `SpatialTransformer`, which looks at the picture first and then at the words; and `forward` hands the words on to it. (`look` calls it; a level without attention passes `h` on as it is.) The cell is long. Look for the marks, and skip the rest: you know it.
"""

# %%
from t2i.text_unet import SceneDenoiser, UNet, check_inputs, look, timestep_embedding

# %%
#| given: text_unet.TextUNet

# %% [markdown]
r"""
And how does a word become a vector? Here in the simplest way there is: a table with one learnt vector for each word of a small vocabulary, plus a learnt vector for the word's place in the sentence. (`WordEncoder` in `t2i.text_unet`, ten lines. Lesson 7 replaces it by CLIP, which knows the meanings of words it learnt from elsewhere.)

![Boxes. The words a, red, seven and a grey padding go into WordEncoder, which gives a vector for each. From there two ways lead to the UNet, whose three parts down, mid and up each hold a ResBlock and a SpatialTransformer. The lower way: the context, all vectors, goes to every SpatialTransformer. The upper way: the mean of the real words goes through to_cond, is added to the time's vector, and the sum goes to every ResBlock.](figures/ways.png)

From there the words go **two ways**. *Below*: all of their vectors are the context, and each place looks at the words it needs. *Above*: their mean (of the real words, not of the padding; 0 if all are masked) is added to the time vector, as the label was in lesson 5. That is a rough message to all places, beside the fine one. (Stable Diffusion 1.5 has only the lower way; XL and 3 also add one vector of the whole caption to the time.) (Section 9 silences each of the two.) `SceneDenoiser` is all of this together.

What is there to paint? **Scenes**, rendered as they are needed, without end: a digit or a shape in one of eight colours, with a caption in one of many phrasings.
"""

# %%
from t2i.scene_recipes import draw_captions, load_scenes, scene_loss, scene_recipe
from t2i.scenes import scenes

pictures, captions = scenes(range(12))
show.show_images(
    pictures,
    [caption.replace(" see ", " see\n").replace(" of ", " of\n") for caption in captions],
    columns=4,
    width=6.5,
    alt="Twelve small pictures on black, each with its caption: " + "; ".join(captions),
)

# %%
pictures, captions = scenes(range(8), split="heldout_pairs")
print("never seen in training, colour and object together:", *captions, sep="\n  ")

# %% [markdown]
r"""
Some pairs of colour and object are **held out**: training shows every colour and every object, but never these together. If the network can paint them anyway, it has understood that colour and object are two different things. It composes; it does not look things up in its memory. The next cell says what happens to words that it cannot know.
"""

# %%
for caption in ("a red elephant", ""):
    try:
        encode([caption])
    except ValueError as error:
        print(error)

# %% [markdown]
r"""
An unknown word has no vector; lesson 7 mends that. The empty caption is refused because it is mostly an oversight: who wants no words masks them all.

### Train

The training is lesson 3's, with one thing from lesson 5: for one caption in ten, all words are masked, so that the network also learns to paint without any, and guidance becomes possible. Here it runs for two minutes, to see it work. (`whole_training = True` does all of it, in about 6 minutes on two quiet cores, 18 on one.)

**Predict before you run.** Will the loss of the first two minutes tell you whether the network listens to the words?
"""

# %%
import time

from t2i.caption_reading import VOCABULARY
from t2i.scene_recipes import DATA, LENGTH
from t2i.training import train

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
    alt="The training loss falls steeply, then slowly.",
)

# %% [markdown]
r"""
The loss can hardly tell. At most of the steps one sees the object through the noise, and needs no words. They decide something only where there is almost nothing but noise, and that is a small part of the loss. To know whether the network listens, one has to ask it for pictures and *check* them.

### Trained weights

From here on, the network is one that was trained for longer. Its weights go into **your** network, part by part. If your code is right, then it paints.
"""

# %%
denoiser = build(plan)
try:
    trained, info = load_scenes()
    denoiser = build(scene_recipe(info.get("tier", "cpu")))
except (OSError, ValueError, RuntimeError) as error:
    print(f"{show_attention.MISSING} ({type(error).__name__})")
    trained = state.ema_model
if whole_training:
    denoiser, trained = build(plan), state.ema_model
denoiser.load_state_dict(trained.state_dict())  # the same names: every weight finds its place
denoiser = denoiser.cpu().eval().requires_grad_(False)

# %%
wishes = ["a red seven", "a star that is blue", "a drawing of a pink heart", "a green 4"]
wishes += ["a yellow circle", "an orange two", "a picture of a cyan cross", "a purple 8"]
steps = pick(smoke=3, cpu=25, gpu=25)
drawn = draw_captions(denoiser, wishes, seed=1, num_inference_steps=steps)
show.show_images(
    drawn, wishes, columns=4, width=7, alt="Painted by your network: " + "; ".join(wishes)
)

# %% [markdown]
r"""
(Are the colours and the shapes right? Then so is your code. With the course's weights the orange two and the purple eight of this list are broken: digits are the hard part, section 10 counts.)

Your turn: put your own wishes in that list and run again. It has learnt the colours, the six shapes, the digits as words and as figures, and words like *a*, *of*, *that is*, *drawing*, *digit*. `VOCABULARY` holds some twenty more, for later lessons: *white*, *small*, *left*, *above* and so on. They have vectors, too, but no caption of this training used them, so their vectors are still noise. Try *a white circle*.

## 9. Look inside

### Who looks at which word, and when

`F.scaled_dot_product_attention` never shows its weights, and the layers keep none. So we look on from outside: a *hook* is a function that PyTorch calls whenever a layer runs. `WordFilm` hangs one on every cross-attention, takes what went in, and works out the weights with the function you wrote first (averaged over the heads and layers). It is `on_step` at the same time, as in lesson 3.

**Predict before you run.** Caption: *a drawing of a pink heart*. Early on, when all is noise: will the maps have a shape? Later: which words will be looked at inside the heart, and which outside?
"""

# %%
film = show_attention.WordFilm(denoiser, ["a drawing of a pink heart", "a star that is blue"])
with film:
    draw_captions(
        denoiser,
        ["a drawing of a pink heart", "a star that is blue"],
        seed=5,
        num_inference_steps=steps,
        on_step=film,
    )
show_attention.map_strip(film, 0, moments=pick(smoke=3, cpu=7, gpu=7))

# %% [markdown]
r"""
Yellow: from here the word is looked at most. Grey: about half as much. Dark blue: hardly at all. Each word has a scale of its own: the number beside it is the largest share of a look that it ever gets. Each place has exactly one look to share out, so in every moment the shares of all words add up to 1.

This is how they looked when the course was made:

![A table of small maps. Top row: the guess of the picture at seven moments, a heart from the first on, spotted, then pink. Below it a row for each word. Pink is yellow on the whole heart throughout; heart first as an arch in the heart's upper part, later on its upper half; both words a are yellow round the heart; drawing and of are dark but for a few spots at the start.](figures/maps.png)

The maps have a shape from the very first step: the guess is a heart already, though almost all is noise. (In lesson 3 the first guess was fog, as any digit was possible. Here the caption leaves one shape, and guidance sharpens it.) All of the heart looks at *pink*, up to the end. *heart* is looked at from its upper part, first in an arch, later from the whole upper half. The background looks at the two *a*.

Read such maps with care. They say where the network *looked*, not what it made of it. A little word such as *a* says nothing, and still gets the most: a place that wants nothing has to look somewhere, and *a* makes a good parking place. Even inside the heart it gets more than *pink*: grey on a scale up to 63 % is more than yellow on one up to 27 %. And a map averages all layers and heads, each with habits of its own.

The same as a film:
"""

# %%
show_attention.show_film(film, 1)

# %% [markdown]
r"""
### One word swapped

The same noise, the same caption, but for one word.

One of the captions below, *a blue seven*, asks for a pair that was never in the training data.

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
        cond, uncond = (denoiser(x_t, t, tokens, words) for words in (mask, nothing))
        return uncond + guidance_scale * (cond - uncond)

    return sample_ddim(guided, x_T, denoiser.alphas_cumprod, spaced_timesteps(T, steps))


# %%
swaps = ["a red seven", "a blue seven", "a green seven", "a red star", "a red two", "a blue star"]
noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(9))
swapped = paint(*encode(swaps, LENGTH), noise.expand(6, -1, -1, -1))
show.show_images(swapped, swaps, columns=6, alt="From one noise: " + "; ".join(swaps))

# %% [markdown]
r"""
When the course was made:

![Six pictures from one noise: a red, a blue and a green seven of nearly the same shape, then a red star, a broken red two and a blue star.](figures/swapped.png)

With another colour the seven stays nearly the same, the blue one too, a pair it never saw. With another object only the colour stays, and the place. (The two is broken. Of all objects that happens to twos most often: section 10 counts them, and says what helps.)

### Two ways for the words

The words reach the picture in two ways: by cross-attention, and as their mean, added to the time. Does cross-attention do any work, or would the mean be enough? Silence each of the two in turn, by setting a layer to zero.

**Predict before you run.** Which of the two carries the colour, and which the shape?
"""

# %%
looks, mean = copy.deepcopy(denoiser), copy.deepcopy(denoiser)
looks.to_cond.weight.zero_()  # the mean of the words says nothing
for name, layer in mean.named_modules():
    if name.endswith("attn2"):
        layer.to_v.weight.zero_()  # whoever looks at a word gets nothing
rows = {"both": drawn}
for name, half in {"attention alone": looks, "mean alone": mean}.items():
    rows[name] = draw_captions(half, wishes, seed=1, num_inference_steps=steps)
titles = ["\n".join(textwrap.wrap(wish, 10)) for wish in wishes]
show.film_strip(
    rows, titles, alt="The wishes with both ways, by attention alone, by the mean alone."
)

# %% [markdown]
r"""
With the course's weights: by attention alone most objects are what they should be, and the colour is near, sometimes a little off; here and there hardly anything is painted. By the mean alone the colour mostly comes, but of the object only something rough. So both carry something: the mean mostly the colour, cross-attention mostly *what* to paint. (Eight pictures are a look, no count. And both were trained together. What either could have learnt alone, this does not show.)

### The mask inverted

Now the classic mistake, in a network that was trained with the right mask. First row: as it should be. Second row: the mask inverted, so the words are hidden and the padding is looked at (and its mean is taken). Third row: all words masked, no caption at all. The second and the third row hear no word of the caption.

**Predict before you run.** In which row are the objects what was asked for? And will the two deaf rows look alike?
"""

# %%
tokens, mask = encode(wishes[:6], LENGTH)
noise = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(2))
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
Here is how it looked when the course was made:

![Three rows of six pictures from the same noise. With the right mask each shows what its caption asks for, but for a broken two. With the mask inverted all six show dark red strokes in coloured noise, much alike, and no object. Without words each shows some object in some colour.](figures/mask.png)

No words at all is something the network knows: in training one caption in ten was taken away. Padding it never looked at before. Its vectors were never trained, they mean nothing, and guidance makes the nonsense three times as loud. It is nearly the same nonsense for every caption, as padding is always the same word. So all six pictures show the same kind of dark red strokes, whatever was asked for.

That is why a hidden test checks your mask, and why the course states its convention in every docstring.

## 10. Does it do as it is told? The lesson's own table

Looking at eight pictures is not measuring. So many captions are drawn, and a *judge*, a network trained on other handwriting than the painter's, says which colour and which object it sees. It counts how often the colour is right, the object, and *both*. There are three kinds of captions: pairs of colour and object that training showed, pairs that were **held out**, and phrasings that were held out (*there is a blue star shape* is one). Two columns say how to read the others:

- *shuffled*: each picture is judged by the caption of another one. This is what chance gives. It is more for held-out pairs: there are only 16 of them, so one in 16 of the other captions asks for the same.
- *ceiling*: rendered scenes are judged by their own captions. Nobody can do better than the judge can see.

The brackets give the range in which the true share lies, with 95 % confidence.
"""

# %%
#| table: scene_tables.results_table

# %% [markdown]
r"""
Read it in two ways. *Down*: if held-out pairs do as well as seen ones, the network composes, and if held-out phrasings do as well, it reads words and not whole sentences. *Against the ceiling*: our aim is 97 % of the seen and 95 % of the held-out captions, and both are reached. What is missing from the ceiling is drawing, not listening: nearly all failures are digits with an open loop or a broken stroke, twos most of all, which the judge reads as another digit or as none. The six shapes are hardly ever wrong, and neither is the colour of what is recognised.

One thing from lesson 4 helps the table. With a word swapped, the pictures above came from smooth roads ($\eta = 0$), so that the rest could stay as it was. `draw_captions`, and with it the table, uses **fresh noise** at each of its 25 steps ($\eta = 1$): that washes out errors which the network made earlier on the road. What is it worth? The same network, the same captions:
"""

# %%
#| table: scene_tables.fresh_noise

# %% [markdown]
r"""
## 11. What was left out, and where these lines live in real systems

- **One object only.** With two, the network has to know which colour belongs to which object. Words alone, looked at one by one, don't say that; lesson 7's text encoder reads the words in their sentence.
- **No dropout** in the blocks, and one transformer block in each `SpatialTransformer`. Stable Diffusion 1.5 has the same: `depth = 1`. Stable Diffusion XL goes up to ten.
- **Attention is expensive.** Every pixel looks at every pixel: a picture twice as wide and twice as high has sixteen times as many looks. That is why Stable Diffusion works on a small *latent* picture: lesson 8.

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

Their mask is 1 where one may look, as ours is True. But hand a float mask to the attention itself and it is *added* to the scores: 1 and 0 would hide nothing, for a forbidden word would still get 1/e, that is 37 %, of what it gets when it is allowed. Do not take our word for the rest. Here both compute the same, with the same weights:
"""

# %%
from diffusers import Transformer2DModel

from t2i.convert import transformer_state_dict

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

- Vaswani et al. 2017, *Attention is all you need*, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762): attention, heads, the square root. Section 3.2 is two pages; you can read it now.
- Rombach et al. 2021, *High-resolution image synthesis with latent diffusion models*, [arXiv:2112.10752](https://arxiv.org/abs/2112.10752): Stable Diffusion. Section 3.3 is this lesson.
- Shazeer 2020, *GLU variants improve transformer*, [arXiv:2002.05202](https://arxiv.org/abs/2002.05202): GEGLU, on three pages. Its last sentence explains its success by divine benevolence.
- Tang et al. 2022, *What the DAAM: interpreting Stable Diffusion using cross attention*, [arXiv:2210.04885](https://arxiv.org/abs/2210.04885): our heat maps, in the large.
- Jain and Wallace 2019, *Attention is not explanation*, [arXiv:1902.10186](https://arxiv.org/abs/1902.10186): why to read them with care.

**Next, lesson 7:** where the words' vectors really come from. CLIP reads sentences and looks at pictures, and learns what belongs together.
"""
