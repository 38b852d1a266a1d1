# %% [markdown]
r"""
# Lesson 7 · CLIP: words that have seen pictures

![A table. Down the side small pictures of coloured digits and shapes, along the top captions. Where a caption belongs to a picture the cell is bright yellow, elsewhere grey or dark blue.](figures/matrix.png)

**Down the side are pictures, along the top are sentences. Bright yellow means: these two belong together.** Nobody told the model what a colour is or what a heart is. It saw pictures and their captions, and learnt which belongs to which. By the end of this lesson you will have written it: a tokenizer, a text encoder, an image encoder and the loss that ties them together.

This is CLIP. Its text half sits in Stable Diffusion, and yours has the same architecture: given the real weights, it gives the real numbers. At the end, lesson 6's painter listens to it, and understands words that it was never trained on.

Plan about two and a half hours.
"""

# %%
from t2i.lesson import start

start(7)

# %%
import math
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i import show
from t2i.attention import merge_heads, split_heads

# These checks say which argument does not fit, in the code that you are given. You need not call
# them: no test asks for the ValueErrors in your docstrings.
from t2i.bpe import check_text, check_training
from t2i.clip import MAX_SCALE  # 100
from t2i.clip_layers import check_features, check_images, check_tokens
from t2i.drawing import show_clip, show_ddpm
from t2i.engine.precision import full_precision
from t2i.lesson import pick, tier

# %% [markdown]
r"""
## 1. A table of words knows nothing

In lesson 6 every word had a vector in a table, and the vectors were learnt while the network learnt to paint. That has two weaknesses:
"""

# %%
from t2i.world import caption_reading

for caption in ("a crimson seven", "a red sevn"):
    try:
        caption_reading.encode([caption])
    except ValueError as error:
        print(error)

# %% [markdown]
r"""
1. **A closed list.** A word that is not in the table cannot even be written, and a typing error stops everything.
2. **No meaning from elsewhere.** Even with *crimson* in the table its vector would be random, until somebody trains the painter on pictures of crimson things. But the world is full of captioned pictures. One should learn words *there*, once, and use them everywhere.

CLIP mends both. **Pieces of words** in place of words, so that every text can be written. And **training on pairs**: a picture and its caption should get vectors that point the same way.

Our pictures come from two worlds. In `one`, the world of lesson 6, there is one large thing on black: the first row below. In `lone`, the second row, its size, its place and the background vary.

The captions are richer now: in half of the cases a colour or an object goes by **another name**, *crimson* or *scarlet* for red, *disc* for circle, Roman numerals and German words for the digits.
"""

# %%
from t2i.runs.clip_batches import LENGTH, SIZE, captions_of
from t2i.runs.clip_recipes import clip_recipe
from t2i.world.scene_sheet import show_scenes
from t2i.world.scene_specs import draw_specs
from t2i.world.scenes import paint

both = [draw_specs(range(4), world=world) for world in ("one", "lone")]
texts = [text for specs in both for text in captions_of(specs)]
show_scenes(torch.cat([paint(specs) for specs in both]), texts, columns=4, zoom=1.6)

# %% [markdown]
r"""
## 2. Pieces of words: byte-pair encoding

How should a text become numbers? One number per *word*: the list is never complete. One per *letter*: always complete, but sentences become long, and a letter means nothing. The answer in between is **byte-pair encoding**, BPE. Begin with the smallest symbols, and join the two that stand side by side most often. Again and again:

![A caption in boxes, one line for each number of merges. With no merges each letter has its own box. With more merges the boxes grow, first frequent endings, then whole words.](figures/merging.png)

(The dot marks the end of a word; `c3` and `bc` are the two halves of *ü*. The two colours only tell neighbours apart.)

Frequent words end up as one piece, rare ones stay in several, and nothing is unknown.

Four rules make it CLIP's:

- The text is **cleaned**: lower case, each stretch of white space one space.
- It is cut into **words** first: runs of letters, single digits, runs of other signs; an English ending such as *'s* is a word of its own. Nothing is joined across words.
- The smallest symbols are **bytes**. In UTF-8 every text is made of them, and there are only 256. An *ü* is two bytes, an emoji four. (Some bytes are invisible, so each gets a visible stand-in: the first half of *ü* is printed as `Ã`. The pictures write its number, in hexadecimal: `c3`.)
- The piece that ends a word carries a mark, `</w>`; the pictures draw a dot. So `red</w>` is a word and `red` the beginning of *redder*.

`t2i.byte_words` takes care of them:
"""

# %%
from t2i.byte_words import END, START, WORD_END, split_words, start_pieces

for text in ("It's   a CRIMSON fünf!", "42 🦆"):
    words = split_words(text)
    print(words, [start_pieces(word) for word in words], sep="\n", end="\n\n")

# %% [markdown]
r"""
`merge_pair` joins one pair in one word, from left to right. A piece that has been used is gone:
"""

# %%
#| given: bpe.merge_pair
print(merge_pair(("s", "e", "v", "e", "n</w>"), ("v", "e")))
print(merge_pair(("a", "a", "a</w>"), ("a", "a")))

# %% [markdown]
r"""
### Learn the merges

Keep the pieces of every *different* word, with the number of times that the word occurs. Then, again and again:

1. Count each pair of neighbours, wherever it stands (in *ananas* the pair *a + n* twice). A word that occurs 500 times counts 500 times.
2. Take the most frequent pair. (If several are equally frequent: the first in sorted order, so that everybody gets the same.)
3. Join it in all words, and write it down.

Stop after `num_merges`, or when every word is one piece and no pair is left.

**Predict before you run.** We take 4,000 captions like those of the second row above; half of them end in *on a brown background*, or one of another colour. Which pair will be joined first?
"""

