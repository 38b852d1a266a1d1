"""Folders of a model: what is written comes back, and whatever is wrong is named."""

import json

import diffusers
import pytest
import torch
from safetensors import safe_open
from torch import nn

from t2i.files.folders import FilesError, filled, read_folder, read_json, read_weights, write_folder

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3) / 7, "count": torch.tensor([3, 4])}


def test_what_is_written_comes_back(tmp_path):
    write_folder(tmp_path / "new", "model", {"width": 3, "kinds": ["x"]}, STATE)
    config, state = read_folder(tmp_path / "new", "model")
    assert config == {"width": 3, "kinds": ["x"]}
    assert all(torch.equal(state[name], STATE[name]) for name in STATE) and len(state) == 2
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    with safe_open(tmp_path / "new" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}  # transformers refuses files without


def test_a_dtype_is_for_floating_point_weights_and_shared_memory_is_no_matter(tmp_path):
    whole = torch.arange(6.0).reshape(2, 3)
    state = {"one": whole, "same": whole, "turned": whole.T, "count": torch.tensor(7)}
    write_folder(tmp_path, "model", {}, state, torch.float16)
    found = read_weights(tmp_path, "model")
    assert {name: tensor.dtype for name, tensor in found.items()} == {
        "one": torch.float16,
        "same": torch.float16,
        "turned": torch.float16,
        "count": torch.int64,
    }
    assert torch.equal(found["turned"], whole.T.half()) and whole.dtype == torch.float32


def test_shards_of_diffusers_are_read_and_a_missing_one_is_named(tmp_path):
    vae = diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, layers_per_block=1)
    vae.save_pretrained(tmp_path, max_shard_size="5KB")
    name = "diffusion_pytorch_model"
    shards = sorted(tmp_path.glob(f"{name}-*.safetensors"))
    assert len(shards) > 1
    found, expected = read_weights(tmp_path, name), vae.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)
    shards[0].unlink()
    with pytest.raises(FilesError, match=rf"lacks 1 of {len(shards)} shards: {shards[0].name}"):
        read_weights(tmp_path, name)


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(FilesError, match="config.json is missing"):
        read_folder(tmp_path, "model")
    for content, why in (("{", "damaged"), ("", "damaged"), ("[1]", "holds a list")):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(FilesError, match=f"config.json.*{why}"):
            read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FilesError, match=r"model.safetensors is missing\.$"):
        read_folder(tmp_path, "model")
    write_folder(tmp_path, "model", {}, STATE)
    file = tmp_path / "model.safetensors"
    for content in (file.read_bytes()[:-1], b"", b"no weights at all"):
        file.write_bytes(content)
        with pytest.raises(FilesError, match="model.safetensors is damaged"):
            read_weights(tmp_path, "model")


@pytest.mark.parametrize("pickle", ["model.bin", "model.ckpt"])
def test_a_pickle_is_not_opened(tmp_path, pickle):
    torch.save(STATE, tmp_path / pickle)
    with pytest.raises(FilesError, match=f"model.safetensors is missing; {pickle} is a pickle"):
        read_weights(tmp_path, "model")


def test_a_model_takes_all_weights_and_no_others():
    with torch.device("meta"):
        empty = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    right = {name: torch.rand(p.shape).half() for name, p in empty.state_dict().items()}
    wrong = dict(right, more=torch.zeros(1))
    wrong["0.bias"] = torch.zeros(5)
    del wrong["1.weight"]
    with pytest.raises(FilesError) as caught:
        filled(empty, wrong, "my_folder")
    assert str(caught.value) == (
        "The weights in my_folder do not fit: 1 missing (1.weight); 1 unknown (more); "
        "1 of another shape (0.bias)."
    )
    model = filled(empty, right, "my_folder")
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    for name, p in model.state_dict().items():
        assert p.dtype == torch.float32 and torch.equal(p, right[name].float())


def test_an_index_of_shards_may_be_damaged(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    with pytest.raises(FilesError, match="lacks 1 of 1 shards: model-1.safetensors"):
        read_weights(tmp_path, "model")
    index.write_text("{")
    with pytest.raises(FilesError, match="index.json is damaged"):
        read_weights(tmp_path, "model")
