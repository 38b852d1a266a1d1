"""Lesson 9's contest is fair, its measurements measure, and its runs go on where they stopped."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from t2i.dit import DiT
from t2i.judging.scene_judge import View
from t2i.runs import dit_runs
from t2i.runs.dit_recipes import KINDS, SIZES, dit_contest, flops_of_step, load_joint
from t2i.runs.dit_studies import attention_distances, distances, gate_sizes, look_on, patch_weights
from t2i.runs.joint_denoiser import FirstGuess, JointDenoiser
from t2i.runs.relation_studies import count_relations, draw_scenes, relation_prompts
from t2i.world.caption_reading import VOCABULARY, encode, parse
from t2i.world.scenes import SceneBatches

TINY = {"dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8}


def opened(model: nn.Module) -> nn.Module:
    """The network as if it had learnt something: no weight is zero."""
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.data = p.data + 0.2 * torch.randn(p.shape, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def batch():
    return next(SceneBatches(3, world="many"))


@pytest.fixture(scope="module")
def joint():
    return opened(JointDenoiser(len(VOCABULARY), **TINY))


@pytest.mark.parametrize("size", SIZES)
def test_two_networks_of_one_size_are_alike(size):
    contest = dit_contest("cpu")
    counts = [sum(p.numel() for p in contest.build(kind, size).parameters()) for kind in KINDS]
    assert 0.9 < counts[0] / counts[1] < 1.1
    spent = []
    for kind in KINDS:
        small = replace(contest, batch_size=2)
        step = flops_of_step(small.build(kind, size), next(small.batches())) * 16
        spent.append(step * round(contest.compute[size] / step))
    assert 0.99 < spent[0] / spent[1] < 1.01


def test_flops_are_those_of_the_formula():
    """A linear layer on N tokens: 2 · N · in · out forward, twice that backward."""
    model = JointDenoiser(len(VOCABULARY), dim=32, depth=2, num_heads=2, patch_size=8)
    tokens, words, d = 16, 32, 32
    batch = next(SceneBatches(4, world="many"))
    streams = [(tokens, 12), (words, 12), (tokens, 12), (words, 3)]  # the last words: q, k, v
    linear = sum(n * parts * d * d for n, parts in streams)
    attention = 2 * 2 * (tokens + words) ** 2 * d
    outside = tokens * 192 * d * 2 + words * 64 * d + 256 * d + d * d + 64 * d
    conditions = (6 + 6 + 6 + 2 + 2) * d * d
    expected = 3 * 2 * 4 * (linear + attention + outside + conditions)
    assert abs(flops_of_step(model, batch) / expected - 1) < 0.03  # no gradient for x_t


def test_the_joint_denoiser_listens_to_its_words(joint):
    x_t, t = torch.randn(2, 3, 32, 32), torch.tensor([5, 900])
    tokens, mask = encode(["a red seven", "a blue star left of a pink heart"])
    noise_pred = joint(x_t, t, tokens, mask)
    swapped = tokens.clone()
    swapped[0, 1] = tokens[1, 1]
    changed = (joint(x_t, t, swapped, mask) - noise_pred).abs().amax(dim=(1, 2, 3))
    assert noise_pred.shape == x_t.shape and changed[0] > 1e-3 and changed[1] == 0
    nothing = torch.zeros_like(mask)
    assert torch.equal(joint(x_t, t, tokens, nothing), joint(x_t, t, swapped, nothing))
    with pytest.raises(ValueError, match="mask must be"):
        joint(x_t, t, tokens, mask.float())


def test_a_fresh_network_answers_with_its_first_guess():
    x_t, t = torch.randn(2, 3, 8, 8), torch.tensor([0, 999])
    model = FirstGuess(DiT(3, sample_size=8, dim=16, depth=1, num_heads=2, num_classes=3))
    out = model(x_t, t, torch.tensor([0, 3]))
    torch.testing.assert_close(out[1], x_t[1], rtol=1e-3, atol=1e-3)  # all of it is noise
    assert out[0].abs().max() < 0.1 * x_t[0].abs().max() and model.denoiser is model


def test_distances():
    grid = distances(2, 3)
    assert grid[0].tolist() == pytest.approx([0, 1, 2, 1, 2**0.5, 5**0.5])


def test_attention_distance_of_looks_that_are_known(joint, batch):
    """With queries of zero everybody looks at everything alike."""
    for name, p in joint.named_parameters():
        if "to_q" in name:
            p.data.zero_()
    rows = attention_distances(joint, look_on(joint, batch), side=32)
    assert [row["layer"] for row in rows] == [f"denoiser.network.blocks.{i}" for i in range(2)]
    for row in rows:
        assert row["distance"] == pytest.approx(row["even"], abs=2e-3)
        assert row["even"] == pytest.approx(8 * distances(4, 4).mean().item(), abs=2e-3)
        seen = batch[2].sum(1).float()
        assert row["words"] == pytest.approx((seen / (seen + 16)).mean().item(), abs=2e-3)


def test_distances_of_the_unet_are_found_too(batch):
    model = dit_contest("smoke").build("unet", "small").eval()
    rows = attention_distances(model, look_on(model, batch), side=32)
    assert len(rows) == 4 and all("attn1" in row["layer"] and not row["words"] for row in rows)
    assert patch_weights(nn.Linear(3, 3), (torch.zeros(1, 3),)) is None


def test_gates_are_shut_at_first(batch):
    model = JointDenoiser(len(VOCABULARY), **TINY).eval()
    assert list(gate_sizes(model, look_on(model, batch)).values()) == [(0.0, 0.0)] * 2
    assert min(min(pair) for pair in gate_sizes(opened(model), look_on(model, batch)).values()) > 0


def view(*things: tuple[str, float, float]) -> View:
    seen = tuple(parse(f"a {words}").things[0] for words, _, _ in things)
    places = tuple((y, x) for _, y, x in things)
    return View(seen, places, (0.3,) * len(things), "black", 1.0)


def test_relations_are_counted():
    asked = [parse("a red seven left of a blue star")] * 5
    views = [
        view(("red seven", 0.5, 0.2), ("blue star", 0.5, 0.8)),  # all right
        view(("blue star", 0.5, 0.2), ("red seven", 0.5, 0.8)),  # the wrong way round
        view(("red eight", 0.5, 0.2), ("blue star", 0.5, 0.8)),  # placed, but another object
        view(("red seven", 0.2, 0.5), ("blue star", 0.8, 0.5)),  # above
        view(("red seven", 0.5, 0.2)),
    ]
    found = count_relations(views, asked)
    shares = {name: found[name]["share"] for name in ("both", "placed", "satisfied")}
    assert shares == {"both": 0.8, "placed": 0.4, "satisfied": 0.2}
    assert found["placed_of_both"]["share"] == 0.5 and found["any_relation"] == 0.25
    nothing = count_relations([view()], asked[:1])
    assert nothing["placed_of_both"] == {"share": 0.0, "low": 0.0, "high": 1.0}


@pytest.mark.parametrize("split", ["train", "heldout_triples"])
def test_prompts_tell_a_relation_of_two(split):
    specs = relation_prompts(12, split)
    scenes = [parse(caption) for caption in specs.captions()]
    assert len(specs) == 12 and all(len(s.things) == 2 and s.relation for s in scenes)
    assert {s.relation for s in scenes} == {"left of", "above"}


def test_pictures_depend_on_the_seed_alone(joint):
    captions = ["a red seven above a blue star"] * 3
    drawn = draw_scenes(joint, captions, 2, 32, 3.0)
    assert drawn.shape == (3, 3, 32, 32)
    assert torch.equal(drawn, draw_scenes(joint, captions, 2, 32, 3.0))


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    contest = replace(dit_contest("smoke"), count=2)
    monkeypatch.setattr(dit_runs, "dit_contest", lambda tier: contest)
    out = tmp_path / "dit_smoke.json"
    dit_runs.run("smoke", out, ["dit/large"])
    first = json.loads(out.read_text())
    found = dit_runs.run("smoke", out, ["dit/large", "unet/small"])
    assert set(found["cells"]) == {"dit/large", "unet/small"}
    assert found["cells"]["dit/large"] == first["cells"]["dit/large"]
    cell = found["cells"]["dit/large"]
    assert cell["curve"][-1][0] == cell["steps"] * cell["flops_per_step"]
    assert cell["gates"][0] == [1, [[0.0, 0.0]] * 2] and len(cell["layers"]) == 2
    monkeypatch.setattr("t2i.runs.dit_recipes.CONTESTS", {"smoke": contest})
    model, info = load_joint(out.with_suffix(".safetensors"))
    assert info["tier"] == "smoke" and not any(p.requires_grad for p in model.parameters())
    other = replace(contest, batch_size=4)  # another contest: nothing of the old one stays
    monkeypatch.setattr(dit_runs, "dit_contest", lambda tier: other)
    assert dit_runs.run("smoke", out, [])["cells"] == {}


def test_an_unknown_tier_is_named():
    with pytest.raises(ValueError, match="tier must be one of"):
        dit_contest("tpu")
