"""The instructor's commands: `python -m autograder.course make FOLDER 1 2 3`, and so on."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
Folder = Annotated[Path, typer.Argument(help="the course folder")]
Number = Annotated[int, typer.Argument(metavar="LESSON", help="number of the lesson, 1 to 10")]
Student = Annotated[str, typer.Option(help="only this student")]


@app.command()
def make(
    folder: Folder,
    lessons: Annotated[list[int], typer.Argument(metavar="LESSON...", help="their numbers")],
    course_id: Annotated[str, typer.Option(help="nbgrader's name of the course")] = "text-to-image",
    seed: Annotated[int | None, typer.Option(help="a private seed of the hidden inputs")] = None,
    trust_submissions: Annotated[
        bool, typer.Option(help="grade even where there is no sandbox: on your own risk")
    ] = False,
    db_url: Annotated[
        str,
        typer.Option(help="of the gradebook, as postgresql+psycopg://USER@HOST/NAME; else a file"),
    ] = "",
) -> None:
    """Make a course folder, or add lessons to one."""
    from autograder.course.folder import make_course

    with _said():
        course = make_course(folder, lessons, course_id, trust_submissions, seed, db_url or None)
        numbers = ", ".join(map(str, lessons))
        print(f"{course.folder} holds lesson{'s' * (len(lessons) > 1)} {numbers}")
        for path in course.replaced:
            print(f"another notebook lay there; it is kept as {path}")


@app.command()
def release(
    folder: Folder,
    lesson: Number,
    due: Annotated[str, typer.Option(help="when it is due, as 2026-11-30 23:59; none: never")] = "",
    zone: Annotated[str, typer.Option(help="of that time, as Europe/Berlin; else yours")] = "",
) -> None:
    """Make the student notebook of a lesson (nbgrader generate_assignment)."""
    with _said():
        from autograder.course import late

        course = _course(folder)
        if due:
            late.expect_unconfigured(course, lesson)
        when = late.due(due, _zone(zone)) if due not in ("", "none") else None
        course.release(lesson)
        if due:
            late.set_due(course, lesson, when)
            print(f"it is due {when:%Y-%m-%d %H:%M} UTC" if when else "it is due at no time")
            if course.scores(lesson):
                print("autograde again, so that what lateness costs follows that date")
        print(f"the student notebook lies in {course.folder / 'release'}")


@app.command()
def bundle(
    folder: Folder,
    lesson: Number,
    to: Annotated[Path, typer.Argument(help="a new folder, or a .zip file")],
) -> None:
    """Write what the class gets for a released lesson, without solutions and hidden tests."""
    with _said():
        from autograder.course import told

        course = _course(folder)
        print(f"wrote {course.bundle(lesson, to)}")
        for line in told.bundled(course, lesson):
            print(line)


@app.command()
def collect(
    folder: Folder,
    lesson: Number,
    downloads: Annotated[Path, typer.Argument(help="a folder, or a zip of your learning system")],
    students: Annotated[
        Path | None, typer.Option(help="a table with the columns name and id [COURSE/students.csv]")
    ] = None,
    zone: Annotated[
        str, typer.Option(help="of the zip's times, as Europe/Berlin; else yours")
    ] = "",
) -> None:
    """Copy submissions into the course, and list what belongs to nobody."""
    with _said():
        from autograder.course import told

        course = _course(folder)
        found = course.collect(lesson, downloads, students, _zone(zone))
        for line in told.collected(course, lesson, found):
            print(line)


@app.command()
def use(
    folder: Folder,
    lesson: Number,
    number: Annotated[int, typer.Argument(help="of the file, in collected.csv")],
) -> None:
    """Let a file that was collected count instead of another one, with its original time."""
    with _said():
        row = _course(folder).use(lesson, number)
        print(f"{row['file']} counts for {row['student']}, handed in {row['time'] or 'at no time'}")
        print("autograde again to grade it")


@app.command()
def autograde(
    folder: Folder,
    lesson: Number,
    student: Student = "*",
    slurm: Annotated[bool, typer.Option(help="grade on a cluster, by arrays of jobs")] = False,
    option: Annotated[
        list[str], typer.Option(help="submitit's, for --slurm: slurm_partition=cpu")
    ] = (),
) -> None:
    """Grade the submissions of a lesson (nbgrader autograde), as many at a time as there are cores.

    Run it again after an interruption: it goes on where it stopped.
    """
    with _said():
        from autograder.course import cluster, parallel, table

        course = _course(folder)
        fill = cluster.filler(course.folder, option) if slurm else parallel.fill
        failed = course.autograde(lesson, student, fill)
        rows = table.rows(course, [course.lesson(lesson)], student)
        for row in rows:
            print(table.line(row))
        for row in rows:
            if row["flag"]:
                print(f"look at {row['student']}: {row['flag']}")
        if failed:
            typer.echo(f"not graded, the grader failed: {', '.join(failed)}", err=True)
            raise typer.Exit(1)


@app.command()
def feedback(folder: Folder, lesson: Number, student: Student = "*") -> None:
    """Make the feedback pages (nbgrader generate_feedback)."""
    with _said():
        course = _course(folder)
        for name in course.feedback(lesson, student):
            print(f"no page for {name}: the grader failed, autograde it again")
        print(f"the pages lie in {course.folder / 'feedback'}")


@app.command()
def export(
    folder: Folder,
    to: Annotated[Path, typer.Argument(help="a .csv file")],
    plain: Annotated[
        bool, typer.Option("--plain", help="student, name, lesson, points, max, late, flag")
    ] = False,
    lesson: Annotated[list[int], typer.Option(help="only this one; may be repeated")] = (),
) -> None:
    """Write all scores as a table: nbgrader's own, or a plain one for your learning system."""
    with _said():
        from autograder.course import table
        from autograder.lesson import LESSONS

        course = _course(folder)
        lessons = [course.lesson(number) for number in lesson] or LESSONS
        print(f"wrote {(table.write if plain else table.export)(course, to, lessons)}")
        graded = {row["lesson"] for row in table.rows(course, lessons) if row["points"]}
        for each, any_came in table.came_in(course, lessons).items():
            if not any_came:
                print(f"lesson {each.number} is not in it: nothing was collected")
            elif each.slug not in graded:
                print(f"lesson {each.number} has no points in it: run autograde first")


