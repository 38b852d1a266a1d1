"""Every broken set-up is one line with its mend."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from autograder import doctor, doctor_probe, setup_facts, setup_venv
from autograder.lesson import REPOSITORY


def broken(step) -> list[str]:
    """The texts of a step's findings that are marked !!."""
    return [f"{topic}: {text}" for sound, topic, text in step() if not sound]


def sound(step) -> list[str]:
    return [f"{topic}: {text}" for ok, topic, text in step() if ok]


def probe_with(folder: Path, **files: str) -> dict[str, dict]:
    """Run the doctor's probe with fake modules in front of the real ones; topic -> report."""
    for name, content in files.items():
        path = folder / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    command = [sys.executable, str(REPOSITORY / "autograder" / "doctor_probe.py")]
    variables = os.environ | {"PYTHONPATH": str(folder)}
    result = subprocess.run(command, env=variables, capture_output=True, text=True, cwd=folder)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return {line["topic"]: line for line in reversed(lines)}


TORCH = "__version__ = '2.14.1+cpu'\n"
NMS = "raise RuntimeError('operator torchvision::nms does not exist')\n"


def test_a_cpu_torch_beside_the_ordinary_torchvision(tmp_path):
    reports = probe_with(tmp_path, torch=TORCH, torchvision=NMS)
    report = reports["torch"]
    assert not report["sound"]
    assert (
        "operator torchvision::nms does not exist: torch and torchvision are not a pair"
        in (report["text"])
    )
    pins = setup_facts.pins()
    assert report["text"].endswith(
        f"mend: {sys.executable} -m pip install --force-reinstall "
        f"torch=={pins['torch']} torchvision=={pins['torchvision']}"
    )
    assert reports["sandbox"]["sound"] and "package" in reports  # the rest is still looked at


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ("OSError('libcudart.so.13: cannot open shared object file')", "CUDA library"),
        ("ImportError('libtorch.so: undefined symbol: _ZN3c10')", "from different releases"),
        ("ImportError('A module compiled using NumPy 1.x cannot be run')", "another NumPy"),
        ("ModuleNotFoundError(\"No module named 'torch._C'\")", "missing or only half there"),
    ],
)
def test_a_torch_that_does_not_import(tmp_path, error, cause):
    report = probe_with(tmp_path, torch=f"raise {error}\n")["torch"]
    assert not report["sound"] and cause in report["text"]
    assert "mend: " in report["text"] and "\n" not in report["text"]


def test_a_python_that_crashes_while_importing(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("import os; os.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    lines = broken(doctor.look_at_imports)
    assert any("Python itself crashed there" in line and "mend: " in line for line in lines)


def test_a_t2i_of_another_clone(tmp_path):
    (tmp_path / "t2i").mkdir()
    report = probe_with(tmp_path, **{"t2i.__init__": "", "torch": TORCH, "torchvision": NMS})
    assert not report["package"]["sound"]
    assert f"another copy of the course, {tmp_path / 't2i'}; mend: " in report["package"]["text"]


def test_a_t2i_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(doctor_probe.importlib.util, "find_spec", lambda name: None)
    ok, text = doctor_probe.look_at_package()
    assert not ok and re.search("not installed; mend: .* -m pip install --no-deps -e ", text)


def _torch(monkeypatch, available: bool, cuda: str | None, mps: bool = False) -> None:
    def no_driver(*_, **__):
        raise RuntimeError("CUDA driver version is insufficient")

    fake = SimpleNamespace(
        cuda=SimpleNamespace(is_available=lambda: available),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps)),
        version=SimpleNamespace(cuda=cuda),
        ones=no_driver,
    )
    monkeypatch.setitem(sys.modules, "torch", fake)


@pytest.mark.parametrize(
    ("cuda", "says"),
    [
        (None, "CPU-only build; mend: .*pip install"),
        ("13.0", "support CUDA 13.0; update the driver"),
    ],
)
def test_a_gpu_that_torch_cannot_use(monkeypatch, cuda, says):
    _torch(monkeypatch, False, cuda)
    monkeypatch.setattr(doctor_probe.shutil, "which", lambda name: f"/usr/bin/{name}")
    ok, text = doctor_probe.look_at_device()
    assert not ok and re.search(says, text)


