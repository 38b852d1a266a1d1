"""Lesson 9's transformer as a denoiser of scenes: words and a noisy picture in, the noise out.

model = JointDenoiser(len(VOCABULARY), dim=64, depth=4, num_heads=4, patch_size=4)
noise_pred = model(x_t, t, tokens, mask)          # as lesson 6's SceneDenoiser is called
FirstGuess(DiT(1, sample_size=28, num_classes=10))(x_t, t, label)   # any network of lesson 9
"""

import torch
from torch import Tensor, nn

from t2i.joint import JointDiT
from t2i.schedules import alphas_cumprod, cosine_betas, gather
from t2i.text_unet import WordEncoder, mean_word
from t2i.world.caption_reading import MAX_LENGTH


class FirstGuess(nn.Module):
    """A network of lesson 9 with lesson 3's head start: x_t is the first guess of its noise.

    noise_pred = √(1 - ᾱ_t) · x_t + √ᾱ_t · network(x_t, t, …), so the network itself predicts v.

    Args:
        network: DiT, JointDiT, or anything that is called like them.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        schedule = alphas_cumprod(cosine_betas())
        self.register_buffer("alphas_cumprod", schedule, persistent=False)

    @property
    def denoiser(self) -> nn.Module:
        """What knows the schedule: itself."""
        return self

    def forward(self, x_t: Tensor, t: Tensor, *conditions: Tensor | None) -> Tensor:
        """(B, C, H, W) and (B,) -> (B, C, H, W), the noise in x_t."""
        alpha_bar_t = gather(self.alphas_cumprod, t, like=x_t)
        v_pred = self.network(x_t, t, *conditions)
        return (1 - alpha_bar_t).sqrt() * x_t + alpha_bar_t.sqrt() * v_pred


class JointDenoiser(nn.Module):
    """Words and a noisy picture in, the noise out: JointDiT in the place of lesson 6's UNet.

    As there, the mean of the words is added to the time.

    Args:
        vocabulary_size: words, padding (token 0) included.
        context_dim: length of a word's vector.
        max_length: words that a caption has at most.
        channels: of the picture.
        kind: the class of the network inside.
        **dit: further arguments of JointDiT.
    """

    def __init__(
        self,
        vocabulary_size: int,
        context_dim: int = 64,
        max_length: int = MAX_LENGTH,
        channels: int = 3,
        kind: type[nn.Module] = JointDiT,
        **dit,
    ):
        super().__init__()
        self.words = WordEncoder(vocabulary_size, context_dim, max_length)
        network = kind(channels, channels, context_dim, **dit)
        self.to_cond = nn.Linear(context_dim, network.context_in.out_features)
        self.denoiser = FirstGuess(network)

    @property
    def alphas_cumprod(self) -> Tensor:
        """(T,): the schedule that the denoiser was built for."""
        return self.denoiser.alphas_cumprod

    def forward(self, x_t: Tensor, t: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """What is noise in pictures that these words describe: as SceneDenoiser.forward."""
        context = self.words(tokens)
        if mask.shape != tokens.shape or mask.dtype != torch.bool:
            raise ValueError(
                f"mask must be {tuple(tokens.shape)} bool like tokens (True = a word), "
                f"got {tuple(mask.shape)} {mask.dtype}"
            )
        return self.denoiser(x_t, t, context, mask, self.to_cond(mean_word(context, mask)))
