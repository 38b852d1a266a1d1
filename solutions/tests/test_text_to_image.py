"""The whole from prompt to picture: transformers and diffusers do the same work, same numbers."""

import copy as copies
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from t2i.bpe import Tokenizer, save_tokenizer, train_bpe
from t2i.clip import TextTransformer
from t2i.drawing.prompt_film import PromptFilm, group_words
from t2i.engine.batches import stream_seed
from t2i.files.folders import FilesError
from t2i.latents import LatentSpace
from t2i.prompt_encoder import PromptEncoder
from t2i.text_to_image import TextDiT, TextToImage, encode_prompt, to_pil
from t2i.vae import AutoencoderKL as OurAutoencoderKL

PROMPTS = ["a red seven above a blue star", "lower", "", "two lowest newest stars, Above!"]
LENGTH, WIDTH = 12, 16
WEIGHTS = {
    "text_encoder": "model",
    "vae": "diffusion_pytorch_model",
    "transformer": "diffusion_pytorch_model",
}


def scattered(module: nn.Module) -> nn.Module:
    """Every weight random, zeros too, so that no part can hide."""
    generator = torch.Generator().manual_seed(3)
    for p in module.parameters():
        spread = 0.8 / p[0].numel() ** 0.5 if p.ndim > 1 else 0.2
        p.data = 0.5 * p.data + spread * torch.randn(p.shape, generator=generator)
    return module


@pytest.fixture(scope="module")
def pipe() -> TextToImage:
    torch.manual_seed(0)
    tokenizer = Tokenizer(train_bpe([*PROMPTS, "low lower lowest new newer newest"], 40))
    text = TextTransformer(len(tokenizer), tokenizer.end, WIDTH, 2, 2, LENGTH)
    transformer = TextDiT(
        WIDTH, in_channels=4, sample_size=4, patch_size=2, dim=16, depth=2, num_heads=2
    )
    vae = OurAutoencoderKL(block_channels=(8, 8, 16), layers_per_block=1, norm_groups=4)
    parts = (scattered(part) for part in (text, transformer, vae))
    text, transformer, vae = parts
    return TextToImage(tokenizer, text, transformer, LatentSpace(vae, 0.4), 16, shift=2.0)


@pytest.fixture(scope="module")
def folder(pipe, tmp_path_factory):
    made = tmp_path_factory.mktemp("model") / "whole"
    pipe.save_pretrained(made, torch.float32)
    return made


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def pixels(pictures) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(picture)) for picture in pictures]).int()


def read_by_transformers(folder, prompts):
    """What encode_prompt gives, from transformers' own tokenizer and text encoder."""
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    rows = tokenizer(
        list(prompts), padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
    )
    said = CLIPTextModel.from_pretrained(folder / "text_encoder")(rows.input_ids)
    return said.last_hidden_state, rows.attention_mask.bool(), said.pooler_output


# --- the parts, one by one


@torch.no_grad()
def test_encode_prompt_equals_transformers(pipe, folder):
    ours, theirs = (
        encode_prompt(pipe.tokenizer, pipe.text, PROMPTS),
        read_by_transformers(folder, PROMPTS),
    )
    assert ours.mask.dtype == torch.bool and ours.mask.sum(1).tolist()[2] == 2
    for actual, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_the_transformer_is_told_the_time_in_thousandths_and_the_whole_prompt(pipe):
    torch.manual_seed(0)
    x_t, t = torch.randn(3, 4, 4, 4), torch.tensor([0.0, 0.3, 1.0])
    context, pooled = torch.randn(3, LENGTH, WIDTH), torch.randn(3, WIDTH)
    mask = torch.arange(LENGTH) < torch.tensor([[2], [5], [LENGTH]])
    model = pipe.transformer
    expected = model.network(x_t, 1000 * t, context, mask, model.to_cond(pooled))
    torch.testing.assert_close(model(x_t, t, context, mask, pooled), expected)
    hidden = context + 9 * ~mask[..., None]  # what is masked does not matter, the rest does
    torch.testing.assert_close(model(x_t, t, hidden, mask, pooled), expected)
    for other in ((x_t, t / 2, context, mask, pooled), (x_t, t, context, mask, pooled + 1)):
        assert (model(*other) - expected).abs().max() > 1e-3


# --- the whole


