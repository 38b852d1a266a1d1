"""How a result looks in a terminal: a row an exercise, the total, what to do next."""

import os

from rich.console import Console
from rich.table import Table

from autograder.grader import ExerciseResult, Result
from autograder.lesson import LESSONS, Lesson
from autograder.sandbox import Mode

_MARKS = {"passed": "[green]✔[/]", "failed": "[red]✘[/]"}
_NOT_WRITTEN = "[dim]○[/]"


def show(result: Result, lesson: Lesson, mode: Mode, console: Console | None = None) -> None:
    """Print a result for the learner."""
    console = console or Console()
    if result.problem:
        console.print(f"[red]The notebook could not be graded:[/] {result.problem}.")
        return
    table = Table(title=f"Lesson {lesson.number} · {lesson.title}", title_justify="left")
    table.add_column("")
    table.add_column("exercise", no_wrap=True)
    table.add_column("points", justify="right", no_wrap=True)
    table.add_column("what the hidden tests say")
    for row in result.exercises:
        mark = _MARKS.get(row.status, f"[red]{row.status}[/]") if row.written else _NOT_WRITTEN
        table.add_row(mark, row.name, f"{row.points}/{row.maximum}", _escape(row.message))
    console.print(table)
    console.print(f"[bold]{result.score} of {result.maximum} points[/]")
    console.print(next_step(result, lesson))
    if result.sandbox != "not needed":
        console.print(f"[dim]Your code ran in: {mode}. Seed {result.seed}.[/]", highlight=False)
    if result.score < result.maximum and "MAKELEVEL" in os.environ:
        told = "make says Error 1 below: that only means that some points are still missing."
        console.print(f"[dim]{told}[/]", highlight=False)


def next_step(result: Result, lesson: Lesson) -> str:
    """One line that says what to do now."""
    wrong = [row for row in result.exercises if row.status != "passed" and row.written]
    blank = [row for row in result.exercises if not row.written]
    if wrong and wrong[0].waits_for:
        return f"Next: [bold]{wrong[0].waits_for[0]}[/], which {wrong[0].name} uses."
    if wrong:
        return f"Next: mend [bold]{wrong[0].name}[/]. Its sentence above says where to look."
    if blank:
        exercise = lesson.exercise(blank[0].name)
        return (
            f"Next: write [bold]{exercise.name}[/] in {lesson.notebook.name} "
            f"(about {exercise.minutes} minutes; three hints are folded above its cell)."
        )
    if len(result.exercises) < len(lesson.exercises):
        return "Right."
    if lesson.number == len(LESSONS):
        return (
            f"All of lesson {lesson.number} is right. Next: make mine, your own ten lessons in one."
        )
    return f"All of lesson {lesson.number} is right. Next: lesson {lesson.number + 1}."


def sentence(row: ExerciseResult) -> str:
    """One line about one exercise, the same in the terminal, the notebook and nbgrader."""
    mark = "✔" if row.status == "passed" else "✘" if row.written else "○"
    return f"{mark} {row.name}: {row.points}/{row.maximum} points. {row.message}"


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
