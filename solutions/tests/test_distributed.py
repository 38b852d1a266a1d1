"""Many processes compute what one does, and go on by themselves when one of them is killed.

Real torchrun with gloo on the CPU. This file is what it starts, too: see `work` at the end.
"""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from t2i.clip import TextTransformer
from t2i.engine.batches import Batches, random_stream
from t2i.engine.distributed import ALONE, OwnRows, Team, joined_team
from t2i.engine.train_config import TrainConfig
from t2i.files.checkpoint import load_tensors
from t2i.runs import text_to_image_runs
from t2i.runs.flow_training import flow_draws
from t2i.runs.text_to_image_recipes import RECIPES
from t2i.training import train

CONFIG = TrainConfig(steps=20, learning_rate=3e-3, muon_rate=0.02, save_every=5)
# Heads of 9 numbers: their parts in 2 and 4 processes are of different sizes.
PLAN = replace(RECIPES["smoke"], dit={"patch_size": 2, "dim": 36, "depth": 2, "num_heads": 4})
FEW = TrainConfig(steps=2)
TINY = replace(
    PLAN,
    vae=replace(PLAN.vae, training=FEW),
    clip=replace(PLAN.clip, training=FEW),
    training=replace(CONFIG, steps=5),
)
KILLED_AT = 12  # the last checkpoint is then the one of step 10


def in_float32(patch: pytest.MonkeyPatch) -> None:
    """bfloat16 rounds so coarsely that nothing could be compared to 1e-4."""
    torch.set_num_threads(1)
    patch.setattr(torch.cpu, "get_capabilities", dict)


def reader() -> TextTransformer:
    return PLAN.clip.build().text.eval().requires_grad_(False)


def data() -> Batches:
    generator = torch.Generator().manual_seed(1)
    z_0 = 1 + torch.randn(96, 4, 8, 8, generator=generator)  # something to learn: the mean
    captions = [f"a {colour} {kind}" for colour in ("red", "blue") for kind in ("seven", "star")]
    tokens = PLAN.clip.tokenizer(captions, PLAN.clip.length).repeat(24, 1)
    return Batches(z_0, tokens, batch_size=16, seed=3)  # 6 batches an epoch


def run(file: Path, team: Team = ALONE):
    """The states of one training."""
    loss, batches = PLAN.loss(reader(), team), OwnRows(data(), team)
    return train(PLAN.build(), loss, batches, CONFIG, file, team=team, progress=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process: its run, its half-way checkpoint, and a run of the whole command."""
    folder, before = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        in_float32(patch)
        for state in run(folder / "run.safetensors"):
            if state.step == 10:
                half = (folder / "run.safetensors").read_bytes()
        (folder / "half.safetensors").write_bytes(half)
        patch.setitem(RECIPES, "tiny", TINY)
        text_to_image_runs.train_all("tiny", folder / "model", folder / "parts")
    torch.set_num_threads(before)
    return folder


def torchrun(processes: int, folder: Path, restarts: int = 0) -> str:
    """Start this file as so many processes; what they print."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    command += [f"--max-restarts={restarts}", __file__, str(folder)]
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    ended = subprocess.run(
        command, env=os.environ | threads, capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-6000:]
    return ended.stdout


def assert_same_run(file: Path, expected: Path) -> None:
    """The same loss at every step to 1e-4, and nearly the same weights, slow copy and memory."""
    (ours, log), (theirs, right) = load_tensors(file), load_tensors(expected)
    losses, wanted = torch.tensor(log["losses"]), torch.tensor(right["losses"])
    assert len(wanted) == CONFIG.steps and wanted[-1] < 0.9 * wanted[0]  # it learns something
    torch.testing.assert_close(losses, wanted, rtol=0, atol=1e-4)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-3, msg=name)


