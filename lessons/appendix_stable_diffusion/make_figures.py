"""Draw the figures of the appendix: python lessons/appendix_stable_diffusion/make_figures.py

They follow from the sizes of Stable Diffusion 1.5 alone; nothing is loaded.
"""

from pathlib import Path

from t2i.drawing import show_stable_diffusion
from t2i.drawing.figure_files import draw_figures
from t2i.show import Picture
from t2i.speed.sd_parts import empty_parts

FIGURES = Path(__file__).parent / "figures"


def system() -> Picture:
    return show_stable_diffusion.system(empty_parts())


if __name__ == "__main__":
    draw_figures(FIGURES, system, dpi=130)
