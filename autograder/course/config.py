"""nbgrader's configuration of a course, as a file that an instructor can read and edit."""

from collections.abc import Iterable

from autograder.clear import release_preprocessors

FILE = "nbgrader_config.py"
_TEMPLATE = '''"""nbgrader's configuration of this course. Written once; edit it as you like."""

import os
import shutil
import sys

c = get_config()  # noqa: F821

if shutil.which("alembic") is None:  # nbgrader starts this program to make its gradebook
    os.environ["PATH"] += os.pathsep + os.path.dirname(sys.executable)

c.CourseDirectory.course_id = {course_id!r}
c.CourseDirectory.root = os.path.dirname(os.path.abspath(__file__))
{gradebook}

# Release: as nbgrader does it; the stub says which exercise is not written yet.
c.GenerateAssignment.preprocessors = {release}

# Autograding: a submission is rebuilt on the released notebook, then graded in a sandbox.
c.Autograde.exporter_class = "autograder.course.preprocessors.SubmissionExporter"
c.Autograde.pre_convert_hook = "autograder.course.preprocessors.expect_notebook"
c.Autograde.sanitize_preprocessors = {sanitize}
c.Autograde.autograde_preprocessors = {autograde}

# Feedback: nbgrader's page, with the exercises named and the figures in it.
c.GenerateFeedback.exporter_class = "autograder.course.feedback_page.FeedbackPage"

# Without a sandbox nothing is graded, unless you trust everybody who submits.
c.SandboxedGrade.trust_submissions = {trust}
# What a late submission costs. nbgrader's own plugin takes off nothing ("none") or all ("zero").
c.LateSubmissionPlugin.penalty_method = "none"
# This one takes off some percent for each day that has begun:
# c.AssignLatePenalties.plugin_class = "autograder.course.late.DailyPenalty"
# c.DailyPenalty.percent = 10
# Due dates may stand here as well as on the command line:
# c.DueDates.noise_schedules = "2026-11-30 23:59 Europe/Berlin"

# Where the hidden tests' inputs come from. None: the variable GRADER_SEED, else the public seed.
c.SandboxedGrade.seed = {seed!r}
'''
_FILE = "# The gradebook is the file gradebook.db in this folder."
_OURS = "autograder.course.preprocessors."
_SANITIZE = (
    _OURS + "RebuildSubmission",
    "nbgrader.preprocessors.ClearOutput",
    "nbgrader.preprocessors.DeduplicateIds",
    "nbgrader.preprocessors.OverwriteKernelspec",
    "nbgrader.preprocessors.OverwriteCells",
    "nbgrader.preprocessors.CheckCellMetadata",
)
_AUTOGRADE = (
    _OURS + "SandboxedGrade",
    "nbgrader.preprocessors.LimitOutput",
    _OURS + "SaveGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
)


def configuration(
    course_id: str, trust: bool = False, seed: int | None = None, db_url: str | None = None
) -> str:
    """The text of a course's nbgrader_config.py.

    Args:
        course_id: nbgrader's name of the course.
        trust: grade even on a machine without a sandbox.
        seed: where the hidden inputs come from; None leaves it to the environment.
        db_url: of the gradebook, as SQLAlchemy writes it; None: a file in the folder.
    """
    release = [f"{each.__module__}.{each.__qualname__}" for each in release_preprocessors()]
    return _TEMPLATE.format(
        course_id=course_id,
        release=_listed(release),
        sanitize=_listed(_SANITIZE),
        autograde=_listed(_AUTOGRADE),
        trust=trust,
        seed=seed,
        gradebook=f"c.CourseDirectory.db_url = {db_url!r}" if db_url else _FILE,
    )


def _listed(names: Iterable[str]) -> str:
    return "[\n" + "".join(f'    "{name}",\n' for name in names) + "]"
