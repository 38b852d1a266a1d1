"""Appendices: built from their text, without exercises, and they run."""

import json
import shutil

import nbformat
import pytest

from autograder import appendix, build, solve
from autograder.lesson import REPOSITORY, LessonError

FOLDER = REPOSITORY / "lessons" / "appendix_stable_diffusion"


def test_the_committed_notebook_is_what_the_build_makes(capsys):
    assert appendix.folders() == [FOLDER]
    assert not any(appendix.build_appendices(check=True).values()), "run: make build"
    notebook = nbformat.reads(appendix.notebook_of(FOLDER).read_text(encoding="utf-8"), 4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    pictures = [cell.source.split("](figures/")[1:] for cell in notebook.cells]
    for name in (each.split(")")[0] for found in pictures for each in found):
        assert (FOLDER / "figures" / name).is_file()


def test_a_changed_text_is_noticed_and_an_exercise_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "lessons" / "appendix_new"
    folder.mkdir(parents=True)
    monkeypatch.setattr(appendix, "REPOSITORY", tmp_path)
    (folder / "lesson.py").write_text("# %% [markdown]\n# Hello.\n\n# %%\n1 + 1\n")
    notebook = folder / "new.ipynb"
    assert appendix.build_appendices(check=True) == {notebook: True} and not notebook.exists()
    assert appendix.build_appendices() == {notebook: True}
    assert appendix.build_appendices(check=True) == {notebook: False}
    cells = json.loads(notebook.read_text())["cells"]
    assert [cell["cell_type"] for cell in cells] == ["markdown", "code"]
    monkeypatch.setattr(build, "available", lambda: ([], []))
    assert build.main(check=True) == 0
    (folder / "lesson.py").write_text("# %% [markdown]\n# Good day.\n")
    assert build.main(check=True) == 1
    (folder / "lesson.py").write_text("# %%\n#| exercise: schedules.snr\n")
    with pytest.raises(LessonError, match="no directives"):
        appendix.build_appendices()


def test_it_runs_in_the_smoke_tier(tmp_path):
    here = shutil.copytree(FOLDER, tmp_path / FOLDER.name)
    notebook = appendix.build_appendix(FOLDER)
    solve.execute(notebook, "smoke", timeout=300, folder=here)
    text = json.dumps([cell.get("outputs", []) for cell in notebook.cells])
    assert "A small model with random weights: this is the smoke tier." in text
    assert "Appendix" in text and "image/png" in text
