# %% [markdown]
r"""
# Appendix · You wrote this: Stable Diffusion

![From a prompt through tokenizer and text encoder to the UNet, which with guidance and a sampler turns noise into latents in 25 steps; a decoder makes the picture of them. Each box names the lesson in which it was written: tokenizer and text encoder lesson 7, UNet lessons 2 and 6, guidance lesson 5, sampler lesson 4, noise lesson 1, decoder lesson 8.](figures/system.png)

**This is Stable Diffusion 1.5, the whole of it.** Every box carries the number of the lesson in which you wrote it.

That is meant literally. Your modules have the real one's layers and sizes, so its weights fit into them, number by number. This appendix puts them there. No other implementation stands in between: `t2i.pretrained.stable_diffusion` imports nothing but the ten lessons. A lesson in which you got everything right is *yours* here, and for any other the reference's code stands in. The next cell says which are yours. (To change that: `make grade lesson=N`, and restart the kernel.)

There is nothing to write here and nothing to grade. Run the cells, and look at what you know. Plan about 30 minutes.

| tier | machine | computing time, top to bottom | memory |
|---|---|---|---|
| `cpu`, without the real weights | 1 CPU core | 20 s of the processor's time; two minutes by the clock where other programs want the core too | 1 GB |
| `cpu`, with the real weights | 2 CPU cores | about six minutes more, for two pictures | 6 GB; 8 GB must be free |
| `gpu`, with the real weights | one GPU | not measured | half precision: about 4 GB of the GPU's |

(The first line was measured. The second follows from section 3's seconds. **The course's authors had no network, and have not drawn with the real weights.** The evidence in its place is section 4, at the true sizes as well: with the same weights, the same numbers as diffusers.)
"""

# %%
from t2i.lesson import start_appendix

start_appendix("You wrote this: Stable Diffusion")

# %%
import torch

from t2i import show
from t2i.drawing import show_stable_diffusion as show_sd
from t2i.drawing import show_vae
from t2i.lesson import tier
from t2i.pretrained.sd_sizes import SD15
from t2i.speed import sd_parts

# %% [markdown]
r"""
## 1. The parts

First your modules, at the real sizes. They would take 4 GB, so they are built on torch's device `meta`, where tensors have a shape and no numbers.
"""

# %%
parts = sd_parts.empty_parts(SD15)
show_sd.parts_table(parts)

# %% [markdown]
r"""
A billion weights, four fifths of them in the UNet. (The autoencoder's 84 million are encoder and decoder; if you begin with words alone, you need only the decoder's 49.) Which of the pieces you wrote hold the UNet's weights?
"""

# %%
weights = sd_parts.weights_by_lesson(parts["unet"])
millions = {name: count / 1e6 for name, count in weights.items()}
show_sd.bars(millions, "Weights of the UNet, in millions")

# %% [markdown]
r"""
Most of it is lesson 2's residual blocks: 3×3 convolutions between 1,280 channels are heavy. The place where the words come in, cross-attention, is one twentieth. The idea that made it a text-to-image model is a small part of it.

## 2. The names

Weights in a file are named tensors. Diffusers calls a layer one thing, you call it another, so loading is above all a table of names. Here is a part of it, for the first residual block and the first transformer:
"""

# %%
if tier() == "smoke":
    print("Left out in the smoke tier: it needs diffusers, which takes long to import.")
else:
    rows = show_sd.their_names("down_blocks.0.resnets.0") + show_sd.their_names(
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
    )
    display(show_sd.names_table(rows))

# %% [markdown]
r"""
The shapes tell the story. `attn2` is the second attention of lesson 6's block, the one that looks at words: `attn2.to_k` takes vectors of 768 numbers, which are CLIP's words, and makes keys of 320. `python -m t2i.pretrained.sd_weights FOLDER` prints the table for any model's folder; with `--every` it has a line for each tensor, and its shape. A key that is left over, or one that is missing, is an error that names it. Nothing is skipped silently: a UNet that lacks one of its 686 tensors still paints, only a little wrong, and one looks for the reason for days.

Why only `.safetensors` files? The older `.bin` and `.ckpt` files are *pickles*, and opening a pickle can run any program that somebody put in it. Your loader refuses them, and says how to convert one.

## 3. What a picture costs

**Predict before you run.** The prompt and the empty prompt are read once each, the UNet runs 25 times on two latents (with and without the prompt), the decoder once on 512×512 pixels. What share of the work is the UNet's? We count lesson 8's FLOPs: each multiplication and each addition.
"""

