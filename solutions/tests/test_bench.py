"""The bench compares equals: same weights, same numbers, and both take turns."""

import dataclasses
import json
import signal
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from t2i.engine.bounded import at_most
from t2i.files.places import DATA
from t2i.pretrained.dit_files import dit_from_config
from t2i.pretrained.sd_sizes import text_from_config, unet_from_config
from t2i.pretrained.vae_files import autoencoder_from_config
from t2i.speed import bench, bench_rows
from t2i.speed.bench_clock import Spent, matmul_rate, peak_bytes, timed
from t2i.speed.bench_pairs import PAIRS, TOLERANCE, build_pair, largest_difference
from t2i.speed.bench_rows import FIRST, Job, Row, plan
from t2i.speed.bench_sizes import NETWORKS, SIZES
from t2i.speed.bench_speed import (
    Settings,
    alternating,
    burst_of,
    compile_repeated,
    judged,
    pair_flops,
    placed,
    time_pair,
)
from t2i.speed.bench_table import table_lines

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", list(PAIRS))
def test_both_networks_of_a_pair_give_the_same_numbers(name):
    pair = build_pair(name, batch_size=3)
    assert largest_difference(pair) <= TOLERANCE
    origin = "transformers." if name == "clip" else "diffusers."
    assert type(pair.theirs.model).__module__.startswith(origin)
    x_t, *others = pair.inputs
    with torch.no_grad():
        expected = pair.ours(x_t, *others)
        assert (pair.theirs(x_t.roll(1, 0), *others) - expected).abs().max() > TOLERANCE
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
    monkeypatch.setattr(bench_rows, "build_pair", lambda *_: pair)
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "dit"])
    with pytest.raises(SystemExit, match="dit tiny eager: .* Nothing is timed"):
        bench.main()


def test_real_sizes_may_differ_by_a_share_of_what_comes_out():
    pair = build_pair("dit", batch_size=1)
    with torch.no_grad():
        pair.theirs.model.proj_out_2.weight *= 1000
        pair.ours.final.patch_out.weight *= 1000 * (1 + 1e-5)
    with pytest.raises(ValueError, match="apart"):
        largest_difference(pair)
    assert largest_difference(dataclasses.replace(pair, relative=True)) > TOLERANCE


def test_real_sizes_are_the_released_ones():
    """Numbers of weights as they are published, without memory for them."""
    with torch.device("meta"):
        made = {
            "text_unet": unet_from_config(NETWORKS["text_unet"]["real"].config),
            "vae": autoencoder_from_config(NETWORKS["vae"]["real"].config),
            "clip": text_from_config(NETWORKS["clip"]["real"].config),
            "dit": dit_from_config(NETWORKS["dit"]["real"].config),
        }
    found = {name: bench_rows.count_parameters(model) for name, model in made.items()}
    assert found.pop("dit") == pytest.approx(130e6, rel=0.01)  # Peebles and Xie 2022, table 1
    assert found == {"text_unet": 859_520_964, "vae": 83_653_863, "clip": 123_060_480}


def test_every_step_sees_other_inputs_and_no_zeros():
    for name in PAIRS:
        pair = build_pair(name, batch_size=3)
        first, second = pair.draw(3), pair.draw(3)
        for one, other, kept in zip(first, second, pair.inputs, strict=True):
            assert one.shape == other.shape == kept.shape and one.dtype == kept.dtype
        assert not torch.equal(first[0], second[0]) and first[0].any()


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


@pytest.mark.parametrize(
    "burst, expected", [(1, "abbaab" + "baabba"), (2, "aabbbbaaaabb" + "bbaaaabbbbaa")]
)
def test_the_two_take_turns_and_who_is_first_changes(burst, expected):
    order: list[str] = []
    calls = {name: lambda batch, name=name: order.append((name, batch)) for name in "ab"}
    numbers = iter(range(99))
    turns = list(alternating(calls, lambda: next(numbers), CPU, runs=2, steps=3, burst=burst))
    assert "".join(name for name, _ in order) == expected
    seen = [[batch for who, batch in order if who == name] for name in "ab"]
    assert sorted(seen[0]) == sorted(seen[1]) == list(range(6 * burst)), "new inputs, for both"
    assert [[len(steps) for steps in run.values()] for run in turns] == [[3 * burst] * 2] * 2


def test_medians_ratio_and_utilisation():
    walls, owns = [[9.0, 1.0, 2.0], [4.0, 5.0, 3.0]], [[1.0, 3.0, 2.0], [2.5, 1.0, 9.0]]
    turns = [
        {"ours": [Spent(walls[0][i], owns[0][i])], "diffusers": [Spent(walls[1][i], owns[1][i])]}
        for i in range(3)
    ]
    found = judged(turns, flops=600, rows=8, peak=None)
    assert (found["ours_median"], found["diffusers_median"], found["ratio"]) == (2, 4, 0.5)
    assert found["processor_ratio"] == 0.8
    assert found["images_per_second"] == {"ours": 4, "diffusers": 2}
    assert found["model_flops_per_second"] == 300 and found["model_flop_utilisation"] is None
    on_gpu = [{who: [Spent(step.wall)] for who, (step,) in run.items()} for run in turns]
    found = judged(on_gpu, flops=600, rows=8, peak=1000.0)
    assert found["model_flop_utilisation"] == 0.3 and found["processor_ratio"] is None


