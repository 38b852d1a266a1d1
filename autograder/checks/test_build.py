"""The build: what nbgrader releases, the same bytes every time, and errors that name the line."""

import ast
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nbgrader.nbgraderformat import MetadataValidator

from autograder import build, source
from autograder.checks import fake_lesson
from autograder.lesson import LESSONS, PACKAGE, LessonError
from autograder.lint import plain
from autograder.splice import BEGIN, END
from t2i.drawing import show_ddpm, show_vae

METHOD = '''# %% [markdown]
r"""# A method"""

# %%
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# %%
from t2i.unet import Stage
from t2i.unet_blocks import ResBlock, SelfAttention2d, Downsample, Upsample, timestep_embedding
from collections.abc import Sequence

# %%
#| exercise: unet.UNet.forward
#| points: 100
#| difficulty: 5
#| minutes: 30
#| hint: follow the channels

# %%
#| check: UNet.forward
assert UNet
'''


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return build.build(fake_lesson.make(tmp_path_factory.mktemp("fake")))


def _cell(notebook, grade_id: str):
    cells = [
        c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == grade_id
    ]
    assert len(cells) == 1
    return cells[0]


def test_the_student_notebook_has_stubs_and_no_solution(both):
    student = both[1]
    text = build.write(student)
    for word in (BEGIN, END, "torch.cos(", "clamp(max", "self.conv(x)", "_check_num_train"):
        assert word not in text
    stub = _cell(student, "cosine_betas").source
    assert stub.rstrip().endswith('raise NotImplementedError("cosine_betas is not written yet")')
    assert "Noise strengths chosen so that" in stub and stub.startswith("def cosine_betas(\n")
    assert _cell(student, "Downsample").source.count("Downsample is not written yet") == 2
    assert "return alphas_cumprod / (1 - alphas_cumprod)" in text, "given code is given"


def test_the_source_notebook_has_the_solutions_between_marks(both):
    source_cell = _cell(both[0], "cosine_betas").source
    assert source_cell.startswith(BEGIN) and "def _check_num_train_timesteps" in source_cell
    assert "torch.cos(" in source_cell
    compile(source_cell, "cell", "exec")


def test_nbgrader_finds_its_metadata_in_order(both):
    for notebook in both:
        MetadataValidator().validate_nb(notebook)
    student = both[1]
    check = _cell(student, "check-cosine_betas")
    meta = check.metadata.nbgrader
    assert (meta.grade, meta.solution, meta.locked, meta.points) == (True, False, True, 40)
    assert check.metadata.editable is False and check.metadata.deletable is False
    assert check.source.startswith('grade("cosine_betas")\n')
    solution = _cell(student, "cosine_betas").metadata
    assert solution.nbgrader.solution and not solution.nbgrader.locked and not solution.deletable
    assert len(solution.nbgrader.checksum) == 32


def test_the_header_says_how_hard_and_folds_the_hints(both):
    header = next(c.source for c in both[1].cells if c.source.startswith("### Exercise"))
    assert "`cosine_betas`" in header and "●●●○○" in header
    assert "about 10 minutes" in header and "40 points" in header
    assert header.count("<details><summary>Hint") == header.count("</details>") == 3
    assert "\n\nthe second, with $x^2$\n\n" in header, "markdown in HTML needs blank lines"


def test_a_quiz_shows_the_options_and_not_the_answer(both):
    cells = both[1].cells
    place = next(i for i, cell in enumerate(cells) if cell.source.startswith('quiz("chain"'))
    assert cells[place].source == 'quiz("chain", answer="")'
    assert "for a reason" in cells[place - 1].source and "So it is" not in build.write(both[1])


