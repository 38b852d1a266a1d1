"""Grading inside a notebook: the source that was run last, through the same grader as a file."""

import ast
import base64
import contextlib
import html
import io
import json
import re
import sys
import warnings

from t2i.classroom import handover, standby
from t2i.engine.bounded import at_most

CHECK_SECONDS = 10.0  # for all checks of a cell; code that never ends should not hold the notebook
GREEN, RED, GREY = "#009E73", "#D55E00", "#6E6E6E"  # Okabe and Ito's; readable without colour too


class NotPassed(Exception):
    """Ends a cell after the grader's sentence, with one line and not with a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]  # what IPython shows in a traceback's place


def say(right: bool | None, text: str) -> None:
    """Show one sentence with a mark: right, wrong, or (None) neither."""
    mark, colour = {True: ("✔", GREEN), False: ("✘", RED), None: ("○", GREY)}[right]
    plain = f"{mark} {text}"
    shell = ipython()
    if shell is None or not hasattr(shell, "kernel"):
        print(plain)
        return
    from IPython.display import display

    body = html.escape(text).replace("\n", "<br>")
    style = f"border-left: 4px solid {colour}; padding: 0.3em 0.8em; margin: 0.2em 0"
    bold = f"color: {colour}; font-weight: bold"
    page = f'<div style="{style}"><span style="{bold}">{mark}</span> {body}</div>'
    display({"text/plain": plain, "text/html": page}, raw=True)


def grade_exercise(number: int, name: str) -> bool | None:
    """Grade one exercise from the cells run so far, and show the grader's sentence.

    Args:
        number: of the lesson.
        name: of the exercise.

    Returns:
        whether it passed, so False, too, if it was not run yet; None if it could not be graded.
    """
    cells = history()
    unknown = _unknown(number, name)
    problem = unknown or _not_run(name, cells)
    if problem:
        say(None, problem)
        return None if unknown else False
    notebook = as_notebook(cells, name)
    result, problem = standby.ask(number, name, notebook.decode())
    if result is None:
        say(None, f"{name} could not be graded: {problem.rstrip('.')}.")
        return None
    row = result["exercises"][0]
    from autograder import progress
    from autograder.lesson import get_lesson

    progress.record(get_lesson(number), notebook, result)
    passed = row["status"] == "passed"
    verdict = f"{row['name']}: {row['points']}/{row['maximum']} points. {row['message']}"
    say(passed if row.get("written", True) else None, verdict)
    if row.get("picture"):
        _show(row["picture"], row["caption"])
    return passed


def told_by_checks(name: str) -> str:
    """What the checks would say in the cell at hand, those below its line grade("name").

    The cell itself does not come so far. Its checks run among the notebook's own names, since an
    earlier cell's functions look theirs up there; afterwards these names mean what they meant.

    Returns:
        a sentence: which one fails first, what stops them, or that all pass. Empty where there are
        none, or where they take too long.
    """
    import torch

    shell, cell = ipython(), (history() or [""])[-1]
    names = shell.user_ns if shell else {}
    before = dict(names)
    try:
        tree = ast.parse(cell)
    except SyntaxError:
        return ""
    line = ast.dump(ast.parse(f'grade("{name}")').body[0])
    while tree.body and ast.dump(tree.body.pop(0)) != line:
        pass
    if not any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
        return ""
    quiet = contextlib.redirect_stdout(io.StringIO())
    with torch.random.fork_rng(devices=[]), quiet, warnings.catch_warnings(action="ignore"):
        try:
            with at_most(CHECK_SECONDS):
                exec(compile(tree, "checks", "exec"), names)
        except AssertionError as error:
            return f"The first check in it that fails: {error}" if str(error) else ""
        except (TimeoutError, NotImplementedError):  # the second has been said already
            return ""
        except Exception as error:
            return f"Its checks stop with {type(error).__name__}: {str(error)[:200]}"
        finally:
            names.clear()
            names.update(before)
    return "Its checks would all pass, but they ask less than the grader does."


def history() -> list[str]:
    """The source of every cell that was run in this kernel, in order; place 0 is empty."""
    shell = ipython()
    if shell is None:
        return []
    return [str(source) for source in shell.history_manager.input_hist_raw]


def as_notebook(cells: list[str], name: str) -> bytes:
    """A notebook in which cell k is what ran as [k]; of equal cells only the last is kept.

    Args:
        cells: sources in the order in which they ran.
        name: the exercise; of its attempts only the last is kept where Python cannot read it, or
            where it is not written yet: what the kernel knows now is what counts.
    """
    last = {source: place for place, source in enumerate(cells)}
    attempts = [place for place, source in enumerate(cells) if _defines(source, name)]
    latest = cells[attempts[-1]] if attempts else ""
    unfinished = not _readable(latest) or _is_stub(latest)
    kept = []
    for place, source in enumerate(cells):
        old = last[source] != place or (unfinished and place in attempts[:-1])
        kept.append("" if old else source)
    made = [
        {
            "cell_type": "code",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "source": each,
        }
        for each in kept[1:]
    ]
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def ipython():
    """The shell of this notebook, or None outside one."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    return get_ipython()


def _show(picture: str, caption: str) -> None:
    """The grader's picture (a PNG in base64) below its sentence, where a notebook can show it."""
    shell = ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return
    from IPython.display import display

    pixels = int.from_bytes(base64.b64decode(picture)[16:20], "big")  # a PNG's own width
    words = html.escape(caption)
    image = f'<img src="data:image/png;base64,{html.escape(picture)}" alt="{words}"'
    style = f"width:{pixels * 2 // 3}px;max-width:100%"  # drawn with 3 pixels for 2, to be sharp
    page = f'<figure style="margin:0.3em 0">{image} style="{style}">'
    data = {"text/plain": caption, "text/html": f"{page}<figcaption>{words}</figcaption></figure>"}
    display(data, raw=True)


def _defines(source: str, name: str) -> bool:
    head = re.escape(name.partition(".")[0])
    return re.search(rf"^(?:async +def|def|class) +{head}\b", source, re.M) is not None


def _is_stub(source: str) -> bool:
    return re.search(r"^\s*raise NotImplementedError\(", source, re.M) is not None


def _readable(source: str) -> bool:
    plain = re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M)
    try:
        compile(plain, "cell", "exec")
    except (SyntaxError, ValueError):
        return False
    return True


def _unknown(number: int, name: str) -> str:
    """What is wrong with the name, or that no grader is here; empty if all is well."""
    try:
        from autograder.lesson import LessonError, get_lesson
    except ImportError:
        if handover.read():
            return f"{name}: only the checks below run here; the hidden tests run after hand-in."
        return f"{name} is not graded: the autograder is not installed beside this notebook."
    try:
        get_lesson(number).exercise(name)
    except LessonError as error:
        message = str(error)
        return f"{message[0].upper()}{message[1:]}."
    return ""


def _not_run(name: str, cells: list[str]) -> str:
    if any(_defines(source, name) for source in cells):
        return ""
    return f"{name} is not defined yet: run the cell in which you write it, then this one."
