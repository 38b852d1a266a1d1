"""Lesson 10's three trainings: they go on after any stop, and never see what is held out."""

import inspect
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from t2i.engine.train_config import TrainConfig
from t2i.files.checkpoint import CheckpointError, load_tensors, save_tensors
from t2i.flow import flow_point
from t2i.latents import LatentSpace
from t2i.runs import small_parts, text_to_image_runs, workshop
from t2i.runs.text_to_image_recipes import (
    CHECKPOINT,
    GUIDANCE_SCALE,
    INFERENCE_STEPS,
    RECIPES,
    encode_scenes,
    load_text_to_image,
    text_flow_loss,
    text_to_image_recipe,
)
from t2i.runs.text_to_image_runs import train_all
from t2i.text_to_image import TextToImage
from t2i.world.caption_reading import parse
from t2i.world.captions import COLOURS, KINDS
from t2i.world.scene_heldout import HELDOUT_PAIRS, HELDOUT_TRIPLES
from t2i.world.scene_specs import DIRECTIONS

PARTS = ("vae", "clip", "latents", "transformer")


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def tiny():
    """The smoke tier in four steps a part."""
    few, smoke = TrainConfig(steps=4, save_every=2), RECIPES["smoke"]
    vae, clip = (replace(part, training=few) for part in (smoke.vae, smoke.clip))
    RECIPES["tiny"] = replace(smoke, vae=vae, clip=clip, training=few)
    yield "tiny"
    del RECIPES["tiny"]


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    pipe = train_all(tiny, work / "model", work / "parts")
    return pipe, work


def test_the_trainings_write_a_folder_that_draws(trained):
    pipe, work = trained
    again = TextToImage.from_pretrained(work / "model")
    assert again("a red seven", 2)[0].size == (32, 32)
    for part in ("text", "transformer", "space"):
        found = getattr(again, part).state_dict()
        for name, p in getattr(pipe, part).state_dict().items():
            torch.testing.assert_close(found[name], p, rtol=1e-3, atol=1e-4)  # float16 on the disk
    log = json.loads((work / "model" / "training.json").read_text())
    assert log["tier"] == "tiny" and log["vae"]["scaling_factor"] == pytest.approx(
        pipe.space.scaling_factor.item()
    )
    for name in ("vae", "clip", "transformer"):
        assert log[name]["steps"] == 4 and log[name]["parameters"] > 1000
        assert log[name]["images_per_second"] > 0 and log[name]["losses"]
    assert sorted(path.stem for path in (work / "parts").iterdir()) == sorted(PARTS)


def test_a_finished_run_is_not_trained_again(trained, monkeypatch):
    pipe, work = trained
    monkeypatch.setattr(workshop, "train", None)
    again = train_all("tiny", work / "model", work / "parts")
    for name, p in pipe.transformer.state_dict().items():
        assert torch.equal(again.transformer.state_dict()[name], p)


def test_what_another_recipe_made_is_not_taken_for_this_ones(trained, tmp_path, monkeypatch):
    _, work = trained
    parts = tmp_path / "parts"
    shutil.copytree(work / "parts", parts)
    plan = text_to_image_runs.text_to_image_recipe("tiny")
    more = replace(plan, scenes=2 * plan.scenes)
    monkeypatch.setattr(text_to_image_runs, "text_to_image_recipe", lambda tier: more)
    (parts / "transformer.safetensors").unlink()
    with pytest.raises(CheckpointError, match="latents.* made with scenes .*delete it"):
        train_all("tiny", tmp_path / "model", parts)
    longer = replace(plan, training=replace(plan.training, steps=plan.training.steps + 1))
    monkeypatch.setattr(text_to_image_runs, "text_to_image_recipe", lambda tier: longer)
    with pytest.raises(CheckpointError, match="transformer.* made with steps"):
        train_all("tiny", tmp_path / "model", work / "parts")


@pytest.mark.parametrize("retrained", ["vae", "clip"])
def test_a_transformer_of_an_earlier_autoencoder_or_clip_is_not_taken(
    trained, tmp_path, monkeypatch, retrained
):
    parts, real = tmp_path / "parts", workshop.train
    shutil.copytree(trained[1] / "parts", parts)
    finished = parts / "transformer.safetensors"
    tensors, info = load_tensors(parts / f"{retrained}.safetensors")
    save_tensors(parts / f"{retrained}.safetensors", tensors, info | {"again": True})
    with pytest.raises(CheckpointError, match=f"transformer.* was made with {retrained} .*delete"):
        train_all("tiny", tmp_path / "model", parts)
    finished.unlink()
    if retrained == "vae":
        (parts / "latents.safetensors").unlink()

    def stopped(*given, **more):
        for state in real(*given, **more):
            yield state
            if state.step == 2:
                raise Stop

    monkeypatch.setattr(workshop, "train", stopped)
    with pytest.raises(Stop):
        train_all("tiny", tmp_path / "model", parts)
    save_tensors(parts / f"{retrained}.safetensors", tensors, info)
    (parts / "latents.safetensors").unlink()
    with pytest.raises(CheckpointError, match=f"run with {retrained}=.*delete it to start anew"):
        train_all("tiny", tmp_path / "model", parts)


