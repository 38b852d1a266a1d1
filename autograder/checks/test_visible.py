"""Which wrong answers pass the visible checks: of a lesson as it stands, and such as misbehave."""

import os
import re
import subprocess
import sys

import pytest

from autograder import visible
from autograder.catalogue import entries
from autograder.lesson import REPOSITORY, get_lesson

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def test_what_the_checks_of_lesson_1_see_and_what_they_do_not():
    command = [sys.executable, "-m", "autograder", "visible", "1"]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "passes add_noise: changes_x_0" in ran.stdout, "no visible check asks for that"
    assert "linear_betas: geometric" not in ran.stdout, "equal strides are asked for"
    passed, met = map(int, re.search(r"(\d+) of (\d+) wrong answers pass", ran.stdout).groups())
    assert passed == ran.stdout.count("passes ")
    assert met == sum(not entry.right for entry in entries(get_lesson(1)))


def test_an_answer_that_ends_its_process_did_not_pass():
    assert visible._said("import os; os._exit(3)", "", {}).startswith("ended with status")
    assert visible._said("x = 1", "assert x == 2, 'one'", {}) == "AssertionError: one"
    assert visible._said("x = 1", "assert x == 1", {}) == ""
