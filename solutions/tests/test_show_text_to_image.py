"""Lesson 10's pictures and tables say in words what they show, and what is not there yet."""

import json
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from t2i.drawing import show_measured, show_roads, show_text_to_image
from t2i.files.folders import read_json
from t2i.flow import euler_times, flow_point, flow_target, sample_euler
from t2i.mixture import FlowMixture, Mixture
from t2i.runs.scene_runs import set_name
from t2i.runs.text_to_image_recipes import CHECKPOINT
from t2i.schedules import alphas_cumprod, cosine_betas
from t2i.world.captions import Thing
from t2i.world.scene_news import what_is_new
from t2i.world.scene_specs import draw_specs

MEASURED = read_json(CHECKPOINT / "evaluation.json")

SHARE = {"share": 0.984, "low": 0.97, "high": 0.99}


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory):
    return tmp_path_factory.mktemp("empty") / "nothing"


@pytest.fixture(scope="module")
def untrained(nowhere):
    return show_text_to_image.ready_model(nowhere)


def test_the_flat_worlds_direction_is_the_mean_of_the_lines_through_a_point():
    """Against drawing: the mean direction of many lines that pass near a point at time t."""
    world, generator = FlowMixture(show_roads.CENTRES, 0.4), torch.Generator().manual_seed(0)
    x_0 = Mixture(show_roads.CENTRES, 0.4, torch.ones(1)).draw(400_000, generator)
    noise = torch.randn(x_0.shape, generator=generator)
    for t, place in ((0.3, (0.4, -0.3)), (0.7, (-0.5, 0.5))):
        x_t = flow_point(x_0, noise, torch.full((len(x_0),), t))
        near = (x_t - torch.tensor(place)).norm(dim=1) < 0.06
        drawn = flow_target(x_0, noise)[near]
        within = 4 * drawn.std(dim=0) / near.sum().sqrt() + 0.05
        found = world(torch.tensor([place]), torch.tensor([t]))[0]
        assert near.sum() > 500 and ((found - drawn.mean(0)).abs() < within).all()


def test_the_flat_worlds_of_lessons_4_and_10_agree():
    """One direction and one noise prediction of the same points, each in its own measure."""
    betas, centres = cosine_betas(), show_roads.CENTRES.double()
    ac = alphas_cumprod(betas.double())
    x, step = torch.randn(5, 2, dtype=torch.float64), torch.full((5,), 400)
    signal, sigma = ac[400].sqrt(), (1 - ac[400]).sqrt()
    t = sigma / (signal + sigma)  # the same share of noise, with signal + noise = 1
    noise_pred = Mixture(centres, 0.3, ac)(x, step)
    x_t = x / (signal + sigma)
    direction = FlowMixture(centres, 0.3)(x_t, t.expand(5))
    torch.testing.assert_close(x_t + (1 - t) * direction, noise_pred)


def test_walks_and_crowds_are_drawn_and_told():
    noise, walk = torch.randn(4, 2), []
    world = FlowMixture(show_roads.CENTRES, show_roads.CLOUD)
    sample_euler(world, noise, euler_times(3), on_step=lambda *at: walk.append(at[1]))
    steps = torch.stack([noise, *walk])
    picture = show_roads.roads({"three": steps}, {"three": steps})
    assert "three: 0.00 beside the goal" in picture.alt and picture.png(40)
    assert "t = 0.25" in show_roads.crowd(noise, noise, noise, 0.25).alt


def test_without_a_trained_model_one_sentence_says_so(nowhere, capsys):
    pipe, plan = show_text_to_image.ready_model(nowhere)
    assert show_text_to_image.MISSING in capsys.readouterr().out
    assert pipe.size == plan.vae.size
    for table in (
        show_measured.training_chart(nowhere),
        show_measured.one_pass(4e8, nowhere),
    ):
        assert table.data == show_measured.NO_TRAINING
    assert show_measured.results_table(nowhere).data == show_measured.NO_EVALUATION
    assert show_measured.satisfied_chart(nowhere).data == show_measured.NO_EVALUATION


def test_the_committed_evaluation_is_told_with_floor_and_ceilings():
    told, like = show_measured.results_table().data, MEASURED["likeness"]
    assert f"{like['frechet']:.2f} (floor, as many real scenes: {like['frechet_floor']:.2f}" in told
    assert f"drawn {like['nearest']:.1f}, real scenes {like['nearest_real']:.1f}" in told
    assert MEASURED["machine"] in told
    chart = show_measured.satisfied_chart()
    for name, found in MEASURED["sets"].items():
        assert f"{set_name(name)} {found['satisfied']['share']:.1%}" in chart.alt
    assert "shuffled prompts get" in chart.caption and chart.png(40)


