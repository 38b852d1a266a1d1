"""The bench compares equals: same weights, same numbers, and both take turns."""

import json
import sys

import pytest
import torch

from t2i import bench, bench_speed
from t2i.bench_pairs import PAIRS, TOLERANCE, Pair, build_pair, largest_difference
from t2i.bench_speed import Settings, alternating, judged, pair_flops, time_pair

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", list(PAIRS))
def test_both_networks_of_a_pair_give_the_same_numbers(name):
    pair = build_pair(name, batch_size=3)
    assert largest_difference(pair) <= TOLERANCE
    assert type(pair.theirs.model).__module__.startswith("diffusers.")
    x_t, *others = pair.inputs
    with torch.no_grad():
        expected = pair.ours(x_t, *others)
        assert expected.std() > 0.01, "zeros would agree whatever the networks do"
        for place, other in enumerate(others):  # time, label or words, mask: each must matter
            changed = [*others[:place], other.roll(1, 0), *others[place + 1 :]]
            assert (pair.theirs(x_t, *changed) - expected).abs().max() > TOLERANCE


def test_networks_that_differ_are_not_timed(monkeypatch):
    pair = build_pair("dit", batch_size=1)
    with torch.no_grad():
        pair.ours.blocks[1].mlp[0].weight[0] += 0.5
    with pytest.raises(ValueError, match="Nothing is timed"):
        largest_difference(pair)
    monkeypatch.setitem(bench.PAIRS, "dit", None)
    monkeypatch.setattr(bench, "build_pair", lambda *_: pair)
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "dit"])
    with pytest.raises(SystemExit, match="Nothing is timed"):
        bench.main()


def test_the_batch_is_as_large_as_asked_and_the_same_every_time():
    small, large = build_pair("text_unet", batch_size=3), build_pair("text_unet", batch_size=20)
    assert {len(each) for each in small.inputs} == {3}
    assert {len(each) for each in large.inputs} == {20}
    for ours, other in zip(small.inputs, large.inputs, strict=True):
        assert torch.equal(ours, other[:3])
    assert small.inputs[-1].any(dim=1).all(), "a picture without words is not what is trained on"


def test_operations_of_a_dit_are_those_of_its_matrices():
    """Closed form: 2 for each product of a matrix, forward; twice as many again on the way back."""
    pair = build_pair("dit", batch_size=5)
    dim, depth, patches, numbers = 192, 6, 64, 16  # 16 × 16 latents in patches of 2 × 2 × 4
    block = patches * (4 + 8) * dim**2 + 2 * patches**2 * dim + 6 * dim**2
    ends = 256 * dim + dim**2 + 2 * patches * numbers * dim + 2 * dim**2
    forward = 2 * 5 * (depth * block + ends)
    assert pair_flops(pair, "sampling") == forward
    without_inputs = 2 * 5 * (patches * numbers * dim + 256 * dim)  # nothing is learnt there
    assert pair_flops(pair, "training") == 3 * forward - without_inputs
    assert all(parameter.grad is None for parameter in pair.ours.parameters())


def test_the_two_take_turns_and_who_is_first_changes():
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    times = list(alternating(calls, CPU, runs=2, steps=3))
    assert "".join(order) == "ab" + "abbaab" + "baabba"
    assert [[len(values) for values in run.values()] for run in times] == [[3, 3], [3, 3]]


def test_medians_ratio_and_utilisation(monkeypatch):
    seconds = {"ours": [9.0, 1.0, 2.0], "diffusers": [4.0, 5.0, 3.0]}
    busy = {"ours": [1.0, 3.0, 2.0], "diffusers": [2.5, 1.0, 9.0]}
    found = judged(seconds, busy, flops=600, device=CPU)
    assert (found["ours_median"], found["diffusers_median"], found["ratio"]) == (2, 4, 0.5)
    assert found["processor_ratio"] == 0.8
    assert found["model_flops_per_second"] == 300 and found["model_flop_utilisation"] is None
    monkeypatch.setattr(bench_speed, "peak_flops", lambda _: 1000.0)
    on_gpu = judged(seconds, busy, flops=600, device=torch.device("cuda"))
    assert on_gpu["model_flop_utilisation"] == 0.3 and on_gpu["processor_ratio"] is None


@pytest.mark.parametrize("gpu", ["NVIDIA H100 80GB HBM3", "A card of tomorrow"])
def test_a_peak_is_known_or_left_open(monkeypatch, gpu):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: gpu)
    how = Settings.for_device(torch.device("cuda"))
    assert how.bfloat16 and how.compile and how.channels_last
    known = bench_speed.peak_flops(how.device)
    assert known == (989e12 if "H100" in gpu else None)
    assert ("unknown" in bench.describe(how)["note"]) == (known is None)


def test_a_gpus_settings_train_both_networks():
    """bfloat16 and channels last, here on the processor; the steps really change the weights."""
    pair = build_pair("text_unet", batch_size=1)
    pair = Pair(pair.title, pair.ours, pair.theirs, pair.inputs, convolutional=True)
    before = {name: model.conv_in.weight.clone() for name, model in convolutions(pair).items()}
    found = time_pair(pair, Settings(CPU, bfloat16=True, channels_last=True), runs=1, steps=1)
    assert not found["compiled"]
    for name, model in convolutions(pair).items():
        assert model.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
        assert (model.conv_in.weight - before[name]).abs().max() > 0


def convolutions(pair: Pair) -> dict[str, torch.nn.Module]:
    return {"ours": pair.ours, "diffusers": pair.theirs.model}


def test_what_cannot_be_compiled_runs_as_it_is(monkeypatch, capsys):
    def refuse(_):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda model: refuse)
    pair = build_pair("dit", batch_size=1)
    models, _, compiled = bench_speed.placed(pair, Settings(CPU, compile=True))
    assert not compiled and models == pair.models
    assert "does not work here" in capsys.readouterr().out


def test_the_command_writes_what_it_measured(tmp_path, monkeypatch, capsys):
    out = tmp_path / "bench.json"
    few = ["--runs", "2", "--steps", "1", "--batch-size", "1"]
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "dit", *few, "--json", str(out)])
    bench.main()
    found = json.loads(out.read_text(encoding="utf-8"))
    assert "threads" in found["machine"] and "float32" in found["note"]
    dit = found["pairs"]["dit"]
    assert dit["batch_size"] == 1 and dit["largest_difference"] <= TOLERANCE
    assert dit["parameters"]["ours"] < dit["parameters"]["diffusers"]  # theirs: one clock a block
    for kind in ("training", "sampling"):
        values = dit[kind]
        for kept in ("seconds", "processor_seconds"):
            assert [len(times) for times in values[kept].values()] == [2, 2]
        assert values["ratio"] == values["ours_median"] / values["diffusers_median"] > 0
        assert values["model_flops"] > 0 and values["model_flop_utilisation"] is None
    assert "DiTTransformer2DModel" in capsys.readouterr().out
