"""A tiny lesson of two exercises, and workers that several tests share."""

import json
from pathlib import Path

import pytest

from autograder.lesson import Lesson
from autograder.process import Worker

TEXT = """
# %%
import torch

GIVEN = "given"
# %%
#| exercise: schedules.linear_betas
#| points: 40
#| difficulty: 1
#| minutes: 5
#| hint: a hint
# %%
#| exercise: schedules.snr
#| points: 60
#| difficulty: 2
#| minutes: 5
"""

TESTS = """
import torch
from autograder.testing import exercise, expect, expect_close

@exercise("linear_betas")
def test_ends(student):
    ends = student.linear_betas(5)[[0, -1]]
    expect_close(ends, torch.tensor([1e-4, 0.02]), "the first and the last beta",
                 causes={"The ends are swapped.": torch.tensor([0.02, 1e-4])})

@exercise("linear_betas")
def test_twice(student):
    expect_close(student.linear_betas(3)[1], 0.01005, "the middle beta", otherwise="Even strides.")

@exercise("snr")
def test_values(student, rng):
    a = torch.rand(7, generator=rng)
    expect_close(student.snr(a), a / (1 - a), "the ratios")
"""

RIGHT = {
    "linear_betas": "def linear_betas(n):\n    return torch.linspace(1e-4, 0.02, n)",
    "snr": "def snr(alphas_cumprod):\n    return alphas_cumprod / (1 - alphas_cumprod)",
}


class TinyLesson(Lesson):
    """A lesson whose files lie in a folder of the test's."""

    home: Path

    @property
    def source(self) -> Path:
        return self.home / "lesson.py"

    @property
    def hidden_tests(self) -> Path:
        return self.home / "tiny_tests.py"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    home = tmp_path_factory.mktemp("lesson")
    (home / "lesson.py").write_text(TEXT)
    (home / "tiny_tests.py").write_text(TESTS)
    lesson = TinyLesson(1, "noise_schedules", "schedules", "Tiny")
    object.__setattr__(lesson, "home", home)
    return lesson


@pytest.fixture(scope="session")
def worker(tiny: Lesson):
    with Worker(tiny) as process:
        yield process


@pytest.fixture(scope="session")
def make_notebook():
    """make_notebook("source", ("grade_id", "source"), …) -> the bytes of a notebook."""

    def make(*cells: str | tuple[str, str]) -> bytes:
        listed = []
        for cell in cells:
            grade_id, source = cell if isinstance(cell, tuple) else (None, cell)
            metadata = {"nbgrader": {"grade_id": grade_id}} if grade_id else {}
            listed.append(
                {"cell_type": "code", "source": source, "metadata": metadata, "outputs": []}
            )
        content = {"cells": listed, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}
        return json.dumps(content).encode()

    return make


@pytest.fixture(scope="session")
def right() -> dict[str, str]:
    return dict(RIGHT)
