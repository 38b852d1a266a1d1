"""Drawing for the appendix: Stable Diffusion's parts, what they cost, and how near we come."""

import textwrap
from collections.abc import Mapping, Sequence

import torch
from IPython.display import Markdown
from PIL import Image
from torch import nn

from t2i.drawing.show_blocks import arrow, box
from t2i.files.results import table
from t2i.pretrained.sd_sizes import SD15
from t2i.pretrained.sd_weights import key_table
from t2i.show import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION, Picture, panels
from t2i.speed.flops import count_flops

WORDS, WIDTH, SIDE = 77, 768, 64  # tokens, length of a word's vector, side of the latents
YOURS = {  # what diffusers and transformers call it, what you wrote, when it works
    "text_encoder": ("`CLIPTextModel`", "`clip.TextTransformer` (lesson 7)", "once a prompt"),
    "unet": (
        "`UNet2DConditionModel`",
        "`text_unet.TextUNet` (lessons 2 and 6)",
        "twice a step: with and without the prompt",
    ),
    "vae": ("`AutoencoderKL`", "`vae.AutoencoderKL` (lesson 8)", "decoder: once a picture"),
}


def parts_table(parts: Mapping[str, nn.Module]) -> Markdown:
    """Each part: the real system's name for it, yours, its weights, when it is called."""
    head = ("part", "in the real system", "yours", "weights, millions", "works")
    rows = [
        (f"`{name}/`", YOURS[name][0], YOURS[name][1], f"{millions(part):.0f}", YOURS[name][2])
        for name, part in parts.items()
    ]
    rows += [
        ("`tokenizer/`", "`CLIPTokenizer`", "`bpe.Tokenizer` (lesson 7)", "–", "once a prompt"),
        ("`scheduler/`", "`DDIMScheduler`, `DPMSolverMultistepScheduler`",
         "`samplers.sample_ddim`, `dpm_solver.sample_dpmpp_2m` (lesson 4), `schedules` (lesson 1)",
         "–",
         "every step"),
        ("guidance", "three lines of the pipeline", "`guidance.guided_prediction` (lesson 5)", "–",
         "every step"),
    ]  # fmt: skip
    return table(head, rows)


def names_table(rows: Sequence[tuple[str, str, tuple[int, ...]]]) -> Markdown:
    """Keys of the file beside ours, with the shapes."""
    cells = [
        (f"`{theirs}`", f"`{ours}`", " × ".join(map(str, shape))) for theirs, ours, shape in rows
    ]
    return table(("in the file", "in your module", "shape"), cells)


def their_names(start: str) -> list[tuple[str, str, tuple[int, ...]]]:
    """The keys of Stable Diffusion's UNet that begin so, as diffusers names them, and ours."""
    from diffusers import UNet2DConditionModel  # takes seconds to import

    with torch.device("meta"):
        state = UNet2DConditionModel(**SD15["unet"]).state_dict()
    return key_table("unet", {name: t for name, t in state.items() if name.startswith(start)})


def millions(part: nn.Module) -> float:
    """Weights of a part in millions."""
    return sum(parameter.numel() for parameter in part.parameters()) / 1e6


def drawn(pictures: Mapping[str, Image.Image]) -> Picture:
    """Finished pictures side by side, what was asked for above each.

    Args:
        pictures: prompt -> picture, all of one size. Small ones are enlarged.
    """
    width, height = next(iter(pictures.values())).size
    side = max(2.6, width / 128)  # inches: two of 512 pixels fill a notebook
    figure, all_axes = panels(1, len(pictures), side * len(pictures), side * height / width + 0.5)
    for axes, (prompt, picture) in zip(all_axes, pictures.items(), strict=True):
        axes.imshow(picture)
        axes.axis("off")
        axes.set_title(textwrap.fill(prompt, int(11 * side)), fontsize=10)
    return Picture(figure, f"Drawn for: {'; '.join(pictures)}.")


