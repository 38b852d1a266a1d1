"""Stable Diffusion 1.x, run by the code of the ten lessons, with no other implementation in it.

    sd = StableDiffusion.from_pretrained("stable-diffusion-v1-5/stable-diffusion-v1-5")
    sd("a red fox in the snow", negative_prompt="blurry", seed=3)[0].save("fox.png")
    sd("a fox, oil on canvas", image=Image.open("fox.png"), strength=0.6)     # image to image

    make stable-diffusion prompt="a red fox in the snow" model=FOLDER out=fox.png

The tokenizer and the text encoder are lesson 7's, the UNet with its cross-attention lessons 2's and
6's, guidance lesson 5's, the samplers lesson 4's, the noise lesson 1's, the autoencoder lesson 8's.
The same seed gives the same picture as diffusers on a processor.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from t2i.bpe import Tokenizer
from t2i.clip import TextTransformer
from t2i.dpm_solver import sample_dpmpp_2m
from t2i.files.folders import read_json
from t2i.files.picture_files import picture_pixels
from t2i.guidance import guided_prediction
from t2i.latents import LatentSpace
from t2i.pretrained.sd_files import (
    check_together,
    find_pipeline,
    read_schedule,
    read_tokenizer,
    refuse_missing,
)
from t2i.pretrained.sd_schedule import Schedule, start_of
from t2i.pretrained.sd_sizes import trained_size
from t2i.pretrained.sd_weights import load_text, load_unet
from t2i.pretrained.vae_files import load_autoencoder
from t2i.samplers import sample_ddim
from t2i.schedules import add_noise
from t2i.text_to_image import encode_prompt, repeat_prompts, to_pil
from t2i.text_unet import TextUNet

OnStep = Callable[[int, Tensor, Tensor], None]


class StableDiffusion:
    """A prompt in, pictures out, in the latent space of Stable Diffusion.

    Args:
        tokenizer, text: what reads the prompt.
        unet: predicts the noise in latents (B, c, h, w), told the step and the words.
        space: turns latents into pictures, and pictures into latents.
        schedule: how the UNet was trained.
        size: height and width in pixels of the pictures that it was trained on.

    Source: Rombach et al. 2021, arXiv:2112.10752.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        text: TextTransformer,
        unet: TextUNet,
        space: LatentSpace,
        schedule: Schedule,
        size: tuple[int, int] = (512, 512),
    ):
        self.tokenizer, self.schedule, self.size = tokenizer, schedule, size
        self.text, self.unet, self.space = (
            part.eval().requires_grad_(False) for part in (text, unet, space)
        )
        self.channels = unet.conv_in.in_channels
        # a latent picture is halved between two levels of the UNet, and must come out even
        self.multiple = space.vae.compression * 2 ** (len(unet.down) - 1)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, dtype: torch.dtype = torch.float32
    ) -> "StableDiffusion":
        """The weights of a folder in diffusers' layout, on the CPU.

        Args:
            source: the folder, or a name on the Hugging Face hub.
            dtype: of the weights; half precision is for GPUs.

        Raises:
            FilesError: a file is missing, damaged or a pickle, or does not fit; it is named.
        """
        folder = find_pipeline(source)
        refuse_missing(folder, ("tokenizer", "scheduler", "text_encoder", "unet", "vae"))
        tokenizer = read_tokenizer(folder / "tokenizer")
        schedule = read_schedule(folder / "scheduler")
        text = load_text(folder / "text_encoder", dtype)
        unet = load_unet(folder / "unet", dtype)
        vae, scaling_factor = load_autoencoder(folder / "vae", dtype)
        check_together(folder, tokenizer, text, unet, vae.post_quant_conv.in_channels)
        size = trained_size(read_json(folder / "unet" / "config.json"), vae.compression)
        return cls(tokenizer, text, unet, LatentSpace(vae, scaling_factor), schedule, size)

    def to(self, device: str | torch.device) -> "StableDiffusion":
        """Move every part to a device; returns itself."""
        for part in (self.text, self.unet, self.space):
            part.to(device)
        return self

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str = "",
        num_inference_steps: int = 25,
        guidance_scale: float = 7.5,
        seed: int = 0,
        num_images: int = 1,
        size: int | tuple[int, int] | None = None,
        sampler: str = "dpmpp_2m",
        image: Image.Image | None = None,
        strength: float = 0.8,
        on_step: OnStep | None = None,
    ) -> list[Image.Image]:
        """Draw what the prompt says.

        Args:
            prompt: a text, or several.
            negative_prompt: what guidance leads away from; "" is nothing in particular.
            num_inference_steps: N, steps from noise to picture.
            guidance_scale: 1 is off, and costs half.
            seed: of the noise.
            num_images: pictures of each prompt.
            size: height and width in pixels, one number if they are equal; None: as the network
                was trained, or as image is.
            sampler: "ddim" or "dpmpp_2m".
            image: a picture to begin with; its size is the result's, rounded down.
            strength: how much of image is forgotten, in (0, 1]; ⌊N · strength⌋ steps are taken.
            on_step: called after each step as on_step(t, z, prediction).

        Returns:
            num_images PIL images of each prompt, those of the first prompt first.

        Raises:
            ValueError: no prompt, a size that does not suit the network, a number out of range.
        """
        if image is not None and size is not None:
            raise ValueError("size belongs to a picture made from noise alone; image has its own")
        prompts = repeat_prompts(prompt, num_images)
        timesteps = self.schedule.timesteps(sampler, num_inference_steps)
        generator = torch.Generator().manual_seed(seed)
        if image is None:
            z_T = self.noise(len(prompts), size or self.size, generator)
        else:
            timesteps = start_of(timesteps, strength)
            x_0 = picture_pixels(image, self.multiple)
            z_0 = self.encode_image(x_0, generator).expand(len(prompts), -1, -1, -1)
            noise = torch.randn(z_0.shape, generator=generator).to(z_0.device)
            t = torch.full((len(z_0),), int(timesteps[0]), device=z_0.device)
            z_T = add_noise(z_0, noise, t, self.schedule.alphas_cumprod)
        words = self.read([*prompts, negative_prompt])
        z_0 = self.walk(z_T, words[:-1], words[-1], timesteps, guidance_scale, sampler, on_step)
        return to_pil(self.decode(z_0))

    def read(self, prompts: Sequence[str]) -> Tensor:
        """(B, L, D): a vector for each token of each prompt, those after its end as well.

        Warns of a prompt that is cut.
        """
        room = len(self.text.positions) - 2  # less the first and the last token
        for prompt in prompts:
            pieces = len(self.tokenizer.encode(prompt)) - 2
            if pieces > room:
                told = f"of the prompt's {pieces} pieces only the first {room} are read: {prompt!r}"
                warnings.warn(told, stacklevel=3)
        return encode_prompt(self.tokenizer, self.text, prompts).context

    def noise(self, count: int, size: int | tuple[int, int], generator: torch.Generator) -> Tensor:
        """(count, c, h, w) standard Gaussian noise, in the size of the latents."""
        size = (size, size) if isinstance(size, int) else tuple(size)
        if len(size) != 2 or any(side < 1 or side % self.multiple for side in size):
            raise ValueError(
                f"size must be height and width, two multiples of {self.multiple}, got {size}"
            )
        side = [side // self.space.vae.compression for side in size]
        noise = torch.randn(count, self.channels, *side, generator=generator)
        return noise.to(self.text.positions.device)

    def walk(
        self,
        z_T: Tensor,
        condition: Tensor,
        null: Tensor,
        timesteps: Tensor,
        guidance_scale: float,
        sampler: str = "ddim",
        on_step: OnStep | None = None,
    ) -> Tensor:
        """From noisy latents to clean ones, with lesson 4's samplers and lesson 5's guidance.

        Args:
            z_T: (B, c, h, w) at the noise of timesteps[0].
            condition: (B, L, D) what is wanted, as read gives it.
            null: (L, D) what is not: the negative prompt.
            timesteps: (N,) falling.
            guidance_scale, sampler, on_step: as in __call__.

        Returns:
            z_0: (B, c, h, w) float32.
        """
        schedule, last = self.schedule, z_T

        def guided(z_t: Tensor, t: Tensor) -> Tensor:
            return guided_prediction(self.predict, z_t, t, condition, null, guidance_scale)

        def seen(t: int, z: Tensor, prediction: Tensor) -> None:
            nonlocal last
            last = z
            if t == timesteps[-1] and sampler == "ddim" and not schedule.ends_clean:
                first = torch.zeros(len(z), dtype=torch.int64, device=z.device)
                last = add_noise(z, prediction, first, schedule.alphas_cumprod)  # ends at step 0
            if on_step is not None:
                on_step(t, last, prediction)

        sample = {"ddim": sample_ddim, "dpmpp_2m": sample_dpmpp_2m}[sampler]
        sample(
            guided,
            z_T,
            schedule.alphas_cumprod,
            timesteps,
            clip_sample=schedule.clip_sample,
            prediction_type=schedule.prediction_type,
            on_step=seen,
        )
        return last

    def predict(self, z_t: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """The UNet in its own precision; the walk itself is in float32."""
        dtype = self.unet.conv_in.weight.dtype
        return self.unet(z_t.to(dtype), t, context.to(dtype)).to(z_t.dtype)

    def decode(self, z_0: Tensor) -> Tensor:
        """Latents (B, c, h, w) in, pictures (B, 3, H, W) in about [-1, 1] out, float32."""
        return self.space.decode(z_0.to(self.space.vae.post_quant_conv.weight.dtype)).float()

    def encode_image(self, x_0: Tensor, generator: torch.Generator) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] in, a draw of their latents out, float32."""
        weight = self.space.vae.quant_conv.weight
        f = self.space.vae.compression
        shape = (len(x_0), self.channels, x_0.shape[2] // f, x_0.shape[3] // f)
        noise = torch.randn(shape, generator=generator)
        return self.space.encode(x_0.to(weight), noise.to(weight)).float()