# %%
#| exercise: bpe.train_bpe
#| points: 18
#| difficulty: 3
#| minutes: 20
#| hint: Two things to keep: `counts`, how often each word occurs (`Counter(word for text in texts for word in split_words(text))`), and `words`, a dictionary from each word to its pieces of the moment, at first `start_pieces(word)`.
#| hint: In the loop, a new `Counter` of pairs: for each word, for each `pair in zip(pieces, pieces[1:])`, add `counts[word]`. No pairs left? `break`. The best one is `min(pairs, key=lambda pair: (-pairs[pair], pair))`: the largest count, and of equals the first in sorted order.
#| hint: Then `words = {word: merge_pair(pieces, best) for word, pieces in words.items()}` and `merges.append(best)`. Repeat `while len(merges) < num_merges`, and return `merges`, a list of pairs.


# %%
#| check: train_bpe
def learnt(texts: list[str], num_merges: int) -> list[tuple]:
    return [tuple(pair) for pair in train_bpe(texts, num_merges)]


assert learnt(["low low", "lot"], 2) == [("l", "o"), ("lo", "w</w>")], (
    "l-o occurs three times; then lo-w, twice (low counts as often as it occurs), lo-t once"
)
assert learnt(["low low", "lot"], 99)[2:] == [("lo", "t</w>")], "stop when no pair is left"
assert learnt(["ba", "ab"], 1) == [("a", "b</w>")], "equally frequent: sorted order decides"
assert learnt(["x y", ""], 5) == [], "a word of one piece holds no pair"

# %%
seen = captions_of(draw_specs(range(4000), world="lone"))
merges = train_bpe(seen, 400)
print(f"{len(merges)} merges; the first eight: {', '.join(' + '.join(p) for p in merges[:8])}")
show_clip.merging("there is a crimson fünf", merges, [0, 10, 40, 100, 160, len(merges)])

# %% [markdown]
r"""
*th* comes first: it stands in *the*, *that*, *there* and *three*. (Of the 400 merges asked for, 276 were made: by then each word of the captions was one piece.)

### Encode

To encode a text, each word starts from its symbols again, and the merges are applied **in the order in which they were learnt**. Not the longest first, and not from left to right: of all pairs that stand side by side at this moment, the one with the lowest *rank* is joined everywhere in the word, until no known pair is left. Why? A merge was learnt when all earlier ones had been made already. Only in this order does a word get the pieces that it had in training.

Then the pieces become numbers, in a frame:

$$\text{[start],\ pieces …,\ [end]}$$

A tensor wants rows of one length L. Shorter texts are filled up **with the end token** itself. Longer ones are cut, but their end token stays: it will matter more than all others.

`NumberedPieces` in `t2i.bpe` keeps the numbers. Its `vocabulary` gives each piece a number: first the 256 symbols, then the same with `</w>`, then the merges, start and end. Its `ranks` says when a pair was learnt:
"""

# %%
from t2i.bpe import NumberedPieces

numbered = NumberedPieces(merges)
for pair in (merges[0], merges[-1]):
    number = numbered.vocabulary["".join(pair)]
    print(f"{' + '.join(pair):15} rank {numbered.ranks[pair]:3}, the piece has number {number}")
for piece in ("a", "a" + WORD_END, START, END):
    print(f"{piece:15} number {numbered.vocabulary[piece]}")

# %% [markdown]
r"""
A `Tokenizer` adds the way from a text to its numbers. In `encode` you have `self.ranks`, `self.vocabulary`, and the numbers `self.start` and `self.end`.
"""

# %%
#| exercise: bpe.Tokenizer.encode
#| points: 18
#| difficulty: 3
#| minutes: 20
#| hint: For each word of `split_words(text)`: `pieces = start_pieces(word)`, then merge until nothing can be merged, then add `self.vocabulary[piece]` of each piece to a list.
#| hint: The loop of one word: `known = [pair for pair in zip(pieces, pieces[1:]) if pair in self.ranks]`. None? done. Else `pieces = merge_pair(pieces, min(known, key=self.ranks.get))`.
#| hint: Without a length: `[self.start, *numbers, self.end]`. With one: keep `numbers[: length - 2]`, put start before and end behind, and add `self.end` until there are `length` numbers.

# %%
#| check: Tokenizer.encode
mine = Tokenizer(merges)
row = mine.encode("a red seven", 8)
assert len(row) == 8 and row[0] == mine.start, "length numbers, the first is the start"
assert row[4:] == [mine.end] * 4, "three words, then the end, and it fills the row up"
assert mine.encode("a red seven", 4)[-1] == mine.end, "a cut text keeps its end"
assert mine.encode("") == [mine.start, mine.end], "nothing between start and end"
other = Tokenizer([("b", "c</w>"), ("a", "b")])  # b-c was learnt first
pieces = [other.pieces[number] for number in other.encode("abc")]
assert pieces == [START, "a", "bc</w>", END], "the pair that was learnt first is joined first"
assert mine.decode(mine.encode("A  Crimson fünf 🦆")) == "a crimson fünf 🦆", "and back"

# %% [markdown]
r"""
This is the tokenizer for the rest of the lesson:
"""

# %%
tokenizer = Tokenizer(merges)
show_clip.tokens_table(tokenizer, ["a crimson fünf", "a Red, red 7", "an elephant", "🦆"], 12)

# %% [markdown]
r"""
*Elephant* never occurred in the captions, and it can be written all the same.

Is it CLIP's format? Write two files, and let Hugging Face's own `CLIPTokenizer` read them:
"""

# %%
from transformers import CLIPTokenizer

from t2i.bpe import save_tokenizer

with tempfile.TemporaryDirectory() as folder:
    save_tokenizer(tokenizer, folder)
    theirs = CLIPTokenizer.from_pretrained(folder)