# %%
work = show_sd.costs(parts, steps=25)
show_sd.bars(work, "Floating-point operations of one picture, in trillions (10¹²)")

# %% [markdown]
r"""
More than nine tenths. So that is where every trick for speed begins: fewer steps (lesson 4), a smaller picture to work on (lesson 8). And inside one call of the UNet?
"""


# %%
def one_call(side):
    """Operations of each of the UNet's pieces on latents of this side, a multiple of 8."""
    with torch.device("meta"):
        z_t, t = torch.empty(1, 4, side, side), torch.zeros(1, dtype=torch.int64)
        context = torch.empty(1, 77, 768)
    unet = parts["unet"]
    return sd_parts.flops_by_lesson(lambda: unet(z_t, t, context))


usual = one_call(64)
billions = {name: count / 1e9 for name, count in usual.items()}
show_sd.bars(billions, "One call of the UNet, in billions (10⁹) of operations")

# %% [markdown]
r"""
Self-attention has moved up: it has few weights, but 4,096 places look at 4,096 places.

**Predict before you run.** A picture of 1024×1024 pixels has four times as many places. How many times as much work is each of these pieces?
"""

# %%
large = one_call(128)
grown = {name: large[name] / count for name, count in usual.items()}
show_sd.bars(grown, "At 1024 × 1024 pixels: times the operations of 512 × 512")

# %% [markdown]
r"""
What works at each place by itself has four times as much to do. In cross-attention it is a little less, since the 77 words do not grow, and the time's vectors do not grow at all. In self-attention, the looking has sixteen times as much, and the layers that make queries, keys and values four times; together it is twelve times, and nearly half of the call. That is why a larger model (XL) leaves attention out at the finest level.

In seconds, `make bench-sd` draws with the course's code (`mine=yes`: with yours) and with diffusers by turns, each in a process of its own, and checks that both draw the same. On two CPU cores, with random weights in float32 and 512×512 pixels, one step took 10.3 s with this course's code and 10.8 s with diffusers, decoding 15.7 s and 16.6 s, and both needed 6 GB (the middle of two pictures each, `data/stable_diffusion_bench.json`). So readable code need not be slower.

## 4. The same numbers

Is it really the same network? With random weights one can tell without any download. Diffusers builds a tiny Stable Diffusion and writes its folder; your code reads the folder; both draw from the same noise.
"""

# %%
if tier() == "smoke":
    print("Left out in the smoke tier: it needs diffusers, which takes long to import.")
else:
    from t2i.pretrained.sd_try import draw_both

    for name, (yours, theirs) in draw_both(steps=5, side=64).items():
        far = (yours - theirs).abs().max().item()
        print(f"{name}: values up to {theirs.abs().max():.2f}, largest difference {far:.1g}")

# %% [markdown]
r"""
`z_0` are the latents after the last step, `pictures` what the decoder makes of them. Any difference that is left is in the last digits, where sums were taken in another order.

The course's tests compare much more: each step of both samplers, with a negative prompt, from a picture, from split and from half-precision files, and once at the true sizes.

## 5. Type a prompt

Now the real weights, if this machine can have them: about 2 GB to fetch once from the Hugging Face hub (half precision, and no safety checker), and 8 GB of memory. Otherwise you get a small model with random weights. The sentence says which it is, and why. With the real ones a picture takes about four minutes on two cores (20 steps of 10 s, and the decoder).

If you have the folder already, put its whole path in the place of the name.
"""

# %%
from t2i.pretrained.sd_sample import draw
from t2i.pretrained.sd_try import SD15_NAME, is_random, real_or_random

sd, why = real_or_random(SD15_NAME)
print(why)

# %%
size, steps = ((64, 64), 10) if is_random(sd) else ((512, 512), 20)
prompt = "a photograph of a red fox in the snow, morning light"
looks = []  # the latents on their way
picture = draw(sd, prompt, steps=steps, size=size, on_step=lambda t, z, _: looks.append(z))
show_sd.drawn({prompt: picture})

