"""Lesson 9's pictures and tables say in words what they show."""

import json

import pytest
import torch

from t2i import show_contest, show_dit
from t2i.dit import DiTBlock
from t2i.patches import sincos_position_embedding_2d

SHARE = {"share": 0.5, "low": 0.2, "high": 0.8}
RELATION = {name: SHARE for name in ("both", "placed", "satisfied", "placed_of_both")}
RELATION |= {"n": 10, "any_relation": 0.25}
CELL = {
    "parameters": 594_000,
    "images_seen": 12_345,
    "curve": [[1e9, 0.2], [1e12, 0.05]],
    "relations": RELATION | {"rendered": RELATION},
    "unseen_relations": RELATION | {"rendered": RELATION},
    "layers": [
        {"layer": "denoiser.network.blocks.0", "distance": 9.5, "heads": [9, 10], "even": 16.5},
        {"layer": "denoiser.unet.up.0.attentions.1.blocks.0.attn1", "distance": 7.0, "heads": [7],
         "even": 16.5},
    ],
}  # fmt: skip
CELLS = {"unet/large": CELL, "dit/large": CELL}


def test_pictures_tell_what_is_in_them():
    picture = show_dit.exploded(torch.rand(3, 16, 24), 4, ["a", "star"])
    assert "4 × 6 patches" in picture.alt and "a star" in picture.alt
    block = DiTBlock(8, 2)
    assert "3×5×8" in show_dit.draw_block(block, torch.randn(3, 5, 8), torch.randn(3, 8)).alt
    gates = show_dit.gate_chart([1, 9], [[(0.0, 0.0)], [(0.125, 0.25)]])
    assert "0.12 and 0.25" in gates.alt
    table = sincos_position_embedding_2d(8, 3, 4)
    assert show_dit.similarity_map(table, 3, 4, [(0, 0), (2, 3)]).alt
    looks = torch.full((6, 6), 1 / 6)
    assert "words look at patches: 67%" in show_dit.joint_table(looks, 4, ["a", "star"]).caption
    for picture in (show_contest.loss_chart(CELLS), show_contest.distance_chart(CELLS)):
        assert "UNet" in picture.alt and "DiT" in picture.alt and picture.png(40)


def test_tables_are_made_of_the_figures(tmp_path):
    table = show_contest.contest_table(CELLS).data
    assert "| DiT, large | 0.59 million | 1.0e+12 | 12,345 | 0.0500 |" in table
    table = show_contest.relation_table(CELLS).data
    assert table.count("50% (20% to 80%)") == 5 * 4 and "real scenes" in table
    (tmp_path / "x.json").write_text(json.dumps({"cells": CELLS}))
    assert show_contest.measured(tmp_path / "x.safetensors").keys() == CELLS.keys()


@pytest.mark.parametrize("table", [show_contest.contest_table, show_contest.relation_table])
def test_what_is_not_measured_is_said(table, tmp_path):
    cells = show_contest.measured(tmp_path / "nothing.safetensors")
    assert "Not measured yet" in table(cells).data
    assert show_contest.loss_chart(cells).alt and show_contest.distance_chart(cells).png(40)