for text in ("a crimson fünf", "It's  42 ÉLÉPHANTS — isn't it? 🦆🦆", "", "赤い七"):
    same = theirs(text).input_ids == tokenizer.encode(text)
    print(f"{len(tokenizer.encode(text)):3} tokens, the same as theirs: {same}   {text!r}")

# %% [markdown]
r"""
## 3. The text encoder

A transformer reads the tokens. You built one in lesson 6. CLIP's attention has biases, and in place of lesson 6's gate there are two plain linear layers, `fc1` and `fc2`:

$$x \leftarrow x + \text{attn}(\text{norm1}(x)), \qquad x \leftarrow x + \text{fc2}(\text{quick\_gelu}(\text{fc1}(\text{norm2}(x))))$$

The bend between `fc1` and `fc2` (the *activation*) is a quick stand-in for lesson 6's GELU. Instead of $\Phi(x)$, the probability that a Gaussian value lies below $x$, it takes a *sigmoid*, $1/(1+e^{-z})$, which climbs from 0 to 1 as well:

$$\text{quick\_gelu}(x) = x\cdot\text{sigmoid}(1.702\,x)$$

**Predict before you run.** Where do the two curves differ most: at 0, near 2, or far out? And what is the strange number 1.702 good for: would 1.4 or 2 do as well?
"""

# %%
#| exercise: clip_layers.quick_gelu
#| points: 4
#| difficulty: 1
#| minutes: 2
#| hint: It is x times a gate, a number between 0 and 1 that says how far x is let through. What is the gate at 0, and far out on both sides?
#| hint: `torch.sigmoid` takes a tensor of any shape. The factor 1.702 stands inside it.
#| hint: `return x * torch.sigmoid(1.702 * x)`

# %%
#| check: quick_gelu
x = torch.linspace(-4, 4, 9)
assert torch.allclose(quick_gelu(x), F.gelu(x), atol=0.021), "it should stay close to GELU"
assert not torch.allclose(quick_gelu(x), F.gelu(x), atol=1e-3), "close to GELU, but not the same"
assert quick_gelu(torch.zeros(2, 3)).abs().max() == 0, "quick_gelu(0) is 0"

# %%
x = torch.linspace(-5, 5, 401)
others = {f"factor {k:g}": x * torch.sigmoid(k * x) for k in (1.4, 2.0)}
show.curves(
    x,
    {name: y - F.gelu(x) for name, y in {"yours, 1.702": quick_gelu(x), **others}.items()},
    xlabel="x",
    ylabel="quick one − GELU",
    height=2.6,
)

# %% [markdown]
r"""
At 0 both are 0, and far out both gates are fully open or fully shut. In between they differ: yours by at most 0.02 (near ±2.3), the factor 1.4 by up to 0.07, and 2 by up to 0.04. That 0.02 sounds like nothing, but each layer passes the difference on to the next. CLIP's weights want the curve that they grew up with.

Here are attention and layer, with your `quick_gelu` inside. Read them:
"""

# %%
#| given: clip_layers.SelfAttention clip_layers.EncoderLayer

# %% [markdown]
r"""
### Looking back only

In CLIP's text encoder **a token may look at itself and at those before it, never ahead**:

![A square table, rows and columns labelled start, a, red, seven, end, end, end. On and below the diagonal the cells are filled: each token looks at itself and at those before it. The row of the first end token is framed: it looks at the whole text.](figures/causal.png)

This is a *causal* mask. It brings CLIP two gifts:

- The **end token** stands behind all words, so it is the one that can read the whole text. Its vector, after a last norm, stands for the text: the *pooled* vector.
- What comes after the first end token, the padding, cannot disturb anything before it. So CLIP needs no mask for its padding.

How does one find the end token? It is where `tokens == self.end_token` for the **first** time; `argmax` of a row of zeros and ones gives just that. (True and False must become numbers first, with `.int()`.) That place is different in each row. To take the vector there, give PyTorch rows *and* places: `hidden[rows, places]` is one vector for each pair of them. Beware of `-1`: if the text is short, the last place is an end token too, but a wrong one.

The order of words is put in as in lesson 6: each *place* has a learnt vector, which is added to the token's. Then the layers of `self.layers` read in turn, each called as `layer(x, mask)`. The mask is an (L, L) table of truth values, as in the picture: True where row i may look at column j. (`.tril()` keeps what lies on and below a table's diagonal.)

$$x = \text{tokens} + \text{positions}, \quad x \leftarrow \text{layers}(x, \text{mask}), \quad \text{hidden} = \text{norm}(x), \quad \text{pooled} = \text{hidden[first end]}$$
"""

# %%
#| exercise: clip.TextTransformer.forward
#| points: 20
#| difficulty: 3
#| minutes: 20
#| hint: Five steps: tokens' vectors plus the first L places' vectors; the causal mask, (L, L); each layer in turn, with the mask; the norm; the vectors at the first end tokens. Two results: `hidden` and `pooled`.
#| hint: `x = self.tokens(tokens) + self.positions[:length]`. The mask: `torch.ones(length, length, dtype=torch.bool, device=x.device).tril()`, True on and below the diagonal. The end: `(tokens == self.end_token).int().argmax(dim=1)`, one number a row.
#| hint: `for layer in self.layers: x = layer(x, mask)`, then `hidden = self.norm(x)`. To pick another place in each row: `hidden[torch.arange(batch, device=x.device), end]`. Return `hidden, hidden[...]`.

