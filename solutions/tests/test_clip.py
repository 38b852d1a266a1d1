"""CLIP's encoders and losses against transformers', with the same weights; files both ways."""

import json
import math
import shutil
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)
from transformers.activations import ACT2FN
from transformers.models.clip import modeling_clip

from t2i.bpe import Tokenizer, save_tokenizer
from t2i.clip import CLIP, ImageEncoder, TextTransformer, contrastive_loss, zero_shot_probabilities
from t2i.clip_layers import quick_gelu
from t2i.pretrained.clip_files import (
    FilesError,
    load_clip_files,
    load_text_encoder,
    save_clip_files,
)
from t2i.pretrained.clip_names import from_transformers, to_transformers
from t2i.runs.clip_runs import closest_class

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
names = ("image_text_contrastive_loss", "clip_loss")  # newer and older releases
their_loss = next(getattr(modeling_clip, name) for name in names if hasattr(modeling_clip, name))


def scattered(module, gain=1.0):
    """Random weights everywhere, norms and biases too, so that none of them is idle."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in module.named_parameters():
            scale = gain / max(1, p[0].numel()) ** 0.5 if p.ndim > 1 else 0.3
            middle = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            p.copy_(middle + scale * torch.randn(p.shape, generator=generator))
    return module.eval()


def text_config(vocabulary, width, layers, heads, length, mlp, **more):
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=length,
        intermediate_size=mlp,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
        **more,
    )


def vision_config(size, patch, width, layers, heads, mlp, channels=3, **more):
    return CLIPVisionConfig(
        image_size=size,
        patch_size=patch,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=mlp,
        num_channels=channels,
        **more,
    )


def sentences(batch, length, vocabulary):
    """Random tokens; every row ends at another place and is filled up with the end token."""
    tokens = torch.randint(vocabulary - 2, (batch, length))
    tokens[:, 0] = vocabulary - 2
    for row in range(batch):
        tokens[row, length - 1 - row % (length - 1) :] = vocabulary - 1
    return tokens


TEXTS = [(50, 16, 1, 2, 7, 64), (33, 24, 3, 3, 12, 40), (99, 32, 2, 8, 20, 128)]
REAL = [(49408, 512, 12, 8, 77, 2048), (49408, 768, 12, 12, 77, 3072)]  # ViT-B/32, ViT-L/14


@pytest.mark.parametrize("sizes", TEXTS + REAL)
def test_the_text_transformer_equals_transformers(sizes):
    vocabulary, width, layers, heads, most, mlp = sizes
    torch.manual_seed(0)
    theirs = CLIPTextModel(text_config(*sizes)).eval()
    if sizes in TEXTS:
        scattered(theirs)
    with torch.device("meta"):
        ours = TextTransformer(vocabulary, vocabulary - 1, width, layers, heads, most, mlp)
    ours.load_state_dict(from_transformers(theirs.state_dict()), assign=True)
    for length in (most, 5) if sizes in TEXTS else (9,):
        tokens = sentences(3, length, vocabulary)
        with torch.no_grad():
            expected, (hidden, pooled) = theirs(tokens), ours(tokens)
        torch.testing.assert_close(hidden, expected.last_hidden_state, **CLOSE)
        torch.testing.assert_close(pooled, expected.pooler_output, **CLOSE)


IMAGES = [(8, 4, 16, 1, 2, 64), (12, 3, 24, 2, 3, 40), (32, 8, 32, 3, 4, 128)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sizes", IMAGES)
def test_the_image_encoder_equals_transformers(sizes, channels):
    size, patch, width, layers, heads, mlp = sizes
    config = vision_config(*sizes, channels, projection_dim=10)
    theirs = scattered(CLIPVisionModelWithProjection(config))
    state = from_transformers(theirs.state_dict())
    projection = state.pop("image_projection.weight")
    ours = ImageEncoder(size, patch, width, layers, heads, mlp, channels)
    ours.load_state_dict(state)
    images = torch.randn(3, channels, size, size)
    with torch.no_grad():
        expected, (hidden, pooled) = theirs(images), ours(images)
    torch.testing.assert_close(hidden, expected.last_hidden_state, **CLOSE)
    torch.testing.assert_close(pooled @ projection.T, expected.image_embeds, **CLOSE)


def small_clip():
    """transformers' CLIPModel with scattered weights."""
    text = text_config(520, 16, 2, 2, 12, 48).to_dict()
    vision = vision_config(8, 4, 24, 2, 3, 40).to_dict()
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=10))
    model = scattered(model)
    model.logit_scale.data.fill_(2.5)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CLIP as transformers writes it, with a tokenizer."""
    folder = tmp_path_factory.mktemp("clip")
    small_clip().save_pretrained(folder)
    pairs = ["a b</w>", "r e", "re d</w>", "1 2", "o n", "x y"]
    save_tokenizer(Tokenizer([pair.split() for pair in pairs]), folder)
    return folder


def test_a_folder_of_transformers_is_read(folder):
    theirs, (ours, tokenizer) = small_clip(), load_clip_files(folder)
    assert len(tokenizer) == ours.text.tokens.num_embeddings == 520
    texts = ["ab red", "x", ""]
    tokens, images = tokenizer(texts, 12), torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        expected = theirs(tokens, images, return_loss=True)
        features = ours.encode_images(images), ours.encode_texts(tokens)
        torch.testing.assert_close(F.normalize(features[0]), expected.image_embeds, **CLOSE)
        torch.testing.assert_close(F.normalize(features[1]), expected.text_embeds, **CLOSE)
        torch.testing.assert_close(ours(images, tokens), expected.loss, **CLOSE)
        seen = zero_shot_probabilities(features[0], features[1][:, None], ours.logit_scale)
        torch.testing.assert_close(seen, expected.logits_per_image.softmax(1), **CLOSE)
        half = load_text_encoder(folder)
        torch.testing.assert_close(half(tokens)[0], ours.text(tokens)[0])
        assert half.end_token == tokenizer.end


@pytest.mark.parametrize("kind", [CLIPTextModel, CLIPTextModelWithProjection])
@pytest.mark.parametrize("prefix", ["", "text_model."])
def test_the_text_half_is_read_in_old_and_new_layout(tmp_path, kind, prefix):
    theirs = scattered(kind(text_config(*TEXTS[0], projection_dim=6)))
    theirs.save_pretrained(tmp_path)
    state = {k.removeprefix("text_model."): v for k, v in theirs.state_dict().items()}
    state = {k if k[:15] == "text_projection" else prefix + k: v for k, v in state.items()}
    state["text_model.embeddings.position_ids"] = torch.arange(7)[None]  # stands in old files
    tmp_path.joinpath("model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    ours, tokens = load_text_encoder(tmp_path), sentences(3, 6, 50)
    with torch.no_grad():
        expected = theirs(tokens).last_hidden_state
        torch.testing.assert_close(ours(tokens)[0], expected, **CLOSE)


def test_transformers_reads_what_we_write(tmp_path, folder):
    ours, tokenizer = load_clip_files(folder)
    save_clip_files(tmp_path, ours, tokenizer)
    theirs, loading = CLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys"))
    tokens, images = tokenizer(["red ab", "12"], 12), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = theirs.eval()(tokens, images, return_loss=True).loss
        torch.testing.assert_close(ours(images, tokens), expected, **CLOSE)
    assert CLIPTokenizer.from_pretrained(tmp_path)("red ab").input_ids == tokenizer.encode("red ab")


def test_names_there_and_back():
    state = small_clip().state_dict()
    assert to_transformers(from_transformers(state)).keys() == state.keys()


def test_wrong_files_are_named(tmp_path, folder):
    model, tokenizer = load_clip_files(folder)
    save_clip_files(tmp_path, model, tokenizer)

    def write(state):
        torch.save(to_transformers(state), tmp_path / "pytorch_model.bin")

    tmp_path.joinpath("model.safetensors").unlink()
    with pytest.raises(FilesError, match=r"model.safetensors is missing\.$"):
        load_clip_files(tmp_path)
    state = model.state_dict()
    write(
        {k: v for k, v in state.items() if k != "text.norm.bias"} | {"more.weight": torch.ones(1)}
    )
    with pytest.raises(
        FilesError, match=r"1 missing \(text.norm.bias\); 1 unknown \(more.weight\)"
    ):
        load_clip_files(tmp_path)
    write(state | {"text.norm.bias": torch.zeros(3)})
    with pytest.raises(FilesError, match=r"1 of another shape \(text.norm.bias\)"):
        load_clip_files(tmp_path)
    write({})
    with pytest.raises(FilesError, match=r"missing \(tokens.weight\)"):
        load_text_encoder(tmp_path)
    tmp_path.joinpath("pytorch_model.bin").write_bytes(b"broken")
    with pytest.raises(FilesError, match="is damaged"):
        load_clip_files(tmp_path)
    write(state)
    config = json.loads(tmp_path.joinpath("config.json").read_text())
    config["text_config"]["hidden_act"] = "gelu"
    tmp_path.joinpath("config.json").write_text(json.dumps(config))
    with pytest.raises(FilesError, match="trained with 'gelu'"):
        load_clip_files(tmp_path)


def test_without_a_network_one_hears_what_to_do(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.model_info", unreachable)
    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(FilesError, match="hf download openai/clip-vit-base-patch32 --local-dir"):
        load_clip_files("openai/clip-vit-base-patch32")
    with pytest.raises(FilesError, match="There is no folder"):
        load_text_encoder("not/a/folder")


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_of_a_hub_the_weights_are_fetched_once(folder, monkeypatch, weights):
    names = {weights, "pytorch_model.bin", "tf_model.h5", "config.json", "vocab.json", "merges.txt"}
    told = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])
    asked = []
    monkeypatch.setattr("huggingface_hub.model_info", lambda name, timeout: told)
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda name, allow_patterns: asked.append(allow_patterns) or folder,
    )
    load_clip_files("someone/clip")
    assert [sorted(each) for each in asked] == [
        sorted(["config.json", weights, "vocab.json", "merges.txt"])
    ]


def test_a_pickle_is_read_only_where_there_is_nothing_else_and_runs_nothing(tmp_path, folder):
    copy = shutil.copytree(folder, tmp_path / "copy")
    torch.save({"run": print}, copy / "pytorch_model.bin")
    load_clip_files(copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(FilesError, match="pytorch_model.bin is damaged, or holds more than num"):
        load_clip_files(copy)


def test_quick_gelu_equals_transformers():
    x = torch.linspace(-40, 40, 501, dtype=torch.float64)
    torch.testing.assert_close(quick_gelu(x), ACT2FN["quick_gelu"](x))


def test_the_end_token_reads_what_stands_before_it_and_nothing_else():
    torch.manual_seed(0)
    model = scattered(TextTransformer(20, 19, width=16, num_layers=2, num_heads=2, max_length=9))
    tokens = torch.tensor([[18, 3, 4, 5, 19, 19, 19]])
    hidden, pooled = model(tokens)
    torch.testing.assert_close(pooled, hidden[:, 4])
    later = tokens.clone()
    later[0, 5:] = 7
    torch.testing.assert_close(model(later)[1], pooled)
    torch.testing.assert_close(model(tokens[:, :5])[1], pooled)
    other = tokens.clone()
    other[0, 2] = 6
    changed = (model(other)[0] - hidden).abs().amax(dim=(0, 2))
    assert not changed[:2].any() and (changed[2:] > 1e-4).all()


def test_the_loss_is_transformers_and_log_b_at_first():
    images, texts = torch.randn(5, 7), torch.randn(5, 7)
    scale = torch.tensor(1.3)
    logits = scale.exp() * F.normalize(texts) @ F.normalize(images).T
    ours = contrastive_loss(3 * images, 0.1 * texts, scale)
    torch.testing.assert_close(ours, their_loss(logits))
    torch.testing.assert_close(contrastive_loss(texts, images, scale), ours)
    alike = torch.ones(6, 3)
    assert contrastive_loss(alike, alike, scale).item() == pytest.approx(math.log(6), abs=1e-6)
    loud = torch.tensor(20.0)
    torch.testing.assert_close(
        contrastive_loss(images, texts, loud),
        contrastive_loss(images, texts, torch.tensor(math.log(100.0))),
    )


def test_probabilities_average_the_phrasings_on_the_sphere():
    images, texts = torch.randn(4, 6), torch.randn(3, 5, 6) * torch.rand(3, 5, 1)
    found = zero_shot_probabilities(images, texts, torch.tensor(2.0))
    assert found.shape == (4, 3)
    torch.testing.assert_close(found.sum(1), torch.ones(4))
    centres = (texts / texts.norm(dim=-1, keepdim=True)).mean(1)
    cosines = F.cosine_similarity(images[:, None], centres[None], dim=-1)
    torch.testing.assert_close(found, (math.exp(2.0) * cosines).softmax(-1))
    assert torch.equal(closest_class(images, texts), cosines.argmax(-1))


def test_a_small_clip_learns_a_batch_by_heart():
    torch.manual_seed(0)
    text = TextTransformer(20, 19, width=16, num_layers=1, num_heads=2, max_length=6)
    model = CLIP(text, ImageEncoder(8, 4, 16, 1, 2), dim=8)
    images, tokens = torch.randn(8, 3, 8, 8), sentences(8, 6, 20)
    tokens[:, 1] = torch.arange(8)
    tokens[:, 2] = 19
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = model(images, tokens)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


TEXT = TextTransformer(20, 19, width=8, num_layers=1, num_heads=2, max_length=5)
IMAGE = ImageEncoder(8, 4, 8, 1, 2)
ONE, TWO, SCALE = torch.randn(2, 3), torch.randn(2, 4), torch.tensor(1.0)
BAD = [
    ("tokens must be", lambda: TEXT(torch.full((2, 6), 19))),
    ("tokens must be", lambda: TEXT(torch.full((2,), 19))),
    ("tokens must be", lambda: TEXT(torch.full((2, 3), 19.0))),
    (r"0\.\.19 \(the vocabulary\)", lambda: TEXT(torch.tensor([[20, 19]]))),
    ("end token 19 in every row", lambda: TEXT(torch.tensor([[3, 19], [3, 4]]))),
    (r"images must be \(B, 3, 8, 8\)", lambda: IMAGE(torch.zeros(2, 3, 8, 12))),
    (r"images must be \(B, 3, 8, 8\)", lambda: IMAGE(torch.zeros(2, 1, 8, 8))),
    ("patch must divide", lambda: ImageEncoder(8, 3, 8, 1, 2)),
    ("D of text_features", lambda: contrastive_loss(ONE, TWO, SCALE)),
    ("one row a pair", lambda: contrastive_loss(ONE, torch.ones(3, 3), SCALE)),
    ("must be finite", lambda: contrastive_loss(ONE, ONE * float("nan"), SCALE)),
    ("logit_scale must be finite", lambda: contrastive_loss(ONE, ONE, SCALE * float("nan"))),
    (
        "logit_scale must be finite",
        lambda: zero_shot_probabilities(ONE, ONE[None], SCALE * math.inf),
    ),
    ("must hold something", lambda: contrastive_loss(ONE[:0], ONE[:0], SCALE)),
    (r"text_features must be \(K, P, D\)", lambda: zero_shot_probabilities(ONE, ONE, SCALE)),
    ("image_features must be", lambda: zero_shot_probabilities(ONE[0], ONE[None], SCALE)),
]


@pytest.mark.parametrize("message, call", BAD)
def test_bad_input_is_named(message, call):
    with pytest.raises(ValueError, match=message):
        call()
