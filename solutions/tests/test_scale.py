"""The sums of lesson 10 against numbers worked by hand, files, and torch's own counter."""

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from t2i.drawing.show_scale import hours_chart
from t2i.files.shard_files import CONTEXT, LATENT, POOLED, write_shard
from t2i.speed.flops import count_flops
from t2i.speed.scale import (
    gpu_hours,
    joint_flops,
    latent_bytes,
    measured_peak,
    prompt_bytes,
    tar_bytes,
    text_flops,
    training_flops,
    utilisation,
)
from t2i.text_to_image import TextDiT


def test_storage_worked_by_hand():
    assert latent_bytes(512) == 32_768  # 4 · 64 · 64 = 16,384 numbers of two bytes
    assert latent_bytes(32, compression=4, channels=4) == 512
    assert prompt_bytes(77, 768) == 119_808  # 78 · 768 = 59,904 numbers


def test_a_shard_is_as_long_as_reckoned(tmp_path):
    caption = "a red seven " * 60
    sample = {
        LATENT: np.zeros((4, 8, 8), np.float16),
        CONTEXT: np.zeros((9, 64), np.float16),
        POOLED: np.zeros(64, np.float16),
        "txt": caption,
    }
    write_shard(tmp_path, 0, [sample] * 7)
    each = tar_bytes(512, 9 * 64 * 2, 64 * 2, caption=len(caption))
    length = (tmp_path / "000000.tar").stat().st_size
    assert 7 * each + 1024 <= length < 7 * each + 1024 + 10_240  # two empty blocks, then padding
    assert length == -(-(7 * each + 1024) // 10_240) * 10_240  # tar files are whole records


def test_operations_worked_by_hand():
    assert joint_flops(dim=2, depth=3, patches=4, words=1) == 3 * (24 * 4 * 5 + 4 * 2 * 25)
    assert text_flops(2, 3, 5) == joint_flops(2, 3, 4, 1)
    assert training_flops(7) == 21
    assert utilisation(flops=2e9, pictures_per_second=50, peak=4e11) == pytest.approx(0.25)
    assert gpu_hours(pictures=3600, flops=1e12, flops_per_second=2e12) == pytest.approx(0.5)


@pytest.mark.parametrize("dim, depth, side, words", [(128, 6, 8, 24), (1536, 24, 32, 77)])
def test_the_formula_is_near_what_torch_counts(dim, depth, side, words):
    """Lesson 10's CPU recipe, and a network of Stable Diffusion 3's size, which is not computed."""
    with torch.device("meta"):
        size = {"in_channels": 4, "sample_size": 2 * side, "patch_size": 2}
        model = TextDiT(64, dim=dim, depth=depth, num_heads=dim // 64, **size)
        told = torch.empty(1, words, 64), torch.empty(1, words, dtype=torch.bool)
        x_t, t, pooled = torch.empty(1, 4, 2 * side, 2 * side), torch.empty(1), torch.empty(1, 64)
        found = count_flops(lambda: model.network(x_t, t, *told, model.to_cond(pooled)))
    expected = joint_flops(dim, depth, side * side, words)
    assert found == pytest.approx(expected, rel=0.06)


def test_the_peak_is_one_that_this_machine_reaches():
    found = measured_peak(size=128, seconds=0.05)
    assert 1e7 < found < 1e14  # a processor of this century


def test_the_chart_tells_every_bar():
    hours = {"encode": 3.0, "read": 0.5, "train": 2e5}
    picture = hours_chart({"one GPU": hours, "this machine": {"encode": 40.0, "train": 3e6}})
    assert "encode 3 hours" in picture.alt and "train 22.8 years" in picture.alt
    assert "this machine" in picture.alt
    plt.close("all")