def test_a_part_from_before_files_told_what_they_are_made_of_is_still_taken(trained, tmp_path):
    parts = tmp_path / "parts"
    shutil.copytree(trained[1] / "parts", parts)
    tensors, info = load_tensors(parts / "transformer.safetensors")
    del info["made_of"]
    save_tensors(parts / "transformer.safetensors", tensors, info)
    train_all("tiny", tmp_path / "model", parts)


def test_stopped_at_any_stage_it_goes_on_and_ends_at_the_same_weights(
    trained, tmp_path, monkeypatch
):
    """Three steps, stop, again: within each part, at its last step, and while latents are made."""
    real_train, real_encode = workshop.train, small_parts.encode_scenes
    left, stops = [0], []

    def train(*args, **more):
        for state in real_train(*args, **more):
            yield state
            left[0] -= 1
            if left[0] == 0:
                raise Stop

    def encode(*args, **more):
        if "latents" not in stops:
            stops.append("latents")
            raise Stop
        return real_encode(*args, **more)

    monkeypatch.setattr(workshop, "train", train)
    monkeypatch.setattr(small_parts, "encode_scenes", encode)
    for turn in range(12):
        left[0] = 3 if turn % 2 else 4
        try:
            train_all("tiny", tmp_path / "model", tmp_path / "parts")
            break
        except Stop:
            stops.append(turn)
            assert not (tmp_path / "model").exists()
    assert len(stops) > 4 and (tmp_path / "model" / "model_index.json").exists()
    for part in PARTS:
        (ours, log), (expected, right) = (
            load_tensors(folder / f"{part}.safetensors")
            for folder in (tmp_path / "parts", trained[1] / "parts")
        )
        assert all(torch.equal(ours[name], expected[name]) for name in expected)
        assert log.get("losses") == right.get("losses")


# --- what it learns from


def heldout(scene) -> tuple[bool, bool]:
    """Whether a told scene holds a pair, and a triple, that training must not show."""
    things = [(COLOURS.index(t.colour), KINDS.index(t.kind)) for t in scene.things]
    pair = any(HELDOUT_PAIRS[thing] for thing in things)
    if scene.relation is None or len(things) < 2:
        return pair, False
    direction = DIRECTIONS.index(scene.relation)
    return pair, bool(HELDOUT_TRIPLES[things[0][1], direction, things[1][1]])


@pytest.mark.parametrize("tier", ["smoke", "cpu"])
def test_the_captions_hold_no_pair_and_no_relation_that_is_held_out(tier):
    plan = text_to_image_recipe(tier)
    batches, tokenizer, told = plan.encoded(), plan.clip.tokenizer, 0
    assert plan.world == plan.clip.worlds[-1] == "pair"
    for _ in range(4):
        _, tokens = next(batches)
        for row in tokens.tolist():
            scene = parse(tokenizer.decode(row))
            assert heldout(scene) == (False, False)
            told += scene.relation is not None
    assert told > 200  # relations do come up
    assert HELDOUT_PAIRS.sum() == len(KINDS) and HELDOUT_TRIPLES.any()


def test_every_caption_of_the_pair_world_fits_into_a_row():
    plan = text_to_image_recipe("cpu")
    _, tokens = next(plan.encoded())
    assert tokens.shape[1] == plan.clip.length
    assert (tokens == plan.clip.tokenizer.end).any(1).all()
    assert not (tokens[:, -2] != plan.clip.tokenizer.end).any()  # room is left: nothing was cut


def test_scenes_are_encoded_once_and_always_the_same():
    torch.manual_seed(0)
    plan = text_to_image_recipe("smoke")
    space = LatentSpace(plan.vae.build(), 0.5)
    z_0, tokens = encode_scenes(space, plan.encoded(), 500)
    assert z_0.shape == (500, 4, 8, 8) and z_0.dtype == torch.float16 and len(tokens) == 500
    again, _ = encode_scenes(space, plan.encoded(), 500)
    assert torch.equal(z_0, again)
    few, told = encode_scenes(space, plan.encoded(), 260)  # no whole number of parts
    assert torch.equal(few[:250], z_0[:250]) and len(few) == 260
    assert torch.equal(told, tokens[:260])
    images, first = next(plan.encoded())
    posterior = space.vae.encode(images)
    assert torch.equal(tokens[:250], first)
    drawn = (z_0[:250].float() / 0.5 - posterior.mean) / posterior.std
    assert drawn.mean().abs() < 0.01 and (drawn.std() - 1).abs() < 0.01  # one draw of each


