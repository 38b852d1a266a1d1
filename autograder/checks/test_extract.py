"""What grading takes from a notebook, and what it leaves."""

import ast
import json
import re

import pytest
import torch

from autograder import splice
from autograder.cells import MAX_NOTEBOOK_BYTES, UnreadableNotebook, names_read
from autograder.extract import extract
from autograder.lesson import LESSONS, PACKAGE

STUB = 'def snr(alphas_cumprod):\n    """Docstring."""\n    raise NotImplementedError("snr")'


def taken(tiny, notebook: bytes) -> dict:
    """The names that the extracted source defines when it runs."""
    names: dict = {}
    exec(extract(notebook, tiny).source(), names)
    return names


def test_takes_what_the_exercises_reach_and_runs_nothing_else(tiny, make_notebook, right):
    notebook = make_notebook(
        "import torch\nimport nowhere_to_be_found",
        "START = 1e-4\nUNUSED = 3\nprint('side effect')\nraise SystemExit",
        "def half(x):\n    return x / TWO",
        "%time 1 + 1\n!rm -rf nothing\nTWO = 2.0; OTHER = 5",
        "def linear_betas(n):\n    return half(torch.linspace(2 * START, 0.04, n))",
        right["snr"],
    )
    names = taken(tiny, notebook)
    assert names["linear_betas"](2).tolist() == pytest.approx([1e-4, 0.02])
    assert "UNUSED" not in names and "OTHER" not in names and "nowhere_to_be_found" not in names


def test_line_numbers_stay_those_of_the_cell(tiny, make_notebook, right):
    notebook = make_notebook("x = 1\n\n# a comment\n" + right["snr"], right["linear_betas"])
    pieces = {piece.name: piece for piece in extract(notebook, tiny).pieces}
    piece = pieces["the cell of snr"]
    assert piece.source.splitlines()[3].startswith("def snr")


@pytest.mark.parametrize(
    "cells",
    [
        [("snr", STUB), "WRITTEN"],
        ["WRITTEN", ("snr", STUB)],
        [("snr", "WRITTEN"), STUB],
        [("snr", "WRITTEN"), ("snr", STUB)],
        [("renamed", "WRITTEN")],
        [("snr", "BROKEN"), ("snr", "WRITTEN")],
        [("snr", "WRITTEN"), "def snr(a):\n    return 'scratch'"],
    ],
)
def test_copied_moved_and_retagged_cells_cost_nothing(tiny, make_notebook, right, cells):
    put = {"WRITTEN": right["snr"], "BROKEN": "def snr(:"}
    cells = [
        (cell[0], put.get(cell[1], cell[1])) if isinstance(cell, tuple) else put.get(cell, cell)
        for cell in cells
    ]
    submission = extract(make_notebook("import torch", right["linear_betas"], *cells), tiny)
    names: dict = {}
    exec(submission.source(), names)
    assert names["snr"](0.5) == 1
    assert "snr" not in submission.unwritten


def test_says_what_is_unwritten_missing_and_broken(tiny, make_notebook):
    submission = extract(make_notebook(("snr", STUB)), tiny)
    assert submission.unwritten == {"snr"} and submission.missing == {"linear_betas"}
    assert not submission.unreached
    below = extract(make_notebook(("snr", f"{STUB}\n    return a / (1 - a)")), tiny)
    assert below.unwritten == below.unreached == {"snr"}
    submission = extract(make_notebook("def snr(a):\n    return a +", STUB), tiny)
    assert "line 2" in submission.broken["snr"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"PK\x03\x04", "JSON"),
        (b'{"cells": [', "JSON"),
        (b"[" * 100_000, "JSON"),
        (b'{"worksheets": []}', "no code cells"),
        (b"[]", "no cells"),
        (b" " * (MAX_NOTEBOOK_BYTES + 1), "larger"),
    ],
)
def test_a_file_that_is_no_notebook_is_refused_with_the_reason(tiny, content, reason):
    with pytest.raises(UnreadableNotebook, match=reason):
        extract(content, tiny)


def test_odd_cells_are_passed_over(tiny, right):
    cells = [None, 3, {"cell_type": "code", "source": 5}, {"cell_type": "code", "metadata": []}]
    good = {"cell_type": "code", "source": right["snr"].splitlines(True), "metadata": None}
    content = json.dumps({"cells": [*cells, good]}).encode()
    assert "snr" not in extract(content, tiny).missing


def test_a_deleted_import_or_given_cell_costs_nothing(tiny, make_notebook, right):
    names = taken(tiny, make_notebook(right["linear_betas"], "def snr(a):\n    return GIVEN"))
    assert names["linear_betas"](3).shape == (3,)
    assert names["snr"](0) == "given"


def test_a_given_definition_that_was_deleted_finds_the_imports_that_its_signature_names(
    make_notebook,
):
    imports, own = "import torch\nfrom torch import Tensor", "def snr(a):\n    return gather"
    found = taken(LESSONS[0], make_notebook(imports, own))["snr"](0)
    assert found.__name__ == "gather" and found.__annotations__["t"] is torch.Tensor


