# %% [markdown]
r"""
# Lesson 10 · Text to image
"""

# %%
from t2i.lesson import start

start(10)

# %%
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from t2i.batches import stream_seed
from t2i.bpe import Tokenizer
from t2i.clip import TextTransformer
from t2i.clip_layers import words_mask
from t2i.flow import check_times, euler_times
from t2i.latents import LatentSpace
from t2i.text_to_image import TextDiT, repeat_prompts, to_pil

# %% [markdown]
r"""
## 1. Straight roads
"""

# %%
#| exercise: flow.flow_point
#| points: 10
#| difficulty: 1
#| minutes: 6
#| hint: A mixture of the two ends, with the shares 1 − t and t. Only the shapes need care: t is `(B,)`, one number a sample, and it has to fit to `(B, C, H, W)` or to any other shape.
#| hint: Give t as many axes of size 1 as x_0 has axes after the first: `t.reshape(-1, *[1] * (x_0.ndim - 1))`.
#| hint: With that t: `return (1 - t) * x_0 + t * noise`.

# %%
#| check: flow_point
x_0, noise = torch.randn(3, 4, 2, 5), torch.randn(3, 4, 2, 5)
assert torch.equal(flow_point(x_0, noise, torch.zeros(3)), x_0), "t = 0 is the picture"
assert torch.equal(flow_point(x_0, noise, torch.ones(3)), noise), "t = 1 is the noise"
x_t = flow_point(x_0, noise, torch.tensor([0.0, 0.25, 1.0]))
assert torch.allclose(x_t[1], 0.75 * x_0[1] + 0.25 * noise[1]), "each sample has its own t"
assert flow_point(x_0[:, 0, 0], noise[:, 0, 0], torch.rand(3)).shape == (3, 5), (
    "points (B, D) should work as well as pictures (B, C, H, W)"
)

# %%
#| exercise: flow.flow_target
#| points: 10
#| difficulty: 1
#| minutes: 4
#| hint: The slope of the line in t. Write x_t = (1 − t) · x_0 + t · noise down, and take the derivative with respect to t.
#| hint: −x_0 from the first term, noise from the second. There is no t left.
#| hint: `return noise - x_0`.

# %%
#| check: flow_target
x_0, noise = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
target = flow_target(x_0, noise)
assert torch.allclose(x_0 + target, noise), "from the picture, the whole way leads to the noise"
later, now = (flow_point(x_0, noise, torch.full((3,), t)) for t in (0.7, 0.2))
assert torch.allclose(later - now, 0.5 * target, atol=1e-6), "half a unit of t: half of the way"

# %%
#| exercise: flow.rectified_flow_loss
#| points: 15
#| difficulty: 2
#| minutes: 8
#| hint: Three steps: a point on each line, what the model says there, how far that is from what is right.
#| hint: Your `flow_point` gives x_t, your `flow_target` what is right. The model is called as `model(x_t, t)`.
#| hint: `return F.mse_loss(model(x_t, t), flow_target(x_0, noise))`.

# %%
#| check: rectified_flow_loss
x_0, noise, t = torch.randn(4, 2, 3), torch.randn(4, 2, 3), torch.rand(4)
right = noise - x_0
assert rectified_flow_loss(lambda x_t, t: right, x_0, t, noise) == 0, "all right: no loss"
loss = rectified_flow_loss(lambda x_t, t: right + 2, x_0, t, noise)
assert torch.isclose(loss, torch.tensor(4.0)), "each value wrong by 2: a mean square of 4"
seen = []
rectified_flow_loss(lambda *given: seen.extend(given) or right, x_0, t, noise)
assert torch.equal(seen[0], flow_point(x_0, noise, t)), "the model should see the point x_t"
assert torch.equal(seen[1], t), "and its time t"

# %%
#| exercise: flow.logit_normal_times
#| points: 10
#| difficulty: 1
#| minutes: 5
#| hint: One line. The Gaussian numbers come in; first give them the wanted mean and spread, then squeeze them into (0, 1).
#| hint: `mean + std * gaussian` is Gaussian with that mean and that standard deviation. What squeezes any number into (0, 1) is the sigmoid.
#| hint: `return torch.sigmoid(mean + std * gaussian)`.

# %%
#| check: logit_normal_times
gaussian = torch.randn(5000)
t = logit_normal_times(gaussian)
assert t.shape == (5000,) and ((t > 0) & (t < 1)).all(), "as many times, all between 0 and 1"
assert logit_normal_times(torch.zeros(1)) == 0.5, "the middle of the Gaussian is the middle"
assert abs(t.mean() - 0.5) < 0.02, "as often early as late"
assert logit_normal_times(gaussian, mean=1.0).mean() > 0.6, "a mean above 0: more noise"
middle = [
    ((logit_normal_times(gaussian, 0.0, s) - 0.5).abs() < 0.2).float().mean() for s in (0.5, 2)
]
assert middle[0] > middle[1], "a smaller std: more of the times in the middle"

