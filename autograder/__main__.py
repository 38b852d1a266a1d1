"""The command line: `python -m autograder grade 4`, and the other commands of the course."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from autograder import sandbox
from autograder.lesson import Lesson, LessonError, get_lesson

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
Number = Annotated[int, typer.Argument(metavar="LESSON", help="number of the lesson, 1 to 10")]


@app.command()
def grade(
    lesson: Number,
    notebook: Annotated[str, typer.Option(help="another notebook to grade; - reads stdin")] = "",
    json_file: Annotated[str, typer.Option("--json", help="write the result here; -: stdout")] = "",
    only: Annotated[str, typer.Option(help="grade this exercise only")] = "",
    seed: Annotated[int | None, typer.Option(help="seed of the tests' inputs")] = None,
) -> None:
    """Grade a lesson's notebook, say what is right and what to do next."""
    chosen = _lesson(lesson)
    path = Path(notebook) if notebook else chosen.notebook
    try:
        content = sys.stdin.buffer.read() if notebook == "-" else path.read_bytes()
    except OSError as error:
        _stop(f"{path} cannot be read ({error.strerror}).")
    from autograder.process import Worker, WorkerUnavailable

    try:
        if only:
            chosen.exercise(only)
        with Worker(chosen) as worker:  # loads torch while we load the tests
            from autograder import grader, report

            pictures = bool(json_file)
            result = grader.grade(content, chosen, seed, only or None, worker, pictures)
    except (LessonError, WorkerUnavailable) as error:
        _stop(str(error))
    if json_file:
        text = json.dumps(result.as_dict(), indent=2) + "\n"
        if json_file == "-":
            print(text, end="")
        else:
            Path(json_file).write_text(text, encoding="utf-8")
    if not only and path == chosen.notebook:
        from autograder.progress import record

        record(chosen, content, result)
    if json_file != "-":
        report.show(result, chosen, worker.mode)
    if result.problem:
        raise typer.Exit(2)
    raise typer.Exit(0 if result.score == result.maximum else 1)


@app.command(hidden=True)
def answer(lesson: Number) -> None:
    """Grade one exercise of the notebook that comes on stdin (what `grade` in a notebook asks)."""
    from autograder.answer import main
    from autograder.process import WorkerUnavailable

    try:
        main(_lesson(lesson))
    except (LessonError, WorkerUnavailable) as error:
        _stop(str(error))


@app.command()
def build(
    check: Annotated[bool, typer.Option(help="compare with what is committed")] = False,
) -> None:
    """Build the student notebooks from the lessons' text and the package."""
    from autograder.build import main

    raise typer.Exit(main(check=check))


@app.command()
def solve(
    lesson: Number,
    out: Annotated[Path, typer.Option(help="where to write the solved notebook")],
    execute: Annotated[bool, typer.Option(help="also run it from top to bottom")] = False,
) -> None:
    """Write the solved notebook (for instructors and tests)."""
    from autograder.solve import main

    raise typer.Exit(main(_lesson(lesson), out, execute=execute))


@app.command("time")
def time_notebooks(
    lessons: Annotated[list[int] | None, typer.Argument(help="numbers; none: all ten")] = None,
    tier: Annotated[str, typer.Option(help="smoke, cpu or gpu")] = "cpu",
    keep: Annotated[Path | None, typer.Option(help="keep the notebooks in this folder")] = None,
    grades: Annotated[bool, typer.Option(help="with the cells that grade")] = True,
) -> None:
    """Time the solved notebooks from top to bottom (an hour)."""
    from autograder.clock import main

    raise typer.Exit(
        main([_lesson(n) for n in lessons or range(1, 11)], tier, keep=keep, grades=grades)
    )


@app.command()
def mine() -> None:
    """Assemble your own package from the definitions that passed."""
    from autograder.mine import main

    raise typer.Exit(main())


@app.command()
def progress() -> None:
    """Show all ten lessons with your points."""
    from autograder.progress import main

    raise typer.Exit(main())


@app.command()
def doctor() -> None:
    """Check this machine's set-up and say how to mend it."""
    from autograder.doctor import main

    raise typer.Exit(main())


@app.command()
def catalogue(lesson: Number) -> None:
    """Prove the grader: reference, blank, every wrong answer and every right variant."""
    from autograder.catalogue import check
    from autograder.process import Worker

    chosen, failed, count = _lesson(lesson), 0, 0
    with Worker(chosen) as worker:
        for label, problems in check(chosen, worker):
            count += 1
            failed += bool(problems)
            print(f"{'FAILED' if problems else 'ok':7}{label}")
            for problem in problems:
                print(f"         {problem}")
    print(f"{count - failed} passed, {failed} failed")
    raise typer.Exit(1 if failed else 0)


@app.command()
def visible(lesson: Number) -> None:
    """Say which wrong answers pass the checks that a learner can read."""
    from autograder.visible import main

    raise typer.Exit(main(_lesson(lesson)))


@app.command()
def course_check(lesson: Annotated[int, typer.Argument(help="lesson to use")] = 1) -> None:
    """Run nbgrader's whole cycle on a scratch course and compare with `grade`."""
    from autograder.course.cycle import main

    raise typer.Exit(main(lesson))


@app.command()
def where() -> None:
    """Print how learners' code is shut in on this machine."""
    print(sandbox.detect())


def _lesson(number: int) -> Lesson:
    try:
        lesson = get_lesson(number)
        lesson.exercises  # noqa: B018  reads the source, so that its errors show here
    except LessonError as error:
        _stop(str(error))
    return lesson


def _stop(message: str) -> None:
    print(message, file=sys.stderr)
    raise typer.Exit(2)


if __name__ == "__main__":
    app(prog_name="python -m autograder")