# %%
#| check: TextTransformer.forward
torch.manual_seed(0)
reader = TextTransformer(len(tokenizer), tokenizer.end, 32, 2, 4, max_length=12)
tokens = tokenizer(["a red seven", "a star that is blue", ""], 12)
hidden, pooled = reader(tokens)
assert hidden.shape == (3, 12, 32) and pooled.shape == (3, 32), "a vector a token, one a text"
assert torch.allclose(pooled[0], hidden[0, 4], atol=1e-5), (
    "the first end token of 'a red seven' is at place 4"
)
assert torch.allclose(reader(tokens[:, :7])[1], pooled, atol=1e-5), "padding must not matter"
other = reader(tokenizer(["a red eight"], 12))[0][0]
changed = (other - hidden[0]).abs().amax(dim=-1) > 1e-6
assert not changed[:3].any(), "what stands before a changed word must not know of it"
assert changed[3:].all(), "what stands behind it must"

# %% [markdown]
r"""
**Predict before you run.** The text *there is a red seven at the top* becomes *there is a **blue** seven at the top*. At which places will the vectors change?
"""

# %%
reader = TextTransformer(len(tokenizer), tokenizer.end, 32, 2, 4, max_length=12)  # untrained
pair = ["there is a red seven at the top", "there is a blue seven at the top"]
first, second = reader(tokenizer(pair, 12))[0].detach()
names = [show_clip.readable(tokenizer.pieces[n]) for n in tokenizer.encode(pair[0], 12)]
figure, (axes,) = show.panels(1, 1, 8, 2.4)
axes.bar(range(12), (first - second).norm(dim=-1), color=show.BLUE)
axes.set_xticks(range(12), [name.strip("·") for name in names])
axes.set_ylabel("length of the change")
show.Picture(figure, "A bar a place, from the first to the last: how far its vector moved.")

# %% [markdown]
r"""
At the changed word's own place and everywhere behind it, the end tokens included. Not before it, as nobody looks ahead. (How tall the bars are means nothing here: this encoder is untrained.)

## 4. The image encoder

For pictures CLIP has a *vision transformer*, ViT: the very same layers, so the picture must become a list of tokens.

![A picture of a red star, cut by a grid into 16 square patches, numbered row by row; the patches in a row, each with its number and an arrow into the layers, at which the number of its place stands; before them one more vector, called class, at place 0, so that patch 0 stands at place 1; from the class place an arrow leads out, to the vector of the picture.](figures/vit.png)

- It is cut into square **patches**. One convolution whose kernel and stride are as large as a patch turns each into a vector. What comes out is a small picture, (B, width, rows, columns); the layers want a list, (B, patches, width), as in lesson 6's SpatialTransformer.
- Every patch looks at all others, and none of them stands for the whole. So one more place is put **in front**, with a learnt vector of its own, the same for every picture: the *class* place. It holds nothing of the picture at first, looks at all patches in each layer, and at the end it stands for the picture.
- No mask: patches have no before and after. Places get learnt vectors, as words do.
- One norm more than usual, `norm_in`, before the first layer.

$$x = [\text{class},\ \text{patches}] + \text{positions}, \quad \text{hidden} = \text{layers}(\text{norm\_in}(x)), \quad \text{pooled} = \text{norm\_out}(\text{hidden at place 0})$$

Place 0 of *each* picture: `x[:, 0]`. And `hidden` is the list as the layers leave it, without `norm_out`.
"""

# %%
#| exercise: clip.ImageEncoder.forward
#| points: 14
#| difficulty: 3
#| minutes: 12
#| hint: Steps: `self.conv_in`, picture to list (as in lesson 6's SpatialTransformer), the class vector in front, plus `self.positions`, `self.norm_in`, each layer, and `self.norm_out` of place 0.
#| hint: `self.conv_in(images)` is `(B, width, rows, columns)`; `.flatten(2).transpose(1, 2)` makes `(B, patches, width)`. The class vector for a whole batch: `self.class_vector.expand(len(images), 1, -1)`.
#| hint: `x = torch.cat([first, patches], dim=1) + self.positions`, then `x = self.norm_in(x)`, the layers, and return `x, self.norm_out(x[:, 0])`. The list itself is returned without norm_out.

# %%
#| check: ImageEncoder.forward
viewer = ImageEncoder(size=12, patch=4, width=16, num_layers=2, num_heads=2)
images = torch.randn(3, 3, 12, 12)
hidden, pooled = viewer(images)
assert hidden.shape == (3, 10, 16), "9 patches and the class place"
assert torch.allclose(pooled, viewer.norm_out(hidden[:, 0]), atol=1e-5), (
    "pooled is norm_out of place 0"
)
assert not torch.allclose(pooled, hidden[:, 0], atol=1e-3), "hidden is the list without norm_out"
moved = images.roll(4, dims=3)  # the same patches at other places
assert not torch.allclose(viewer(moved)[1], pooled, atol=1e-4), "where a patch is must matter"
viewer.positions.data.zero_()
assert torch.allclose(viewer(moved)[1], viewer(images)[1], atol=1e-5), (
    "without positions only which patches there are should count: is each vector still one patch's?"
)
viewer = ImageEncoder(size=12, patch=4, width=16, num_layers=0, num_heads=2)  # only the list
second = viewer.conv_in(images)[:, :, 0, 1]  # the first row's second patch
assert torch.allclose(
    viewer(images)[0][:, 2], viewer.norm_in(second + viewer.positions[2]), atol=1e-5
), "row by row: right of the first patch is the second one, at place 2"

