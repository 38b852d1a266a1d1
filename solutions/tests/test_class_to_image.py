"""Lesson 9's DiT draws what diffusers' DiTPipeline draws, from the folder that diffusers wrote."""

import json
import shutil

import diffusers
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torchvision.transforms.functional import pil_to_tensor

from t2i.files.folders import FilesError
from t2i.pretrained.class_to_image import ClassToImage
from t2i.pretrained.dit_files import (
    DIT_XL_2,
    dit_from_config,
    dit_state_dict,
    labels_state_dict,
    load_dit,
    share_embedding,
)
from t2i.pretrained.sd_random import TINY
from t2i.pretrained.sd_weights import key_table

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
SMALL = DIT_XL_2 | {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 3,
    "sample_size": 8,
}


class Vectors(torch.nn.Module):
    """The table under another name."""

    def __init__(self, num_classes, dim):
        super().__init__()
        self.vectors = torch.nn.Parameter(torch.randn(num_classes + 1, dim))

    def forward(self, label):
        return self.vectors[label]


class Columns(torch.nn.Module):
    """The table lying on its side."""

    def __init__(self, num_classes, dim):
        super().__init__()
        self.rows = num_classes + 1
        self.to_vector = torch.nn.Linear(self.rows, dim, bias=False)

    def forward(self, label):
        return self.to_vector(F.one_hot(label, self.rows).float())


class NullApart(torch.nn.Module):
    """The table in two pieces, the last row first."""

    def __init__(self, num_classes, dim):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.randn(dim))
        self.classes = torch.nn.Embedding(num_classes, dim)

    def forward(self, label):
        is_null = label == self.classes.num_embeddings
        vectors = self.classes(label.masked_fill(is_null, 0))
        return torch.where(is_null[:, None], self.nothing, vectors)


class Subclass(torch.nn.Embedding):
    """The table itself."""

    def __init__(self, num_classes, dim):
        super().__init__(num_classes + 1, dim)


class Scaled(Vectors):
    """Its vectors are not its weights."""

    def forward(self, label):
        return 8 * self.vectors[label]


