"""The recipes of lesson 3, their folded network, and the committed weights."""

import importlib
import json
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from t2i.data import data_source
from t2i.diffusion import ddpm_loss, predict_x_0
from t2i.files import results
from t2i.files.checkpoint import CheckpointError, digest, save_weights
from t2i.files.places import DATA
from t2i.files.results import how_trained, update_json
from t2i.folded_unet import FoldedUNet, digit_loss, noise_loss
from t2i.practice import heard_by_noise, middle_steps, random_steps
from t2i.pretrained import sd_bench
from t2i.runs import recipe_runs
from t2i.runs.class_recipes import class_recipe
from t2i.runs.clip_recipes import clip_recipe
from t2i.runs.clip_scene_recipes import clip_scene_recipe
from t2i.runs.recipe_runs import evaluate, time_training, train_recipe
from t2i.runs.recipes import RECIPES, WEIGHTS, load_ddpm, recipe
from t2i.runs.scene_recipes import scene_recipe
from t2i.runs.vae_recipes import vae_recipe
from t2i.schedules import add_noise, gather

SMALL = {
    "block_channels": (16,),
    "layers_per_block": 1,
    "attention_levels": (False,),
    "head_channels": 16,
    "norm_groups": 4,
}


@pytest.mark.parametrize("loss_fn", [digit_loss, noise_loss])
@pytest.mark.parametrize("tier", list(RECIPES))
def test_every_recipe_builds_and_its_loss_has_gradients(tier, loss_fn):
    model = recipe(tier).build()
    loss = loss_fn(model, torch.randn(3, 1, 28, 28))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_unknown_tier_is_named():
    with pytest.raises(ValueError, match="smoke, cpu, gpu"):
        recipe("tpu")


def test_building_is_repeatable_and_leaves_the_random_state_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, again, other = (recipe("smoke").build(seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.unet.conv_in.weight, again.unet.conv_in.weight)
    assert not torch.equal(first.unet.conv_in.weight, other.unet.conv_in.weight)


@pytest.mark.parametrize("fold, shape", [(1, (3, 1, 5, 7)), (2, (2, 3, 6, 10)), (4, (1, 1, 8, 12))])
def test_folded_unet_is_a_first_guess_and_a_correction(fold, shape):
    model = FoldedUNet(shape[1], fold, **SMALL)
    x_t, t = torch.randn(shape), torch.full(shape[:1], 700)
    bar = gather(model.alphas_cumprod, t, x_t)
    torch.testing.assert_close(model(x_t, t), (1 - bar).sqrt() * x_t)  # untrained: the guess
    nn.init.normal_(model.unet.conv_out.weight)
    correction = F.pixel_shuffle(model.unet(F.pixel_unshuffle(x_t, fold), t), fold)
    torch.testing.assert_close(model(x_t, t), (1 - bar).sqrt() * x_t + bar.sqrt() * correction)


def test_the_correction_is_the_velocity():
    """noise = √(1 - ᾱ)·x_t + √ᾱ·v with v = √ᾱ·noise - √(1 - ᾱ)·x_0, as lesson 4 will say."""
    model = FoldedUNet(1, 2, **SMALL)
    x_0, noise, t = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4), torch.tensor([3, 500, 999])
    bar = gather(model.alphas_cumprod, t, x_0)
    v = bar.sqrt() * noise - (1 - bar).sqrt() * x_0
    model.unet.forward = lambda x_t, t: F.pixel_unshuffle(v, 2)
    x_t = add_noise(x_0, noise, t, model.alphas_cumprod)
    torch.testing.assert_close(model(x_t, t), noise)