def test_short_steps_are_taken_many_in_a_row_on_a_gpu_alone():
    gpu, cpu = (Settings.for_device(torch.device(name)) for name in ("cuda", "cpu"))
    assert gpu.bfloat16 and gpu.channels_last and not (gpu.compile or cpu.bfloat16)
    assert [burst_of([[Spent(s)], [Spent(0.001)]], gpu) for s in (0.5, 0.03, 1e-4)] == [1, 4, 20]
    assert burst_of([[Spent(1e-4)]], cpu) == 1


def test_a_gpus_clock_is_its_events(monkeypatch):
    """The GPU's own time, in milliseconds; it is waited for before the first and after the last."""
    log = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.when = len(log)
            log.append("mark")

        def elapsed_time(self, after):
            return 1000.0 * (after.when - self.when)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: log.append("wait"))
    spent = timed(lambda batch: log.append(batch), "xy", SimpleNamespace(type="cuda"))
    assert log == ["wait", "mark", "x", "mark", "mark", "y", "mark", "wait"]
    assert spent == [Spent(2.0), Spent(2.0)]


def test_peak_memory_leaves_the_other_network_out(monkeypatch):
    """100 bytes lie there, 40 of them the network's own; in the step it is 170 at most."""
    assert peak_bytes(lambda _: None, None, [], CPU) is None
    for name, value in (("memory_allocated", 100), ("max_memory_allocated", 170)):
        monkeypatch.setattr(torch.cuda, name, lambda _, value=value: value)
    for name in ("reset_peak_memory_stats", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda _: None)
    gpu = SimpleNamespace(type="cuda")
    own = SimpleNamespace(nbytes=40, device=gpu)
    elsewhere = SimpleNamespace(nbytes=999, device=CPU)
    assert peak_bytes(lambda _: None, None, [own, elsewhere], gpu) == 40 + 70


def test_on_a_gpu_there_is_more_to_measure(monkeypatch):
    assert bench.options_of([]).sizes == ["tiny"] and "capstone" not in bench.options_of([]).only
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A card of tomorrow")
    options = bench.options_of([])
    assert (options.sizes, options.modes) == (["small", "real"], ["eager", "compiled"])
    assert "capstone" in options.only and options.steps == 1
    told = bench.describe(torch.device("cuda"), 789e12)
    assert "tomorrow" in told["machine"] and "of 789 TFLOP/s" in told["note"]


def test_a_matmul_rate_is_measured():
    assert 1e6 < matmul_rate(CPU, side=64, repeats=3) < 1e15


def test_a_gpus_settings_train_both_networks():
    """bfloat16 and channels last, here on the processor; the steps really change the weights."""
    pair = build_pair("text_unet", batch_size=1)
    networks = {"ours": pair.ours, "diffusers": pair.theirs.model}
    before = {name: model.conv_in.weight.clone() for name, model in networks.items()}
    how = Settings(CPU, bfloat16=True, channels_last=True, bursts=True)
    found = time_pair(pair, how, runs=1, steps=1, peak_flops=1e12)
    assert not found["compiled"] and found["training"]["model_flop_utilisation"] > 0
    for name, model in networks.items():
        assert model.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
        assert model.conv_in.weight.dtype == torch.float32
        assert (model.conv_in.weight - before[name]).abs().max() > 1e-5


@pytest.mark.parametrize("name", list(PAIRS))
def test_the_repeated_blocks_of_both_are_compiled(name, monkeypatch):
    compiled = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **how: compiled.append((self, how))
    )
    pair = build_pair(name, batch_size=1)
    placed(pair, Settings(CPU, compile=True))
    ours, theirs = (
        [m for m, how in compiled if m in set(model.modules()) and how == {"dynamic": False}]
        for model in pair.models.values()
    )
    assert len(ours) == len(theirs) > 1 and len(ours) + len(theirs) == len(compiled)
    if hasattr(type(pair.theirs.model), "compile_repeated_blocks") and name == "text_unet":
        assert {type(m).__name__ for m in theirs} == set(pair.theirs.model._repeated_blocks)
    with pytest.raises(ValueError, match="Linear repeats none"):
        compile_repeated(torch.nn.Linear(1, 1))