def test_the_learners_own_definition_comes_before_the_given_one(tiny, make_notebook, right):
    own = "GIVEN = 'own'\ndef snr(a):\n    return GIVEN"
    assert taken(tiny, make_notebook(right["linear_betas"], own))["snr"](0) == "own"


def test_what_one_method_calls_its_own_is_still_read_from_outside_in_another():
    node = ast.parse("class A(B):\n def f(self, x):\n  y = x + z\n def g(self):\n  return x").body[
        0
    ]
    assert names_read(node) == {"B", "x", "z"}


@pytest.mark.parametrize(
    "source, read",
    [
        ("def f():\n global memo\n if memo is None: memo = 1\n return memo", {"memo"}),
        ("def f():\n return last, sorted([1], key=lambda last: -last)", {"last", "sorted"}),
        ("def f(x):\n return root(x) + sum(root for root in [1])", {"root", "sum"}),
        ("def f(x):\n def g():\n  root = 1\n  return root\n return g() + root(x)", {"root"}),
        ("def f(x, y=START) -> Tensor:\n return x", {"START", "Tensor"}),
        ("def f(x):\n def g():\n  return x\n return g", set()),
        ("TABLE = {**OTHER, 'a': 1}", {"OTHER"}),
    ],
)
def test_names_are_looked_up_as_python_does(source, read):
    assert names_read(ast.parse(source).body[0]) == read


@pytest.mark.parametrize(
    "cells, value",
    [
        (["NAMES = ['a']\nNAMES += ['b']", "NAMES.append('c')"], ["a", "b", "c"]),
        (["NAMES = {}", "NAMES['a'] = 1\nNAMES.update(b=2)"], {"a": 1, "b": 2}),
        (
            [
                "NAMES = {}\ndef known(name):\n    return lambda f: NAMES.setdefault(name, f)",
                "@known('a')\ndef a_way():\n    return 1",
                "@known('b')\ndef not_to_be_had(x=MODEL):\n    return 2",
            ],
            ["a"],
        ),
        (["class NAMES:\n    pass", "def _all(self=0):\n    return 5", "NAMES.size = _all"], 5),
        (["from functools import partial\nNAMES = partial(max, 3)"], 7),
        (["from collections import namedtuple\nNAMES = namedtuple('N', 'a b')(1, 2)"], (1, 2)),
        (["NAMES = 'a b'.split()"], ["a", "b"]),
        (["import torch\nNAMES = torch.device('cuda' if torch.cuda.is_available() else 'cpu')"], 0),
        (["from torch import nn\nNAMES = nn.GELU('tanh').approximate"], "tanh"),
        (["NAMES = ['a']", "MODEL = open('x')\nNAMES.append(MODEL)\nNAMES += [MODEL]"], ["a"]),
    ],
)
def test_what_builds_a_constant_is_taken_with_it(tiny, make_notebook, right, cells, value):
    own = "def snr(a):\n    return NAMES"
    found = taken(tiny, make_notebook(right["linear_betas"], *cells, own))["snr"](0)
    if isinstance(found, type):
        found = found.size()
    elif callable(found):
        found = found(7)
    if isinstance(found, dict) and isinstance(value, list):
        found = list(found)
    assert (found.index or 0 if isinstance(found, torch.device) else found) == value


def test_an_experiment_with_an_exercise_is_not_run(tiny, make_notebook, right):
    """`snr.cache = …` may belong to it; `snr(x)` and a list filled from it are experiments."""
    experiments = (
        "snr(1 / 0)\nfound = [snr(1 / 0)]\nfound.append(snr(1 / 0))\nsnr.note = snr(1 / 0)"
    )
    names = taken(tiny, make_notebook(right["linear_betas"], right["snr"], experiments))
    assert "found" not in names and not hasattr(names["snr"], "note")


def test_exercises_above_their_imports_find_them(tiny, make_notebook, right):
    own = "def snr(a: Tensor) -> Tensor:\n    return torch.ones(2)"
    notebook = make_notebook(own, right["linear_betas"], "import torch\nfrom torch import Tensor")
    assert taken(tiny, notebook)["snr"](0).tolist() == [1, 1]


def test_what_is_lost_with_an_unreadable_cell_is_told_of_its_exercise(tiny, make_notebook):
    unreadable = "def _shape(x):\n    return x\ndef linear_betas(n)\n    return n"
    for user in ("return linear_betas(3)", "return _shape(a)"):
        found = extract(make_notebook(unreadable, f"def snr(a):\n    {user}"), tiny)
        assert set(found.broken) == {"linear_betas"}
        assert found.uses["snr"] == {"linear_betas"}


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.slug)
def test_grading_a_lesson_draws_nothing(lesson, make_notebook):
    """Importing matplotlib anew for every test costs more than all the rest together."""
    heads = {(e.module, e.name.partition(".")[0]) for e in lesson.exercises}
    cells = [splice.definition((PACKAGE / f"{m}.py").read_text(), head) for m, head in heads]
    imports = ast.parse(extract(make_notebook(*cells), lesson).source()).body
    names = [ast.unparse(node) for node in imports if isinstance(node, ast.Import | ast.ImportFrom)]
    assert any("torch" in name for name in names)
    assert not [name for name in names if re.search(r"\bshow|matplotlib", name)]
