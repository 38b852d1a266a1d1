"""Due dates, penalties, tables, regrading, and a gradebook in PostgreSQL."""

import csv
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
from zoneinfo import ZoneInfo

import pytest
from nbgrader.api import Gradebook
from typer.testing import CliRunner

from autograder.checks import postgres
from autograder.course import cycle, late, table
from autograder.course.__main__ import app
from autograder.course.config import FILE
from autograder.course.folder import make_course
from autograder.lesson import REPOSITORY, get_lesson
from autograder.tests.mishaps import ANSWERS, LESSON, begun, cell_of

SLUG = LESSON.slug
DUE = datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.UTC)


def submission(*names):
    """A notebook of lesson 1 with these exercises answered rightly, the others blank."""
    notebook = json.loads(LESSON.notebook.read_text(encoding="utf-8"))
    for name in names:
        cell_of(notebook, name)["source"] = ANSWERS[name]
    return json.dumps(notebook)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course of three: one in time, one late, each with 10 points, one who hands in nothing."""
    folder = tmp_path_factory.mktemp("instructor")
    with cycle.isolated(folder):
        made = make_course(folder / "course", [1], trust_submissions=True)
        made.release(1)
        late.set_due(made, 1, DUE)
        downloads = folder / "downloads"
        downloads.mkdir()
        for name, answers, hours in (("ann", ("snr",), -1), ("bob", ("linear_betas",), 25)):
            path = downloads / f"{name}.ipynb"
            path.write_text(submission(*answers))
            when = (DUE + datetime.timedelta(hours=hours)).timestamp()
            os.utime(path, (when, when))
        students = folder / "students.csv"
        students.write_text('name,id\n=Ann,ann\nBob B,bob\n"Cem, C., Jr",cem\n')
        made.collect(1, downloads, students)
        made.autograde(1)
        yield made


def penalty(course, student):
    with course.gradebook() as gradebook:
        return gradebook.find_submission(SLUG, student).late_submission_penalty


def with_settings(course, lines):
    """The course, read anew with some more lines of configuration."""
    path = course.folder / FILE
    path.write_text(path.read_text() + "\n" + lines + "\n")
    return type(course)(course.folder)


def test_late_submissions_cost_what_the_course_says(course, tmp_path):
    before = (course.folder / FILE).read_text()
    assert penalty(course, "bob") == 0  # nbgrader's plugin, which takes off nothing
    plugin = 'c.AssignLatePenalties.plugin_class = "autograder.course.late.DailyPenalty"'
    daily = with_settings(course, f"{plugin}\nc.DailyPenalty.percent = 20")
    said = CliRunner().invoke(app, ["autograde", str(course.folder), "1"]).stdout
    assert re.search(r"^ann +10$", said, re.M) and re.search(r"^bob +6  25 h late$", said, re.M)
    assert penalty(daily, "bob") == pytest.approx(4)  # 25 hours are two days: 40 % of 10
    assert penalty(daily, "ann") == 0
    (course.folder / FILE).write_text(before)
    zero = with_settings(course, 'c.LateSubmissionPlugin.penalty_method = "zero"')
    zero.autograde(1)
    assert penalty(zero, "bob") == 10
    points = {row["student"]: row for row in table.rows(zero)}
    assert points["bob"]["points"] == "0" and points["bob"]["late"] == "25"
    assert points["ann"]["points"] == "10" and points["ann"]["late"] == ""
    (course.folder / FILE).write_text(before)
    type(course)(course.folder).autograde(1)


def test_an_extension_is_an_earlier_time_of_the_submission(course):
    before = (course.folder / FILE).read_text()
    stamp = course.folder / "submitted" / "bob" / SLUG / "timestamp.txt"
    time = stamp.read_text()
    zero = with_settings(course, 'c.LateSubmissionPlugin.penalty_method = "zero"')
    stamp.write_text("2026-11-30 11:59:00 UTC\n")
    zero.autograde(1, "bob")
    row = next(row for row in table.rows(zero) if row["student"] == "bob")
    stamp.write_text(time)
    (course.folder / FILE).write_text(before)
    type(course)(course.folder).autograde(1, "bob")
    assert (row["points"], row["late"]) == ("10", "")


@pytest.mark.parametrize(
    "line",
    [
        'LateSubmissionPlugin.penalty_method = "half"', 'DailyPenalty.percent = "ten"',
        "DailyPenalty.percent = 120",
    ],
)  # fmt: skip
def test_a_wrong_penalty_is_one_sentence_that_names_the_setting(course, line):
    before = (course.folder / FILE).read_text()
    with_settings(course, f"c.{line}")
    told = refused("autograde", course.folder, 1)
    (course.folder / FILE).write_text(before)
    name, value = line.replace('"', "'").split(" = ")
    assert f"c.{name} is {value}: it must be" in told and len(told.splitlines()) == 1


def test_due_dates_are_read_with_their_zone():
    berlin = ZoneInfo("Europe/Berlin")
    assert late.due("2026-11-30 13:00", berlin) == DUE
    assert late.due("2026-11-30T13:00 Europe/Berlin") == DUE
    assert late.due("2026-07-01 02:00:00", berlin).hour == 0  # summer time
    for text in ("tomorrow", "2026-13-01 00:00", "2026-11-30 13:00 Mars/Olympus", "2026-11-30"):
        with pytest.raises(late.DueDateError, match="write it as"):
            late.due(text)


def test_due_dates_of_the_configuration_are_kept_over_a_release(course):
    course.config.DueDates.noise_schedules = "2026-12-24 18:00 UTC"
    late.set_configured(course)
    course.release(1)
    with course.gradebook() as gradebook:
        kept = gradebook.find_assignment(SLUG).duedate
    course.config.DueDates.noise_schedules = None
    late.set_configured(course)
    with course.gradebook() as gradebook:
        assert gradebook.find_assignment(SLUG).duedate is None
    late.set_due(course, 1, DUE)
    assert kept == datetime.datetime(2026, 12, 24, 18)
    course.config.DueDates.nonsense = "2026-12-24 18:00"
    with pytest.raises(late.DueDateError, match="c.DueDates.nonsense is no lesson's"):
        late.set_configured(course)
    del course.config["DueDates"]


@pytest.mark.parametrize("seconds, days", [(1, 1), (86_400, 1), (86_401, 2), (10**7, 100)])
def test_a_day_that_has_begun_counts(seconds, days):
    taken = late.DailyPenalty(percent=10).late_submission_penalty("ann", 50, seconds)
    assert taken == min(50, 50 * days * 0.1)


def test_tables_for_people_and_for_nbgrader(course, tmp_path):
    path = table.write(course, tmp_path / "plain.csv")
    with path.open(encoding="utf-8", newline="") as stream:
        found = {row["student"]: row for row in csv.DictReader(stream)}
    assert list(found["ann"]) == list(table.COLUMNS)
    assert (found["ann"]["name"], found["cem"]["name"]) == ("'=Ann", "C. Jr Cem")
    assert [found[name]["points"] for name in ("ann", "bob", "cem")] == ["10", "10", ""]
    assert {row["max"] for row in found.values()} == {"100"}
    assert found["cem"]["flag"] == "nothing came in" and not found["ann"]["flag"]
    with table.export(course, tmp_path / "all.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["student_id"]: row["score"] for row in rows} == {
        "ann": "10.0", "bob": "10.0", "cem": "",
    }  # fmt: skip
    assert all(None not in row for row in rows)  # no name's comma broke a line


def test_a_lesson_that_was_not_collected_is_left_out_of_tables(course, tmp_path):
    late.set_due(course, 2, None)  # so the gradebook knows it, as after a release
    (course.folder / "source" / get_lesson(2).slug).mkdir()
    to = tmp_path / "grades.csv"
    try:
        for form in ([], ["--plain"]):
            told = said("export", course.folder, to, *form)
            assert "lesson 2 is not in it: nothing was collected" in told
            assert SLUG in to.read_text() and get_lesson(2).slug not in to.read_text()
            assert "not in it" not in said("export", course.folder, to, *form, "--lesson", 1)
            said("export", course.folder, to, *form, "--lesson", 2)
            assert len(to.read_text().splitlines()) == 1
    finally:
        (course.folder / "source" / get_lesson(2).slug).rmdir()
        with course.gradebook() as gradebook:
            gradebook.remove_assignment(get_lesson(2).slug)


def test_points_given_by_hand_stay_when_graded_again(course):
    with course.gradebook() as gradebook:
        for grade in gradebook.find_submission_notebook(SLUG, SLUG, "ann").grades:
            if grade.name == "check-add_noise":
                grade.manual_score = 7
                grade.needs_manual_grade = False
        gradebook.db.commit()
    target = course.folder / "submitted" / "ann" / SLUG / f"{SLUG}.ipynb"
    before = target.read_text()
    try:
        target.write_text(submission("linear_betas"))  # as bob did
        course.autograde(1, "ann")
        scores = course.scores(1)["ann"]
        assert (scores["snr"], scores["linear_betas"], scores["add_noise"]) == (0, 10, 7)
        assert "ann" in course.flagged(1)  # nbgrader asks a person to look at them again
    finally:
        target.write_text(before)
        with course.gradebook() as gradebook:
            for grade in gradebook.find_submission_notebook(SLUG, SLUG, "ann").grades:
                grade.manual_score = None
            gradebook.db.commit()
        course.autograde(1, "ann")
    assert course.scores(1)["ann"]["add_noise"] == 0


@pytest.mark.thorough
def test_a_changed_test_changes_the_points_when_graded_again(tmp_path):
    """In a copy of the repository, through the commands that an instructor types."""
    copy = tmp_path / "copy"
    ignore = shutil.ignore_patterns("__pycache__", "attacks", "wrong_answers", "*.safetensors")
    for name in ("autograder", "solutions/t2i", "lessons/01_noise_schedules"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=ignore)
    for lesson in (get_lesson(number) for number in range(2, 11)):
        (copy / "lessons" / lesson.folder.name).mkdir()
    for name in ("autograder/wrong_answers/lesson_01.py", "conftest.py", "pyproject.toml"):
        (copy / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, copy / name)
    paths = os.pathsep.join([str(copy), str(copy / "solutions")])

    def command(*words):
        done = subprocess.run(
            [sys.executable, "-m", "autograder.course", *words],
            env=os.environ | {"PYTHONPATH": paths}, cwd=copy, capture_output=True, text=True,
            timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    home = str(tmp_path / "course")
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    (downloads / "ann.ipynb").write_text(json.dumps(begun()))
    command("make", home, "1", "--trust-submissions")
    command("release", home, "1")
    command("collect", home, "1", str(downloads))
    assert "60" in command("autograde", home, "1")
    tests = copy / "autograder" / "tests" / "lesson_01.py"
    extra = '\n\n@exercise("snr")\ndef test_new(student):\n    expect(False, "Asked anew.")\n'
    tests.write_text(tests.read_text() + extra)
    again = command("autograde", home, "1")
    assert "50" in again and "60" not in again


def said(*arguments):
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def handed_in(folder, text, when, name="dora.ipynb"):
    folder.mkdir()
    (folder / name).write_text(text)
    os.utime(folder / name, (when.timestamp(), when.timestamp()))
    return folder


def test_a_notebook_of_another_lesson_is_not_taken_and_says_how_it_counts(tmp_path):
    other = get_lesson(4).notebook.read_text(encoding="utf-8")
    with cycle.isolated(tmp_path):
        home = make_course(tmp_path / "course", [1], trust_submissions=True).folder
        said("release", home, 1)
        said("collect", home, 1, handed_in(tmp_path / "a", submission("snr"), DUE))
        later = handed_in(tmp_path / "b", other, DUE + datetime.timedelta(hours=1))
        line = f"dora.ipynb: it holds no exercise of lesson 1.*: .*course use {home} 1 2$"
        assert re.search(f"^not taken from dora: {line}", said("collect", home, 1, later), re.M)
        assert re.search("^dora +10$", said("autograde", home, 1), re.M)
        assert "dora.ipynb counts for dora" in said("use", home, 1, 2)
        said("use", home, 1, 1)
        only = handed_in(tmp_path / "c", other, DUE, "eva.ipynb")
        assert "look at eva: eva.ipynb: it holds no" in said("collect", home, 1, only)
        graded = said("autograde", home, 1)
        assert re.search("^dora +10$", graded, re.M) and re.search("^eva +0$", graded, re.M)
        assert "look at eva: it holds no exercise of lesson 1" in graded
        assert "look at dora" not in graded


def test_a_late_file_over_one_in_time_is_said_in_a_line(tmp_path):
    with cycle.isolated(tmp_path):
        made = make_course(tmp_path / "course", [1], trust_submissions=True)
        late.set_due(made, 1, DUE)
        home, hour = made.folder, datetime.timedelta(hours=1)
        first = handed_in(tmp_path / "a", submission("snr"), DUE - hour)
        assert "note" not in said("collect", home, 1, first)
        second = handed_in(tmp_path / "b", submission("linear_betas"), DUE + hour)
        line = r"a late file replaces dora.ipynb, which came in time \(2026-11-30 11:00:00 UTC\)"
        found = said("collect", home, 1, second)
        assert re.search(f"^note on dora: {line}.*course use {home} 1 1$", found, re.M)
        said("use", home, 1, 1)
        assert "chosen by hand" in said("collect", home, 1, second)


def test_a_bundle_names_the_open_lessons_whose_answers_it_holds(tmp_path):
    now = datetime.datetime.now(datetime.UTC)
    with cycle.isolated(tmp_path):
        made = make_course(tmp_path / "course", [1, 4], trust_submissions=True)
        said("release", made.folder, 4)
        late.set_due(made, 1, now + datetime.timedelta(hours=9))
        told = said("bundle", made.folder, 4, tmp_path / "a")
        assert re.search("^careful: it holds the answers of lesson 1, which is due 2", told, re.M)
        late.set_due(made, 1, now - datetime.timedelta(hours=9))
        assert "careful" not in said("bundle", made.folder, 4, tmp_path / "b")


def refused(*arguments):
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 2 and isinstance(done.exception, SystemExit), done.output
    return done.output


def test_a_url_of_no_database_is_one_sentence(tmp_path):
    folder, url = tmp_path / "course", "sqlite:////nowhere/at/all.db"
    with cycle.isolated(tmp_path):
        said = refused("make", folder, 1, "--db-url", url)
        assert "the gradebook cannot be used" in said and "unable to open" in said
        assert not folder.exists()
        assert "cannot be used" in refused("make", folder, 1, "--db-url", "nonsense://")
        made = make_course(folder, [1])  # a URL that goes wrong later
        with_settings(made, f"c.CourseDirectory.db_url = {url!r}")
        assert "unable to open" in refused("export", folder, tmp_path / "grades.csv", "--plain")


def test_a_lesson_that_the_course_does_not_hold_is_one_sentence(course, tmp_path):
    for step, *rest in (
        ["release"], ["bundle", tmp_path / "to"], ["collect", tmp_path], ["autograde"],
        ["feedback"], ["report"],
    ):  # fmt: skip
        said = refused(step, course.folder, 2, *rest)
        assert "no lesson 2 yet" in said and f"make {course.folder} 2" in said.replace("\n", " ")
    assert "1 to 10" in refused("release", course.folder, 11)


def test_a_step_that_comes_too_early_names_the_one_before(tmp_path):
    with cycle.isolated(tmp_path):
        folder = make_course(tmp_path / "course", [1], trust_submissions=True).folder
        assert "release it first" in refused("autograde", folder, 1)
        CliRunner().invoke(app, ["release", str(folder), "1"])
        assert "collect first" in refused("autograde", folder, 1)
        assert "autograde first" in refused("feedback", folder, 1)


# PostgreSQL

needs_postgres = pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing()))


@pytest.fixture(scope="module")
def database():
    with postgres.server() as url:
        yield url


@needs_postgres
def test_a_course_in_postgresql(database, tmp_path):
    """Release, collect, grade, grade again, flag and export, with the gradebook on a server."""
    with cycle.isolated(tmp_path):
        made = make_course(tmp_path / "course", [1], trust_submissions=True, db_url=database)
        made.release(1)
        late.set_due(made, 1, DUE)
        downloads = tmp_path / "downloads"
        downloads.mkdir()
        (downloads / "Zoë_Müller.ipynb").write_text(submission())
        (downloads / "empty.ipynb").write_text("")
        after = (DUE + datetime.timedelta(hours=5)).timestamp()
        os.utime(downloads / "empty.ipynb", (after, after))
        made.collect(1, downloads)
        made.autograde(1)
        made.autograde(1, "empty")
        assert {name: sum(each.values()) for name, each in made.scores(1).items()} == {
            "Zoë_Müller": 0, "empty": 0,
        }  # fmt: skip
        assert list(made.flagged(1)) == ["empty"]
        assert [row["late"] for row in table.rows(made) if row["student"] == "empty"] == ["5"]
        made.feedback(1, "empty")
        exported = made.export(tmp_path / "grades.csv").read_text()
        assert "Zoë_Müller" in exported
        assert not (made.folder / "gradebook.db").exists()
        with Gradebook(database, "text-to-image") as gradebook:
            assert len(gradebook.students) == 2


@needs_postgres
@pytest.mark.thorough
def test_the_whole_cycle_in_postgresql(tmp_path):
    with postgres.server() as url, cycle.isolated(tmp_path):
        report = cycle.run(LESSON, tmp_path, db_url=url)
    assert report.problems == []
    assert report.exported["full"] == 100