def test_a_trained_model_is_loaded_with_its_recipe(untrained, tmp_path, capsys):
    pipe, plan = untrained
    pipe.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "training.json").write_text('{"tier": "smoke"}')
    capsys.readouterr()
    again, found = show_text_to_image.ready_model(tmp_path / "model")
    assert found == plan and again.size == pipe.size and capsys.readouterr().out == ""
    (tmp_path / "model" / "model_index.json").unlink()
    show_text_to_image.ready_model(tmp_path / "model")
    assert "model_index.json is missing" in capsys.readouterr().out


def test_pictures_carry_their_prompts(untrained):
    pipe, _ = untrained
    prompts = ["a red seven above a blue star", "a star"]
    pictures = pipe(prompts, 1)
    assert show_text_to_image.to_tensor(pictures).shape == (2, 3, 32, 32)
    assert show_text_to_image.to_tensor(pictures).abs().max() <= 1
    assert "a red seven above a blue star" in show_text_to_image.gallery(pictures, prompts).alt
    swept = show_text_to_image.sweep({"1 step": pictures, "2 steps": pictures}, prompts)
    assert "1 step, 2 steps" in swept.alt and swept.png(40)
    drawn = show_text_to_image.system(pipe, prompts[0])
    assert "(1, 24, 96)" in drawn.alt and "(1, 4, 8, 8)" in drawn.alt and drawn.png(40)


def test_titles_say_what_is_right_what_is_new_and_what_was_read(monkeypatch):
    monkeypatch.setattr(show_text_to_image, "shows", lambda view, told: view is not odd)
    odd = SimpleNamespace(things=[Thing("red", "seven"), Thing("blue", "star")])
    specs = draw_specs(range(30), "heldout_pairs", "many", 5)
    titles = show_text_to_image.judged(specs, [odd if row % 3 else None for row in range(30)])
    for row, title in enumerate(titles):
        assert title[0] == "✓✗"[row % 3 > 0] and title[2:].startswith(
            specs.caption(row) + " [new: "
        )
        assert all(pair in title.split("[new: ")[1] for pair in what_is_new(specs, row))
        assert title.endswith("] [read: red seven, blue star]") == (row % 3 > 0)
    plain = draw_specs(range(3), "train", "many")
    assert show_text_to_image.judged(plain, [None] * 3) == [f"✓ {c}" for c in plain.captions()]


def test_prompts_are_compared_by_the_cosine_of_their_vectors():
    vectors = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.6, 0.8]])
    drawn = show_text_to_image.same_or_not(["x", "y", "z"], vectors)
    assert "1 and 2: 1.00, 1 and 3: 0.60, 2 and 3: 0.60" in drawn.alt and drawn.png(40)


def test_what_clip_hears_is_read_from_the_log(tmp_path):
    assert "No training" in show_measured.captions_heard(tmp_path).data
    heard = {"order_heard": 0.9685, "kind_heard": 0.871}
    (tmp_path / "training.json").write_text(json.dumps({"clip": heard}))
    told = show_measured.captions_heard(tmp_path).data
    assert "**96.9%** of the cases where colours" in told and "**87.1%** of those" in told


def test_tables_are_made_of_what_was_measured_and_bear_gaps(tmp_path):
    part = {"losses": [[1, 2.0], [9, 1.0]], "parameters": 2e6, "steps": 9000}
    part |= {"images_per_second": 250.0, "machine": "a test"}
    log = {"tier": "cpu", "vae": part, "transformer": part}
    (tmp_path / "training.json").write_text(json.dumps(log))
    sets = {"seen_one": {"n": 1000, "satisfied": SHARE, "vae": {"share": 0.5}}, "odd": {}}
    (tmp_path / "evaluation.json").write_text(json.dumps({"sets": sets}))
    chart = show_measured.training_chart(tmp_path)
    assert "transformer: 2 million weights, 9,000 steps, 250 pictures a second" in chart.caption
    told = show_measured.one_pass(4e8, tmp_path).data
    assert "**18.5 days**, five times 93." in told
    table = show_measured.results_table(tmp_path).data
    assert "| seen one | 98.4% (97.0% to 99.0%) | 50.0% |" in table
    assert "1,000 prompts a line." in table
    assert "| odd | – | – |" in table


def test_a_copy_without_the_call_shows_what_another_drew():
    def unwritten(prompts: list[str], steps: int):
        raise NotImplementedError("TextToImage.__call__ is not written yet")

    assert "figures/gallery.png" in show_text_to_image.first_look(unwritten, ["a seven"], 2).data
    drawn = show_text_to_image.first_look(lambda *_: [Image.new("RGB", (8, 8))], ["a seven"], 2)
    assert "a seven" in drawn.alt
