"""The learner's own package, from ten notebooks, runs Stable Diffusion and the course's model.

The notebooks are recorded as passed and not graded here: test_catalogue grades the very same ones.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autograder import catalogue, mine, progress
from autograder.build import write
from autograder.lesson import LESSONS, PACKAGE, REPOSITORY, Lesson
from autograder.solve import solved

TESTS = ("test_stable_diffusion.py", "test_class_to_image.py")
TRUE_SIZES = REPOSITORY / "solutions" / "tests" / "test_true_sizes.py"
SCENES = REPOSITORY / "data" / "checkpoints" / "scenes"
PROMPTS = ("a red seven above a blue star", "two", "a green circle left of a yellow four")
DRAW = """
import json, sys
from t2i import text_to_image
from torchvision.transforms.functional import pil_to_tensor
pipe = text_to_image.TextToImage.from_pretrained(sys.argv[1])
pictures = pipe(sys.argv[2:], num_inference_steps=8, guidance_scale=3.0, seed=1)  # no defaults
levels = [pil_to_tensor(each).flatten().tolist() for each in pictures]
print(json.dumps([text_to_image.__file__, levels]))
"""

pytestmark = pytest.mark.thorough


def notebook(lesson: Lesson, style: str) -> bytes:
    """A lesson's notebook, all of it right: as the reference has it, or otherwise."""
    if style == "the reference's":
        return write(solved(lesson)).encode()
    listed = [entry for entry in catalogue.entries(lesson) if entry.right]
    return catalogue.notebook_with(lesson, catalogue.rounds(listed)[0])


@pytest.fixture(scope="module", params=["the reference's", "other styles"])
def package(request, tmp_path_factory) -> Path:
    """The folder that holds the learner's t2i."""
    folder = tmp_path_factory.mktemp("own")
    for lesson in LESSONS:
        passed = [
            {
                "name": each.name,
                "status": "passed",
                "points": each.points,
                "maximum": each.points,
                "message": "",
            }
            for each in lesson.exercises
        ]
        result = {"exercises": passed, "suite_version": "none"}
        progress.record(lesson, notebook(lesson, request.param), result, folder / "results")
    shares = mine.assemble(folder / "mine", folder / "results")
    left_out = {name: why for share in shares for name, why in share.left_out.items()}
    assert not left_out and all(share.complete for share in shares)
    return folder / "mine"


def run(arguments: list, package: Path | None = None) -> str:
    """A Python process that takes t2i from `package`, or the reference."""
    environment = os.environ | ({"PYTHONPATH": str(package)} if package else {})
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_it_draws_what_diffusers_draws(package):
    where = run(["-c", "import t2i.samplers as s; print(s.__file__)"], package).strip()
    assert where == str(package / "t2i" / "samplers.py")
    tests = [REPOSITORY / "solutions" / "tests" / name for name in TESTS]
    said = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", *tests], package)
    assert " passed" in said and "skipped" not in said


def test_it_does_so_at_the_true_sizes(package, request):
    fused = request.node.callspec.params["package"] == "the reference's"
    chosen = "" if fused else "not memory"  # attention written out by hand is right, and takes more
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--all", "-k", chosen]
    said = run(["-m", "pytest", *options, TRUE_SIZES], package)
    assert " passed" in said and "skipped" not in said


def test_the_committed_model_paints_the_same_pictures(package):
    theirs, mine_ = (
        json.loads(run(["-c", DRAW, SCENES, *PROMPTS], where)) for where in (None, package)
    )
    assert theirs[0] == str(PACKAGE / "text_to_image.py")
    assert mine_[0] == str(package / "t2i" / "text_to_image.py")
    for own, other in zip(mine_[1], theirs[1], strict=True):
        assert len(set(other)) > 20, "a picture, not one colour"
        assert max(abs(a - b) for a, b in zip(own, other, strict=True)) <= 1