@torch.no_grad()
@pytest.mark.parametrize("guidance_scale", [1.0, 0.0, 3.0])
def test_the_whole_equals_transformers_and_diffusers(pipe, folder, guidance_scale):
    """All but the transformer is done by theirs, opened from the folder."""
    told = [each for each in PROMPTS for _ in range(2)]
    wanted, nothing = (read_by_transformers(folder, each) for each in (told, [""] * len(told)))
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
    scheduler.set_timesteps(sigmas=np.linspace(1, 0.25, 4))
    z = torch.stack(
        [
            torch.randn(4, 4, 4, generator=torch.Generator().manual_seed(stream_seed(8, row)))
            for row in range(len(told))
        ]
    )
    for moment in scheduler.timesteps:
        t = (moment / 1000).expand(len(z))
        cond, uncond = (pipe.transformer(z, t, *prompt) for prompt in (wanted, nothing))
        mixed = {1.0: cond, 0.0: uncond}.get(guidance_scale, 3 * cond - 2 * uncond)
        z = scheduler.step(mixed, moment, z).prev_sample
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    images = vae.decode(z / vae.config.scaling_factor).sample
    expected = ((images.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1)
    pictures = pipe(PROMPTS, 4, guidance_scale, seed=8, num_images=2)
    assert pictures[0].mode == "RGB" and pictures[0].size == (16, 16)
    assert (pixels(pictures) - expected).abs().max() <= 1
    assert expected.std() > 20  # there is something to see


def test_the_seed_decides_and_the_number_of_pictures_does_not(pipe):
    def draw(**more):
        return pixels(pipe(PROMPTS[0], num_inference_steps=2, **more))

    two, three = draw(num_images=2, seed=4), draw(num_images=3, seed=4)
    assert torch.equal(two, draw(num_images=2, seed=4))
    assert (three[:2] - two).abs().max() <= 1  # other batches may round otherwise
    assert (three[0] - three[1]).abs().max() > 5 and (draw(seed=5) - two[0]).abs().max() > 5
    noise = pipe.noise(400, seed=2)
    assert torch.equal(noise[:3], pipe.noise(3, seed=2))
    assert noise.mean().abs() < 0.02 and (noise.std() - 1).abs() < 0.02


def test_the_empty_prompt_is_read_once_and_not_for_each_picture(pipe, monkeypatch):
    rows, read = [], pipe.tokenizer
    monkeypatch.setattr(
        pipe, "tokenizer", lambda texts, *more: rows.extend(texts) or read(texts, *more)
    )
    pipe(PROMPTS[:2], 1, num_images=3)
    assert rows.count("") == 1 and len(rows) == 7


def test_every_step_is_reported(pipe):
    seen = []
    pipe(PROMPTS[:3], 3, on_step=lambda t, z, direction: seen.append((t, z.shape, direction.shape)))
    times = torch.tensor([t for t, *_ in seen])
    torch.testing.assert_close(times, torch.tensor([0.8, 0.5, 0.0]))  # 2u / (1 + u)
    assert all(shape == (3, 4, 4, 4) for _, *shapes in seen for shape in shapes)


@pytest.mark.parametrize(
    "given, words",
    [
        ({"prompt": []}, "prompt must be a text or a list of texts"),
        ({"prompt": ["a", 7]}, "prompt must be a text or a list of texts"),
        ({"prompt": None}, "prompt must be a text or a list of texts"),
        ({"num_images": 0}, "num_images must be a whole number, 1 or more, got 0"),
        ({"num_images": 1.5}, "num_images must be a whole number"),
        ({"num_inference_steps": 0}, "num_inference_steps must be a whole number, 1 or more"),
        ({"num_inference_steps": 2.5}, "num_inference_steps"),
        ({"guidance_scale": math.nan}, "guidance_scale must be a finite number"),
        ({"guidance_scale": math.inf}, "guidance_scale must be a finite number"),
    ],
)
def test_bad_input_is_named(pipe, given, words):
    with pytest.raises(ValueError, match=words):
        pipe(**({"prompt": "a star"} | given))


# --- folders


def test_a_saved_model_is_the_same_at_float32_and_close_at_float16(pipe, folder, tmp_path):
    again = TextToImage.from_pretrained(folder)
    pipe.save_pretrained(tmp_path, torch.float16)
    half = TextToImage.from_pretrained(tmp_path)
    assert again.tokenizer.vocabulary == pipe.tokenizer.vocabulary
    assert (again.size, again.shift) == (16, 2.0)
    assert again.space.scaling_factor == pipe.space.scaling_factor
    for part in ("text", "transformer", "space"):
        ours, found, rough = (getattr(each, part).state_dict() for each in (pipe, again, half))
        assert found.keys() == ours.keys()
        for name in ours:
            assert torch.equal(found[name], ours[name]) and rough[name].dtype == torch.float32
            torch.testing.assert_close(rough[name], ours[name], rtol=1e-3, atol=1e-4)
    given = {"num_inference_steps": 3, "seed": 1}
    assert torch.equal(pixels(again(PROMPTS, **given)), pixels(pipe(PROMPTS, **given)))
    assert (pixels(half(PROMPTS, **given)) - pixels(pipe(PROMPTS, **given))).abs().max() < 12
    size = sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors"))
    assert size < 0.6 * sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


def test_a_prompt_encoder_is_saved_as_the_encoder_it_holds(pipe, folder, tmp_path):
    read = [copies.deepcopy(part) for part in (pipe.text, pipe.transformer, pipe.space)]
    mine = TextToImage(pipe.tokenizer, PromptEncoder(read[0]), *read[1:], 16, shift=2.0)
    mine.save_pretrained(tmp_path, torch.float32)
    again = TextToImage.from_pretrained(tmp_path)
    for prompt in PROMPTS:
        here, there = (encode_prompt(p.tokenizer, p.text, [prompt]) for p in (mine, again))
        assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
    plain = encode_prompt(pipe.tokenizer, pipe.text, PROMPTS[:1]).context
    assert not torch.equal(encode_prompt(again.tokenizer, again.text, PROMPTS[:1]).context, plain)
    for name in ("config.json", "model.safetensors"):
        file = Path("text_encoder") / name
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes()
    assert not isinstance(TextToImage.from_pretrained(folder).text, PromptEncoder)


def test_a_class_of_ones_own_is_made_of_the_parts(folder):
    class Mine(TextToImage):
        pass

    assert type(Mine.from_pretrained(folder)) is Mine


def test_saving_again_leaves_a_whole_folder_and_a_stopped_one_has_no_index(pipe, copy, monkeypatch):
    pipe.save_pretrained(copy)
    assert TextToImage.from_pretrained(copy).size == 16

    def no_more(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("t2i.pretrained.text_to_image_files.save_autoencoder", no_more)
    with pytest.raises(KeyboardInterrupt):
        pipe.save_pretrained(copy)
    with pytest.raises(FilesError, match="model_index.json is missing"):
        TextToImage.from_pretrained(copy)


def changed(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def without(path, key):
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != key}))


