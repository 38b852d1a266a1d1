"""What a lesson's notebook starts with: the tier, what it stands on, and `grade` and `quiz`.

from t2i.lesson import start
start(2)
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from t2i.classroom import grading, handover
from t2i.classroom import quiz as questions
from t2i.files.places import LESSONS

TIERS = ("smoke", "cpu", "gpu")
_AS_CPU: Any = object()
_number: int | None = None


def start(number: int) -> None:
    """Make a notebook ready for a lesson, and say in a few lines what it runs on.

    Args:
        number: of the lesson, 1 to 10. Earlier lessons whose exercises all passed are imported
            from the learner's own package, the others from the reference.
    """
    global _number
    _number = number
    standing = _stand_on_own_lessons(number)
    _look_first(SlowLibraries())
    shell = grading.ipython()
    if shell is not None:
        shell.user_ns.update(grade=grade, quiz=quiz)
        handover.begin(shell)
    print(f"Lesson {number}{_title(number)}")
    print(f"Tier: {_describe_tier()}")
    print(f"Data: {_describe_data()}")
    if standing:
        print(standing)


def start_appendix(title: str) -> None:
    """Make an appendix's notebook ready: it stands on all ten lessons, and nothing is graded.

    Args:
        title: of the appendix.
    """
    after_all = 11
    standing = _stand_on_own_lessons(after_all)
    _look_first(SlowLibraries())
    print(f"Appendix · {title}")
    print(f"Tier: {_describe_tier()}")
    print(standing.replace(f"Lesson {after_all}", "This appendix"))


def tier() -> str:
    """How much this machine is asked to do: "smoke", "cpu" or "gpu".

    The environment variable T2I_TIER decides; without it, a CUDA GPU means "gpu".

    Raises:
        ValueError: T2I_TIER holds another word.
    """
    wanted = os.environ.get("T2I_TIER", "").strip().lower()
    if wanted in TIERS:
        return wanted
    if wanted:
        raise ValueError(f"T2I_TIER must be one of {', '.join(TIERS)}; it is {wanted!r}")
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


def pick(*, cpu: Any, smoke: Any = _AS_CPU, gpu: Any = _AS_CPU) -> Any:
    """The value for this tier: `steps = pick(smoke=5, cpu=500, gpu=5000)`.

    Args:
        cpu: also stands for a tier that is not given.
        smoke, gpu: the values for these tiers.
    """
    value = {"smoke": smoke, "cpu": cpu, "gpu": gpu}[tier()]
    return cpu if value is _AS_CPU else value


def grade(name: str) -> None:
    """Grade one exercise from what was run last in this notebook, and say what to look at.

    Args:
        name: of the exercise, as in its heading.

    Raises:
        NotPassed: it did not pass. So the cell ends there: what it would try next would fail, too,
            and its traceback would stand between the grader's sentence and the reader.
    """
    if _number is None:
        grading.say(None, "Run the first code cell of the lesson, start(…), before grading.")
    elif tier() == "smoke":
        print(f"{name}: grading is skipped in the smoke tier (make grade does it)")
    elif grading.grade_exercise(_number, name) is False:
        told = grading.told_by_checks(name)
        said = f'The rest of this cell runs once grade("{name}") passes. {told}'
        raise grading.NotPassed(said.strip())


def quiz(name: str, answer: str = "") -> None:
    """Answer one of the lesson's questions and read why it is right or not.

    Args:
        name: of the question.
        answer: the letter of an option.
    """
    folder = _folder()
    if folder is None:
        grading.say(None, "quiz.toml is not here: open the notebook in the lesson's folder.")
        return
    try:
        right, text = questions.load(folder, name).reply(answer)
    except questions.QuizError as error:
        right, text = None, str(error)
    grading.say(right, text)


class OwnModules(importlib.abc.MetaPathFinder):
    """Finds some modules of the package in the learner's own copy of it.

    Args:
        files: module name within the package -> file.
    """

    def __init__(self, files: dict[str, Path]):
        self.files = files

    def find_spec(self, fullname, path=None, target=None):
        file = self.files.get(fullname.removeprefix("t2i."))
        if file is None or not fullname.startswith("t2i."):
            return None
        return importlib.util.spec_from_file_location(fullname, file)


class SlowLibraries(importlib.abc.MetaPathFinder):
    """Says so before a library is imported that takes long: a silent notebook seems to hang.

    It says one line and is gone: what such a library imports in its turn is part of the same wait.
    """

    NAMES = ("diffusers", "transformers")

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in self.NAMES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def announce_and_load(module) -> None:
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                print(
                    f"Loading {fullname}, the library we compare with: up to half a minute ...",
                    flush=True,
                )
            load(module)

        spec.loader.exec_module = announce_and_load
        return spec


def _look_first(finder: importlib.abc.MetaPathFinder) -> None:
    """Let a finder look before all others, in the place of the one from an earlier start."""
    kind = type(finder).__name__
    sys.meta_path[:] = [each for each in sys.meta_path if type(each).__name__ != kind]
    sys.meta_path.insert(0, finder)


def _stand_on_own_lessons(number: int) -> str:
    """Let earlier lessons be imported from the learner's package; say what the lesson stands on."""
    _look_first(OwnModules({}))
    if number == 1:
        return ""
    if tier() == "smoke":
        return f"Lesson {number} stands on: the reference's lessons (smoke tier)"
    try:
        from autograder.mine import own_modules
    except ImportError:
        return f"Lesson {number} stands on: the reference's lessons (no autograder here)"
    try:
        files, words = own_modules(number)
    except OSError as error:
        files, words = {}, f"the reference's lessons (your own package: {error.strerror})"
    _look_first(OwnModules(files))
    late = _imported_from_elsewhere(files)
    if late:
        words += f"; restart the kernel to use your own {', '.join(late)}"
    return f"Lesson {number} stands on: {words}" if words else ""


def _imported_from_elsewhere(files: dict[str, Path]) -> list[str]:
    """The learner's modules in whose place the reference's is loaded already."""
    loaded = {name: getattr(sys.modules.get(f"t2i.{name}"), "__file__", None) for name in files}
    return [name for name, file in loaded.items() if file and Path(file) != files[name]]


def _folder() -> Path | None:
    """The folder of the lesson: where the notebook runs, else the repository's."""
    here = Path.cwd()
    if here.joinpath(questions.FILE).exists():
        return here
    found = sorted(LESSONS.glob(f"{_number or 0:02d}_*/{questions.FILE}"))
    return found[0].parent if found else None


def _title(number: int) -> str:
    try:
        from autograder.lesson import get_lesson
    except ImportError:
        title = handover.read().get("title", "")
        return f" · {title}" if title else ""
    return f" · {get_lesson(number).title}"


def _describe_tier() -> str:
    import torch

    named = "T2I_TIER" if os.environ.get("T2I_TIER") else "chosen by itself; T2I_TIER overrides"
    threads = torch.get_num_threads()
    device = f"{threads} CPU thread{'s' if threads > 1 else ''}"
    if torch.cuda.is_available():
        device = f"{torch.cuda.get_device_name()}, {device}"
    return f"{tier()} ({named}), {device}"


def _describe_data() -> str:
    try:
        from t2i.data import data_source
    except ImportError:
        return "not needed"
    try:
        return data_source()
    except ValueError as error:
        return f"cannot be used: {error}"