@app.command()
def report(folder: Folder, lesson: Number) -> None:
    """Write a page and a table: which exercises fail, and of what."""
    with _said():
        from autograder.course.report import main

        for path in main(_course(folder), lesson):
            print(f"wrote {path}")


@app.command()
def formgrader(
    folder: Folder,
    port: Annotated[int, typer.Option(help="where to listen; 0 takes a free port")] = 0,
    browser: Annotated[bool, typer.Option(help="open the page as well")] = True,
) -> None:
    """Look at submissions and comment on them in a browser (nbgrader formgrader)."""
    with _said():
        from autograder.course.formgrader import main

        main(_course(folder), port, browser)


def _course(folder: Path):
    from autograder.course import late
    from autograder.course.folder import Course

    course = Course(folder)
    late.set_configured(course)
    return course


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError):
        raise typer.BadParameter(f"{name} is no time zone; write it as Europe/Berlin") from None


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """An error of the course as one message instead of a traceback."""
    from sqlalchemy.exc import SQLAlchemyError

    from autograder.course.database import DatabaseError, in_words
    from autograder.course.folder import CourseError
    from autograder.course.late import DueDateError
    from autograder.lesson import LessonError

    try:
        yield
    except (CourseError, DatabaseError, DueDateError, LessonError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    except SQLAlchemyError as error:
        typer.echo(in_words(error), err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    app(prog_name="python -m autograder.course")
