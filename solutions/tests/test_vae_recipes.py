"""Lesson 8's recipes and studies: what is measured is what is said, and latents keep their size."""

import json
from dataclasses import replace

import pytest
import torch

from t2i.drawing import show_vae
from t2i.engine.train_config import TrainConfig
from t2i.files.checkpoint import digest, save_weights
from t2i.latents import BlockMeans, LatentSpace
from t2i.runs import vae_studies
from t2i.runs.latent_recipes import draw_latents, encoded_scenes, latent_recipe
from t2i.runs.vae_recipes import RECIPES, WEIGHTS, load_space, load_vae, vae_recipe
from t2i.runs.vae_runs import SPLITS, measure, measure_scaling_factor, psnr, summary, there_and_back
from t2i.speed.flops import count_flops, time_in_turn
from t2i.training import train
from t2i.unet_blocks import SelfAttention2d
from t2i.vae import AutoencoderKL
from t2i.world.caption_reading import PADDING
from t2i.world.scenes import scenes

MEASURED = json.loads(WEIGHTS.with_suffix(".json").read_text()) if WEIGHTS.exists() else {}
needs_weights = pytest.mark.skipif("scenes" not in MEASURED, reason="make train-vae, measure-vae")
TINY = {"block_channels": (8, 8, 8), "layers_per_block": 1, "norm_groups": 4}


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return AutoencoderKL(**TINY).eval().requires_grad_(False)


def test_psnr_is_the_textbooks():
    images = torch.zeros(2, 3, 4, 4)
    back = images.clone()
    back[1] += 0.2  # a tenth of the range from -1 to 1: 20 dB
    assert psnr(images, back).tolist() == pytest.approx([100, 20])


def test_a_training_makes_the_loss_smaller():
    plan = replace(vae_recipe("smoke"), vae=TINY, training=TrainConfig(12, 3e-3, muon_rate=0.02))
    losses = [s.loss for s in train(plan.build(), plan.loss, plan.batches(), plan.training)]
    assert min(losses[-3:]) < losses[0]