# %% [markdown]
r"""
## 5. What belongs together

Two encoders, two vectors. Each goes through a last linear layer into a **common space**. How should they learn?

Not by the distance between a picture and its caption alone: if all vectors were equal, that distance would be 0 everywhere. What is needed is **contrast**: nearer to *its own* caption than to all *others*. Take a batch of B pairs, bring each vector to length 1 (`F.normalize(x, dim=-1)`), and compare each picture with each caption. Their dot products, the *cosines*, make a table:

![A table of four pictures and four captions. The four cells on the diagonal are marked as right. A frame round a row asks: which text belongs to this picture? A dashed frame round a column asks: which picture belongs to this text?](figures/contrast.png)

Each row is a question with B possible answers: *which caption belongs to this picture?* And so is each column. For a question with B answers there is a standard loss, the *cross entropy*, CE. A softmax of the row (its numbers are called *logits*) gives each answer a probability. The loss is −log of the right one's: 0 if it is sure and right, log B if all are alike, large if it is sure and wrong. PyTorch's `F.cross_entropy(logits, right)` does it all, and takes the mean over the rows. (Written out as a softmax and then a log, it breaks: a very small probability is rounded to 0, which has no logarithm.)

$$\text{logits} = s\cdot \text{images}\cdot\text{texts}^{\top}, \qquad \text{loss} = \tfrac12\big(\text{CE}(\text{rows}) + \text{CE}(\text{columns})\big), \qquad s = \min(e^{\text{logit\_scale}},\ 100)$$

Row i's right answer is column i. So the rest of the batch serves as wrong answers, for free, and a larger batch asks harder questions. With 2 pairs, the colour alone decides seven times in eight. With 256, about 32 scenes are red, and two or so are red *and* seven: the model has to look more closely.

And $s$? Cosines lie between -1 and 1. A softmax of such small numbers can never be sure of anything, so they are multiplied by a *scale*. The model learns it too. CLIP stores its logarithm (`logit_scale`, at first $\log(1/0.07)$, so $s \approx 14$) and never lets $s$ exceed 100.
"""

# %%
at_first = torch.tensor(math.log(1 / 0.07))  # a logit_scale
print(f"logit_scale is {at_first:.2f} at first, and s {at_first.exp():.1f}")

# %% [markdown]
r"""
**Predict before you run.** With B = 8 and all vectors equal, the loss is log 8 = 2.08. And with *random* vectors: better, worse, or the same?
"""

# %%
#| exercise: clip.contrastive_loss
#| points: 16
#| difficulty: 3
#| minutes: 12
#| hint: Four steps: bring the vectors to length 1 (`F.normalize(…, dim=-1)`), make the (B, B) table, say which answers are right, and take the mean of two cross entropies.
#| hint: The scale is `logit_scale.exp().clamp(max=100)`. `images @ texts.T` compares each with each. The right answer of row i is number i: `torch.arange(B, device=images.device)`.
#| hint: `F.cross_entropy(logits, right)` asks each row. `F.cross_entropy(logits.T, right)` asks each column. Return half their sum. `right` must be on the same device as the logits.

# %%
#| check: contrastive_loss
alike = torch.ones(8, 16)
assert abs(contrastive_loss(alike, alike, at_first) - math.log(8)) < 1e-4, "no difference: log(B)"
own = torch.eye(8)
assert contrastive_loss(own, own, at_first) < 1e-3, "each nearest to its own: almost 0"
assert contrastive_loss(own, own.roll(1, 0), at_first) > 5, "each nearest to a wrong one: large"
a, b = torch.randn(8, 16), torch.randn(8, 16)
longer = torch.arange(1.0, 9)[:, None] * a  # each vector by another factor
assert torch.allclose(contrastive_loss(a, b, at_first), contrastive_loss(longer, b, at_first)), (
    "only the directions count: each row is a vector, and gets length 1"
)
most, too_much = torch.tensor(math.log(100)), torch.tensor(9.0)
assert torch.allclose(contrastive_loss(a, b, most), contrastive_loss(a, b, too_much)), (
    "s, not its logarithm, never exceeds 100"
)
assert torch.allclose(contrastive_loss(a, b, at_first), contrastive_loss(b, a, at_first)), (
    "symmetric"
)

# %%
for name, vectors in {"all equal": torch.ones(2, 8, 16), "random": torch.randn(2, 8, 16)}.items():
    print(f"{name:9} loss {contrastive_loss(*vectors, at_first):.2f}; log(8) is {math.log(8):.2f}")

# %% [markdown]
r"""
All equal: log 8. Random vectors are worse: $s$ makes the softmax rather sure, and mostly of a wrong answer.

Here is the whole, with your pieces inside:
"""

# %%
#| given: clip.CLIP

# %% [markdown]
r"""
## 6. Train

The next cell trains for two minutes and then stops by itself, wherever it is; read on meanwhile. The loop is the one from lesson 3: `plan` holds the sizes and the number of steps, `state.ema_model` is the slow copy. (`whole_training = True` does the whole training, in 6 to 20 minutes on the CPU.)

**Predict before you run.** What will it learn first: colours, or objects?
"""

# %%
import time

from t2i.files.places import DATA
from t2i.runs.clip_recipes import clip_loss, load_clip
from t2i.runs.clip_runs import zero_shot
from t2i.training import train

whole_training = tier() == "gpu"
plan = clip_recipe(tier())
device = "cuda" if torch.cuda.is_available() and tier() == "gpu" else "cpu"


def build(plan) -> CLIP:
    """A fresh CLIP made of your pieces."""
    text = TextTransformer(len(tokenizer), tokenizer.end, max_length=LENGTH, **plan.text)
    return CLIP(text, ImageEncoder(SIZE, **plan.image), plan.dim)


torch.manual_seed(0)
model = build(plan).to(device)
size = sum(weights.numel() for weights in model.parameters())
print(f"{size / 1e6:.2f} million weights, {plan.training.steps} steps for the whole training")
print(
    f"pictures of {SIZE} × {SIZE} pixels, patches of {plan.image['patch']} × {plan.image['patch']}"
)
print(f"the common space has {plan.dim} numbers a vector")

