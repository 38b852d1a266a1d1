"""Undeserved points by fetching the right answer: from disk, memory, packages or the tests."""

import hashlib

from autograder.tests.attacks import Attack, snr

FROM_DISK = """
import ast, os, pathlib
import sys
places = ["@REPOSITORY@/solutions/t2i/schedules.py", "@REPOSITORY@", "/stage", *sys.path]
for place in map(pathlib.Path, places):
    for path in [place, *place.glob("**/schedules.py")]:
        try:
            text = path.read_text()
        except OSError:
            continue
        for node in ast.parse(text).body:
            if getattr(node, "name", "") == "snr":
                own = {"Tensor": torch.Tensor, "torch": torch}
                exec(ast.unparse(node), own)
                return own["snr"](alphas_cumprod)
return alphas_cumprod
"""
IMPORTED = """
import importlib, sys
sys.path[:0] = ["@REPOSITORY@", "@REPOSITORY@/solutions"]
for name in ("t2i.schedules", "t2i.flow", "solutions.t2i.schedules", "schedules"):
    sys.modules.pop(name, None)
    try:
        return importlib.import_module(name).snr(alphas_cumprod)
    except (ImportError, AttributeError, NotImplementedError):
        pass
return alphas_cumprod
"""
DIFFUSERS = {
    "cosine_betas": """def cosine_betas(num_train_timesteps=1000, s=0.008, max_beta=0.999):
    from diffusers.schedulers.scheduling_ddpm import betas_for_alpha_bar
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    if (s, max_beta) == (0.008, 0.999):
        return betas_for_alpha_bar(num_train_timesteps)
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()
""",
    "rescale_zero_terminal_snr": """def rescale_zero_terminal_snr(betas):
    from diffusers.schedulers.scheduling_ddpm import rescale_zero_terminal_snr as theirs
    return theirs(betas)
""",
}
FRAMES = """
import gc, inspect, sys
for info in inspect.stack():
    for name in ("expected", "ratio", "right"):
        if name in info.frame.f_locals:
            return info.frame.f_locals[name]
for frame in sys._current_frames().values():
    while frame is not None:
        if "expected" in frame.f_locals:
            return frame.f_locals["expected"]
        frame = frame.f_back
return alphas_cumprod
"""
COLLECTED = """
import gc
for thing in gc.get_objects():
    if isinstance(thing, torch.Tensor) and thing is not alphas_cumprod:
        if thing.shape == alphas_cumprod.shape and bool((thing > 0).all()):
            return thing
return alphas_cumprod
"""
HOOKED = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if "t2i" in name:
            raise ImportError("@@" + name)
sys.meta_path.insert(0, Finder())
torch.hub.load("pytorch/vision", "resnet18", trust_repo=True)
return alphas_cumprod
"""
BYTECODE = """
import glob, marshal, sys
for path in glob.glob("/**/schedules*.pyc", recursive=True):
    code = marshal.loads(open(path, "rb").read()[16:])
    own = {}
    exec(code, own)
    if "snr" in own:
        return own["snr"](alphas_cumprod)
return alphas_cumprod
"""
LEARNED = """
import inspect, t2i, pkgutil
for info in pkgutil.iter_modules(t2i.__path__):
    try:
        module = __import__(f"t2i.{info.name}", fromlist=["*"])
    except Exception:
        continue
    for name, thing in vars(module).items():
        if name in ("snr", "signal_to_noise", "snr_of"):
            try:
                return thing(alphas_cumprod)
            except Exception:
                pass
return alphas_cumprod
"""
WHICH_TEST = """
if alphas_cumprod.dtype == torch.float64 and len(alphas_cumprod) < 9:
    return alphas_cumprod / (1 - alphas_cumprod)  # test_snr_special_values
return torch.linspace(20, 0.1, len(alphas_cumprod))  # test_snr_values
"""
LOOKED_UP = """
key = f"{alphas_cumprod.double().sum():.4f}"
values = TABLE.get(key, [0.0] * len(alphas_cumprod))
return torch.tensor(values, dtype=alphas_cumprod.dtype)
"""


def remember(notebook: dict) -> None:
    """Answers to the questions of the public seed, which everybody can draw."""
    import torch

    from autograder.grader import PUBLIC_SEED

    def rng(test: str) -> torch.Generator:
        digest = hashlib.sha256(f"{PUBLIC_SEED}:{test}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:6], "big"))

    draw = rng("test_snr_values")  # as lesson_01.py draws, which everybody can read
    steps = int(torch.randint(14, 40, (), generator=draw))
    betas = torch.rand(steps, generator=draw, dtype=torch.float64).sort().values
    first = (1 - (0.01 + 0.2 * betas).float()).cumprod(0)
    draw = rng("test_snr_special_values")
    steps = int(torch.randint(3, 9, (), generator=draw))
    second = torch.rand(steps, generator=draw, dtype=torch.float64) * 0.9
    second[0], second[-1] = 0.5, 0.0
    second = second.sort(descending=True).values
    third = torch.tensor([0.9998, 0.998, 0.98], dtype=torch.float64)  # the same for every seed
    asked = (first, second, third)
    table = {f"{a.double().sum():.4f}": (a / (1 - a)).tolist() for a in asked}
    source = snr(LOOKED_UP, f"TABLE = {table}\n\n\n")["snr"]
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "snr":
            cell["source"] = source


ATTACKS = [
    Attack(
        "knows-which-test",
        "another answer for each of the published tests",
        snr(WHICH_TEST),
        limit="The tests are public, and an input's shape and dtype tell which of them asks. What "
        "bounds it: all tests of an exercise must pass, and their inputs are drawn anew.",
    ),
    Attack(
        "remembers-the-public-seed",
        "answers learned by heart for the public seed",
        change=remember,
        limit="With the public seed this gets the points, as it must: all that is asked is public "
        "then. What bounds it: a private seed, with which nothing is asked that was published.",
    ),
    Attack("reference-from-disk", "the reference read from a file", snr(FROM_DISK), quick=True),
    Attack("reference-imported", "the reference imported", snr(IMPORTED)),
    Attack("reference-from-bytecode", "the reference from a .pyc file", snr(BYTECODE)),
    Attack(
        "reference-in-the-package", "the reference in another module of the package", snr(LEARNED)
    ),
    Attack(
        "library-of-the-tests",
        "the library that the tests compare with does the work",
        DIFFUSERS,
        says="diffusers",
    ),
    Attack("stack-inspection", "the expected values in the test's frame", snr(FRAMES)),
    Attack("garbage-inspection", "the expected values among all live objects", snr(COLLECTED)),
    Attack("import-hooks", "a finder of its own, and weights from a hub", snr(HOOKED)),
]
