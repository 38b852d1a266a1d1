"""Shards: what webdataset reads of them, what is done about damage, and one order for all teams."""

import io
import json
import shutil
import tarfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset as wds

from t2i.clip import TextTransformer
from t2i.engine.batches import random_stream
from t2i.engine.distributed import ALONE, Team
from t2i.engine.train_config import TrainConfig
from t2i.files.checkpoint import CheckpointError
from t2i.files.folders import FilesError
from t2i.files.shard_files import (
    CONTEXT,
    LATENT,
    POOLED,
    main,
    read_shard,
    write_index,
    write_shard,
)
from t2i.files.shards import ShardBatches
from t2i.latents import LatentSpace
from t2i.runs import shard_training
from t2i.runs.flow_training import prompt_flow_loss
from t2i.runs.shard_training import shard_loss, shard_ranges, write_encoded_shards
from t2i.runs.text_to_image_recipes import RECIPES, text_flow_loss
from t2i.text_to_image import Prompt, TextDiT, encode_prompt
from t2i.training import train
from t2i.world.scenes import scenes

LENGTH = 5


def samples(numbers):
    """Samples whose every value is their number, with captions of 2 to 4 tokens."""
    for number in numbers:
        words = 2 + number % 3
        yield {
            LATENT: np.full((2, 3, 3), number, np.float16),
            CONTEXT: np.full((words, 4), number, np.float16),
            POOLED: np.full(4, number, np.float16),
            "txt": f"number {number}",
        }


@pytest.fixture
def folder(tmp_path) -> Path:
    """Nine shards of six samples, numbered 0 to 53."""
    for shard in range(9):
        write_shard(tmp_path, shard, samples(range(6 * shard, 6 * shard + 6)))
    write_index(tmp_path, LENGTH, kind="test")
    return tmp_path


def numbers(batch) -> list[int]:
    """Which samples a batch holds; all four parts of a row have to be one sample's."""
    z_0, context, mask, pooled = batch
    found = pooled[:, 0].long().tolist()
    for row, number in enumerate(found):
        assert (z_0[row] == number).all() and (pooled[row] == number).all()
        assert mask[row].tolist() == [i < 2 + number % 3 for i in range(LENGTH)]
        assert (context[row][mask[row]] == number).all() and not context[row][~mask[row]].any()
    return found


def test_webdataset_itself_reads_them(folder):
    found = list(wds.WebDataset(str(folder / "000001.tar"), shardshuffle=False).decode())
    assert [each["txt"] for each in found] == [f"number {n}" for n in range(6, 12)]
    for number, each in zip(range(6, 12), found, strict=True):
        assert each[LATENT].dtype == np.float16 and (each[LATENT] == number).all()
        assert each[CONTEXT].shape == (2 + number % 3, 4)  # what fills a row up is not stored
    index = json.loads((folder / "index.json").read_text())
    assert index["shardlist"][8] == {"url": "000008.tar", "nsamples": 6}


def test_the_same_samples_make_the_same_bytes(folder, tmp_path):
    write_shard(tmp_path / "again", 3, samples(range(18, 24)))
    assert (tmp_path / "again" / "000003.tar").read_bytes() == (folder / "000003.tar").read_bytes()