# %%
checkpoint = DATA / "runs" / f"lesson_7_{tier()}.safetensors" if whole_training else None
exam = draw_specs(range(200), world="one", seed=7)
losses, knows, begun = [], {}, time.perf_counter()
batches = plan.batches(tokenizer).on(device)
for state in train(model, clip_loss, batches, plan.training, checkpoint):
    losses.append(state.loss)
    if state.step in (25, 50) or state.step % 100 == 0:
        knows[state.step] = zero_shot(state.ema_model, tokenizer, exam)  # section 7 shows how
    if not whole_training and time.perf_counter() - begun > pick(smoke=2, cpu=120, gpu=120):
        break
print(f"stopped at step {state.step} of {plan.training.steps}; {plan.batch_size} pairs a batch")
window = max(1, len(losses) // 40)
show.curves(
    range(1, len(losses) + 1),
    {
        "loss": show_ddpm.smooth(torch.tensor(losses), window),
        "log(B), knowing nothing": torch.full((len(losses),), math.log(plan.batch_size)),
    },
    xlabel="training step",
    ylabel="loss",
    ylim=(0, None),
)

# %%
knows[state.step] = zero_shot(state.ema_model, tokenizer, exam)
shares = {name: [found[name]["share"] for found in knows.values()] for name in ("colour", "object")}
show.curves(
    list(knows),
    shares,
    xlabel="training step",
    ylabel="share recognised",
    ylim=(0, 1.05),
    height=2.4,
    caption="Of 200 new scenes. Guessing would get one colour in eight, one object in sixteen.",
)

# %% [markdown]
r"""
The loss begins above log(B): wrong with some confidence. Colours come first, objects much later. When the course was made, it knew 99 % of these colours after 50 steps, but only one object in seven. After 300 steps it knew two objects in three.

The loss cannot reach 0: in each batch several scenes have captions that fit others just as well. *A red seven* is true of every red seven.

### Trained weights

From here on, the model is one that was trained for longer. Its weights go into **your** model. (The last two lines below say what share of the 200 scenes each of the two recognises.)
"""

# %%
try:
    trained, _, info = load_clip()
    clip = build(clip_recipe(info.get("tier", "cpu")))
    clip.load_state_dict(trained.state_dict())  # the same names: every weight finds its place
except (OSError, ValueError, RuntimeError) as error:
    print(f"{show_clip.MISSING} Why: {str(error)[:200]}")
    clip = None
if whole_training or clip is None:
    clip = build(plan)
    clip.load_state_dict(state.ema_model.state_dict())
clip = clip.cpu().eval().requires_grad_(False)
print(f"scale: {clip.logit_scale.exp():.1f}, at first {1 / 0.07:.1f}")
known = {"just trained": knows[state.step], "this one": zero_shot(clip, tokenizer, exam)}
for whose, found in known.items():
    print(f"{whose:12}", *[f"{name} {found[name]['share']:.0%}" for name in shares], sep="  ")

# %%
told = draw_specs([3, 8, 11, 14, 21, 30, 35, 41], "train", "one", seed=4)
pictures, texts = paint(told, digits="test"), captions_of(told)
with torch.no_grad():
    image_vectors = F.normalize(clip.encode_images(pictures), dim=-1)
    text_vectors = F.normalize(clip.encode_texts(tokenizer(texts, LENGTH)), dim=-1)
show_clip.similarity_matrix(pictures, texts, image_vectors @ text_vectors.T)

# %% [markdown]
r"""
The scale has grown, so the softmax has become surer.

The diagonal is bright, though no training picture showed these people's handwriting. Look off the diagonal, too: where a wrong caption shares the colour or the object, the cell is mostly less dark than elsewhere.

## 7. Recognition without classes

A model that compares any picture with any text can **recognise** things without training on classes: describe each class, and see which description fits best. This is called *zero-shot*.

One sentence is a shaky description: *a red zero*, *a red star*, *a red heart* are all red, and each says more than *red*. So a class is described in **several ways**, and their vectors are averaged. Each is brought to length 1 first, so that none speaks louder, and the mean is brought to length 1 again. Then it is the equation of section 5, with classes in place of captions, and with the same $s$, limit included:

$$\text{probabilities} = \text{softmax}_{\text{classes}}\big(s\cdot\text{images}\cdot\text{classes}^{\top}\big)$$
"""

# %%
#| exercise: clip.zero_shot_probabilities
#| points: 10
#| difficulty: 2
#| minutes: 10
#| hint: `text_features` is (K, P, D): K classes, P descriptions of each. Normalise, average over the P descriptions, normalise again: (K, D). The pictures are normalised too.
#| hint: The scale is as in `contrastive_loss`, with its limit of 100. The logits are (B, K): one row a picture, one column a class.
#| hint: `classes = F.normalize(F.normalize(text_features, dim=-1).mean(dim=1), dim=-1)`; then the logits, and `.softmax(dim=-1)`, over the classes.

# %%
#| check: zero_shot_probabilities
found = zero_shot_probabilities(torch.randn(5, 6), torch.randn(3, 4, 6), torch.tensor(1.0))
assert found.shape == (5, 3), "one row a picture, one column a class"
assert torch.allclose(found.sum(-1), torch.ones(5)), "each row sums to 1"
each = zero_shot_probabilities(torch.eye(3), torch.eye(3)[:, None], at_first)
assert (each.argmax(-1) == torch.arange(3)).all(), "each vector is its own class"
ways = torch.randn(3, 4, 6)
louder = ways * torch.tensor([1.0, 5.0, 0.2, 9.0])[:, None]  # the same directions
features = torch.randn(5, 6)
soft, quiet = (zero_shot_probabilities(features, w, at_first) for w in (louder, ways))
assert torch.allclose(soft, quiet, atol=1e-5), "no description may speak louder than another"
middle = F.normalize(ways, dim=-1).mean(1, keepdim=True)
assert torch.allclose(quiet, zero_shot_probabilities(features, middle, at_first), atol=1e-5), (
    "the mean too is brought to length 1"
)
alike = torch.tensor([[[1.0, 0.0]], [[1.0, 0.1]]])  # two classes, hard to tell apart
limit, beyond = (zero_shot_probabilities(alike[0], alike, s) for s in (most, too_much))
assert torch.allclose(limit, beyond, atol=1e-3), "s never exceeds 100 here either"

# %%
from t2i.world.captions import COLOURS, KINDS


def describe(names: Sequence[str], others: Sequence[str], pattern: str) -> Tensor:
    """Vectors (K, P, D): each name with each of the others."""
    texts = [[pattern.format(name, other) for other in others] for name in names]
    return torch.stack([clip.encode_texts(tokenizer(row, LENGTH)) for row in texts])


strange = draw_specs([0, 2, 4, 5, 12, 21], "heldout_pairs", "one", seed=2)
pictures = paint(strange, digits="test")
objects = describe(KINDS, COLOURS, "a {1} {0}")
seen = zero_shot_probabilities(clip.encode_images(pictures), objects, clip.logit_scale)
show_clip.zero_shot_bars(pictures, seen, KINDS)

# %% [markdown]
r"""
These pictures show **held-out pairs**: for each object, one colour never occurred in training, and here it is. And classes can be made up on the spot, in any words that CLIP has read. Here are the eight colours by other names:
"""

# %%
names = ["scarlet", "tangerine", "lemon", "emerald", "turquoise", "azure", "lilac", "rose"]
colours = describe(names, KINDS, "a {0} {1}")
seen = zero_shot_probabilities(clip.encode_images(pictures), colours, clip.logit_scale)
show_clip.zero_shot_bars(pictures, seen, names)

# %% [markdown]
r"""
Take *lemon* out of the list and run again. The model gives the yellow picture another name, and may be surer of it than it should. Probabilities sum to 1, and nothing in the model knows "none of these".

### Measured

Pictures with handwriting nobody trained on; the brackets give the range in which the true share lies with 95 % confidence. *Pair* chooses among all 128 pairs of a colour and an object, by descriptions that name both; so it can come out a little better than *object*, whose descriptions leave the colour open. *Said otherwise*: the classes go by their other names alone.
"""

# %%
#| table: clip_tables.zero_shot_table

# %% [markdown]
r"""
What was never shown together is recognised nearly as well as what was. In scenes of all sizes colours stay easy, and objects are harder: a small digit is 13 pixels high, and looked at through patches of 8.

A harder test is **retrieval**: among 512 captions, find the very one that belongs to this picture. Nobody can reach 100 %, as many captions are true of several pictures. In scenes of all sizes (512 of them, seen pairs) our CLIP finds 63.3 %; a reader who makes no mistake would find 72.0 %, and chance 0.2 %.

### A map of the common space

Vectors with 64 numbers cannot be drawn. But they can be looked at from one side: the map shows the two directions in which the words differ most. A small picture lies where its vector is. A word lies at its dot, and a line leads to its name. (Words and pictures are each moved so that their middle lies at 0.)

**Predict before you run.** Where will *crimson* be? And *lemon*?
"""

# %%
names = ["red", "crimson", "scarlet", "orange", "yellow", "lemon", "green", "emerald", "cyan"]
names += ["blue", "azure", "purple", "pink"]
others = ["circle", "star", "seven", "heart"]
crowd = draw_specs(range(60), "train", "one", seed=6)
with torch.no_grad():
    spots = clip.encode_images(paint(crowd, digits="test"))
    words = F.normalize(describe(names, others, "a {0} {1}"), dim=-1).mean(1)
show_clip.embedding_map(paint(crowd, digits="test"), spots, names, words)

# %% [markdown]
r"""
When the course was made:

![A map. Small pictures of the same colour lie together in groups; each group has its colour's word near it; red lies beside crimson and scarlet, blue beside azure, green beside emerald.](figures/map.png)

*Crimson* lies beside *red*, and *lemon* beside *yellow*. Nobody said that they mean the same. But *crimson* and *red* both stood below red pictures, so both were pulled to the same place. (Orange and purple are neighbours only because two of 64 directions are drawn.)

## 8. The painter learns new words from CLIP

Back to lesson 6. Its painter now gets its words from CLIP: the vectors of all tokens are the `context` that the places look at, and the end token's vector is added to the time. CLIP is **frozen**, its weights stay as they are; the painter is trained again from the start, for as many steps, with **plain captions only**. So the painter never met *crimson* or *vii*. CLIP did.

Beside it stands lesson 6's own painter with a vector for each word. Its table has no rows for the new words, so we add them, filled with what every word has before training: random numbers.

Can that work? The painter reads *all* vectors, including the one at *crimson*'s place. But all that CLIP was ever asked for is that the end token's vector fits the picture. **Predict before you run.** At its own place, is *crimson* near *red*?
"""

# %%
names = ["red", "crimson", "scarlet", "blue", "azure"]
hidden, _ = clip.text(tokenizer([f"a {name} seven" for name in names], 8))
own_place = F.normalize(hidden[:, 2], dim=-1)
for name, cosines in zip(names, own_place @ own_place.T, strict=True):
    print(f"{name:8}", *[f"{cosine:6.2f}" for cosine in cosines])

# %% [markdown]
r"""
Columns are in the order of the rows; 1 means the same direction. So yes: with the course's own CLIP *crimson* has a cosine of 0.99 with *red*, and *blue* one of 0.2. The words in between were shaped too, for the end token reads *them*.

**Predict before you run.** Both painters get *a golden vii*. What will each paint?
"""

# %%
import textwrap

from t2i.runs.clip_scene_recipes import load_clip_scenes
from t2i.runs.clip_scene_runs import by_clip, by_words, draw_readable
from t2i.runs.scene_recipes import load_scenes

wishes = [
    "a red circle",
    "a crimson disc",
    "a scarlet ball",
    "an azure valentine",
    "a golden vii",
    "an emerald plus",
]
rows = {}
for name, load, reader in (
    ("one vector per word", load_scenes, by_words),
    ("CLIP", load_clip_scenes, by_clip),
):
    try:
        read = reader(load()[0])
        count = pick(smoke=1, cpu=len(wishes), gpu=len(wishes))
        rows[name] = draw_readable(read, wishes[:count], seed=3, name=name)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"{name} paints nothing: {error}")