def test_the_start_is_calm_and_the_same_for_a_seed():
    plan = replace(vae_recipe("smoke"), vae=TINY)
    one, two = plan.build(1), plan.build(1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert one.encode(torch.zeros(1, 3, 8, 8)).std.mean() < 0.2


@pytest.mark.parametrize("tier", RECIPES)
def test_every_recipe_fits_its_pictures(tier):
    plan = vae_recipe(tier)
    with torch.device("meta"):
        model = AutoencoderKL(**plan.vae)
        x_0 = torch.zeros(2, 3, plan.size, plan.size)
        z = model.encode(x_0).mean
        assert z.shape == (2, 4, plan.size // 4, plan.size // 4)
        assert model.decode(z).shape == x_0.shape
    with pytest.raises(ValueError, match="tier"):
        vae_recipe("large")


def test_there_and_back_and_the_factor(vae):
    images, captions = scenes(range(5), "train", "many", digits="test")
    (back, nats), again = there_and_back(vae, images, 3), there_and_back(vae, images, 3)[0]
    assert back.shape == images.shape and nats.shape == (5,) and torch.equal(back, again)
    assert back.min() >= -1 and back.max() <= 1
    factor = measure_scaling_factor(vae, 32, count=40)
    z_0 = LatentSpace(vae, factor).encode(scenes(range(40), "train", "many")[0])
    assert 0.1 < z_0.std() < 1.05
    found = measure(images, back, captions)
    assert found["n"] == 5 and found["points_lost"] >= 0
    (row,) = summary({"scenes": {"heldout_pairs": found}})
    assert row[0] == "held-out pairs" and "dB" in row[2]


def test_measure_of_perfect_copies():
    images, captions = scenes(range(8), "train", "many", digits="test")
    found = measure(images, images, captions)
    assert found["points_lost"] == 0 and found["psnr"] == 100
    assert found["originals"] == found["reconstructions"]


def test_latents_of_scenes_are_scaled_and_told(vae):
    once, tokens = encoded_scenes(LatentSpace(vae, 1.0), 6, 32)
    twice, _ = encoded_scenes(LatentSpace(vae, 2.0), 6, 32)
    assert once.shape == (6, 4, 8, 8) and (tokens != PADDING).any(1).all()
    torch.testing.assert_close(twice, 2 * once)


def test_words_are_painted_through_latents(vae):
    plan, space = latent_recipe("smoke"), LatentSpace(vae, 1.0)
    plan = replace(plan, scenes=16, training=TrainConfig(2))
    for state in train(plan.build(), plan.loss, plan.batches(space), plan.training, progress=False):
        assert state.loss > 0
    words, steps = ["a red seven"], {"num_inference_steps": 2}
    one, two, other = (draw_latents(state.model, space, words, s, **steps) for s in (1, 1, 2))
    assert one.shape == (1, 3, 32, 32)
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_operations_of_attention_are_those_of_its_matrices():
    """Closed form: 2 for each product, four matrices at each place, and each place with each."""
    batch, channels, places = 3, 8, 5 * 4
    x = torch.randn(batch, channels, 5, 4)
    attention = SelfAttention2d(channels, num_heads=2, norm_groups=4)
    expected = 2 * batch * (4 * places * channels**2 + 2 * places**2 * channels)
    assert count_flops(lambda: attention(x)) == expected
    with torch.no_grad():
        assert count_flops(lambda: attention(x)) == expected


def test_a_latent_step_is_cheaper():
    """At 1/16 of the places each place's work is 1/16, and attention's looks are 1/256."""
    calls = [vae_studies.denoising_step(4, 32, 1), vae_studies.denoising_step(4, 8, 1)]
    pixels, latents = map(count_flops, calls)
    looks = 2 * 2 * 64 * 4 * 16**2  # two products, 64 channels, four attentions on 4 × 4 places
    time = 2 * (32 * 128 + 128 * 128 + 128 * (3 * 32 + 5 * 64))  # once a picture, not a place
    assert pixels - 256 * looks - time == 16 * (latents - looks - time)


def test_studies_are_kept_and_shown(tmp_path):
    path = tmp_path / "studies.json"
    assert "Not measured" in show_vae.study_table("f", path).data
    images, captions = scenes(range(3), "train", "many")
    run = measure(images, images, captions)
    run |= {"kl_weight": 0.5, "latent_numbers": 256, "nats": 9.0, "idle": 0.25}
    runs = {"f = 4": run, "kl_weight = 7": run}
    vae_studies.keep({"compare": {"steps": 5, "runs": runs}}, {"f = 4": images}, path)
    share = {"share": 0.5, "low": 0.4, "high": 0.6}
    paint = {"n": 4, "spread": 2.0, "satisfied": share, "nothing_seen": 0.25}
    vae_studies.keep({"diffuse": {"steps": 5, "runs": {"unscaled": paint}}}, None, path)
    figures, pictures = vae_studies.kept(path)
    assert set(figures) == {"compare", "diffuse"}
    torch.testing.assert_close(pictures["f = 4"], images, rtol=0, atol=1 / 127)
    assert "256 | 9 | 25%" in show_vae.study_table("f", path).data
    assert "kl_weight = 0.5" in show_vae.study_table("kl_weight", path).data
    assert "50.0% (40.0% to 60.0%) | 25.0%" in show_vae.scaling_table(path).data


def test_pictures_of_latents(vae):
    images = scenes(range(2), "train", "many")[0]
    z = vae.encode(images).mean
    assert "4 channels" in show_vae.channel_strip(images, z, images).alt
    colours = show_vae.in_colour(z)
    assert colours.shape == (2, 3, 8, 8) and colours.abs().max() <= 1
    bars = show_vae.cost_bars({"FLOPs": {"pixels": 4e9, "latents": 2.5e8}})
    assert "16.0 to 1" in bars.alt
    assert set(time_in_turn({"a": lambda: 1, "b": lambda: 2}, 3)) == {"a", "b"}


def test_coarser_block_means_lose_more():
    images = scenes(range(4), "train", "many")[0]
    kept = {f: BlockMeans(f) for f in (1, 2, 4)}
    decibels = {f: psnr(images, m.decode(m.encode(images).mean)).mean() for f, m in kept.items()}
    assert decibels[1] == 100 and decibels[1] > decibels[2] > decibels[4]


@needs_weights
def test_committed_studies_are_of_the_committed_weights_and_recipe():
    known = json.loads(vae_studies.FIGURES.read_text(encoding="utf-8"))
    assert known["diffuse"]["weights"] == digest(WEIGHTS)
    assert known["diffuse"]["scaling_factor"] == pytest.approx(load_space().scaling_factor.item())
    assert known["compare"]["batch_size"] == vae_recipe("cpu").batch_size


def test_committed_weights_and_factor_belong_together():
    vae, info = load_vae()
    space = load_space()
    assert info["scaling_factor"] == MEASURED["scaling_factor"]
    z_0 = space.encode(scenes(range(200), "train", "many", size=MEASURED["size"])[0])
    assert z_0.std().item() == pytest.approx(1, abs=0.1)
    assert not any(p.requires_grad for p in vae.parameters())


@needs_weights
@pytest.mark.parametrize("split", SPLITS)
def test_the_cpu_recipe_reaches_28_decibels(split):
    assert MEASURED["scenes"][split]["n"] >= 1000
    assert MEASURED["scenes"][split]["psnr"] >= 28


@needs_weights
@pytest.mark.parametrize("split", ["train", "heldout_pairs", "heldout_triples"])
def test_the_judge_reads_copies_like_originals(split):
    assert MEASURED["scenes"][split]["points_lost"] <= 3


def test_weights_without_a_factor_are_no_space(tmp_path, vae):
    path = tmp_path / "vae.safetensors"
    model = vae_recipe("smoke").build()
    save_weights(path, model, {"tier": "smoke"})
    with pytest.raises(KeyError, match="scaling_factor"):
        load_space(path)