@torch.no_grad()
def costs(parts: Mapping[str, nn.Module], steps: int) -> dict[str, float]:
    """Operations of one picture of 512 × 512, in million millions, with guidance."""
    with torch.device("meta"):
        z, t = torch.empty(1, 4, SIDE, SIDE), torch.zeros(1, dtype=torch.int64)
        context, words = torch.empty(1, WORDS, WIDTH), torch.empty(1, WORDS, WIDTH)

    def read():
        x = words
        for layer in parts["text_encoder"].layers:
            x = layer(x)

    return {
        "read two prompts": 2 * count_flops(read) / 1e12,
        f"{steps} steps, two calls of the UNet each": 2
        * steps
        * count_flops(lambda: parts["unet"](z, t, context))
        / 1e12,
        "decode the picture": count_flops(lambda: parts["vae"].decode(z)) / 1e12,
    }


def bars(values: Mapping[str, float], title: str, unit: str = "") -> Picture:
    """A bar for each name, the value at its end.

    Args:
        values: what stands there, in order.
        title: above the bars.
        unit: of the values.
    """
    figure, (axes,) = panels(1, 1, 8, 0.6 + 0.34 * len(values))
    colours = [VERMILLION if "lesson 6" in name else BLUE for name in values]
    drawn = axes.barh(list(values), list(values.values()), color=colours)
    axes.bar_label(drawn, [f"{value:.3g}{unit}" for value in values.values()], padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title(title)
    axes.grid(visible=False)
    axes.xaxis.set_visible(False)  # the values stand at the bars
    axes.spines["bottom"].set_visible(False)
    told = "; ".join(f"{name} {value:.3g}{unit}" for name, value in values.items())
    return Picture(figure, f"{title}. {told}.")


def system(parts: Mapping[str, nn.Module]) -> Picture:
    """The whole system from prompt to picture, each part with its lesson and its weights."""
    figure, (axes,) = panels(1, 1, 9, 3.4)
    axes.set(xlim=(0, 18), ylim=(6.8, 0.3))
    axes.axis("off")
    count = {name: f"{millions(part):.0f} million weights" for name, part in parts.items()}
    decoder = f"{millions(parts['vae'].decoder):.0f} million weights"
    box(axes, 2.2, 1.2, "“a red fox in the snow”", GREY, 3.9, 0.9)
    box(axes, 2.2, 3.2, "tokenizer\nlesson 7", GREEN, 3.9, 1.3)
    box(axes, 2.2, 5.6, f"text encoder\nlesson 7\n{count['text_encoder']}", GREEN, 3.9, 1.7)
    box(axes, 9, 5.6, f"UNet with cross-attention\nlessons 2 and 6\n{count['unet']}",
        VERMILLION, 5.0, 1.9)  # fmt: skip
    box(axes, 9, 2.9, "guidance (lesson 5)\na step of the sampler (lesson 4)", BLUE, 5.0, 1.3)
    box(axes, 9, 1.0, "noise (lesson 1), 4 × 64 × 64", GREY, 5.0, 0.9)
    box(axes, 15.6, 2.9, f"decoder\nlesson 8\n{decoder}", PURPLE, 3.9, 1.7)
    box(axes, 15.6, 5.6, "picture\n3 × 512 × 512", GREY, 3.9, 1.3)
    arrow(axes, (2.2, 1.65), (2.2, 2.5))
    arrow(axes, (2.2, 3.85), (2.2, 4.7))
    arrow(axes, (4.2, 5.6), (6.4, 5.6))
    axes.text(5.3, 5.3, "77 × 768", fontsize=8.5, ha="center", va="bottom", color=GREY)
    arrow(axes, (9, 1.45), (9, 2.2))
    arrow(axes, (8.2, 3.6), (8.2, 4.6), ORANGE)
    arrow(axes, (9.8, 4.6), (9.8, 3.6), ORANGE)
    axes.text(9, 4.1, "25×", fontsize=10, ha="center", va="center", color=ORANGE)
    arrow(axes, (11.6, 2.9), (13.6, 2.9))
    arrow(axes, (15.6, 3.8), (15.6, 4.9))
    return Picture(
        figure,
        "From a prompt through tokenizer and text encoder to the UNet, which with guidance and a "
        "sampler turns noise into latents in 25 steps; a decoder makes the picture of them. Each "
        "box names the lesson in which it was written.",
    )