def test_devices_that_are_well(monkeypatch):
    monkeypatch.setattr(doctor_probe.shutil, "which", lambda name: None)
    _torch(monkeypatch, False, None)
    assert doctor_probe.look_at_device() == (True, "CPU only: the lessons choose their CPU tier")
    _torch(monkeypatch, False, None, mps=True)
    assert doctor_probe.look_at_device() == (True, "Apple GPU (mps)")


def test_a_gpu_that_fails_at_first_use(monkeypatch):
    _torch(monkeypatch, True, "13.0")
    reports = {report["topic"]: report for report in doctor_probe.reports()}
    assert not reports["device"]["sound"] and "driver version" in reports["device"]["text"]


def test_a_damaged_data_folder(tmp_path, monkeypatch):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(b"")
    monkeypatch.setenv("T2I_DATA", str(tmp_path))
    ok, text = doctor_probe.look_at_data()
    assert not ok and "is missing while its neighbours are there" in text


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["/nowhere/python", "-m", "ipykernel_launcher"], "which is not there; mend: "),
        (["/bin/sh", "-m", "ipykernel_launcher"], "starts another Python, /bin/sh; mend: "),
    ],
)
def test_a_kernel_of_another_python(tmp_path, monkeypatch, argv, says):
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    kernel = {"argv": argv, "display_name": "x", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(kernel))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    ok, text = doctor_probe.look_at_kernel()
    assert not ok and says in text and "-m ipykernel install --sys-prefix" in text


def test_no_kernel(monkeypatch):
    from jupyter_client import kernelspec

    def none(self, name):
        raise kernelspec.NoSuchKernel(name)

    monkeypatch.setattr(kernelspec.KernelSpecManager, "get_kernel_spec", none)
    ok, text = doctor_probe.look_at_kernel()
    assert not ok and "there is no kernel named python3; mend: " in text


def _packages(monkeypatch, **changes: str | None) -> None:
    found = {name: setup_facts.pins()[name] for name in setup_facts.requirements()}
    found |= {name.replace("_", "-"): version for name, version in changes.items()}
    monkeypatch.setattr(doctor, "probe", lambda *_: {"packages": found})
    monkeypatch.setattr(doctor, "damaged", lambda _: [])


def test_packages_at_their_pins(monkeypatch):
    _packages(monkeypatch)
    assert broken(doctor.look_at_packages) == []
    assert re.search(r"all \d+ at their pins", sound(doctor.look_at_packages)[0])


def test_missing_and_old_packages(monkeypatch):
    _packages(monkeypatch, einops=None, scikit_learn="1.0", numpy="2.1.0")
    (line,) = broken(doctor.look_at_packages)
    assert line.startswith("packages: missing: einops; too old: scikit-learn 1.0; mend: ")
    assert re.search(r"-m pip install 'einops>=[\d.]+' 'scikit-learn>=[\d.]+'$", line)
    (line,) = sound(doctor.look_at_packages)
    assert "in range, but not the tested set: numpy 2.1.0 (tested: " in line


def test_what_only_the_tests_use_may_lack_in_an_environment_of_ones_own(monkeypatch):
    _packages(monkeypatch, ruff=None)
    monkeypatch.delenv("VENV", raising=False)
    (line,) = broken(doctor.look_at_packages)
    assert line.startswith("packages: missing: ruff; mend: ")
    monkeypatch.setenv("VENV", "system")
    assert broken(doctor.look_at_packages) == []
    assert "used by make test alone: ruff" in sound(doctor.look_at_packages)[0]


@pytest.mark.parametrize(
    ("torch", "torchvision", "says"),
    [
        ("2.14.1", "0.26.0", "are not a pair"),
        ("2.14.1+cpu", "0.29.1", "are builds of different kinds"),
    ],
)
def test_a_pair_that_does_not_fit(monkeypatch, torch, torchvision, says):
    _packages(monkeypatch, torch=torch, torchvision=torchvision)
    (line,) = broken(doctor.look_at_packages)
    assert says in line and "--force-reinstall torch==" in line


def test_the_older_pair_is_well(monkeypatch):
    _packages(monkeypatch, torch="2.11.0", torchvision="0.26.0", transformers="5.17.0")
    assert broken(doctor.look_at_packages) == []


def test_damaged_files(monkeypatch):
    _packages(monkeypatch)
    monkeypatch.setattr(doctor, "damaged", lambda _: ["scipy"])
    (line,) = broken(doctor.look_at_packages)
    assert "damaged files in scipy; mend: " in line and "--no-deps scipy" in line