def weights(folder, part, change):
    path = folder / part / f"{WEIGHTS[part]}.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)


def other_tokenizer(folder):
    save_tokenizer(Tokenizer(train_bpe(["another text altogether"], 20)), folder / "tokenizer")


def half_of_the_merges(folder):
    path = folder / "tokenizer" / "merges.txt"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[: len(lines) // 2]), encoding="utf-8")


def narrower_transformer(folder):
    model = TextDiT(8, in_channels=4, sample_size=4, patch_size=2, dim=16, depth=2, num_heads=2)
    save_file(model.state_dict(), folder / "transformer" / "diffusion_pytorch_model.safetensors")
    changed(folder / "transformer" / "config.json", width=8)


def shards(folder):
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    names = {name: "diffusion_pytorch_model-00001-of-00002.safetensors" for name in load_file(path)}
    path.unlink()
    index = path.with_name(f"{path.name}.index.json")
    index.write_text(json.dumps({"weight_map": names}))


def pickled(folder, part):
    path = folder / part / f"{WEIGHTS[part]}.safetensors"
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()


DAMAGES = {
    "no folder": (shutil.rmtree, "There is no folder .*copy: train a model with"),
    "no index": (lambda f: (f / "model_index.json").unlink(), "model_index.json is missing"),
    "an index of diffusers": (
        lambda f: changed(f / "model_index.json", _class_name="StableDiffusionPipeline"),
        "holds StableDiffusionPipeline, not a model of lesson 10",
    ),
    "an index of nothing": (
        lambda f: (f / "model_index.json").write_text("{}"),
        "holds something unknown, not a model of lesson 10",
    ),
    "half an index": (
        lambda f: (f / "model_index.json").write_text('{"si'),
        "index.json is damaged",
    ),
    "no size": (lambda f: without(f / "model_index.json", "size"), "size None in model_index.json"),
    "another size": (lambda f: changed(f / "model_index.json", size=32), "size 32 in model_index"),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), "tokenizer cannot be read"),
    "half of the merges": (half_of_the_merges, "merges.txt is not whole: .* made by no merge"),
    "another tokenizer": (other_tokenizer, "tokenizer and text_encoder do not fit"),
    "no text_encoder": (lambda f: shutil.rmtree(f / "text_encoder"), "text_encoder is missing"),
    "no vae": (lambda f: shutil.rmtree(f / "vae"), "vae/config.json is missing"),
    "no transformer": (
        lambda f: shutil.rmtree(f / "transformer"),
        "config.json is missing",
    ),
    "no scheduler": (lambda f: shutil.rmtree(f / "scheduler"), "scheduler_config.json is missing"),
    "no heads": (
        lambda f: changed(f / "text_encoder" / "config.json", num_attention_heads=3),
        "num_attention_heads in .*text_encoder must divide 16, it is 3",
    ),
    "a shift in words": (
        lambda f: changed(f / "scheduler" / "scheduler_config.json", shift="much"),
        "shift in .*scheduler must be a number above 0, it is 'much'",
    ),
    "an endless shift": (
        lambda f: changed(f / "scheduler" / "scheduler_config.json", shift=math.inf),
        "shift in .*scheduler must be a number above 0, it is inf",
    ),
    "one number for two pieces": (
        lambda f: changed(f / "tokenizer" / "vocab.json", **{"!": 1}),
        "vocab.json must give each piece a whole number of its own",
    ),
    "a number in words": (
        lambda f: changed(f / "tokenizer" / "vocab.json", **{"!": "one"}),
        "vocab.json must give each piece a whole number of its own",
    ),
    "a transformer without heads": (
        lambda f: changed(f / "transformer" / "config.json", num_heads=0),
        "transformer/config.json does not fit TextDiT",
    ),
    "a transformer of less than nothing": (
        lambda f: changed(f / "transformer" / "config.json", dim=-4),
        "transformer/config.json does not fit TextDiT",
    ),
    "an autoencoder without levels": (
        lambda f: changed(f / "vae" / "config.json", block_out_channels=[]),
        "vae/config.json describes no autoencoder",
    ),
    "no groups": (
        lambda f: changed(f / "vae" / "config.json", norm_num_groups=0),
        "vae/config.json describes no autoencoder",
    ),
    "a scale of 0": (
        lambda f: changed(f / "vae" / "config.json", scaling_factor=0),
        "vae/config.json describes no autoencoder: its scaling_factor is 0",
    ),
    "no widths": (
        lambda f: without(f / "vae" / "config.json", "block_out_channels"),
        "vae/config.json describes no autoencoder: 'block_out_channels'",
    ),
    "no weights": (
        lambda f: (f / "vae" / "diffusion_pytorch_model.safetensors").unlink(),
        r"vae/diffusion_pytorch_model.safetensors is missing\.$",
    ),
    "a missing shard": (shards, "transformer lacks 1 of 1 shards: .*-00001-of-00002.safetensors"),
    "a pickled vae": (lambda f: pickled(f, "vae"), "diffusion_pytorch_model.bin is a pickle"),
    "a pickled transformer": (lambda f: pickled(f, "transformer"), "bin is a pickle"),
    "a pickled text encoder": (lambda f: pickled(f, "text_encoder"), "bin is a pickle"),
    "unknown weights": (
        lambda f: weights(f, "vae", lambda s: s.update({"decoder.more.weight": torch.zeros(1)})),
        "weights in .*vae do not fit: 1 unknown",
    ),
    "weights too many": (
        lambda f: weights(f, "transformer", lambda s: s.update(more=torch.zeros(1))),
        r"weights in .*transformer do not fit: 1 unknown \(more\)",
    ),
    "weights too few": (
        lambda f: weights(f, "transformer", lambda s: s.pop("to_cond.bias")),
        r"weights in .*transformer do not fit: 1 missing \(to_cond.bias\)",
    ),
    "weights of another size": (
        lambda f: weights(f, "transformer", lambda s: s.update({"to_cond.bias": torch.zeros(3)})),
        r"weights in .*transformer do not fit: 1 of another shape \(to_cond.bias\)",
    ),
    "another network": (
        lambda f: changed(f / "transformer" / "config.json", dropout=0.1),
        "transformer/config.json does not fit TextDiT: .*dropout",
    ),
    "narrower vectors": (narrower_transformer, "text_encoder and transformer do not fit"),
    "larger latents": (
        lambda f: changed(f / "transformer" / "config.json", sample_size=8),
        "transformer, vae and the size 16 in model_index.json do not fit",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_named(copy, damage):
    do, words = DAMAGES[damage]
    do(copy)
    with pytest.raises(FilesError, match=words):
        TextToImage.from_pretrained(copy)


# --- the film


def test_words_of_several_pieces_are_one_word(pipe):
    found = group_words(pipe.tokenizer, "Lowest xyz, seven", LENGTH)
    assert [word for word, _ in found] == ["lowest", "xyz", ",", "seven"]
    numbers = pipe.tokenizer.encode("Lowest xyz, seven", LENGTH)
    for word, places in found:
        assert pipe.tokenizer.decode(numbers[place] for place in places) == word
    assert [len(places) for _, places in found][1] == 3  # never heard of: byte by byte
    assert [place for _, places in found for place in places] == list(range(1, 2 + places[-1] - 1))
    assert group_words(pipe.tokenizer, "", LENGTH) == [("(nothing)", [0])]
    cut = group_words(pipe.tokenizer, "xyz " * 9, LENGTH)
    assert sum(len(places) for _, places in cut) == LENGTH - 2 and cut[-1][0] == "x"


def test_the_maps_of_a_film_share_out_at_most_the_whole_look(pipe):
    film = PromptFilm(pipe, PROMPTS[:3], num_images=2)
    with film:
        pictures = pipe(PROMPTS[:3], 3, 4.0, seed=2, num_images=2, on_step=film)
    assert film.steps == sorted(film.maps, reverse=True) and film.steps[0] == 1.0
    assert [len(words) for words in film.words] == [7, 7, 1, 1, 1, 1]
    for step in film.steps:
        for row, words in enumerate(film.words):
            maps = film.maps[step][row]
            assert maps.shape == (len(words), 16, 16) and maps.min() >= 0
            assert maps.sum(0).max() <= 1 + 1e-5
    spread = torch.stack([film.maps[step][0] for step in film.steps])
    assert spread.sum(1).max() > 0.05 and spread.std() > 1e-4
    last = (film.guess[film.steps[-1]].permute(0, 2, 3, 1) + 1) * 127.5
    assert (pixels(pictures) - last).abs().max() <= 1  # the last guess is the picture
    without_a_film = pipe(PROMPTS[:3], 3, 4.0, seed=2, num_images=2)
    assert torch.equal(pixels(without_a_film), pixels(pictures))


@pytest.mark.parametrize("order", ["prompts first", "two calls"])
def test_a_film_finds_the_prompts_wherever_they_stand_in_a_batch(pipe, order):
    maps = []
    for turned in (False, True):
        film = PromptFilm(pipe, "a star")
        nothing = encode_prompt(pipe.tokenizer, pipe.text, [""])
        wanted = encode_prompt(pipe.tokenizer, pipe.text, ["a star"])
        z, t = pipe.noise(1, 0), torch.full((1,), 0.7)
        parts = [wanted, nothing] if turned else [nothing, wanted]
        with film, torch.no_grad():
            if turned and order == "two calls":
                direction = [pipe.transformer(z, t, *part) for part in parts][0]
            else:
                both = [torch.cat(pair) for pair in zip(*parts, strict=True)]
                answers = pipe.transformer(torch.cat([z, z]), torch.cat([t, t]), *both)
                direction = answers[:1] if turned else answers[1:]
            film(0.6, z, direction)
        maps.append(film.maps[0.7][0])
    torch.testing.assert_close(maps[1], maps[0], rtol=1e-4, atol=1e-6)


def test_pictures_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="they contain NaN"):
        to_pil(torch.tensor([0.0, math.nan, 1]).reshape(1, 3, 1, 1))


def test_any_kind_of_whole_number_is_a_seed(pipe):
    assert torch.equal(pipe.noise(2, np.int64(3)), pipe.noise(2, 3))
    for seed in (None, 1.5):
        with pytest.raises(ValueError, match="seed is made of whole numbers"):
            pipe("a red seven", 1, seed=seed)
