"""A class in, pictures out: released weights of the DiT paper in lesson 9's model.

    dit = ClassToImage.from_pretrained("facebook/DiT-XL-2-256")     # or a folder
    dit([207, 360], seed=33)[0].save("retriever.png")               # numbers of ImageNet's classes

The transformer is lesson 9's, guidance and the walk lesson 5's `sample_guided` (DDIM), the noise
schedule lesson 1's, the autoencoder lesson 8's.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from t2i.dit import DiT
from t2i.files.folders import FilesError, refuse_misfits
from t2i.guidance import sample_guided
from t2i.latents import LatentSpace
from t2i.pretrained.dit_files import load_dit
from t2i.pretrained.sd_files import find_pipeline, read_schedule, refuse_missing
from t2i.pretrained.sd_schedule import Schedule
from t2i.pretrained.vae_files import load_autoencoder
from t2i.text_to_image import to_pil


class ClassToImage:
    """A label in, a picture out, in the latent space of Stable Diffusion's autoencoder.

    Both parts draw from now on, and are frozen: of a network that still trains, give a copy.

    Args:
        transformer: predicts the noise in latents, told the step and the label; what it says in
            further channels about the noise's variance is not used.
        space: turns latents into pictures.
        schedule: how the transformer was trained.

    Source: Peebles and Xie 2022, arXiv:2212.09748.
    """

    def __init__(self, transformer: DiT, space: LatentSpace, schedule: Schedule):
        self.schedule = schedule
        self.transformer, self.space = (
            part.eval().requires_grad_(False) for part in (transformer, space)
        )

    @classmethod
    def from_pretrained(
        cls, source: str | Path, dtype: torch.dtype = torch.float32
    ) -> "ClassToImage":
        """The weights of a folder in diffusers' layout, on the CPU.

        Args:
            source: the folder (transformer/, vae/, scheduler/), or a name on the Hugging Face hub.
            dtype: of the weights; half precision is for GPUs.

        Raises:
            FilesError: a file is missing, damaged or a pickle, or does not fit; it is named.
        """
        folder = find_pipeline(source)
        refuse_missing(folder, ("transformer", "vae", "scheduler"))
        transformer = load_dit(folder / "transformer", dtype)
        vae, scaling_factor = load_autoencoder(folder / "vae", dtype)
        fit = transformer.picture[0] == vae.post_quant_conv.in_channels
        refuse_misfits(folder, {"transformer and vae": fit})
        schedule = read_schedule(folder / "scheduler")
        if not schedule.ends_clean:
            raise FilesError(f"{folder}/scheduler has set_alpha_to_one false; ours ends at 1.")
        return cls(transformer, LatentSpace(vae, scaling_factor), schedule)

    def to(self, device: str | torch.device) -> "ClassToImage":
        """Move every part to a device; returns itself."""
        for part in (self.transformer, self.space):
            part.to(device)
        return self

    @torch.no_grad()
    def __call__(
        self,
        labels: Sequence[int],
        num_inference_steps: int = 50,
        guidance_scale: float = 4.0,
        seed: int = 0,
        on_step: Callable[[int, Tensor, Tensor], None] | None = None,
    ) -> list[Image.Image]:
        """Draw one picture of each class.

        Args:
            labels: B numbers of classes.
            num_inference_steps: N, steps of DDIM from noise to picture.
            guidance_scale: 1 is off, and costs half.
            seed: of the noise; the same gives diffusers' picture.
            on_step: called after each step as on_step(t, z, noise_pred).

        Raises:
            ValueError: a class that there is not, none at all, or a number out of range.
        """
        wanted, known = torch.tensor(labels), self.transformer.null
        whole = wanted.ndim == 1 and len(wanted) and not wanted.is_floating_point()
        if not whole or not ((wanted >= 0) & (wanted < known)).all():
            raise ValueError(f"labels must be numbers from 0 to {known - 1}, got {labels}")
        z_T = torch.randn(
            len(labels), *self.transformer.picture, generator=torch.Generator().manual_seed(seed)
        )
        device = self.transformer.positions.device
        z_0 = sample_guided(
            self.predict,
            z_T.to(device),
            wanted.to(device),
            self.transformer.null,
            self.schedule.alphas_cumprod,
            self.schedule.timesteps("ddim", num_inference_steps),
            guidance_scale,
            clip_sample=self.schedule.clip_sample,
            prediction_type=self.schedule.prediction_type,
            on_step=on_step,
        )
        return to_pil(self.decode(z_0))

    def predict(self, z_t: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """The noise in z_t, in the transformer's own precision; the walk is in float32."""
        told = self.transformer(z_t.to(self.transformer.patch_in.weight.dtype), t, label)
        return told[:, : z_t.shape[1]].to(z_t.dtype)

    def decode(self, z_0: Tensor) -> Tensor:
        """Latents (B, c, h, w) in, pictures (B, 3, H, W) in about [-1, 1] out, float32."""
        return self.space.decode(z_0.to(self.space.vae.post_quant_conv.weight.dtype)).float()