# --- what it learns


class Asked(nn.Module):
    """Stands where the transformer stands, and remembers what it is asked."""

    def forward(self, x_t, t, context, mask, pooled):
        self.given = x_t, t, context, mask, pooled
        return torch.zeros_like(x_t)


def test_one_prompt_in_ten_is_dropped_whole():
    torch.manual_seed(0)
    plan = text_to_image_recipe("smoke")
    text, tokenizer = plan.clip.build().text.eval(), plan.clip.tokenizer
    nothing = tokenizer([""], plan.clip.length)[0]
    tokens = tokenizer(["a red seven"], plan.clip.length).expand(4000, -1)
    model, z_0 = Asked(), torch.randn(4000, 1, 1, 1)
    loss = text_flow_loss(model, text, z_0, tokens, nothing)
    x_t, t, context, mask, pooled = model.given
    with torch.no_grad():
        (told, vector), (untold, silence) = text(tokens[:1]), text(nothing[None])
    dropped = mask.sum(1) == 2  # start and end
    assert 0.08 < dropped.float().mean() < 0.12
    for rows, expected, one in ((dropped, untold, silence), (~dropped, told, vector)):
        torch.testing.assert_close(context[rows], expected.expand(rows.sum(), -1, -1))
        torch.testing.assert_close(pooled[rows], one.expand(rows.sum(), -1))
    assert not context.requires_grad and ((t > 0) & (t < 1)).all() and 0.47 < t.mean() < 0.53
    assert loss.item() == pytest.approx(2, abs=0.2)  # noise and data of variance 1, answer 0
    noise = (x_t - (1 - t.view(-1, 1, 1, 1)) * z_0) / t.view(-1, 1, 1, 1)
    assert noise.std().item() == pytest.approx(1, abs=0.05)
    torch.testing.assert_close(flow_point(z_0, noise, t), x_t)


def test_the_plan_is_learnt_by_every_weight():
    plan = text_to_image_recipe("smoke")
    model, text = plan.build(), plan.clip.build().text.eval().requires_grad_(False)
    for p in model.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    z_0 = torch.randn(16, 4, 8, 8)
    tokens = plan.clip.tokenizer(["a red seven"], plan.clip.length).expand(16, -1)
    plan.loss(text)(model, (z_0, tokens)).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    last = len(model.network.blocks) - 1
    idle = [f"{last}.words.{n}" for n in ("to_q.weight", "to_q.bias", "norm_q.weight")]
    assert all(n.endswith("to_k.bias") or n.removeprefix("network.blocks.") in idle for n in silent)


def test_unknown_tiers_and_missing_models_are_named(tmp_path):
    with pytest.raises(ValueError, match="tier must be one of smoke, cpu, gpu"):
        text_to_image_recipe("huge")
    with pytest.raises(ValueError, match="There is no folder .*nothing"):
        load_text_to_image(tmp_path / "nothing")
    assert CHECKPOINT.parts[-2:] == ("checkpoints", "scenes")
    files = [path for path in CHECKPOINT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 24e6, "it comes along with each clone"


def test_no_training_replaces_the_courses_own_model():
    for tier in ("smoke", "cpu", "gpu"):
        assert not text_to_image_runs.home_of(tier).is_relative_to(CHECKPOINT.parent)


def test_lanes_that_do_not_share_out_the_batch_are_refused_before_any_training(tmp_path):
    for lanes in (0, 3):
        with pytest.raises(ValueError, match=f"lanes must be a multiple of the 1 .*got {lanes}"):
            train_all("smoke", tmp_path / "model", tmp_path, shards=tmp_path / "s", lanes=lanes)
    assert not list(tmp_path.iterdir())


def test_rms_norms_are_trained_without_a_word():
    """torch remarks once a process, under autocast, that their weights are float32."""
    code = """
import torch
from t2i.training import fastest_precision
with torch.autocast("cpu", torch.bfloat16):
    torch.nn.RMSNorm(4)(torch.zeros(2, 4, dtype=torch.bfloat16))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr == ""


def test_commands_and_the_page_draw_as_the_model_does_by_itself():
    defaults = inspect.signature(TextToImage.__call__).parameters
    assert defaults["num_inference_steps"].default == INFERENCE_STEPS
    assert defaults["guidance_scale"].default == GUIDANCE_SCALE