def test_the_most_telling_rows_come_first_and_what_there_is_not_is_left_out():
    rows = plan(bench_rows.NAMES, ["small", "real"], bench_rows.MODES, gpu=True)
    assert tuple(rows[: len(FIRST)]) == FIRST and len(set(rows)) == len(rows)
    assert not [row for row in rows if row.name == "unet" and row.size == "real"]
    assert rows[-1] == Row("recipe", "gpu")
    assert plan(["vae", "dit"], ["tiny"], ["eager"]) == [
        Row("dit", "tiny", "eager"),
        Row("vae", "tiny", "eager"),
    ]
    assert {row.size for row in FIRST if row.size} <= set(SIZES)


def test_one_row_that_fails_does_not_keep_the_others_from_being_measured(monkeypatch):
    def measure(row, _):
        if row.name == "unet":
            raise torch.OutOfMemoryError("too large")
        if row.name == "dit":
            try:
                time.sleep(30)
            except TimeoutError as error:
                raise RuntimeError("the compiler gave up") from error
        return {"title": row.name}

    monkeypatch.setattr(bench, "measure", measure)
    monkeypatch.setattr(bench, "tidy", lambda _: None)  # it takes seconds on a busy machine
    result: dict = {"rows": {}, "errors": {}, "skipped": []}
    rows = [Row(name) for name in ("unet", "vae", "dit", "clip")]
    found = list(bench.measured(rows, Job(CPU), 2.0, result))
    assert found == [{}, {"title": "vae"}, {}, {}]
    assert list(result["rows"]) == ["vae"] and "too large" in result["errors"]["unet"]
    late, never = result["skipped"]
    assert late.startswith("dit (not done in the") and never == "clip"


def test_what_takes_too_long_is_ended():
    with pytest.raises(TimeoutError, match="took longer"), at_most(0.05):
        time.sleep(5)
    with at_most(60):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.parametrize("mode", bench_rows.MODES)
def test_a_whole_call_is_timed(mode, monkeypatch):
    compiled = []
    monkeypatch.setattr(bench_rows, "compile_blocks", compiled.append)
    found = bench_rows.measure(Row("capstone", mode=mode), Job(CPU, runs=2, batch_size=2))
    assert found["batch_size"] == 2 and len(found["seconds"]) == 2
    assert found["images_per_second"] > 0 and found["peak_memory_bytes"] is None
    assert found["compiled"] == (mode == "compiled")
    assert [type(model).__name__ for model in compiled] == ["TextDiT"] * found["compiled"]


def test_the_command_writes_what_it_measured(tmp_path, monkeypatch, capsys):
    out = tmp_path / "bench.json"
    few = ["--runs", "2", "--steps", "1", "--batch-size", "1", "--budget", "100"]
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "dit", *few, "--json", str(out)])
    bench.main()
    found = json.loads(out.read_text(encoding="utf-8"))
    assert "threads" in found["machine"] and "float32" in found["note"]
    assert list(found["rows"]) == ["dit tiny eager"] and not (found["errors"] or found["skipped"])
    dit = found["rows"]["dit tiny eager"]
    assert dit["batch_size"] == 1 and dit["largest_difference"] <= TOLERANCE
    assert dit["parameters"]["ours"] < dit["parameters"]["diffusers"]  # theirs: one clock a block
    for kind in ("training", "sampling"):
        values = dit[kind]
        for kept in ("seconds", "processor_seconds"):
            assert [len(times) for times in values[kept].values()] == [2, 2]
        assert values["ratio"] == values["ours_median"] / values["diffusers_median"] > 0
        assert values["model_flops"] > 0 and values["model_flop_utilisation"] is None
    assert "DiTTransformer2DModel" in capsys.readouterr().out


def test_the_table_in_the_data_folder_is_that_of_the_figures_beside_it():
    found = json.loads((DATA / "bench_gpu.json").read_text(encoding="utf-8"))
    lines = table_lines(found)
    assert "\n".join(lines) in (DATA / "benchmarks.md").read_text(encoding="utf-8")
    pairs = [row for row in found["rows"].values() if "training" in row]
    assert len(lines) == 2 + 2 * len(pairs) > 2


def test_a_line_of_the_table_tells_both_times_the_ratio_and_the_speeds():
    step = {
        "seconds": {"ours": [0.1, 0.3, 0.2], "diffusers": [0.05, 0.04, 0.06]},
        "ratio": 4.0,
        "images_per_second": {"ours": 40.0, "diffusers": 1280.0},
        "peak_memory_bytes": {"ours": None, "diffusers": None},
        "model_flop_utilisation": None,
    }
    row = {"title": "Net 8 against Theirs, eager", "batch_size": 8}
    line = table_lines({"rows": {"net": row | {"training": step, "sampling": step}}})[2]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:2] == ["Net 8, eager, 8", "training"]
    assert cells[2:4] == ["200 ms (100 to 300)", "50.0 ms (40.0 to 60.0)"]
    assert cells[4:6] == ["4.00", "40 : 1,280"] and cells[6:] == ["", ""]
