"""Denial by the file itself: what the grader parses in its own process, outside of any sandbox."""

import json

from autograder.tests.attacks import Attack, snr

WRONG = snr("return alphas_cumprod")


def notebook(*sources: str, **more):
    """The file replaced by a notebook of these code cells."""
    cells = [{"cell_type": "code", "source": s, "metadata": {}, "outputs": []} for s in sources]
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5} | more
    return lambda content_before: json.dumps(content).encode()


def is_file(name: str, tries: str, content: bytes) -> Attack:
    return Attack(name, tries, content=lambda _: content, score=0, flagged=True)


SURROGATE = 'def snr(alphas_cumprod):\n    return "\ud800"\n'


ATTACKS = [
    Attack(
        "blank-lines",
        "a pattern that needs the square of ten million blank lines",
        cells=("\n" * 6_000_000 + "(",),
        score=0,
        flagged=True,
    ),
    Attack(
        "blank-lines-below-the-limit",
        "the same within what may be handed in",
        cells=("\n" * 300_000 + "def (",),
    ),
    Attack(
        "bound-again-and-again",
        "names bound and read ten thousand times each",
        WRONG,
        cells=("x = x\n" * 20_000, "def helper():\n    return x\n"),
        score=10,
    ),
    Attack(
        "used-again-and-again",
        "what the exercise leans on is bound ten thousand times",
        snr("return x"),
        cells=("x = x\n" * 20_000,),
    ),
    Attack(
        "many-names",
        "a definition that reads a hundred thousand names",
        snr("return (" + ", ".join(f"a{i}" for i in range(20_000)) + ")"),
    ),
    Attack(
        "deep-expression",
        "an expression too deep for whoever walks through it",
        snr("return " + "-" * 80 + "(" * 80 + "1" + ")" * 80),
    ),
    Attack(
        "long-sum",
        "a sum of five thousand terms, one in the other",
        snr("return " + "+".join(["1"] * 5000)),
        quick=True,
    ),
    Attack(
        "long-constant",
        "the same in a constant",
        snr("return x"),
        cells=("x = " + "+".join(["1"] * 5000) + "\n",),
    ),
    Attack("long-chain", "a chain of ten thousand attributes", snr("return a" + ".b" * 10_000)),
    Attack(
        "deep-brackets",
        "brackets that no parser takes",
        {"snr": "def snr(a):\n    return " + "(" * 5000 + ")" * 5000},
    ),
    Attack(
        "deep-blocks",
        "blocks in blocks",
        {
            "snr": "def snr(a):\n"
            + "".join(" " * (i + 1) + "if a:\n" for i in range(99))
            + " " * 101
            + "pass\n"
        },
    ),
    Attack("null-bytes", "a source that C would cut off", {"snr": "def snr(a):\n    return 1\0\n"}),
    Attack("lone-surrogate", "text that no file can hold", {"snr": SURROGATE}, quick=True),
    Attack(
        "surrogate-in-an-error",
        "an error that no file can hold",
        snr("raise ValueError('\\ud800')"),
    ),
    Attack("huge-literal", "a number of a hundred thousand digits", snr("return " + "9" * 10**5)),
    Attack(
        "many-cells",
        "a hundred thousand cells",
        content=notebook(*["def snr(:"] * 100_000),
        score=0,
        flagged=True,
    ),
    Attack(
        "broken-cells",
        "hundreds of cells that each hold a broken answer",
        change=lambda nb: nb["cells"].extend(
            {"cell_type": "code", "source": f"def snr(:  # {i}", "metadata": {}, "outputs": []}
            for i in range(300)
        ),
    ),
    is_file("deep-json", "JSON nested too deeply", b'{"cells": ' + b"[" * 500_000),
    is_file(
        "no-notebook", "a file that is no notebook, after one that was", b"\x00\xff\xfe garbage"
    ),
    is_file("thirty-megabytes", "a file too large to be read", b" " * 30_000_000 + b"{}"),
    Attack(
        "odd-json",
        "parts of a notebook that are of another type",
        content=lambda _: json.dumps(
            {
                "cells": [
                    1,
                    None,
                    {"cell_type": "code", "source": [1, None]},
                    {"cell_type": "code", "source": {"a": 1}, "metadata": 3},
                    {
                        "cell_type": "code",
                        "metadata": {"nbgrader": {"grade_id": [1]}},
                        "source": "x",
                    },
                ],
                "metadata": [],
                "nbformat": "4",
            }
        ).encode(),
        score=0,
    ),
    Attack(
        "same-key-twice",
        "a second list of cells, of which only one is looked at",
        content=lambda content: b'{"cells": [], ' + content.lstrip()[1:],
    ),
]
