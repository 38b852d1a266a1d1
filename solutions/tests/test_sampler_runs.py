"""Lesson 4's reference runs: they go on where they stopped, and belong to one set of weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from t2i.drawing import sampler_tables
from t2i.drawing.sampler_tables import NAMES
from t2i.files.checkpoint import digest, save_weights
from t2i.runs import sampler_runs
from t2i.runs.recipes import LONG_WEIGHTS, load_ddpm, recipe
from t2i.runs.sampler_runs import Cell, Ruler, cells, draw, run

MEASURED = {"frechet": 1.0, "recognisability": 0.5, "seconds": 2.0}
FULL = Cell("ddpm", 1000, "trailing", 0)


@pytest.fixture
def weights(tmp_path):
    file = tmp_path / "ddpm.safetensors"
    save_weights(file, recipe("smoke").build(), {"tier": "smoke"})
    return file


@pytest.fixture
def measured(monkeypatch) -> list[Cell]:
    """The cells that were really measured; measuring takes no time."""
    seen = []

    def measure(cell, *_):
        seen.append(cell)
        return MEASURED

    monkeypatch.setattr(sampler_runs, "measure", measure)
    monkeypatch.setattr(sampler_runs, "Ruler", lambda n, seed: type("R", (), {"floor": 0.5}))
    return seen


def test_a_second_run_measures_only_what_is_missing(tmp_path, weights, measured):
    out, all_cells = tmp_path / "out.json", cells(("ddim", "dpmpp_2m"), (5, 50), seeds=2)
    run(all_cells[:3], weights, 60, out)
    known = run(all_cells, weights, 60, out)
    assert measured == all_cells
    assert known["cells"].keys() == {cell.key for cell in all_cells}
    assert json.loads(out.read_text(encoding="utf-8")) == known


def test_figures_of_other_weights_or_another_count_are_dropped(tmp_path, weights, measured):
    out, todo = tmp_path / "out.json", [Cell("ddim", 5, "trailing", 0)]
    run(todo, weights, 60, out)
    run(todo, weights, 70, out)
    save_weights(weights, recipe("smoke").build(seed=1), {"tier": "smoke"})
    known = run(todo, weights, 70, out)
    assert measured == todo * 3 and known["weights"] == digest(weights)


def test_lesson_3s_own_thousand_steps_are_not_run_twice(tmp_path, weights, measured):
    figures = {"weights": digest(weights), "n": 60, "frechet": 7.5, "recognisability": 0.25}
    file = weights.with_suffix(".json")
    file.write_text(json.dumps(figures | {"sampling_seconds": 9}), encoding="utf-8")
    known = run([FULL], weights, 60, tmp_path / "out.json")
    assert known["cells"][FULL.key] == {"frechet": 7.5, "recognisability": 0.25, "seconds": 9}
    assert not measured
    run([FULL], weights, 61, tmp_path / "out.json")  # another count: measured after all
    assert measured == [FULL]


def test_cells_are_each_measured_once_and_the_chart_is_complete():
    found = cells(sampler_runs.SAMPLERS, sampler_runs.STEPS, seeds=1)
    assert len({cell.key for cell in found}) == len(found)
    chart = {(c.sampler, c.steps) for c in found if c.spacing == "trailing"}
    assert chart == {(s, n) for s in sampler_runs.SAMPLERS for n in sampler_runs.STEPS}


def test_an_unknown_sampler_and_too_few_pictures_are_named():
    model = recipe("smoke").build()
    with pytest.raises(ValueError, match="sampler must be one of dpmpp_2m, ddim, ddpm, sde"):
        draw("euler", model, torch.tensor([9, 3]), torch.zeros(1, 1, 28, 28), 0)
    with pytest.raises(ValueError, match=r"n must lie in \[50"):
        Ruler(10, 0)


@pytest.fixture(scope="module")
def figures() -> dict:
    return json.loads(sampler_runs.RESULTS.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def headline_figures() -> dict:
    return json.loads(sampler_runs.HEADLINE.read_text(encoding="utf-8"))


def test_committed_figures_are_of_the_committed_weights(figures, headline_figures):
    for found, n in ((figures, 1000), (headline_figures, 4000)):
        assert found["weights"] == digest(sampler_runs.WEIGHTS) and found["n"] >= n
        assert all(cell["frechet"] > found["floor"]["0"] for cell in found["cells"].values())
    wanted = {cell.key for cell in sampler_runs.headline_cells(3)}
    assert wanted == set(headline_figures["cells"])


def of(figures: dict, sampler: str, steps: int) -> float:
    """The mean over the headline's seeds."""
    seeds = range(sampler_runs.HEADLINE_SEEDS)
    found = [figures["cells"][f"{sampler}/trailing/{steps}/{seed}"]["frechet"] for seed in seeds]
    return sum(found) / len(found)


def test_twenty_steps_with_fresh_noise_reach_the_aim(headline_figures):
    assert of(headline_figures, "sde_dpmpp_2m", 20) <= 1.1 * of(headline_figures, "ddpm", 1000)


