"""The two tiers' tables and the race's chart, and what stands there where nothing was measured."""

import json
from pathlib import Path

import pytest
from IPython.display import Markdown

from t2i.drawing import show_tiers
from t2i.files.folders import read_json
from t2i.files.results import share_told
from t2i.runs.text_to_image_recipes import CHECKPOINT

RACE = read_json(show_tiers.RACE)


def test_each_tier_has_a_line_with_its_shares():
    lines = show_tiers.tiers_table().data.splitlines()[2:]
    known = read_json(show_tiers.CPU_TIER)["evaluation"], read_json(CHECKPOINT / "evaluation.json")
    assert [line.split(" | ")[0].strip("| ") for line in lines] == ["cpu", "gpu"]
    for line, each in zip(lines, known, strict=True):
        for number in ("one", "two", "three"):
            found = each["sets"].get(f"seen_{number}")
            assert found is None or share_told(found["satisfied"]) in line
    assert "32 × 32" in lines[0] and "64 × 64" in lines[1] and "torch" not in "".join(lines)


def test_a_tier_that_was_not_measured_has_no_line(tmp_path):
    assert len(show_tiers.tiers_table(file=tmp_path / "none.json").data.splitlines()) == 3
    assert len(show_tiers.tiers_table(folder=tmp_path).data.splitlines()) == 3


def test_the_gpus_autoencoder_has_lesson_8s_table(tmp_path):
    told, measured = show_tiers.autoencoder_table().data, read_json(CHECKPOINT / "evaluation.json")
    for found in measured["autoencoder"]["scenes"].values():
        assert f"{found['psnr']:.1f} ±" in told
    assert "224,000 scenes seen" in told
    assert "--autoencoder" in show_tiers.autoencoder_table(tmp_path).data


def test_lesson_8s_further_page_has_the_table_as_measured():
    page = Path(__file__).parents[2] / "lessons/08_vae/more.md"
    assert show_tiers.autoencoder_table().data.strip() in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("seconds", [RACE["seconds_to_goal"], None])
def test_the_race_tells_when_it_was_good_if_ever(tmp_path, seconds):
    file = tmp_path / "race.json"
    file.write_text(json.dumps(RACE | {"seconds_to_goal": seconds}), encoding="utf-8")
    told = show_tiers.race_chart(file).alt
    assert ("90% never" if seconds is None else "90% after 158 seconds") in told


def test_no_race_is_told_in_a_sentence(tmp_path):
    found = show_tiers.race_chart(tmp_path / "none.json")
    assert isinstance(found, Markdown) and "make race" in found.data