def scattered(module: torch.nn.Module, seed: int = 3) -> torch.nn.Module:
    """Every weight random: a fresh DiT answers 0, and would hide all behind it."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 0.5 * parameter.data + 0.05 * noise
    return module.eval()


@pytest.fixture(scope="module")
def theirs():
    transformer = scattered(diffusers.DiTTransformer2DModel(**SMALL))
    transformer.load_state_dict(share_embedding(transformer.state_dict()))
    vae = scattered(diffusers.AutoencoderKL(**TINY["vae"]), seed=4)
    pipe = diffusers.DiTPipeline(transformer, vae, diffusers.DDIMScheduler(clip_sample=False))
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(params=["whole", "shards"])
def folder(request, theirs, tmp_path):
    size = {} if request.param == "whole" else {"max_shard_size": "100KB"}
    theirs.save_pretrained(tmp_path, **size)
    assert (len(list(tmp_path.rglob("*-of-*.safetensors"))) > 4) == (request.param == "shards")
    return tmp_path


def saved(pipe, path):
    pipe.save_pretrained(path)
    return path


@torch.no_grad()
def test_one_call_and_the_pictures_equal_diffusers(folder, theirs):
    ours = ClassToImage.from_pretrained(folder)
    z, t = torch.randn(3, 4, 8, 8), torch.tensor([0, 400, 999])
    label = torch.tensor([7, 1000, 0])
    expected = theirs.transformer(z, t, label).sample
    assert (expected - theirs.transformer(z, t, label.flip(0)).sample).abs().max() > 1e-2
    torch.testing.assert_close(ours.transformer(z, t, label), expected, **CLOSE)
    for guidance in (1.0, 4.0):
        generator = torch.Generator().manual_seed(5)
        pictures = theirs(
            [3, 999], guidance, generator=generator, num_inference_steps=4, output_type="pil"
        ).images
        drawn = ours([3, 999], num_inference_steps=4, guidance_scale=guidance, seed=5)
        for mine, other in zip(drawn, pictures, strict=True):
            levels = pil_to_tensor(mine).int() - pil_to_tensor(other).int()
            assert mine.size == (16, 16) and levels.abs().max() <= 1
        assert pil_to_tensor(drawn[0]).float().std() > 2


@pytest.mark.parametrize("labels", [Vectors, Columns, NullApart, Subclass])
@torch.no_grad()
def test_lesson_5s_table_may_be_called_anything_and_lie_anyhow(
    labels, theirs, tmp_path, monkeypatch
):
    for module in ("dit", "pretrained.dit_files"):
        monkeypatch.setattr(f"t2i.{module}.LabelEmbedding", labels)
    test_one_call_and_the_pictures_equal_diffusers(saved(theirs, tmp_path), theirs)
    state = theirs.transformer.state_dict()
    names = dict(load_dit(tmp_path / "transformer").labels.named_parameters())
    table = "transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight"
    ((_, told, _),) = key_table("transformer", {table: state[table]})
    assert told.split(", ") == [f"labels.{name}" for name in names]


def test_a_table_that_does_not_fit_is_named(theirs, tmp_path, monkeypatch):
    saved(theirs, tmp_path)
    monkeypatch.setattr("t2i.pretrained.dit_files.LabelEmbedding", Scaled)
    with pytest.raises(FilesError, match="LabelEmbedding's vectors are not just its weights"):
        load_dit(tmp_path / "transformer")
    with pytest.raises(ValueError, match="must be .classes, dim., got .5,."):
        labels_state_dict(torch.zeros(5))


def test_the_true_sizes_fit_tensor_by_tensor():
    with torch.device("meta"):
        ours = dit_from_config(DIT_XL_2)
        theirs = diffusers.DiTTransformer2DModel(**DIT_XL_2).state_dict()
    same = {name: torch.zeros(1).expand(tensor.shape) for name, tensor in theirs.items()}
    found = {name: tensor.shape for name, tensor in dit_state_dict(same).items()}
    assert found == {name: p.shape for name, p in ours.state_dict().items()}
    assert sum(p.numel() for p in ours.parameters()) == 674_834_720  # the paper: 675 million


def test_what_does_not_fit_is_named(theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    folder = tmp_path / "transformer"
    file = folder / "diffusion_pytorch_model.safetensors"
    whole = load_file(file)

    def refused(state, why):
        save_file(state, file)
        with pytest.raises(FilesError, match=why):
            load_dit(folder)

    refused({k: v for k, v in whole.items() if k != "proj_out_1.bias"}, "1 missing .final")
    refused(whole | {"more.weight": torch.ones(1)}, "1 unknown .'more'")
    own = "transformer_blocks.1.norm1.emb.class_embedder.embedding_table.weight"
    refused(whole | {own: whole[own] + 1}, "differs from the first block's")
    save_file(whole, file)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"norm_type": "layer_norm"}))
    with pytest.raises(FilesError, match="norm_type 'layer_norm'"):
        load_dit(folder)
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(whole, file.with_suffix(".bin"))
    file.unlink()
    with pytest.raises(FilesError, match="is a pickle"):
        ClassToImage.from_pretrained(tmp_path)
    shutil.rmtree(tmp_path / "vae")
    save_file(whole, file)
    with pytest.raises(FilesError, match="it lacks vae/.$"):
        ClassToImage.from_pretrained(tmp_path)


def test_a_class_that_there_is_not_is_refused(folder):
    ours = ClassToImage.from_pretrained(folder)
    for labels in ([], [ours.transformer.null], [-1], 3, [0.9, 1.2]):
        with pytest.raises(ValueError, match="labels must be numbers from 0 to"):
            ours(labels, 1)