def test_a_table_of_measured_figures_is_text(tmp_path):
    folded = "#| table: show_ddpm.results_table\n#| fold: In numbers"
    plain = "#| table: show_vae.study_table kl_weight"
    text = f"{fake_lesson.SOURCE}\n# %%\n{folded}\n\n# %%\n{plain}\n"
    cells = build.build(fake_lesson.make(tmp_path, text))[1].cells
    assert [cell.cell_type for cell in cells[-2:]] == ["markdown", "markdown"]
    table = show_ddpm.results_table().data.strip()
    assert cells[-2].source == f"<details><summary>In numbers</summary>\n\n{table}\n\n</details>"
    assert cells[-1].source == show_vae.study_table("kl_weight").data.strip()


def test_nothing_in_it_changes_from_day_to_day(both):
    student = both[1]
    assert all(not c.outputs and c.execution_count is None for c in student.cells if "outputs" in c)
    assert len({cell.id for cell in student.cells}) == len(student.cells)
    assert set(student.metadata) == {"kernelspec", "language_info"}
    text = build.write(student)
    assert text.endswith("}\n") and not text.endswith("\n\n")


def test_another_process_in_another_place_makes_the_same_bytes(both, tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom autograder import build\n"
        "from autograder.checks import fake_lesson\n"
        "lesson = fake_lesson.make(Path(sys.argv[1], 'elsewhere'))\n"
        "sys.stdout.buffer.write(build.write(build.build(lesson)[1]).encode())\n"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        cwd=tmp_path,
        env=environment,
    )
    assert run.returncode == 0, run.stderr.decode()
    assert run.stdout == build.write(both[1]).encode()


def test_ids_stay_when_text_is_put_before_them(both, tmp_path):
    longer = '# %% [markdown]\nr"""More text."""\n\n' + fake_lesson.SOURCE
    changed = build.release_source(fake_lesson.make(tmp_path, longer))
    assert [cell.id for cell in changed.cells[1:]] == [cell.id for cell in both[0].cells]


def test_one_method_of_a_class_is_taken_away_and_the_class_is_shown(tmp_path):
    student = build.build(fake_lesson.make(tmp_path, METHOD, module="unet"))[1]
    shown = _cell(student, "UNet-forward").source
    assert shown.count("NotImplementedError") == 1 and "self.time_mlp = nn.Sequential" in shown
    assert shown.rstrip().endswith('raise NotImplementedError("UNet.forward is not written yet")')
    assert _cell(student, "check-UNet-forward").source.startswith('grade("UNet.forward")')