titles = [textwrap.fill(wish, 13) for wish in wishes]
if rows:
    display(show.film_strip(rows, titles, alt="Painted from the same noise: " + "; ".join(wishes)))

# %% [markdown]
r"""
When the course was made:

![Two rows of six pictures from the same noise. With one vector per word only the red circle is as asked; for the other wishes purple digits and a blue heart appear. With CLIP all six are as asked: three red discs, a blue heart, a yellow seven and a green cross.](figures/told.png)

Here are the counts, by lesson 6's judge. *Said otherwise*: both the colour and the object go by names that neither painter was trained on. *Shuffled* goes with *both*, and says what chance gives there: each picture is judged by another picture's caption.
"""

# %%
#| table: clip_tables.told_table

# %% [markdown]
r"""
With plain captions both painters are right nearly always. Said otherwise, the one with a vector per word even stays below chance in colour (one in eight) and object (one in sixteen), because the judge finds no object at all in most of its pictures. (Six pictures are few: those above happen to be clear.) What a table of words cannot know, a text encoder can, if it learnt its words from pictures. This is why Stable Diffusion does not learn words itself, but takes CLIP's.

But a word that CLIP did not learn either, *ultramarine* or the misspelt *crimsn*, comes as a row of pieces with no meaning. Whatever is painted then is a guess; for a colour, some colour. (In the other row such a wish stays grey: its table has no pieces.) And a word helps only if its vector is like one that the *painter* was trained on. CLIP knows *small* and *at the top*, but this painter only ever saw large things in the middle. Put *a small red seven at the top* among the wishes, and CLIP's row shows shreds, or noise.

## 9. What was left out, and where these lines live in real systems

- **Size.** CLIP's text half has 12 layers, and 49,408 tokens. CLIP was trained on 400 million pairs from the internet, with all that is true, false and unfair there.
- **Counting and order.** CLIP is known to be bad at *two red and one blue*, at *left of*, at *not*. To find the caption that fits best, a bag of words is often enough. Our scenes have one object only.
- Stable Diffusion 1.5 uses all 77 vectors of CLIP's text half, padding included.
- Tables of retrieval and of batch sizes, and how to load OpenAI's own weights, stand on a page of their own: [more about the measurements](more.md).

In Hugging Face's *transformers*:

| yours | theirs |
|---|---|
| `train_bpe` | `tokenizers.trainers.BpeTrainer` |
| `Tokenizer.encode` | `CLIPTokenizer.__call__` |
| `quick_gelu` | `QuickGELUActivation` in `activations.py` |
| `EncoderLayer` | `CLIPEncoderLayer` in `models/clip/modeling_clip.py` |
| `TextTransformer` | `CLIPTextModel`: `last_hidden_state`, `pooler_output` |
| `ImageEncoder` | `CLIPVisionModel` |
| `contrastive_loss` | `image_text_contrastive_loss` |
| `zero_shot_probabilities` | `logits_per_image.softmax(dim=1)` |

Here both compute the same, with the same weights:
"""

