"""A small lesson in a folder of the test's own, with the package as it is."""

from pathlib import Path

from autograder.lesson import Lesson

IMPORTS = """
import math

import torch
from torch import Tensor, nn
"""

START = "from t2i.lesson import start\n\nstart(1)\n"

SOURCE = f'''# %% [markdown]
r"""
# A fake lesson

How much is left: $\\bar\\alpha_t$.
"""

# %%
{START}
# %%
{IMPORTS}
# %%
#| exercise: schedules.cosine_betas
#| points: 40
#| difficulty: 3
#| minutes: 10
#| hint: the first hint
#| hint: the second, with $x^2$
#| hint: the third

# %%
#| check: cosine_betas
betas = cosine_betas(10)
assert betas.shape == (10,), "ten steps need ten betas"

# %%
#| exercise: unet_blocks.Downsample
#| points: 60
#| difficulty: 1
#| minutes: 5
#| hint: a stride

# %%
#| check: Downsample
assert Downsample(4)(torch.zeros(1, 4, 7, 5)).shape == (1, 4, 4, 3), "half of it"

# %%
#| given: schedules.snr

# %%
#| quiz: chain
'''

QUIZ = """
[chain]
question = "Why does it hold?"
right = "b"
[chain.options]
a = ["for no reason", "There is one."]
b = ["for a reason", "So it is."]
"""


class FakeLesson(Lesson):
    """A lesson whose folder is the test's."""

    home: Path

    @property
    def folder(self) -> Path:
        return self.home


def make(
    home: Path, source: str = SOURCE, number: int = 1, slug: str = "fake", module: str = "schedules"
) -> FakeLesson:
    """Write a lesson into a folder."""
    home.mkdir(parents=True, exist_ok=True)
    home.joinpath("lesson.py").write_text(source, encoding="utf-8")
    home.joinpath("quiz.toml").write_text(QUIZ, encoding="utf-8")
    lesson = FakeLesson(number, slug, module, "A fake lesson")
    object.__setattr__(lesson, "home", home)
    return lesson