BAD = {
    "unknown definition": ("schedules.cosine_betas", "schedules.cosine_beta", "is it cosine_betas"),
    "unknown module": ("schedules.cosine_betas", "schedule.cosine_betas", "names no module"),
    "unknown given": ("given: schedules.snr", "given: schedules.snrr", "no definition snrr"),
    "twice": ("unet_blocks.Downsample", "schedules.cosine_betas", "stands there twice"),
    "points": ("points: 40", "points: 41", "sum to 101, not 100"),
    "no number": ("points: 40", "points: many", "must be a whole number"),
    "difficulty": ("difficulty: 3", "difficulty: 6", "from 1 to 5"),
    "no minutes": ("#| minutes: 10\n", "", "needs a line"),
    "odd option": ("minutes: 10", "minuets: 10", "no '#| minuets:'"),
    "check of nothing": ("check: cosine_betas", "check: cosine", "no such exercise stands above"),
    "no check": ("#| check: Downsample\n", "", "has no '#| check: Downsample'"),
    "second check": ("check: Downsample", "check: cosine_betas", "second check"),
    "unknown question": ("quiz: chain", "quiz: chian", "no question 'chian'"),
    "unknown table": ("given: schedules.snr", "table: show_ddpm.tabel", "no attribute 'tabel'"),
    "no table": ("given: schedules.snr", "table: show_ddpm.results", "gives a dict, not a table"),
    "odd table": ("given: schedules.snr", "table: show_ddpm.smooth", "gives no table"),
    "unknown directive": ("#| given:", "#| gives:", "no directive"),
    "late directive": ("#| given: s", "x = 1\n#| given: s", "must open its cell"),
    "missing import": ("import math\n", "", "uses math, which no cell"),
    "own import": (
        "import math\n",
        "import math\nfrom t2i.unet_blocks import Downsample\n",
        "exercise here",
    ),
    "code": ("hint: a stride\n", "hint: a stride\nx = 1\n", "package is where"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_malformed_lesson_names_file_line_and_mend(case: str, tmp_path):
    old, new, says = BAD[case]
    assert fake_lesson.SOURCE.count(old) >= 1
    text = fake_lesson.SOURCE.replace(old, new, 1)
    lesson = fake_lesson.make(tmp_path, text)
    with pytest.raises(LessonError) as error:
        source.cells(lesson, PACKAGE)
    message = str(error.value)
    assert says in message and message.startswith(str(lesson.source))
    if case not in {"own import", "points"}:
        line = int(message.removeprefix(f"{lesson.source}:").partition(":")[0])
        near = text.split("\n")[line - 1 : line + 6]
        assert new == "" or any(part in "\n".join(near) for part in new.split("\n") if part)


def test_check_finds_a_notebook_that_was_edited(tmp_path):
    lesson = fake_lesson.make(tmp_path)
    assert build.build_all(check=True, lessons=[lesson]) == [lesson]
    assert not lesson.notebook.exists(), "a check writes nothing"
    assert build.build_all(lessons=[lesson]) == [lesson]
    assert build.build_all(check=True, lessons=[lesson]) == []
    lesson.notebook.write_bytes(lesson.notebook.read_bytes().replace(b"ten betas", b"10 betas"))
    before = hashlib.sha256(lesson.notebook.read_bytes()).digest()
    assert build.build_all(check=True, lessons=[lesson]) == [lesson]
    assert hashlib.sha256(lesson.notebook.read_bytes()).digest() == before


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: f"lesson_{lesson.number:02d}")
def test_committed_notebooks_are_what_the_build_makes(lesson):
    if not lesson.exists:
        pytest.skip(f"lesson {lesson.number} is in preparation")
    assert build.build_all(check=True, lessons=[lesson]) == [], "run: make build"


def test_nothing_of_a_reference_body_stands_in_a_student_notebook():
    for lesson in build.available()[0]:
        notebook = Path(lesson.notebook).read_text(encoding="utf-8")
        assert BEGIN not in notebook and END not in notebook
        for exercise in lesson.exercises:
            assert f"{exercise.name} is not written yet" in notebook


def unseen_pictures(source: str) -> list[str]:
    """Calls that make a picture which nobody sees: only a cell's last value is shown by itself.

    `show.draw_…(axes, …)` and the like draw into axes, and are no pictures of their own.
    """
    body = ast.parse(plain(source)).body
    found = []
    for node in (each for statement in body for each in ast.walk(statement)):
        statement = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        if not statement or node is body[-1]:
            continue
        maker = ast.unparse(node.value.func)
        first = ast.unparse(node.value.args[0]) if node.value.args else ""
        if maker.startswith("show") and "." in maker and not first.startswith(("axes", "panel")):
            found.append(maker)
    return found


def test_an_unseen_picture_is_found():
    assert unseen_pictures("show.show_images(x)\nif smoke:\n    print(1)") == ["show.show_images"]
    assert unseen_pictures("if x:\n    show_vae.map(x)\nelse:\n    pass") == ["show_vae.map"]
    assert unseen_pictures("show.draw_curves(axes[0], x)\nshow.show_images(x)") == []
    assert unseen_pictures("if x:\n    display(show.show_images(x))\nprint(1)") == []


@pytest.mark.parametrize("lesson", build.available()[0], ids=lambda lesson: lesson.title)
def test_every_picture_is_seen(lesson):
    cells = json.loads(lesson.notebook.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert [maker for source in code for maker in unseen_pictures(source)] == []
