"""A sheet of captioned scenes to look at, and how fast scenes are painted.

`python -m t2i.world.scene_sheet` paints a sheet into a file, `python -m t2i.world.scene_sheet
bench` says how many scenes are painted in a second.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from t2i.show import Picture, panels, to_array
from t2i.world.caption_reading import encode
from t2i.world.scene_ink import digit_bank
from t2i.world.scene_specs import draw_specs
from t2i.world.scenes import paint, scenes


def show_scenes(images: Tensor, captions: Sequence[str], columns: int = 6, zoom: float = 1.25):
    """A sheet of pictures, each with its caption below.

    Args:
        images: (N, 3, H, W) in [-1, 1].
        captions: N texts.
        columns: pictures beside each other.
        zoom: inches a picture.

    Returns:
        a show.Picture.
    """
    if len(images) != len(captions) or not len(images):
        raise ValueError(f"a caption each: got {len(images)} images, {len(captions)} captions")
    rows = -(-len(images) // columns)
    figure, axes = panels(rows, columns, width=columns * zoom, height=rows * (zoom + 0.45))
    for axis in axes:
        axis.axis("off")
    for axis, image, caption in zip(axes, images, captions, strict=False):
        axis.imshow(to_array(image), interpolation="nearest")
        style = {"fontsize": 7, "va": "top", "ha": "center", "transform": axis.transAxes}
        axis.text(0.5, -0.05, _wrapped(caption), **style)
    return Picture(figure, "Scenes with their captions: " + "; ".join(captions))


def _wrapped(text: str, width: int = 22) -> str:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f"{word} "
    return "\n".join(lines)


PROMISED = 5_000  # scenes of 32 × 32 pixels a second, on two processor cores


def bench(world: str = "one", size: int = 32, count: int = 20_000) -> dict[str, float]:
    """Scenes a second on this machine, painted alone and with captions and tokens too.

    Returns:
        rates by the clock, which other work on the machine slows down, and by processor time.
    """
    digit_bank("train")
    found = {"world": world, "size": size, "threads": torch.get_num_threads()}
    for name, whole in (("painted", False), ("with captions and tokens", True)):
        clock, busy = time.perf_counter(), time.process_time()
        for first in range(0, count, 250):
            specs = draw_specs(range(first, first + 250), world=world)
            paint(specs, size)
            if whole:
                encode(specs.captions())
        clock, busy = time.perf_counter() - clock, time.process_time() - busy
        found[f"{name}, a second"] = round(count / clock)
        found[f"{name}, a processor second"] = round(count / busy)
    found["painted, times the promised 5,000"] = round(found["painted, a second"] / PROMISED, 2)
    return found


def main() -> None:
    """Paint a sheet of scenes, or measure how fast they are painted."""
    parser = argparse.ArgumentParser(
        prog="python -m t2i.world.scene_sheet", description=main.__doc__
    )
    parser.add_argument("command", nargs="?", choices=("sheet", "bench"), default="sheet")
    parser.add_argument("--world", default="one")
    parser.add_argument("--split", default="train")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--out", type=Path, default=Path("scenes.png"))
    options = parser.parse_args()
    if options.command == "bench":
        print(json.dumps(bench(options.world, options.size), indent=1))
        return
    made = scenes(range(options.count), options.split, options.world, size=options.size)
    print(show_scenes(*made).save(options.out))


if __name__ == "__main__":
    main()