# %%
#| exercise: flow.sample_euler
#| points: 20
#| difficulty: 3
#| minutes: 15
#| hint: A loop over neighbouring times: `for t, t_next in zip(times[:-1].tolist(), times[1:].tolist())`. In it: ask the model for the direction, walk, report.
#| hint: The model wants one t for each sample: `torch.full((len(x),), t, device=x.device)`. The step is `t_next - t`, and it is negative: you walk from 1 down to 0.
#| hint: `direction = model(x, ...)`, then `x = x + (t_next - t) * direction`, then `on_step(t_next, x, direction)` if on_step is not None. At the end return x.

# %%
#| check: sample_euler
x_0, noise = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
for steps in (1, 4):
    end = sample_euler(lambda x, t: noise - x_0, noise, euler_times(steps))
    assert torch.allclose(end, x_0, atol=1e-5), "on a straight road any number of steps arrives"
seen = []
end = sample_euler(lambda x, t: seen.append(t) or x, noise, torch.tensor([1.0, 0.6, 0.5]))
assert len(seen) == 2 and seen[0].shape == (3,), "two steps, and a t for each sample"
assert torch.allclose(seen[1], torch.tensor(0.6)), "each step starts where the last one ended"
assert torch.allclose(end, 0.6 * 0.9 * noise), "x, less 0.4 · x, and of that less 0.1 of it"

# %%
#| given: text_to_image.Prompt

# %%
#| exercise: text_to_image.encode_prompt
#| points: 15
#| difficulty: 2
#| minutes: 10
#| hint: Three lines: texts to numbers, numbers to vectors, and which of the numbers are words.
#| hint: `tokenizer(prompts, length)` gives the numbers. The encoder reads `len(text.positions)` of them, and they have to lie where the encoder lies: `.to(text.positions.device)`. `text(tokens)` gives a vector for each token and one for the whole.
#| hint: `context, pooled = text(tokens)`, and `return Prompt(context, words_mask(tokens, text.end_token), pooled)`.

# %%
#| check: encode_prompt
from t2i.text_to_image_recipes import text_to_image_recipe

small = text_to_image_recipe("smoke")  # the right parts, small and untrained
tokenizer, text = small.clip.tokenizer, small.clip.build().text.eval()
wanted = encode_prompt(tokenizer, text, ["a red seven", ""])
length = len(text.positions)
assert wanted.context.shape == (2, length, 64), "a vector for each token"
assert wanted.pooled.shape == (2, 64), "and a vector for the whole prompt"
assert wanted.mask.dtype == torch.bool and wanted.mask.shape == (2, length), "True: a word"
assert wanted.mask[1].sum() == 2, "the empty prompt still has a start and an end"
assert wanted.mask[0].sum() > 4, "start, at least a word each, end"
assert not torch.allclose(wanted.pooled[0], wanted.pooled[1]), "another text, another vector"

# %%
#| exercise: text_to_image.TextToImage.__call__
#| points: 20
#| difficulty: 4
#| minutes: 25
#| hint: In order: repeat the prompts (`repeat_prompts`), read them, read as many empty prompts, make a function `direction(z_t, t)` for the walk, draw the noise (`self.noise`), walk (`sample_euler`), decode (`self.space.decode`), and make PIL images (`to_pil`).
#| hint: `direction` asks the transformer with the prompt and with the empty prompt, and mixes as in lesson 5: uncond + guidance_scale · (cond − uncond). With a guidance scale of 1 the answer with the prompt is enough. The transformer is called as `self.transformer(z_t, t, *prompt)`, since a Prompt is the three things that it wants.
#| hint: `wanted = encode_prompt(self.tokenizer, self.text, prompts)`, the same for `nothing` with `[""] * len(prompts)`. Then `z_0 = sample_euler(direction, self.noise(len(prompts), seed), euler_times(num_inference_steps, self.shift), on_step)`, and `return to_pil(self.space.decode(z_0))`.

# %%
#| check: TextToImage.__call__
space = LatentSpace(small.vae.build(), 1.0)
pipe = TextToImage(tokenizer, text, small.build(), space, 32)
nn.init.normal_(pipe.transformer.network.final.patch_out.weight)  # as if it had learnt something
pictures = pipe(["a red seven", "a blue star"], num_inference_steps=2, num_images=2)
assert len(pictures) == 4 and pictures[0].size == (32, 32), "two prompts, two pictures of each"

# %%
#| quiz: one_step

# %%
#| quiz: forgotten_empty

# %%
#| quiz: who_knows