# %% [markdown]
r"""
If the weights are random, you see coloured noise: all the parts run, and nobody has taught them anything. If they are real, it should be a fox, made by your code.

These are the latents on the way there, in false colours: what the UNet saw, and what you saw of small models in lesson 8. (With random weights, noise grows into stronger noise.)
"""

# %%
shown = [looks[i] for i in torch.linspace(0, len(looks) - 1, 5).round().int()]
on_the_way = show_vae.in_colour(torch.cat(shown).cpu())
show.film_strip(
    {"latents": on_the_way}, alt="Five moments of the latents, from noise to the finished ones."
)

# %% [markdown]
r"""
### Two things that need no new training

A **negative prompt** is lesson 5's guidance with other words in the place of the empty prompt: it goes away from them, not from "anything".

**Image to image** is lesson 1's `add_noise`: take a picture, encode it (lesson 8), drown it a part of the way, and let the sampler begin there. `strength` says how far it is drowned. (With random weights two pictures of noise come out. Look at the bar instead: of the steps only six in ten are taken.)
"""

# %%
oil = draw(sd, "a fox, oil on canvas", "photograph", steps, image=picture, strength=0.6, seed=1)
show_sd.drawn({prompt: picture, "a fox, oil on canvas; not: photograph": oil})

# %% [markdown]
r"""
From a terminal: `make stable-diffusion model=FOLDER prompt="a red fox in the snow" out=fox.png`. With `image=fox.png` it begins with that picture. `steps=`, `seed=`, `strength=`, `negative=` and `size=` (`size=512`, or `size="512 768"`, height first) can be given, too. That is the reference's code; after `make mine`, `mine=yes` takes yours.

## 6. What it has that you left out

Honestly, and one line each.

In the program that is run:

- **Safety checker**: a CLIP that compares each finished picture with vectors of unwanted content, and blackens those that match. Not here; anyone who offers pictures to others needs one.
- **Invisible watermark**: a pattern that says "made by a machine". Not here.
- **PNDM and a dozen other samplers**: 1.5 was published with PNDM. You have DDIM and DPM-Solver++(2M); the Euler kinds and Karras' spacing of steps are missing.
- **xformers, flash attention**: faster programs for the same attention. Yours calls `torch`'s fused one, which contains them on a GPU.
- **Memory tricks**: attention in slices, decoding in tiles, parts that wait on the disk. Not here, so sizes far above 512 want a large GPU.
- **Prompt weighting**: common in other programs, not here. **Skipping CLIP's last layer**: Stable Diffusion 2 and XL were trained that way, and for 1.5 many programs offer it; not here.
- **Prompts of more than 75 pieces**: cut with a warning, as in diffusers.
- **Sizes**: with these weights yours are multiples of 64 pixels; diffusers also takes multiples of 8: on the way up, each picture is enlarged to exactly the size it had on the way down.

In how it was trained:

- **The data**: hundreds of millions of pairs from the web (LAION), filtered by another network. Yours: scenes that a program paints.
- **The autoencoder's loss**: a perceptual loss and an adversary beside lesson 8's. Hence its sharp textures.
- **Scale**: 150,000 hours of a large GPU. The recipe is lesson 3's: noise, predict, square, repeat, with an average of the weights.

In what grew round it:

- **LoRA, textual inversion, DreamBooth**: cheap ways to teach it a face or a style. Your loader reads no LoRA file.
- **ControlNet**: a copy of the way down that is shown edges or poses. Not here.
- **Inpainting models**: five more channels for the hole. Refused, with the reason.
- **Stable Diffusion 2**: another CLIP (plain GELU), linear layers where 1.5 has 1×1 convolutions. Refused, with the reason.
- **XL**: two text encoders, up to ten transformer blocks in one spatial transformer, the picture's size as a condition. Refused.
- **3 and later**: lesson 9's joint blocks and lesson 10's straight roads, with a third text encoder (T5). You wrote the ideas; its weights are not read here.
- **DiT**: the weights of lesson 9's paper *are* read: `t2i.pretrained.class_to_image`.

## 7. And now?

Read diffusers' `pipeline_stable_diffusion.py`. It is 1,000 lines long, and you will recognise each of those that matter.
"""
