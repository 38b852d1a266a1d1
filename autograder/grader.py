"""One pure function computes every score: `grade(notebook, lesson, seed) -> Result`.

The process that runs this holds the hidden tests and the references; the learner's code runs in
a worker (see `remote`). `make grade` prints the result, nbgrader ingests it; nothing else scores.
"""

import hashlib
import os
from dataclasses import asdict, dataclass, replace

from autograder.cells import UnreadableNotebook
from autograder.extract import Submission, extract
from autograder.lesson import Exercise, Lesson, get_lesson
from autograder.process import Worker
from autograder.suite import ExerciseResult, Suite, run

PUBLIC_SEED = 20201
UNREACHED = (
    "Your code stands below the line `raise NotImplementedError(...)`, where Python stops. "
    "Delete that line."
)


@dataclass(frozen=True)
class Result:
    """What became of one notebook."""

    lesson: int
    score: int
    maximum: int
    suite_version: str
    seed: int
    sandbox: str
    exercises: tuple[ExerciseResult, ...]
    problem: str | None = None  # why the notebook could not be graded at all

    def as_dict(self) -> dict:
        return asdict(self)

    def scores(self) -> dict[str, int]:
        return {exercise.name: exercise.points for exercise in self.exercises}


def grade(
    notebook: bytes,
    lesson: int | Lesson,
    seed: int | None = None,
    only: str | None = None,
    worker: Worker | None = None,
    pictures: bool = False,
) -> Result:
    """Grade a notebook: the same bytes, tests and seed give the same scores.

    Args:
        notebook: the bytes of an .ipynb file.
        lesson: number of the lesson, 1 to 10.
        seed: where the tests' inputs come from; by default GRADER_SEED, else the public seed.
        only: the name of one exercise, to grade nothing else.
        worker: one to reuse; it must be of this lesson.
        pictures: whether to draw what failed, where the suite says how; no score depends on it.

    Returns:
        a Result; an unreadable notebook has its reason in `problem` and 0 points.

    Raises:
        LessonError: no such lesson or exercise.
        WorkerUnavailable: the worker cannot be started on this machine.
    """
    lesson = get_lesson(lesson) if isinstance(lesson, int) else lesson
    seed = default_seed() if seed is None else seed
    wanted = [lesson.exercise(only)] if only else list(lesson.exercises)
    problem, submission = None, None
    try:
        submission = extract(notebook, lesson)
    except UnreadableNotebook as error:
        problem = str(error)
    if submission is None:
        results = [_zero(e, "unreadable", f"Not graded: {problem}.") for e in wanted]
        mode = "not started"
    else:
        results, mode = _grade_exercises(submission, lesson, wanted, seed, worker, pictures)
    return Result(
        lesson=lesson.number,
        score=sum(result.points for result in results),
        maximum=sum(exercise.points for exercise in wanted),
        suite_version=suite_version(lesson),
        seed=seed,
        sandbox=mode,
        exercises=tuple(results),
        problem=problem,
    )


def default_seed() -> int:
    """The instructor's private GRADER_SEED, else the public seed."""
    return int(os.environ.get("GRADER_SEED") or PUBLIC_SEED)


def suite_version(lesson: Lesson) -> str:
    """Changes whenever the lesson's hidden tests or its points do."""
    digest = hashlib.sha256(lesson.hidden_tests.read_bytes())
    digest.update(repr(lesson.exercises).encode())
    return digest.hexdigest()[:12]


def _grade_exercises(
    submission: Submission,
    lesson: Lesson,
    wanted: list[Exercise],
    seed: int,
    worker: Worker | None,
    pictures: bool,
) -> tuple[list[ExerciseResult], str]:
    known = [_without_running(submission, lesson, exercise) for exercise in wanted]
    if all(known):
        return known, "not needed"  # a blank notebook costs no process
    own = worker is None
    worker = worker or Worker(lesson)
    try:
        settled = _settle(submission, lesson, wanted, seed, worker, pictures)
        failed = [name for name, result in settled.items() if _ran_and_failed(result)]
        needed = {name for failure in failed for name in submission.uses[failure]}
        unknown = [e for e in lesson.exercises if e.name in needed - settled.keys()]
        others = _settle(submission, lesson, unknown, seed, worker)
    finally:
        if own:
            worker.close()
    for name in failed:
        wrong = [n for n, r in (others | settled).items() if r.status != "passed"]
        settled[name] = _stands_on(settled[name], submission.uses[name] & set(wrong))
    return list(settled.values()), worker.mode.name


def _settle(
    submission: Submission,
    lesson: Lesson,
    wanted: list[Exercise],
    seed: int,
    worker: Worker,
    pictures: bool = False,
) -> dict[str, ExerciseResult]:
    """The result of each wanted exercise, each judged by its own tests."""
    settled = {exercise.name: _without_running(submission, lesson, exercise) for exercise in wanted}
    open_names = [name for name, result in settled.items() if result is None]
    if open_names:
        suite = Suite(worker, submission, seed, open_names, pictures)
        run(lesson, suite)
        for exercise in wanted:
            settled[exercise.name] = settled[exercise.name] or suite.result(exercise)
    return settled


def _ran_and_failed(result: ExerciseResult) -> bool:
    return result.status != "passed" and result.seconds > 0


def _stands_on(result: ExerciseResult, wrong: set[str]) -> ExerciseResult:
    """Say which other exercise must be mended first, where one is wrong that this one calls."""
    if not wrong:
        return result
    names = sorted(wrong)
    listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    words = f"It uses {listed}, not right yet: mend that first, grade again."
    return replace(result, message=words, waits_for=tuple(names), picture="", caption="")


def _without_running(
    submission: Submission, lesson: Lesson, exercise: Exercise
) -> ExerciseResult | None:
    """The result where no code needs to run to know it."""
    if exercise.name in submission.unreached:
        return _zero(exercise, "failed", UNREACHED)
    if exercise.name in submission.unwritten:
        result = _zero(exercise, "failed", "Not yet written.")
        return replace(result, written=False)
    if exercise.name in submission.missing:
        if len(submission.missing) == len(lesson.exercises) > 1:
            why = f"The notebook holds no exercise of lesson {lesson.number}: is it another's?"
            return _zero(exercise, "failed", why)
        head = exercise.name.partition(".")[0]
        return _zero(exercise, "failed", f"Nothing called {head} is defined in the notebook.")
    if exercise.name in submission.broken:
        why = submission.broken[exercise.name]
        return _zero(exercise, "failed", f"Python cannot read the cell: {why}.")
    return None


def _zero(exercise: Exercise, status: str, message: str) -> ExerciseResult:
    return ExerciseResult(exercise.name, 0, exercise.points, status, message)