def test_the_headline_says_for_each_form_whether_it_reached_the_aim(headline_figures, monkeypatch):
    text = _headline(monkeypatch, headline_figures)
    for sampler in ("dpmpp_2m", "sde_dpmpp_2m"):
        share = of(headline_figures, sampler, 20) / of(headline_figures, "ddpm", 1000)
        verdict = "**not reached**" if share > 1.1 else "**reached**"
        assert _row(text, sampler).endswith(f" {verdict} |")
    smooth, sde = "dpmpp_2m/trailing/20/0", "sde_dpmpp_2m/trailing/20/0"
    text = _headline(monkeypatch, _known({smooth: 7.6, sde: 7.8, FULL.key: 7.0}))
    assert _row(text, "dpmpp_2m").endswith("| 7.60 (one seed) | 9 % more | **reached** |")
    assert _row(text, "sde_dpmpp_2m").endswith("| 11 % more | **not reached** |")
    second = {smooth[:-1] + "1": 9.0, sde: 5.0, sde[:-1] + "1": 4.0}
    text = _headline(monkeypatch, _known({smooth: 8.0, FULL.key: 7.0} | second))
    assert _row(text, "dpmpp_2m").endswith("| 8.00 (one seed) | 14 % more | **not reached** |")
    assert _row(text, "sde_dpmpp_2m").endswith("| 29 % less | **reached** |")  # of seed 0 alone
    both = {"ddpm/trailing/1000/1": 9.0, smooth: 8.0, smooth[:-1] + "1": 9.0, FULL.key: 7.0}
    text = _headline(monkeypatch, _known(both))
    assert _row(text, "dpmpp_2m").endswith("| 8.50 (8.00 to 9.00) | 6 % more | **reached** |")
    assert sampler_tables.MEASURE_HEADLINE in _headline(monkeypatch, _known({smooth: 8.0}))
    assert sampler_tables.MEASURE_HEADLINE in _headline(monkeypatch, {})


@pytest.fixture(scope="module")
def long_figures() -> dict:
    return json.loads(sampler_runs.HEADLINE_LONG.read_text(encoding="utf-8"))


def test_the_long_training_is_the_cpu_tiers_but_for_its_steps_and_its_figures_are_its_own(
    long_figures,
):
    short, long = recipe("cpu"), recipe("long")
    assert long.training.steps == 8 * short.training.steps
    assert replace(long, training=replace(long.training, steps=2600)) == short
    _, info = load_ddpm(LONG_WEIGHTS)
    assert info["steps"] == long.training.steps
    assert long_figures["weights"] == digest(LONG_WEIGHTS) and long_figures["n"] == 4000
    assert {cell.key for cell in sampler_runs.headline_cells(sampler_runs.HEADLINE_SEEDS)} <= set(
        long_figures["cells"]
    )


def test_longer_training_helps_every_sampler_and_the_table_has_both(headline_figures, long_figures):
    text = sampler_tables.longer().data
    for sampler, steps in sampler_runs.HEADLINE_CELLS:
        before, after = of(headline_figures, sampler, steps), of(long_figures, sampler, steps)
        assert after < 0.6 * before
        told = "DDPM" if steps == 1000 else NAMES[sampler]
        (row,) = (line for line in text.split("\n") if line.startswith(f"| {told}, {steps:,} "))
        cells = [float(cell.split()[0]) for cell in row.split("|")[2:-1]]
        slow = of(headline_figures, "ddpm", 1000), of(long_figures, "ddpm", 1000)
        wanted = before, before / slow[0], after, after / slow[1]
        assert cells == pytest.approx(wanted, abs=0.006)


def test_the_page_of_measurements_says_what_was_measured(headline_figures, long_figures):
    page = Path(__file__).parents[2] / "lessons/04_samplers/more.md"
    told = page.read_text(encoding="utf-8")
    for sampler, steps in sampler_runs.HEADLINE_CELLS:
        cells = []
        for known in (headline_figures["cells"], long_figures["cells"]):
            seeds = range(sampler_runs.HEADLINE_SEEDS)
            found = [known[f"{sampler}/trailing/{steps}/{seed}"]["frechet"] for seed in seeds]
            low, mean, high = min(found), sum(found) / len(found), max(found)
            cells.append(f"{mean:.2f} ({low:.2f} to {high:.2f})")
        name = "DDPM" if sampler == "ddpm" else NAMES[sampler]
        row = f"| {name}, {steps:,} steps | {' | '.join(cells)} |"
        assert (row in told) == ((sampler, steps) != ("ddpm", 50))  # that one is not in the table
    floors = headline_figures["floor"].values()
    assert f"the floor is {sum(floors) / len(floors):.2f}" in told


def test_without_the_long_measurement_the_table_says_how_to_make_it(monkeypatch):
    monkeypatch.setattr(sampler_tables, "results", lambda file: {})
    assert "long=yes" in sampler_tables.longer().data


def _known(distances: dict[str, float]) -> dict:
    cells = {key: MEASURED | {"frechet": value} for key, value in distances.items()}
    return {"n": 60, "floor": {"0": 1.0, "1": 1.5}, "cells": cells}


def _headline(monkeypatch, known: dict) -> str:
    monkeypatch.setattr(sampler_tables, "results", lambda file: known)
    return sampler_tables.headline().data


def _row(text: str, sampler: str) -> str:
    start = f"| {sampler_tables.NAMES[sampler]}, 20 steps |"
    (row,) = (line for line in text.split("\n") if line.startswith(start))
    return row