def test_two_processes_train_as_one_does_and_survive_a_kill(alone, tmp_path):
    """DDP and FSDP, and lesson 10's whole command; one process is killed in the middle."""
    shutil.copytree(alone / "parts", tmp_path / "parts")
    (tmp_path / "parts" / "transformer.safetensors").unlink()
    printed = torchrun(2, tmp_path, restarts=1)
    for kind in ("ddp", "fsdp"):
        assert_same_run(tmp_path / f"{kind}.safetensors", alone / "run.safetensors")
    check_kill(tmp_path, printed)
    check_command(tmp_path, alone)
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.thorough
def test_four_processes_train_as_one_does_and_end_what_one_began(alone, tmp_path):
    shutil.copy(alone / "half.safetensors", tmp_path)
    printed = torchrun(4, tmp_path)
    for name in ("ddp", "fsdp", "half"):
        assert_same_run(tmp_path / f"{name}.safetensors", alone / "run.safetensors")
    assert f"Going on from step 10 of {tmp_path / 'half.safetensors'}" in printed


def check_kill(folder: Path, printed: str) -> None:
    """Restarted from the last whole checkpoint, it ended at the very weights of a calm run."""
    for kind in ("ddp", "fsdp"):
        assert f"Going on from step 10 of {folder / f'killed_{kind}.safetensors'}" in printed
        calm, disturbed = (
            load_tensors(folder / f"{name}{kind}.safetensors") for name in ("", "killed_")
        )
        assert disturbed[1]["losses"] == calm[1]["losses"]
        for name, tensor in calm[0].items():
            assert torch.equal(disturbed[0][name], tensor), name


def check_command(folder: Path, alone: Path) -> None:
    """The three trainings of lesson 10, the last of them by two processes, give the same model."""
    ours, expected = (
        load_tensors(place / "parts" / "transformer.safetensors") for place in (folder, alone)
    )
    assert (ours[1]["processes"], expected[1]["processes"]) == (2, 1)
    for (_, loss), (_, wanted) in zip(ours[1]["losses"], expected[1]["losses"], strict=True):
        assert loss == pytest.approx(wanted, abs=1e-4)
    for name, tensor in expected[0].items():
        torch.testing.assert_close(ours[0][name], tensor, rtol=1e-3, atol=1e-3)
    assert (folder / "model" / "model_index.json").exists()


# --- what each process decides for itself


@pytest.mark.parametrize("size", [2, 3])
def test_chance_falls_alike_however_many_share_a_batch(size):
    z_0 = torch.randn(12, 2, 3, 5)
    with random_stream(0, 7, z_0.device):
        expected = flow_draws(z_0)
    teams = [Team(rank, size) for rank in range(size)]
    parts = []
    for team in teams:
        with random_stream(0, 7, z_0.device):
            parts.append(flow_draws(*team.rows(z_0), team))
    for found, right in zip(zip(*parts, strict=True), expected, strict=True):
        assert torch.equal(torch.cat(found), right)


def test_what_cannot_be_shared_out_is_said_in_a_sentence():
    with pytest.raises(ValueError, match="batch of 10 cannot be shared out evenly among 4"):
        Team(1, 4).rows(torch.zeros(10))
    with pytest.raises(ValueError, match="start them with torchrun"), joined_team(fsdp=True):
        pass


def test_one_process_is_left_as_it_is():
    model = nn.Linear(2, 2)
    with joined_team() as team:
        assert team is ALONE and team.wrap(model) is model and type(model) is nn.Linear
        assert torch.equal(team.gathered(model.state_dict())["weight"], model.weight)


# --- what torchrun starts


def work(folder: Path) -> None:
    """One of the processes."""
    in_float32(pytest.MonkeyPatch())
    first_life = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    with joined_team() as team:
        teams = {"ddp": team, "fsdp": replace(team, fsdp=True)}
        if first_life:
            for kind, ours in teams.items():
                *_, state = run(folder / f"{kind}.safetensors", ours)
            check_parts(state.model, team)
        if team.size == 4:
            *_, state = run(folder / "half.safetensors", teams["fsdp"])
            return
        if first_life:
            RECIPES["tiny"] = TINY
            text_to_image_runs.train_all("tiny", folder / "model", folder / "parts", team=team)
        both = [run(folder / f"killed_{kind}.safetensors", ours) for kind, ours in teams.items()]
        for state, _ in zip(*both, strict=True):
            if first_life and state.step == KILLED_AT and team.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)


def check_parts(model: nn.Module, team: Team) -> None:
    """With FSDP a process holds its part of the weights, and no more."""
    held = sum(p.to_local().numel() for p in model.parameters())
    assert held < 1.2 * sum(p.numel() for p in model.parameters()) / team.size, held


if __name__ == "__main__":
    work(Path(sys.argv[1]))
