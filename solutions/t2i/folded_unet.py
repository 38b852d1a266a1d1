"""The UNet as the recipes use it on a small machine: fewer places to visit, and a first guess.

    model = FoldedUNet(fold=2, margin=2)              # model(x_t, t) -> noise_pred, 28×28 pixels
    loss = digit_loss(model, x_0)                     # what lesson 3 trains with

`recipes` says which UNet is inside, and how long it is trained.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.diffusion import ddpm_loss
from t2i.practice import heard_by_noise, middle_steps, random_steps
from t2i.schedules import alphas_cumprod, cosine_betas, gather
from t2i.unet import UNet

EMPTY = -1.0  # the value of a pixel without ink


class FoldedUNet(nn.Module):
    """A UNet with three helps for small machines: folded pixels, a margin, a first guess.

    Each fold × fold block of pixels becomes the channels of one big pixel: nothing is lost, and
    the network has fold² times fewer places to visit. It does not visit the margin at all: where
    there is never any ink x_0 is known, and with it the noise. And it need not copy the noise that
    it can see: near the end of the forward process x_t is almost pure noise, so x_t is the first
    guess,

    noise_pred = √(1 - ᾱ_t) · x_t + √ᾱ_t · unet(x_t, t)

    which makes the UNet's own output the `v_pred` of lesson 4.

    Args:
        channels: channels of the picture, in and out.
        fold: side of a block; height and width are multiples of it.
        kind: the class of the network inside; lesson 6 puts its own here.
        margin: pixels at each edge that are always EMPTY.
        **unet: further arguments of the UNet.

    Source: Shi et al. 2016, arXiv:1609.05158 (pixel shuffle); Salimans and Ho 2022,
        arXiv:2202.00512, appendix D (v).
    """

    def __init__(
        self,
        channels: int = 1,
        fold: int = 2,
        kind: type[UNet] = UNet,
        margin: int = 0,
        **unet,
    ):
        super().__init__()
        self.fold, self.margin = fold, margin
        self.unet = kind(channels * fold**2, channels * fold**2, **unet)
        nn.init.zeros_(self.unet.conv_out.weight)  # a calm start: the first guess alone
        nn.init.zeros_(self.unet.conv_out.bias)
        schedule = alphas_cumprod(cosine_betas())
        self.register_buffer("alphas_cumprod", schedule, persistent=False)

    def forward(self, x_t: Tensor, t: Tensor, *conditions: Tensor | None) -> Tensor:
        """(B, channels, H, W) and (B,) -> (B, channels, H, W), the noise in x_t.

        What else is given, a label's vector or words, goes to the network inside as it is.
        """
        if not self.margin:
            return self.inside(x_t, t, *conditions)
        alpha_bar_t = gather(self.alphas_cumprod, t, like=x_t)
        noise_pred = (x_t - alpha_bar_t.sqrt() * EMPTY) / (1 - alpha_bar_t).sqrt()
        self.middle(noise_pred).copy_(self.inside(self.middle(x_t), t, *conditions))
        return noise_pred

    def middle(self, x: Tensor) -> Tensor:
        """Pictures (B, C, H, W) without their margin."""
        m = self.margin
        return x[..., m : x.shape[-2] - m, m : x.shape[-1] - m]

    def inside(self, x_t: Tensor, t: Tensor, *conditions: Tensor | None) -> Tensor:
        """As forward, for pictures that have no margin, or none any more."""
        folded = F.pixel_unshuffle(x_t, self.fold)  # (B, channels · fold², H/fold, W/fold)
        correction = F.pixel_shuffle(self.unet(folded, t, *conditions), self.fold)
        alpha_bar_t = gather(self.alphas_cumprod, t, like=x_t)
        return (1 - alpha_bar_t).sqrt() * x_t + alpha_bar_t.sqrt() * correction


def noise_loss(model: FoldedUNet, x_0: Tensor) -> Tensor:
    """ddpm_loss at a random step for each picture; what the later lessons train with.

    Args:
        model: knows its schedule as model.alphas_cumprod, and its margin, if it has one.
        x_0: (B, C, H, W) clean pictures.
    """
    predict = model
    if getattr(model, "margin", 0):  # nothing can be learned there
        x_0, predict = model.middle(x_0), model.inside
    t = random_steps(x_0, len(model.alphas_cumprod))
    return ddpm_loss(predict, x_0, t, torch.randn_like(x_0), model.alphas_cumprod)


def digit_loss(model: FoldedUNet, x_0: Tensor) -> Tensor:
    """What lesson 3 trains with: ddpm_loss at middle_steps, heard by the noise.

    Args:
        model: its margin, if it has one, is left out.
        x_0: (B, 1, 28, 28) digits.
    """
    x_0 = model.middle(x_0)
    t = middle_steps(x_0, len(model.alphas_cumprod))
    predict = heard_by_noise(model.inside, model.alphas_cumprod)
    return ddpm_loss(predict, x_0, t, torch.randn_like(x_0), model.alphas_cumprod)
