"""Solved notebooks: the reference's bodies in the student's notebook, and they run."""

import json
import resource
import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from autograder import build, catalogue, clock, solve, splice
from autograder.checks import fake_lesson
from autograder.lesson import LESSONS, PACKAGE
from autograder.text import Text

CPU_SECONDS = 60  # the budget of the smoke tier
READY = [lesson for lesson in LESSONS if lesson.exists]


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    return fake_lesson.make(tmp_path_factory.mktemp("fake"))


def test_the_solved_notebook_is_the_students_with_the_references_bodies(lesson):
    student, solved = build.build(lesson)[1], solve.solved(lesson)
    assert [cell.id for cell in solved.cells] == [cell.id for cell in student.cells]
    changed = [
        new.source for old, new in zip(student.cells, solved.cells, strict=True) if old != new
    ]
    schedules = PACKAGE.joinpath("schedules.py").read_text(encoding="utf-8")
    assert len(changed) == 3
    assert splice.definition(changed[0], "cosine_betas") == splice.definition(
        schedules, "cosine_betas"
    )
    assert Text.read(changed[0]).has("_check_num_train_timesteps"), "what the reference leans on"
    assert "return self.conv(x)" in changed[1] and changed[2] == 'quiz("chain", answer="b")'
    text = build.write(solved)
    assert "BEGIN SOLUTION" not in text and "NotImplementedError" not in text


def test_it_runs_in_the_smoke_tier_and_says_so(lesson):
    solved = solve.solved(lesson)
    solve.execute(solved, "smoke", timeout=300, folder=lesson.folder)
    printed = [_text(cell) for cell in solved.cells if cell.cell_type == "code"]
    assert "Lesson 1 · Noise schedules" in printed[0] and "Tier: smoke" in printed[0]
    assert "cosine_betas: grading is skipped in the smoke tier" in "".join(printed)
    assert "✔ b) Right. So it is." in printed[-1]


def test_a_cell_that_raises_and_one_that_hangs_are_reported(tmp_path):
    notebook = new_notebook(cells=[new_code_cell("x = 1"), new_code_cell("assert x == 2, 'no'")])
    with pytest.raises(solve.NotebookFailed, match="(?s)after 2 cells.*assert x == 2.*no"):
        solve.execute(notebook, folder=tmp_path)
    notebook = new_notebook(cells=[new_code_cell("import time; time.sleep(60)")])
    with pytest.raises(solve.NotebookFailed, match="(?s)after 1 cells.*time.sleep"):
        solve.execute(notebook, timeout=4, folder=tmp_path)


def test_the_command_writes_the_notebook_and_says_whether_it_ran(lesson, tmp_path, capsys):
    out = tmp_path / "new" / "solved.ipynb"
    assert solve.main(lesson, out) == 0
    assert out.read_text(encoding="utf-8") == build.write(solve.solved(lesson))
    assert str(out) in capsys.readouterr().out


@pytest.mark.parametrize("lesson", READY, ids=lambda lesson: f"lesson_{lesson.number:02d}")
def test_every_solved_lesson_runs_in_the_smoke_tier(lesson, tmp_path):
    """And no right variant of the catalogue fails at the checks that a learner sees."""
    here = shutil.copytree(lesson.folder, tmp_path / lesson.folder.name)  # for its checkpoints
    before = _children()
    solve.execute(catalogue.with_right_variants(lesson), "smoke", timeout=300, folder=here)
    assert _children() - before <= CPU_SECONDS


def _text(cell) -> str:
    outputs = [
        each.get("text") or each.get("data", {}).get("text/plain", "") for each in cell.outputs
    ]
    return "".join(outputs)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_clock_writes_down_each_lesson_and_forgets_no_other(lesson, tmp_path, capsys):
    figures = tmp_path / "notebooks.json"
    figures.write_text('{"cpu": {"1": {"seconds": 1}}, "smoke": {"2": {"seconds": 2}}}')
    before = sorted(lesson.folder.rglob("*"))
    assert clock.main([lesson], "smoke", figures) == 0
    known = json.loads(figures.read_text(encoding="utf-8"))
    found = known["smoke"].pop("1")
    assert known == {"cpu": {"1": {"seconds": 1}}, "smoke": {"2": {"seconds": 2}}}
    assert found["seconds"] > 1, "a kernel that loads torch"
    assert 1e8 < found["peak_memory_bytes"] < 4e9 and "torch" in found["machine"]
    assert sorted(lesson.folder.rglob("*")) == before
    assert "lesson 1: " in capsys.readouterr().out


def test_a_timed_notebook_can_be_kept_even_where_a_cell_fails(
    lesson, tmp_path, monkeypatch, capsys
):
    def broken(lesson):
        return new_notebook(cells=[new_code_cell("print('so far')"), new_code_cell("1 / 0")])

    monkeypatch.setattr(clock, "solved", broken)
    assert clock.main([lesson], "smoke", tmp_path / "figures.json", keep=tmp_path / "kept") == 1
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert not (tmp_path / "figures.json").exists()
    kept = nbformat.read(tmp_path / "kept" / lesson.notebook.name, as_version=4)
    assert kept.cells[0].outputs[0].text == "so far\n"


def test_what_a_cell_printed_may_come_in_parts_beside_a_warning():
    parts = [("stdout", '{"peak'), ("stderr", "a warning"), ("stdout", '": 1}\n')]
    outputs = [new_output("stream", name=name, text=text) for name, text in parts]
    cell = new_code_cell("1", outputs=[*outputs, new_output("display_data", data={})])
    assert clock.printed(cell) == '{"peak": 1}\n'


def test_only_the_grading_is_left_out_of_a_timed_notebook():
    cells = [
        new_code_cell('grade("add_noise")\nx = 1\nassert x == 1'),
        new_code_cell('upgrade("add_noise")\n    grade(name)'),
        new_markdown_cell('grade("add_noise")'),
    ]
    found = clock.without_grades(new_notebook(cells=cells)).cells
    assert [cell.source for cell in found] == [
        "\nx = 1\nassert x == 1",
        'upgrade("add_noise")\n    grade(name)',
        'grade("add_noise")',
    ]
