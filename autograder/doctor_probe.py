"""The part of the doctor that imports heavy packages, run in a process of its own.

Each look prints one line of JSON as soon as it is done, so that a crash later loses nothing.
"""

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

# symptom in an error's text, its cause in words
KNOWN = (
    (
        "operator torchvision::nms does not exist",
        "torch and torchvision are not a pair (a CPU-only torch beside the ordinary torchvision, "
        "or two releases)",
    ),
    ("undefined symbol", "torch's parts come from different releases"),
    ("libcud", "a CUDA library that this torch needs is missing"),
    ("libnv", "a CUDA library that this torch needs is missing"),
    ("NumPy 1.x", "a package was built for another NumPy"),
    ("No module named 'torch", "torch or torchvision is missing or only half there"),
)


def install(arguments: str) -> str:
    """The command that mends a package of this environment."""
    return f"{sys.executable} -m pip install {arguments}"


def pair() -> str:
    """pip's arguments for the tested pair of torch and torchvision."""
    from autograder.setup_facts import pins

    return f"--force-reinstall torch=={pins()['torch']} torchvision=={pins()['torchvision']}"


def explain(text: str) -> str:
    """Add cause and mend to an error that is known."""
    for symptom, cause in KNOWN:
        if symptom in text:
            return f"{text}: {cause}; mend: {install(pair())}"
    return text


def look_at_package() -> tuple[bool, str]:
    spec = importlib.util.find_spec("t2i")
    if spec is None or spec.origin is None:
        mend = install(f"--no-deps -e {REPOSITORY}")
        return False, f"t2i, the course's own package, is not installed; mend: {mend}"
    place = Path(spec.origin).resolve().parent
    if place != REPOSITORY / "solutions" / "t2i":
        mend = install(f"--no-deps -e {REPOSITORY}")
        return False, f"t2i comes from another copy of the course, {place}; mend: {mend}"
    return True, f"t2i comes from {place}"


def look_at_torch() -> tuple[bool, str]:
    import torch
    import torchvision

    torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    return True, f"torch {torch.__version__}, torchvision {torchvision.__version__}"


def look_at_device() -> tuple[bool, str]:
    import torch

    if torch.cuda.is_available():
        torch.ones(2, device="cuda").sum().item()  # the driver may fail at the first use only
        size = torch.cuda.get_device_properties(0).total_memory / 1e9
        return True, f"{torch.cuda.get_device_name(0)}, {size:.0f} GB"
    if torch.backends.mps.is_available():
        return True, "Apple GPU (mps)"
    if shutil.which("nvidia-smi") is None:
        return True, "CPU only: the lessons choose their CPU tier"
    here = "an NVIDIA GPU is here, but torch cannot use it:"
    if torch.version.cuda is None:
        return False, f"{here} this torch is a CPU-only build; mend: {install(pair())}"
    return False, f"{here} the driver must support CUDA {torch.version.cuda}; update the driver"


def look_at_data() -> tuple[bool, str]:
    from t2i.data import data_source
    from t2i.files.mnist_files import DataError

    try:
        return True, data_source()
    except DataError as error:
        return False, str(error)


def look_at_sandbox() -> tuple[bool, str]:
    from autograder import sandbox

    mode = sandbox.detect()
    enough = "" if mode.is_sandbox else "; enough for your own work, not for grading a class"
    return True, f"{mode}{enough}"


def look_at_kernel() -> tuple[bool, str]:
    import ipykernel
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    mend = f"mend: {sys.executable} -m ipykernel install --sys-prefix"
    try:
        program = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return False, f"there is no kernel named python3; {mend}"
    if program.startswith("python") and "/" not in program:  # Jupyter takes its own Python for it
        program = sys.executable
    found = shutil.which(program)
    if found is None:
        return False, f"the kernel python3 starts {program}, which is not there; {mend}"
    if Path(found).absolute() != Path(sys.executable).absolute():
        return False, f"the kernel python3 starts another Python, {program}; {mend}"
    return True, f"the kernel python3 starts this Python (ipykernel {ipykernel.__version__})"


LOOKS: dict[str, Callable[[], tuple[bool, str]]] = {
    "package": look_at_package,
    "torch": look_at_torch,
    "device": look_at_device,
    "data": look_at_data,
    "sandbox": look_at_sandbox,
    "Jupyter": look_at_kernel,
}


def reports() -> Iterator[dict]:
    """Look at everything; what raises is broken, and what only repeats it is left out."""
    seen = set()
    for topic, look in LOOKS.items():
        try:
            sound, text = look()
        except Exception as error:  # whatever a broken package throws is what we want to report
            sound, text = False, explain(" ".join(f"{type(error).__name__}: {error}".split()))
        if topic == "package":
            sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "solutions")]
        if text not in seen:
            yield {"topic": topic, "sound": sound, "text": text}
        seen.add(text)


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder
    for report in reports():
        print(json.dumps(report), flush=True)
