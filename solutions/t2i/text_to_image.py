"""Lesson 10. Text to image: a prompt goes in, pictures come out.

pipe = TextToImage.from_pretrained("data/checkpoints/scenes")
pictures = pipe("a red seven above a blue star", guidance_scale=5.0, seed=0, num_images=4)
pictures[0].save("seven.png")                          # PIL images

Every part is from a lesson: the tokenizer and the text encoder from lesson 7, the transformer from
lesson 9, the latent space from lesson 8, guidance from lesson 5; the walk is this lesson's own.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch
from PIL import Image
from torch import Tensor, nn

from t2i.bpe import Tokenizer
from t2i.clip import TextTransformer
from t2i.clip_layers import words_mask
from t2i.engine.batches import stream_seed
from t2i.flow import euler_times, sample_euler
from t2i.guidance import guided_prediction
from t2i.joint import JointDiT
from t2i.latents import LatentSpace

TIME_SCALE = 1000.0  # the clocks of lesson 2 were made for steps up to 1000


class Prompt(NamedTuple):
    """B prompts, read: what the transformer is told besides x_t and t."""

    context: Tensor  # (B, L, width) a vector a token
    mask: Tensor  # (B, L) bool, True up to the end token
    pooled: Tensor  # (B, width) a vector for the whole prompt


class TextDiT(nn.Module):
    """Lesson 9's JointDiT, told the time from 0 to 1 and a vector for the whole prompt.

    direction = network(x_t, 1000 · t, context, mask, to_cond(pooled))

    Args:
        width: length of the text encoder's vectors.
        **dit: arguments of JointDiT, apart from context_dim.

    Source: Esser et al. 2024, arXiv:2403.03206, figure 2a.
    """

    def __init__(self, width: int, **dit):
        super().__init__()
        self.config = {"width": width, **dit}
        self.network = JointDiT(context_dim=width, **dit)
        self.to_cond = nn.Linear(width, self.network.context_in.out_features)

    def forward(
        self, x_t: Tensor, t: Tensor, context: Tensor, mask: Tensor, pooled: Tensor
    ) -> Tensor:
        """Where x_t moves when t grows.

        Args:
            x_t: (B, C, H, W) latents on the way.
            t: (B,) in [0, 1].
            context, mask, pooled: of the prompts, as in Prompt.

        Returns:
            (B, C, H, W).
        """
        return self.network(x_t, TIME_SCALE * t, context, mask, self.to_cond(pooled))


def encode_prompt(tokenizer: Tokenizer, text: TextTransformer, prompts: Sequence[str]) -> Prompt:
    """Read prompts: numbers first, then vectors, and which of them count.

    Args:
        tokenizer: called as tokenizer(prompts, length), gives (B, length) numbers.
        text: the text encoder; it reads len(text.positions) tokens.
        prompts: B texts; the empty one asks for nothing.

    Returns:
        Prompt(context, mask, pooled), on the encoder's device. A prompt that is too long is cut.

    Source: Esser et al. 2024, arXiv:2403.03206, section 4.
    """
    tokens = tokenizer(prompts, len(text.positions)).to(text.positions.device)
    context, pooled = text(tokens)
    return Prompt(context, words_mask(tokens, text.end_token), pooled)


class Pipeline:
    """The parts of a text-to-image model: where they run, how they are saved, their noise.

    They draw from now on, and are frozen: of a network that still trains, give a copy.

    Args:
        tokenizer, text: of one CLIP; what reads the prompt.
        transformer: what finds the way from noise to a latent picture.
        space: what turns latents into pictures.
        size: height and width of the pictures in pixels.
        shift: of euler_times.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        text: TextTransformer,
        transformer: TextDiT,
        space: LatentSpace,
        size: int,
        shift: float = 1.0,
    ):
        self.tokenizer, self.size, self.shift = tokenizer, size, shift
        self.text, self.transformer, self.space = (
            part.eval().requires_grad_(False) for part in (text, transformer, space)
        )

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """What save_pretrained wrote, in float32, on the CPU.

        Raises:
            FilesError: a file is missing, damaged, or does not fit; the message names it.
        """
        from t2i.pretrained.text_to_image_files import load_folder  # it stands on this module

        return load_folder(folder, cls)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write all parts into a folder, laid out as diffusers' pipelines are.

        Args:
            folder: made if it is missing.
            dtype: of the weights in the files.
        """
        from t2i.pretrained.text_to_image_files import save_folder

        save_folder(self, folder, dtype)

    def to(self, device: str | torch.device) -> Self:
        """Move every part to a device; returns itself."""
        for part in (self.text, self.transformer, self.space):
            part.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.text.positions.device

    def noise(self, count: int, seed: int) -> Tensor:
        """(count, c, h, w) standard Gaussian noise; row i depends on (seed, i) alone."""
        shape = self.transformer.network.picture
        rows = [
            torch.randn(shape, generator=torch.Generator().manual_seed(stream_seed(seed, row)))
            for row in range(count)
        ]
        return torch.stack(rows).to(self.device)


class TextToImage(Pipeline):
    """A prompt in, pictures out: all that the ten lessons built, in one object.

    Built of tokenizer, text, transformer, space, size and shift, as Pipeline says.

    Source: Rombach et al. 2021, arXiv:2112.10752; Esser et al. 2024, arXiv:2403.03206.
    """

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        num_inference_steps: int = 25,
        guidance_scale: float = 5.0,
        seed: int = 0,
        num_images: int = 1,
        on_step: Callable[[float, Tensor, Tensor], None] | None = None,
    ) -> list[Image.Image]:
        """Draw what the prompt says.

        Args:
            prompt: a text, or several.
            num_inference_steps: N, steps of the walk from noise to latents.
            guidance_scale: 1 is off, and costs half; above it the prompt counts for more.
            seed: of the noise. The noise of picture i of the result depends on (seed, i) alone.
            num_images: pictures of each prompt.
            on_step: called after each step as on_step(t, z, direction), see sample_euler.

        Returns:
            num_images PIL images of each prompt, those of the first prompt first.

        Raises:
            ValueError: no prompt, one that is no text, or a number out of range.
        """
        prompts = repeat_prompts(prompt, num_images)
        read = encode_prompt(self.tokenizer, self.text, [*prompts, ""])
        wanted, nothing = torch.arange(len(prompts), device=self.device), len(prompts)  # rows of it

        def told(z_t: Tensor, t: Tensor, rows: Tensor) -> Tensor:
            return self.transformer(z_t, t, *(part[rows] for part in read))

        def direction(z_t: Tensor, t: Tensor) -> Tensor:
            return guided_prediction(told, z_t, t, wanted, nothing, guidance_scale)

        noise = self.noise(len(prompts), seed)
        z_0 = sample_euler(direction, noise, euler_times(num_inference_steps, self.shift), on_step)
        return to_pil(self.space.decode(z_0))


def repeat_prompts(prompt: str | Sequence[str], num_images: int) -> list[str]:
    """Every prompt as often as pictures of it are wanted, or one sentence on what is wrong."""
    prompts = [prompt] if isinstance(prompt, str) else prompt
    texts = isinstance(prompts, Sequence) and all(isinstance(each, str) for each in prompts)
    if not texts or not prompts:
        raise ValueError(f"prompt must be a text or a list of texts, got {prompt!r}")
    if not isinstance(num_images, int) or num_images < 1:
        raise ValueError(f"num_images must be a whole number, 1 or more, got {num_images!r}")
    return [each for each in prompts for _ in range(num_images)]


def to_pil(images: Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [-1, 1] as PIL images; what lies outside is clipped.

    Raises:
        ValueError: a value that is not a number.
    """
    if images.isnan().any():
        raise ValueError("pictures must be numbers, they contain NaN: what was the model's answer?")
    levels = (127.5 * (images.float().clamp(-1, 1) + 1)).round().byte()
    return [Image.fromarray(each) for each in levels.permute(0, 2, 3, 1).cpu().numpy()]