def test_an_epoch_shows_no_sample_twice_and_the_next_another_order(folder):
    batches = ShardBatches(folder, 6, lanes=3)
    epochs = [sum((numbers(next(batches)) for _ in range(9)), []) for _ in range(2)]
    assert all(sorted(epoch) == list(range(54)) for epoch in epochs)
    assert epochs[0] != epochs[1] and epochs[0] != sorted(epochs[0])
    first = epochs[0][:6]
    assert len({number // 6 for number in first}) == 3  # from three shards, two of each
    other = sum((numbers(next(each)) for each in [ShardBatches(folder, 6, seed=1, lanes=3)]), [])
    assert other != first


def test_what_is_left_over_changes_from_epoch_to_epoch(folder):
    batches = ShardBatches(folder, 4, lanes=4)  # 9 shards, 2 for each lane: one is left over
    epochs = [sum((numbers(next(batches)) for _ in range(12)), []) for _ in range(12)]
    absent = {min(set(range(54)) - set(epoch)) // 6 for epoch in epochs}
    assert all(len(set(epoch)) == 48 for epoch in epochs) and len(absent) > 3


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_team_reads_the_batches_of_one_process(folder, size, workers):
    if size * max(1, workers) > 4:
        workers = 1
    one = ShardBatches(folder, 8, lanes=4)
    team = [ShardBatches(folder, 8, Team(r, size), lanes=4, workers=workers) for r in range(size)]
    for _ in range(7):  # over the end of an epoch
        parts = [next(each) for each in team]
        expected = next(one)
        for found, right in zip(zip(*parts, strict=True), expected, strict=True):
            assert torch.equal(torch.cat(found), right)


@pytest.mark.parametrize("stop", [1, 5, 13])
def test_they_go_on_where_they_stood_with_another_team_too(folder, stop):
    batches = ShardBatches(folder, 8, lanes=4)
    for _ in range(stop):
        next(batches)
    state = json.loads(json.dumps(batches.state()))
    expected = [next(batches) for _ in range(4)]
    for team in (ALONE, Team(1, 2)):
        again = ShardBatches(folder, 8, team, lanes=4)
        next(again)
        again.restore(state)
        for right in expected:
            assert numbers(next(again)) == numbers(team.rows(*right))
    with pytest.raises(ValueError, match="batch_size 8, this run's has 4"):
        ShardBatches(folder, 4, lanes=4).restore(state)


# --- damage


def members(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return {member.name: member for member in tar.getmembers()}


def overwrite(path: Path, at: int, content: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(content)


def test_a_cut_off_shard_gives_what_is_whole_and_names_the_rest(folder):
    path = folder / "000002.tar"
    cut = members(path)["000002-000004.context.npy"].offset_data + 10
    path.write_bytes(path.read_bytes()[:cut])
    found, problems = read_shard(path, LENGTH, 6)
    assert found[POOLED][:, 0].tolist() == [12, 13, 14, 15]
    assert any("2 of 6 samples" in line for line in problems)
    with pytest.raises(FilesError, match="000002.tar is damaged.*Write it again"):
        write_index(folder, LENGTH)


def test_a_shard_cut_between_two_samples_is_noticed_too(folder):
    path = folder / "000002.tar"
    cut = members(path)["000002-000003.context.npy"].offset
    path.write_bytes(path.read_bytes()[:cut])
    found, problems = read_shard(path, LENGTH, 6)
    assert len(found[LATENT]) == 3 and problems == ["3 of 6 samples are not there or not whole"]


@pytest.mark.parametrize("name", [LATENT, CONTEXT, POOLED])
def test_a_damaged_member_costs_its_sample_alone(folder, name):
    path = folder / "000004.tar"
    overwrite(path, members(path)[f"000004-000001.{name}"].offset_data, b"no numpy file at all")
    found, problems = read_shard(path, LENGTH, 6)
    assert found[POOLED][:, 0].tolist() == [24, 26, 27, 28, 29]
    assert any("000004-000001" in line and name in line for line in problems)


def test_odd_samples_are_named(tmp_path):
    def made(**changes):
        return {**next(samples([1])), **changes}

    pickled = io.BytesIO()
    np.save(pickled, np.array([{"any": "program"}], dtype=object), allow_pickle=True)
    wrong = {
        "is missing": {key: value for key, value in made().items() if key != POOLED},
        "infinite values": made(**{LATENT: np.full((2, 3, 3), np.inf, np.float16)}),
        "must be \\(1 to 5, D\\)": made(**{CONTEXT: np.zeros((9, 4), np.float16)}),
        "must be \\(1 to 5, D\\), got .*\\[\\]": made(**{CONTEXT: np.zeros((), np.float16)}),
        "unlike the others": made(**{POOLED: np.zeros(3, np.float16)}),
        "damaged \\(Object arrays": made(**{POOLED: pickled.getvalue()}),
    }
    write_shard(tmp_path, 0, [made(), *wrong.values()])
    found, problems = read_shard(tmp_path / "000000.tar", LENGTH, 6)
    assert len(found[LATENT]) == 1
    for line, (text, row) in zip(problems, zip(wrong, range(1, 7), strict=True), strict=False):
        with pytest.raises(ValueError, match=f"000000-00000{row}: .*{text}"):
            raise ValueError(line)


def test_a_training_warns_and_the_other_samples_stand_in(folder, capsys):
    path = folder / "000004.tar"
    overwrite(path, members(path)[f"000004-000001.{LATENT}"].offset_data, b"no numpy file at all")
    batches = ShardBatches(folder, 6, lanes=3)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        seen = sum((numbers(next(batches)) for _ in range(9)), [])
    assert set(seen) == set(range(54)) - {25} and len(seen) == 54
    assert len(heard) == 1 and "000004.tar is damaged" in str(heard[0].message)
    with pytest.raises(SystemExit) as ended, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["shard_files", "check", str(folder)])
        main()
    assert ended.value.code == 1 and "1 of 9 shards are damaged." in capsys.readouterr().out


def test_what_cannot_be_read_at_all_is_one_sentence(folder):
    for content in (b"", b"hello\n" * 999):
        (folder / "000000.tar").write_bytes(content)
        with pytest.raises(FilesError, match="000000.tar holds no whole sample"):
            read_shard(folder / "000000.tar", LENGTH)
    with pytest.raises(FilesError, match="cannot be read"):
        read_shard(folder / "nothing.tar", LENGTH)
    with pytest.raises(FilesError, match="index.json is missing"):
        ShardBatches(folder / "nowhere", 8)
    with pytest.raises(ValueError, match="9 shards, too few for 10 lanes"):
        ShardBatches(folder, 10, lanes=10)
    with pytest.raises(ValueError, match="multiple of the 3 reading processes"):
        ShardBatches(folder, 8, Team(0, 3), lanes=4)


# --- lesson 10's scenes


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A small recipe's scenes as shards, written by two processes, one after the other."""
    plan = replace(RECIPES["smoke"], scenes=40)
    torch.manual_seed(0)
    space, text = LatentSpace(plan.vae.build(), 0.5), plan.clip.build().text.eval()
    folder = tmp_path_factory.mktemp("shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Team, "wait", lambda team: None)  # the other one is not running yet
        for rank in (1, 0):
            write_encoded_shards(plan, space, text, folder, Team(rank, 2), lanes=4, vae="abc")
    return plan, space, text, folder


def test_half_written_shards_of_another_autoencoder_are_refused(written, tmp_path, monkeypatch):
    plan, space, text, _ = written
    real, begun = shard_training.write_shard, []

    def stopped(folder, number, samples):
        begun.append(number)
        if len(begun) == 2:
            raise KeyboardInterrupt
        real(folder, number, samples)

    monkeypatch.setattr(shard_training, "write_shard", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_encoded_shards(plan, space, text, tmp_path, lanes=4, vae="old")
    for other in ({"lanes": 4, "vae": "new"}, {"lanes": 5, "vae": "old"}):
        with pytest.raises(CheckpointError, match="was made with (vae old|shards 4), .*delete it"):
            write_encoded_shards(plan, space, text, tmp_path, **other)
    write_encoded_shards(plan, space, text, tmp_path, lanes=4, vae="old")
    assert begun == [0, 1, 1, 2, 3]
    (tmp_path / "made_of.json").unlink()  # shards of nobody knows what
    with pytest.raises(CheckpointError, match="was made with shards None"):
        write_encoded_shards(plan, space, text, tmp_path, lanes=4, vae="old")


def test_scenes_in_shards_are_the_scenes(written):
    plan, space, text, folder = written
    images, captions = scenes(range(40), "train", plan.world, size=plan.vae.size)
    with torch.no_grad():
        posterior = space.vae.encode(images)
        expected = encode_prompt(plan.clip.tokenizer, text, captions)
    row = 0
    for number, rows in enumerate(shard_ranges(40, 4)):
        path = folder / f"{number:06d}.tar"
        found, problems = read_shard(path, plan.clip.length, len(rows))
        told = [each["txt"].decode() for each in wds.WebDataset(str(path), shardshuffle=False)]
        part = slice(row, row + len(rows))
        row += len(rows)
        assert not problems and told == captions[part]
        drawn = (found[LATENT] / 0.5 - posterior.mean[part]) / posterior.std[part]
        assert drawn.mean().abs() < 0.1 and (drawn.std() - 1).abs() < 0.1  # one draw of each
        mask = expected.mask[part]
        assert torch.equal(found["mask"], mask)
        told = expected.context[part] * mask[..., None]
        torch.testing.assert_close(found[CONTEXT], told, rtol=1e-3, atol=2e-3)  # float16
        torch.testing.assert_close(found[POOLED], expected.pooled[part], rtol=1e-3, atol=2e-3)


def test_stored_vectors_give_the_loss_of_reading(written):
    plan, _, text, folder = written
    model, z_0 = grown(plan.build()), torch.randn(16, 4, 8, 8)
    captions = scenes(range(16), "train", plan.world, size=plan.vae.size)[1]
    tokens = plan.clip.tokenizer(captions, plan.clip.length)
    nothing = plan.clip.tokenizer([""], plan.clip.length)[0]
    with torch.no_grad():
        prompt = encode_prompt(plan.clip.tokenizer, text, captions)
        silence = encode_prompt(plan.clip.tokenizer, text, [""])
        losses = []
        for loss in (
            lambda: text_flow_loss(model, text, z_0, tokens, nothing),
            lambda: prompt_flow_loss(model, z_0, prompt, silence),
            lambda: shard_loss(plan, text)(model, (z_0, *prompt)),
        ):
            with random_stream(0, 0, z_0.device):
                losses.append(loss().item())
    assert losses[1] == pytest.approx(losses[0], abs=1e-6) == losses[2]
    other = Prompt(*(each.roll(1, 0) for each in prompt))
    with torch.no_grad(), random_stream(0, 0, z_0.device):
        assert prompt_flow_loss(model, z_0, other, silence).item() != pytest.approx(losses[0])


def grown(model: TextDiT) -> TextDiT:
    """A model as if it had learnt: nothing in it is zero."""
    for p in model.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.1)
    return model


def test_training_from_shards_resumes_at_the_same_bits(written, tmp_path):
    plan, _, text, folder = written
    config = TrainConfig(steps=7, save_every=3)

    def run(path: Path | None = None):
        batches = ShardBatches(folder, plan.batch_size, lanes=4)
        return train(plan.build(), shard_loss(plan, text), batches, config, path, progress=False)

    *_, whole = run()
    for state in run(tmp_path / "run.safetensors"):
        if state.step == 4:
            break
    *_, resumed = run(tmp_path / "run.safetensors")
    assert resumed.losses == whole.losses
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_the_text_encoder_is_asked_once_and_not_in_each_step(written, monkeypatch):
    plan, _, text, folder = written
    loss, calls = shard_loss(plan, text), []
    monkeypatch.setattr(TextTransformer, "forward", lambda *given: calls.append(given))
    loss(plan.build(), next(ShardBatches(folder, 16, lanes=4)))
    assert calls == []


def test_an_index_with_an_empty_shard_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    index = json.loads((folder / "index.json").read_text())
    index["shardlist"][3]["nsamples"] = 0
    (tmp_path / "copy" / "index.json").write_text(json.dumps(index))
    with pytest.raises(FilesError, match="names a shard without a sample"):
        ShardBatches(tmp_path / "copy", 6, lanes=3)