def test_the_margin_is_empty_whatever_comes_in():
    """Its x_0 is known, so the noise in it is: an outside reference for every step."""
    model = FoldedUNet(1, 2, margin=3, **SMALL)
    nn.init.normal_(model.unet.conv_out.weight)
    x_t, t = torch.randn(4, 1, 14, 18), torch.tensor([0, 40, 700, 998])
    noise_pred = model(x_t, t)
    x_0 = predict_x_0(x_t, noise_pred, t, model.alphas_cumprod)
    frame = torch.ones(14, 18, dtype=torch.bool)
    frame[3:-3, 3:-3] = False
    paper = -torch.ones(4, 1, int(frame.sum()))
    torch.testing.assert_close(x_0[..., frame], paper, atol=1e-3, rtol=0)
    inner = FoldedUNet(1, 2, **SMALL)
    inner.load_state_dict(model.state_dict())
    torch.testing.assert_close(noise_pred[..., 3:-3, 3:-3], inner(x_t[..., 3:-3, 3:-3], t))


def test_random_steps_are_noisy_more_often():
    torch.manual_seed(0)
    t = random_steps(torch.zeros(40_000, 1, 1, 1), 100)
    assert t.dtype == torch.int64 and t.shape == (40_000,) and t.min() >= 0 and t.max() == 99
    early, late = ((t < 50).float().mean().item(), (t >= 50).float().mean().item())
    assert abs(early - 0.25) < 0.02 and abs(late - 0.75) < 0.02


def test_middle_steps_are_logit_normal_but_for_every_tenth():
    torch.manual_seed(0)
    t = middle_steps(torch.zeros(40_000, 1, 1, 1), 1000)
    assert t.dtype == torch.int64 and t.shape == (40_000,) and t.min() >= 0 and t.max() < 1000
    bell = torch.distributions.Normal(1.0, 0.7)
    for step in (50, 200, 449, 600, 731, 900, 990):
        u = torch.tensor(step / 1000)
        below = 0.9 * bell.cdf(torch.logit(u)) + 0.1 * (u / 0.45).clamp(max=1)
        assert abs((t < step).float().mean() - below) < 0.01  # 4 standard deviations


def test_a_prediction_is_corrected_by_the_share_of_noise_and_keeps_its_value():
    torch.manual_seed(0)
    alphas_cumprod = torch.tensor([1.0, 0.9, 0.4, 0.0])
    x_0, noise, t = torch.randn(4, 1, 3, 3), torch.randn(4, 1, 3, 3), torch.arange(4)
    said = torch.randn(4, 1, 3, 3, requires_grad=True)
    loss = ddpm_loss(
        heard_by_noise(lambda x_t, t: said, alphas_cumprod), x_0, t, noise, alphas_cumprod
    )
    torch.testing.assert_close(loss, F.mse_loss(said, noise))
    (gradient,) = torch.autograd.grad(loss, said)
    share = torch.tensor([0.0, 0.1, 0.6, 1.0]).view(4, 1, 1, 1)
    torch.testing.assert_close(gradient, share * 2 * (said - noise).detach() / said.numel())


@pytest.mark.skipif(
    not data_source().startswith("MNIST, 60,000"), reason=f"needs real MNIST, has {data_source()}"
)
def test_committed_weights_predict_noise():
    model, info = load_ddpm()
    assert WEIGHTS.stat().st_size < 5_000_000
    assert info["parameters"] == sum(p.numel() for p in model.parameters())
    from t2i.data import mnist

    torch.manual_seed(0)
    with torch.no_grad():
        loss = noise_loss(model, mnist("test")[0][:256])
        untrained = noise_loss(recipe("cpu").build(), mnist("test")[0][:256])
    assert loss < 0.08 < untrained


@pytest.fixture(scope="module")
def figures() -> dict:
    return json.loads((DATA / "ddpm_cpu.json").read_text(encoding="utf-8"))


def test_committed_figures_are_this_recipes_and_no_copies(figures):
    assert figures["n"] >= 4000 and figures["steps"] == recipe("cpu").training.steps
    assert figures["recognisability_noise"] == 0 < figures["recognisability"]
    assert figures["nearest"] >= figures["nearest_real"]