# %%
from transformers import CLIPTextConfig, CLIPTextModel

from t2i.pretrained.clip_names import from_transformers

config = CLIPTextConfig(
    vocab_size=99, hidden_size=32, intermediate_size=128, num_hidden_layers=3,
    num_attention_heads=4, max_position_embeddings=16, bos_token_id=97, eos_token_id=98,
)  # fmt: skip
theirs = CLIPTextModel(config).eval()
ours = TextTransformer(99, 98, width=32, num_layers=3, num_heads=4, max_length=16)
ours.load_state_dict(from_transformers(theirs.state_dict()))
tokens = torch.randint(0, 97, (4, 16))
tokens[:, -3:] = 98
expected = theirs(tokens)
hidden, pooled = ours(tokens)
for name, difference in {
    "hidden": hidden - expected.last_hidden_state,
    "pooled": pooled - expected.pooler_output,
}.items():
    print(f"{name}: largest difference {difference.abs().max():.1e} (below 1e-5 if yours is right)")

# %% [markdown]
r"""
## Three questions
"""

# %%
#| quiz: byte_pieces

# %%
#| quiz: which_place

# %%
#| quiz: large_batches

# %% [markdown]
r"""
## The papers

- Radford et al. 2021, *Learning transferable visual models from natural language supervision*, [arXiv:2103.00020](https://arxiv.org/abs/2103.00020): CLIP. Figure 3 is `contrastive_loss` in ten lines.
- Sennrich, Haddow and Birch 2015, *Neural machine translation of rare words with subword units*, [arXiv:1508.07909](https://arxiv.org/abs/1508.07909): byte-pair encoding.
- Dosovitskiy et al. 2020, *An image is worth 16×16 words*, [arXiv:2010.11929](https://arxiv.org/abs/2010.11929): the vision transformer.
- Hendrycks and Gimpel 2016, *Gaussian error linear units*, [arXiv:1606.08415](https://arxiv.org/abs/1606.08415): GELU, and its quick stand-in.
- Yuksekgonul et al. 2022, *When and why vision-language models behave like bags-of-words*, [arXiv:2210.01936](https://arxiv.org/abs/2210.01936): what CLIP does not understand.

**Next, lesson 8:** pictures are large, and most of their pixels say nothing new. A VAE learns a small space in which painting is cheap.
"""
