"""The pictures of a lesson as files: python lessons/NN_name/make_figures.py [name ...]

    draw_figures(Path(__file__).parent / "figures", system, roads, film=lambda: film(seen))

What a lesson shows without running anything lies there as NAME.png or NAME.gif.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from t2i.files.checkpoint import CheckpointError
from t2i.files.folders import FilesError
from t2i.show import Picture

Figure = Callable[[], Picture | bytes | None]
MISSING = (CheckpointError, FilesError, OSError, KeyError)  # weights or figures not made yet


def draw_figures(
    folder: Path,
    *figures: Figure,
    dpi: int = 100,
    names: Sequence[str] | None = None,
    **more: Figure,
) -> None:
    """Draw a lesson's figures, and say how large the files are.

    Args:
        folder: where to; made if it is not there.
        figures: each draws the figure that has its name: a Picture becomes NAME.png, the bytes of
            a film NAME.gif, and with None nothing is written.
        dpi: dots an inch.
        names: of those to draw; by default what the command line gives, or else all.
        more: further figures by name.

    Raises:
        SystemExit: a name that no figure has.
    """
    drawers = {figure.__name__: figure for figure in figures} | more
    names = sys.argv[1:] if names is None else names
    unknown = [name for name in names if name not in drawers]
    if unknown:
        sys.exit(f"No figure is named {', '.join(unknown)}; there are {', '.join(drawers)}.")
    folder.mkdir(exist_ok=True)
    for name in names or drawers:
        try:
            drawn = drawers[name]()
        except MISSING as error:
            print(f"{name} is not drawn: {type(error).__name__} {error}")
            continue
        if drawn is None:
            print(f"{name} is not drawn: it was not measured yet")
            continue
        path = folder / f"{name}.{'gif' if isinstance(drawn, bytes) else 'png'}"
        path.write_bytes(drawn if isinstance(drawn, bytes) else drawn.png(dpi))
        print(f"{path.name:20} {path.stat().st_size / 1000:6.0f} kB")
