"""nbgrader's own steps, with three exchanged: rebuild, grade in the sandbox, save.

nbgrader runs a submission's own cells in an ordinary kernel and reads the score off their outputs.
Here the submission is first rebuilt on the released notebook (`RebuildSubmission`), then the one
function that computes every score takes the place of the kernel (`SandboxedGrade`). Its verdicts
are written as outputs from which nbgrader computes the same points.
"""

import html
from pathlib import Path

import nbformat
from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.preprocessors import NbGraderPreprocessor, SaveAutoGrades
from nbgrader.utils import is_grade, is_solution
from traitlets import Bool, Integer

from autograder import sandbox
from autograder.cells import UnreadableNotebook
from autograder.course.beside import set_aside
from autograder.course.kept import cache_of, coursedir_of, graded, released_notebook, written
from autograder.course.rebuild import blank, exercise_of, filled, rebuild, to_bytes
from autograder.course.submitted import read_submission
from autograder.course.ungraded import NOT_JUDGED
from autograder.course.verdict import outputs, readable
from autograder.grader import ExerciseResult, grade
from autograder.lesson import LESSONS, Lesson
from autograder.plain import plain

NOTE = "t2i"  # the rebuilt notebook's metadata for what nbgrader has no place for


class UntrustedMachine(RuntimeError):
    """A class may not be graded here: there is no sandbox, and nobody said to go without."""


class SubmissionExporter(NotebookExporter):
    """nbgrader's way to read a notebook, which leaves a file from outside to RebuildSubmission.

    nbgrader would stop at a file that is not a notebook; here nothing but the bytes is touched.
    """

    def from_filename(self, filename: str, resources: dict | None = None, **kwargs):
        if not any(isinstance(step, RebuildSubmission) for step in self._preprocessors):
            return super().from_filename(filename, resources, **kwargs)
        resources = dict(resources or {})
        resources["submitted_file"] = filename
        return self.from_notebook_node(nbformat.v4.new_notebook(), resources, **kwargs)