@pytest.mark.parametrize(
    ("file", "plan"),
    [
        ("ddpm", recipe),
        ("guidance", class_recipe),
        ("scenes", scene_recipe),
        ("clip", clip_recipe),
        ("clip_scenes", clip_scene_recipe),
        ("vae", vae_recipe),
    ],
)
def test_committed_weights_were_trained_by_the_recipe_as_it_stands(file, plan):
    said = json.loads((DATA / f"{file}_cpu.json").read_text(encoding="utf-8"))
    cpu = plan("cpu")
    assert said["steps"] == cpu.training.steps
    assert said["images_seen"] == cpu.training.steps * cpu.batch_size
    assert said["parameters"] == sum(p.numel() for p in cpu.build().parameters())
    assert said["weights"] == digest(DATA / f"{file}_cpu.safetensors"), "measured of others"


def test_committed_figures_reach_the_aim(figures):
    assert figures["recognisability"] >= 0.85 * figures["recognisability_real"]


def test_missing_weights_are_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        load_ddpm(tmp_path / "nothing.safetensors")
    save_weights(tmp_path / "other.safetensors", nn.Linear(2, 2), {"tier": "cpu"})
    with pytest.raises(CheckpointError, match="another model"):
        load_ddpm(tmp_path / "other.safetensors")


def test_memory_is_counted_where_there_is_no_resource_module_too(monkeypatch, tmp_path):
    """Windows has neither that module nor /proc; the Stable Diffusion appendix counts there too."""
    told = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=123_456_789))
    monkeypatch.setitem(sys.modules, "resource", None)
    importlib.reload(sd_bench)
    assert sd_bench.peak_memory is results.peak_memory
    monkeypatch.setattr(results, "Path", lambda _: tmp_path / "nothing")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(psutil, "Process", lambda: told)
    assert results.peak_memory() == 123_456_789


def test_memory_is_what_the_system_itself_says(monkeypatch, tmp_path):
    resource = pytest.importorskip("resource")
    found = results.peak_memory()
    unit = 1 if sys.platform == "darwin" else 1024
    most = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert psutil.Process().memory_info().rss / 2 < found <= 1.01 * most
    monkeypatch.setattr(results, "Path", lambda _: tmp_path / "nothing")
    assert results.peak_memory() >= most


def test_train_then_evaluate_writes_weights_and_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe_runs, "sample_ddpm", lambda model, x_T, *rest, on_step: x_T)
    out, device = tmp_path / "ddpm.safetensors", torch.device("cpu")
    train_recipe("smoke", out, device)
    evaluate(out, 120, device)
    found = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert found["n"] == 120 and found["recognisability"] == 0  # pure noise came in
    assert found["losses"][-1][0] == recipe("smoke").training.steps
    assert found["training_seconds"] > 0 and found["peak_memory_bytes"] > 1e8
    assert sorted(p.name for p in tmp_path.glob("ddpm*")) == ["ddpm.json", "ddpm.safetensors"]


def test_timing_keeps_weights_and_figures_and_says_how_long_it_took(tmp_path):
    out = tmp_path / "ddpm.safetensors"
    train_recipe("smoke", out, torch.device("cpu"))
    known = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    out.write_bytes(b"mine")
    clock = time_training(recipe_runs, "smoke", out, torch.device("cpu"))
    found = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert out.read_bytes() == b"mine" and found == known | {"clock": clock}
    told = {"training_seconds": 90.0, "peak_memory_bytes": 2e9, "machine": "a clock"}
    known |= {"training_seconds": 600.0, "images_seen": 5000}
    assert how_trained(known, "digits").startswith("Trained in 10.0 minutes (5,000 digits seen")
    assert how_trained(known | {"clock": told}, "digits") == (
        "Trained in 1.5 minutes (5,000 digits seen, 2.0 GB of memory at most) on a clock."
    )
    update_json(out.with_suffix(".json"), {"frechet": 1.0, "batch_sizes": {"of": "others"}})
    train_recipe("smoke", out, torch.device("cpu"))  # other weights: none of that is theirs
    found = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert not {"clock", "frechet"} & found.keys() and found["batch_sizes"] == {"of": "others"}


def test_commands_explain_themselves():
    run = subprocess.run(
        [sys.executable, "-m", "t2i.runs.recipes", "--help"], capture_output=True, text=True
    )
    assert run.returncode == 0 and "evaluate" in run.stdout