def test_little_memory_and_disk(monkeypatch):
    monkeypatch.setattr(doctor, "memory", lambda: 2.0)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=2e8))
    memory, disk = broken(doctor.look_at_machine)
    assert "2.0 GB of memory" in memory and "lessons need 4 GB" in memory
    assert "0.2 GB free" in disk and "free some space" in disk
    monkeypatch.setattr(doctor, "memory", lambda: None)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=2e10))
    assert broken(doctor.look_at_machine) == []


def test_environments(tmp_path, monkeypatch):
    monkeypatch.delenv("VENV", raising=False)
    for module in (doctor, setup_venv, setup_facts):
        monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    assert "your own" in sound(doctor.look_at_environment)[0], "it has what the tests need"
    with monkeypatch.context() as bare:
        bare.setattr(doctor.importlib.util, "find_spec", lambda name: None)
        assert "not set up yet: make setup" in broken(doctor.look_at_environment)[0]
    (tmp_path / ".venv").mkdir()
    assert "not up to date, or was moved" in broken(doctor.look_at_environment)[0]
    (tmp_path / ".venv" / setup_venv.UNDERWAY).touch()
    assert "half made" in broken(doctor.look_at_environment)[0]
    monkeypatch.setenv("VENV", "/opt/conda")
    assert broken(doctor.look_at_environment) == []


def test_before_the_set_up_only_the_set_up_is_missing(tmp_path, monkeypatch):
    monkeypatch.delenv("VENV", raising=False)
    monkeypatch.setattr(doctor, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(doctor, "look_at_machine", lambda: iter(()))
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    faults = broken(doctor.findings)
    assert faults == ["environment: not set up yet: make setup (any other target does it too)"]
    monkeypatch.setenv("VENV", "system")
    assert "packages" in {topic for _, topic, _ in doctor.findings()}


def test_a_stray_pythonpath_is_noted(monkeypatch):
    monkeypatch.delenv("VENV", raising=False)
    monkeypatch.setenv("PYTHONPATH", "/opt/other")
    assert any("PYTHONPATH=/opt/other" in line for line in sound(doctor.look_at_environment))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"nbformat": 3}', '{"nbformat": 4}', "\xff"])
def test_notebooks_that_cannot_be_read(tmp_path, monkeypatch, content):
    folder = tmp_path / "lessons" / "01_x"
    folder.mkdir(parents=True)
    (folder / "x.ipynb").write_bytes(content.encode("latin-1"))
    monkeypatch.setattr(doctor, "REPOSITORY", tmp_path)
    (line,) = broken(doctor.look_at_notebooks)
    assert "01_x/x.ipynb is not a readable notebook; mend: " in line and "git checkout --" in line


def test_no_notebooks(tmp_path, monkeypatch):
    (tmp_path / "lessons").mkdir()
    monkeypatch.setattr(doctor, "REPOSITORY", tmp_path)
    assert "make build" in broken(doctor.look_at_notebooks)[0]


def test_the_status_and_the_lines(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "findings", lambda: iter([(True, "Python", "3.12")]))
    assert doctor.main() == 0
    assert capsys.readouterr().out == "OK  Python      3.12\nAll is well.\n"
    monkeypatch.setattr(doctor, "findings", lambda: iter([(False, "disk", "0.1 GB free: x")]))
    assert doctor.main() == 1
    assert capsys.readouterr().out.startswith("!!  disk        0.1 GB free: x\n")


def test_this_machine():
    """The whole report, on whatever machine the tests run: a line for each topic."""
    command = [sys.executable, "autograder/setup_env.py", "try", "autograder/doctor.py"]
    variables = os.environ | {"VENV": sys.executable}
    result = subprocess.run(command, cwd=REPOSITORY, env=variables, capture_output=True, text=True)
    assert result.returncode in (0, 1), result.stderr
    lines = result.stdout.splitlines()
    assert all(re.match(r"(OK|!!)  \w", line) for line in lines[:-1]), result.stdout
    topics = {line[4:15].strip() for line in lines[:-1]}
    expected = {"Python", "environment", "packages", "memory", "disk", "notebooks"}
    assert expected | set(doctor_probe.LOOKS) == topics, result.stdout + result.stderr