class RebuildSubmission(NbGraderPreprocessor):
    """Puts the learner's sources into the released notebook; see `rebuild`.

    What cannot be read becomes the released notebook with the reason in its metadata.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        names = resources["nbgrader"]
        lesson = lesson_named(names["notebook"])
        released = self._released(names)
        try:
            if "submitted_file" in resources:
                submitted = read_submission(Path(resources["submitted_file"]))
            else:
                submitted = nbformat.writes(nb).encode()
            known = self._known(submitted, released, lesson)
            if known.get("problem"):  # in the batch, which alone tries it again
                problem = NOT_JUDGED.format(known["problem"])
                return _with_problem(blank(released), problem), resources
            if known.get("layout"):
                return filled(released, lesson, known["layout"]), resources
            return rebuild(submitted, lesson, released), resources
        except UnreadableNotebook as error:
            reason = f"The submitted file could not be graded: {error}."
        except Exception:
            self.log.exception("%s of %s cannot be rebuilt", names["notebook"], names["student"])
            reason = "The submitted notebook could not be taken apart."
        return _with_problem(blank(released), reason), resources

    def _released(self, names: dict) -> NotebookNode:
        """The notebook as it was given out; without it, the graded cells the gradebook knows."""
        with Gradebook(names["db_url"]) as gradebook:
            return released_notebook(gradebook, coursedir_of(self), names, self.log)

    def _known(self, submitted: bytes, released: NotebookNode, lesson: Lesson) -> dict:
        """What the batch noted of this file (see `cache`)."""
        coursedir = coursedir_of(self)
        if coursedir is None:
            return {}
        cache = cache_of(coursedir, lesson, SandboxedGrade(parent=self.parent).seed)
        return cache.state(cache.ticket(submitted, written(released)))


class SandboxedGrade(NbGraderPreprocessor):
    """Stands where nbgrader executes a notebook: grades it, and writes verdicts as outputs."""

    trust_submissions = Bool(
        False, help="Grade even where no sandbox shuts the submitted code in."
    ).tag(config=True)
    seed = Integer(
        None, allow_none=True, help="Where hidden inputs come from; by default GRADER_SEED."
    ).tag(config=True)

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        mode = sandbox.detect()
        if not (mode.is_sandbox or self.trust_submissions):
            raise UntrustedMachine(
                f"nothing was graded: {mode}. Submitted code would run with your rights. Set "
                "c.SandboxedGrade.trust_submissions = True in nbgrader_config.py if you trust it."
            )
        lesson = lesson_named(resources["nbgrader"]["notebook"])
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        results = {} if problem_of(nb) else self._results(nb, lesson)
        for cell in nb.cells:
            if cell.cell_type == "code" and is_grade(cell):
                name = exercise_of(cell, lesson)
                if name is None and is_solution(cell):
                    continue  # a question of the instructor's, graded by hand
                points = cell.metadata.nbgrader.points
                cell.outputs = outputs(results.get(name), points, problem_of(nb))
        return nb, resources

    def _results(self, nb: NotebookNode, lesson: Lesson) -> dict[str, ExerciseResult]:
        try:
            coursedir = coursedir_of(self)
            if coursedir is None:
                result = grade(to_bytes(nb), lesson, seed=self.seed, pictures=True)
            else:
                result = graded(to_bytes(nb), cache_of(coursedir, lesson, self.seed))
        except Exception as error:
            self.log.exception("lesson %d could not be graded", lesson.number)
            _with_problem(nb, NOT_JUDGED.format(f"{type(error).__name__}: {error}"))
            return {}
        if result.problem is not None:
            _with_problem(nb, f"The submitted file could not be graded: {result.problem}.")
        nb.metadata.setdefault(NOTE, {}).update(
            suite_version=result.suite_version, sandbox=result.sandbox
        )
        return {each.name: readable(each, nb) for each in result.exercises}


class SaveGrades(SaveAutoGrades):
    """nbgrader's own saving; a file that could not be graded is also flagged for a person."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        nb, resources = super().preprocess(nb, resources)
        problem = problem_of(nb)
        if problem:
            names = resources["nbgrader"]
            where = names["notebook"], names["assignment"], names["student"]
            with Gradebook(names["db_url"]) as gradebook:
                submission = gradebook.find_submission_notebook(*where)
                for each in submission.grades:
                    each.needs_manual_grade = True
                first = next((c for c in nb.cells if is_solution(c)), None)
                for comment in submission.comments:
                    here = first is not None and comment.name == first.metadata.nbgrader.grade_id
                    comment.auto_comment = html.escape(problem) if here else None
                gradebook.db.commit()
        return nb, resources


def lesson_named(notebook: str) -> Lesson:
    """The lesson whose notebook has that name.

    Raises:
        ValueError: none has.
    """
    for lesson in LESSONS:
        if lesson.slug == notebook:
            return lesson
    known = ", ".join(lesson.slug for lesson in LESSONS)
    raise ValueError(f"{notebook}.ipynb is the notebook of no lesson; there are: {known}")


def expect_notebook(assignment: str, student: str, notebooks: list[str]) -> None:
    """nbgrader's hook before a submission: what lies beside the notebook is set aside, and a
    renamed notebook is looked for under its name."""
    for folder in {Path(notebook).parent for notebook in notebooks}:
        set_aside(folder)
    slugs = {lesson.slug for lesson in LESSONS}
    if notebooks and not any(Path(notebook).stem in slugs for notebook in notebooks):
        folder = Path(notebooks[0]).parent
        if folder.name in slugs:
            notebooks[:] = [str(folder / f"{folder.name}.ipynb")]


def problem_of(nb: NotebookNode) -> str | None:
    """Why a rebuilt notebook could not be graded."""
    return nb.metadata.get(NOTE, {}).get("problem")


def _with_problem(nb: NotebookNode, reason: str) -> NotebookNode:
    nb.metadata.setdefault(NOTE, NotebookNode())["problem"] = plain(reason)
    return nb
