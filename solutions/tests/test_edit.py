"""Redrawing: what is covered is drawn as by the pipeline, what is kept is the autoencoder's."""

import pytest
import torch
from torch import Tensor, nn

from t2i.apps.edit import later_times, redraw
from t2i.files.picture_files import to_tensor
from t2i.flow import euler_times, flow_point
from t2i.latents import BlockMeans, LatentSpace
from t2i.runs.text_to_image_recipes import text_to_image_recipe
from t2i.text_to_image import TextToImage, to_pil

PROMPTS = ["a red seven", "a blue star above a pink two"]
SIDE = 32


@pytest.fixture(scope="module")
def pipe():
    """The smoke tier's sizes, as if they had learnt something; a latent is a block's mean."""
    torch.manual_seed(0)
    plan = text_to_image_recipe("smoke")
    text, transformer = plan.clip.build().text, plan.build()
    nn.init.normal_(transformer.network.final.patch_out.weight)
    channels, side, _ = transformer.network.picture
    space = LatentSpace(Coloured(SIDE // side, channels), 1.0)
    return TextToImage(plan.clip.tokenizer, text, transformer, space, SIDE)


class Coloured(BlockMeans):
    """Block means with as many channels as the transformer wants: red comes twice, and so on."""

    def __init__(self, compression: int, channels: int):
        super().__init__(compression)
        self.which = torch.arange(channels) % 3

    def encode(self, x_0: Tensor):
        return super().encode(x_0[:, self.which])

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z[:, :3])


@pytest.fixture(scope="module")
def picture(pipe):
    """Blocks of one colour each, so that the autoencoder loses nothing."""
    f = pipe.space.vae.compression
    colours = torch.rand(1, 3, SIDE // f, SIDE // f, generator=torch.Generator().manual_seed(1))
    return to_pil(pipe.space.vae.decode(2 * colours - 1))[0]


def pixels(pictures) -> Tensor:
    return (127.5 * (to_tensor(pictures) + 1)).round()


def test_at_full_strength_nothing_of_the_picture_is_left(pipe, picture):
    how = {"num_inference_steps": 3, "guidance_scale": 2.0, "seed": 5, "num_images": 2}
    drawn, usual = redraw(pipe, picture, PROMPTS, 1.0, **how), pipe(PROMPTS, **how)
    assert len(drawn) == 4
    assert (pixels(drawn) - pixels(usual)).abs().max() <= 1


def test_where_everything_is_kept_the_picture_comes_back(pipe, picture):
    everything = torch.ones(SIDE, SIDE, dtype=torch.bool)
    for strength in (0.5, 1.0):
        drawn = redraw(pipe, picture, PROMPTS, strength, everything, 4)
        assert (pixels(drawn) - pixels([picture])).abs().max() <= 1


def test_what_is_kept_stays_and_the_rest_is_drawn(pipe, picture):
    f = pipe.space.vae.compression
    keep = torch.ones(SIDE, SIDE, dtype=torch.bool)
    keep[: SIDE // 2 - 1, 0] = False  # one column of pixels: its blocks are drawn, all of them
    change = (pixels(redraw(pipe, picture, "a star", 1.0, keep, 4)) - pixels([picture])).abs()[0]
    assert change[:, : SIDE // 2, :f].amax(0).gt(1).float().mean() > 0.9
    assert change[:, :, f:].max() <= 1 and change[:, SIDE // 2 :].max() <= 1


def test_the_walk_begins_on_the_line_at_the_strength(pipe, picture):
    """With directions of zero the walk goes nowhere: it ends where it began."""
    still = TextToImage(pipe.tokenizer, pipe.text, Still(pipe.transformer), pipe.space, SIDE)
    drawn = redraw(still, picture, "a star", 0.4, None, 10, seed=3)
    z_0 = pipe.space.encode(to_tensor([picture]))
    expected = flow_point(z_0, pipe.noise(1, 3), torch.tensor([0.4]))
    assert (pixels(drawn) - pixels(to_pil(pipe.space.decode(expected)))).abs().max() <= 1


class Still(nn.Module):
    """A transformer that never moves."""

    def __init__(self, of: nn.Module):
        super().__init__()
        self.network = of.network

    def forward(self, x_t: Tensor, *_) -> Tensor:
        return torch.zeros_like(x_t)


def test_every_step_is_told(pipe, picture):
    told = []
    redraw(pipe, picture, "a star", 0.5, None, 8, on_step=lambda t, *_: told.append(t))
    assert told == pytest.approx([0.375, 0.25, 0.125, 0])


@pytest.mark.parametrize("strength, steps, taken", [(0.29, 100, 29), (0.99, 10, 9), (1.0, 7, 7)])
def test_the_last_steps_are_taken(strength, steps, taken):
    times = euler_times(steps, shift=3.0)
    assert torch.equal(later_times(times, strength), times[steps - taken :])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"strength": 0.0}, r"strength must lie in \(0, 1\], got 0.0"),
        ({"strength": float("nan")}, "strength must lie in"),
        ({"strength": 1.5}, "strength must lie in"),
        ({"strength": 0.1, "num_inference_steps": 5}, "0.1 of 5 steps is less than one step"),
        ({"picture": "seven.png"}, "picture must be a PIL image of 32 × 32 pixels, got seven.png"),
        ({"keep": torch.ones(SIDE, SIDE)}, r"keep must be \(32, 32\) bool .*float32"),
        ({"keep": torch.ones(8, 8, dtype=torch.bool)}, r"keep must be .* got \(8, 8\)"),
        ({"prompt": []}, "prompt must be a text"),
    ],
)
def test_bad_input_is_named(pipe, picture, change, message):
    with pytest.raises(ValueError, match=message):
        redraw(**({"pipe": pipe, "picture": picture, "prompt": "a star"} | change))
