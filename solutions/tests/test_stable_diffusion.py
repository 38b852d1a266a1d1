"""The course's code draws what diffusers draws, from diffusers' own folders.

Random weights: `t2i.pretrained.sd_random` has diffusers write the folder that ours reads.
"""

import json
import shutil
from types import SimpleNamespace

import diffusers
import huggingface_hub
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionImg2ImgPipeline
from diffusers import StableDiffusionPipeline as Theirs
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.transforms.functional import pil_to_tensor

from t2i.files.folders import FilesError
from t2i.pretrained import sd_files, sd_sample, sd_weights
from t2i.pretrained.sd_random import TINY, random_pipeline, write_random
from t2i.pretrained.sd_schedule import SAMPLERS, schedule_from_config, start_of
from t2i.pretrained.sd_sizes import SD15, text_from_config, trained_size, unet_from_config
from t2i.pretrained.stable_diffusion import StableDiffusion
from t2i.pretrained.vae_files import autoencoder_from_config

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
PROMPTS, NEGATIVE = ["a red seven", "no blue star here"], "grey"
KINDS = {"ddim": DDIMScheduler, "dpmpp_2m": DPMSolverMultistepScheduler}
UNET = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sd") / "whole"
    write_random(path, TINY)
    return path


@pytest.fixture(scope="module")
def theirs(folder):
    pipe = Theirs.from_pretrained(folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def ours(folder):
    return StableDiffusion.from_pretrained(folder)


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def their_steps(pipe, sampler, noise, steps=5, guidance=6.0, negative=NEGATIVE):
    """What diffusers' pipeline has after each step, and its pictures in [0, 1]."""
    pipe.scheduler = KINDS[sampler].from_config(pipe.scheduler.config, clip_sample=False)
    seen = []

    def look(_, __, ___, told):
        seen.append(told["latents"].clone())
        return told

    pictures = pipe(
        PROMPTS,
        negative_prompt=[negative] * 2,
        num_inference_steps=steps,
        guidance_scale=guidance,
        output_type="pt",
        callback_on_step_end=look,
        latents=noise,
    ).images
    return seen, pictures


def our_steps(sd, sampler, noise, steps=5, guidance=6.0, negative=NEGATIVE):
    seen, timesteps = [], sd.schedule.timesteps(sampler, steps)
    with torch.no_grad():
        words = sd.read([*PROMPTS, negative])
        z_0 = sd.walk(
            noise,
            words[:-1],
            words[-1],
            timesteps,
            guidance,
            sampler,
            lambda t, z, prediction: seen.append(z),
        )
        assert torch.equal(seen[-1], z_0)
        return seen, (sd.decode(z_0) / 2 + 0.5).clamp(0, 1)


def noise_of(sd, seed=0):
    return sd.noise(2, (16, 24), torch.Generator().manual_seed(seed))


def test_text_vectors_and_one_call_of_the_unet_equal_diffusers(ours, theirs):
    numbers = theirs.tokenizer(PROMPTS, padding="max_length", truncation=True, return_tensors="pt")
    assert torch.equal(ours.tokenizer(PROMPTS, 16), numbers.input_ids)
    with torch.no_grad():
        context = theirs.text_encoder(numbers.input_ids)[0]
        torch.testing.assert_close(ours.read(PROMPTS), context, **CLOSE)
        z, t = noise_of(ours), torch.tensor([7, 981])
        expected = theirs.unet(z, t, context).sample
        assert (expected - theirs.unet(z, t, context.flip(0)).sample).abs().max() > 1e-3
        torch.testing.assert_close(ours.predict(z, t, context), expected, **CLOSE)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("negative", ["", NEGATIVE])
def test_every_step_and_the_pictures_equal_diffusers(ours, theirs, sampler, negative):
    noise = noise_of(ours)
    expected, pictures = their_steps(theirs, sampler, noise, negative=negative)
    found, drawn = our_steps(ours, sampler, noise, negative=negative)
    assert ours.schedule.timesteps(sampler, 5).tolist() == theirs.scheduler.timesteps.tolist()
    assert len(found) == len(expected) == 5 and pictures.std() > 0.02
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, **CLOSE)
    torch.testing.assert_close(drawn, pictures, **CLOSE)


def test_the_negative_prompt_and_the_guidance_matter(ours):
    (*_, plain), _ = our_steps(ours, "ddim", noise_of(ours), negative="")
    for other in ({"negative": NEGATIVE}, {"guidance": 1.0, "negative": ""}):
        (*_, changed), _ = our_steps(ours, "ddim", noise_of(ours), **other)
        assert (plain - changed).abs().max() > 1e-2


@pytest.mark.parametrize(("sharded", "half"), [(True, False), (False, True), (True, True)])
def test_shards_and_half_precision_files(tmp_path, sharded, half):
    saving = {"max_shard_size": "60KB"} if sharded else {}
    if half:
        saving["variant"] = "fp16"
    pipe = random_pipeline(TINY, seed=4)
    (pipe.to(torch.float16) if half else pipe).save_pretrained(tmp_path, **saving)
    pipe = Theirs.from_pretrained(
        tmp_path, torch_dtype=torch.float32, variant=saving.get("variant"), safety_checker=None
    )
    files = list(tmp_path.rglob("*.safetensors"))
    assert (len(files) > 10) == sharded and all(("fp16" in f.name) == half for f in files)
    assert not list(tmp_path.rglob("vocab.json")), "newer folders have tokenizer.json alone"
    ours = StableDiffusion.from_pretrained(tmp_path)
    pipe.set_progress_bar_config(disable=True)
    expected, pictures = their_steps(pipe, "dpmpp_2m", noise_of(ours), steps=2)
    found, drawn = our_steps(ours, "dpmpp_2m", noise_of(ours), steps=2)
    torch.testing.assert_close(found[-1], expected[-1], **CLOSE)
    torch.testing.assert_close(drawn, pictures, **CLOSE)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_call_with_a_seed_equals_diffusers_with_that_seed(ours, theirs, sampler):
    theirs.scheduler = KINDS[sampler].from_config(theirs.scheduler.config, clip_sample=False)
    expected = theirs(
        PROMPTS[0],
        height=16,
        width=24,
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(3),
        num_images_per_prompt=2,
    ).images
    drawn = ours(
        PROMPTS[0], num_inference_steps=3, seed=3, num_images=2, size=(16, 24), sampler=sampler
    )
    for mine, other in zip(drawn, expected, strict=True):
        assert mine.size == other.size == (24, 16)
        assert largest(mine, other) <= 1, "the same picture, but for a rounded level"


def test_a_picture_has_the_size_that_the_folder_tells(ours, theirs, copy):
    expected = theirs("a seven", num_inference_steps=1).images[0].size
    assert ours("a seven", num_inference_steps=1)[0].size == expected == (16, 16)
    file = copy / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sample_size": [12, 20]}))
    assert StableDiffusion.from_pretrained(copy).size == (24, 40)
    assert trained_size({}, 8) == trained_size(SD15["unet"], 8) == (512, 512)


def largest(one, other) -> int:
    """The most that a colour of two pictures differs, in levels of 255."""
    return (pil_to_tensor(one).int() - pil_to_tensor(other).int()).abs().max().item()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_image_to_image_equals_diffusers(ours, theirs, sampler):
    pipe = StableDiffusionImg2ImgPipeline(**theirs.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = KINDS[sampler].from_config(pipe.scheduler.config, clip_sample=False)
    picture = ours("a red seven", num_inference_steps=2, size=(24, 16))[0]
    expected = pipe(
        PROMPTS[1],
        image=picture,
        strength=0.7,
        num_inference_steps=6,
        negative_prompt=NEGATIVE,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    counted = []
    drawn = ours(
        PROMPTS[1],
        NEGATIVE,
        num_inference_steps=6,
        seed=5,
        sampler=sampler,
        image=picture,
        strength=0.7,
        on_step=lambda *_: counted.append(1),
    )[0]
    assert len(counted) == 4 and largest(drawn, expected) <= 1
    assert largest(drawn, picture) > 1


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("spacing", [None, "leading", "trailing", "linspace"])
@pytest.mark.parametrize("beta_schedule", ["scaled_linear", "linear", "squaredcos_cap_v2"])
def test_schedules_equal_diffusers(sampler, spacing, beta_schedule):
    config = {"beta_schedule": beta_schedule, "steps_offset": 1}
    config |= {} if spacing is None else {"timestep_spacing": spacing}
    theirs, ours = KINDS[sampler](**config), schedule_from_config(config)
    torch.testing.assert_close(ours.alphas_cumprod, theirs.alphas_cumprod, rtol=1e-5, atol=1e-7)
    for steps in (1, 2, 25, 50, 500):
        theirs.set_timesteps(steps)
        assert ours.timesteps(sampler, steps).tolist() == theirs.timesteps.tolist()


def test_schedules_that_are_not_ours_are_named():
    for config, why in (
        ({"trained_betas": [0.1]}, "trained_betas"),
        ({"beta_schedule": "sigmoid"}, "sigmoid"),
        ({"prediction_type": "flow"}, "prediction_type"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "lesson 10"),
        ({"timestep_spacing": "karras"}, "timestep_spacing"),
    ):
        with pytest.raises(ValueError, match=why):
            schedule_from_config(config)
    schedule = schedule_from_config({"steps_offset": 1})
    with pytest.raises(ValueError, match="sampler must be one of"):
        schedule.timesteps("euler", 5)
    with pytest.raises(ValueError, match=r"\[1, 999\]"):
        schedule.timesteps("ddim", 1000)  # the first step would be 1000: there is none
    leading = schedule_from_config({"steps_offset": 1, "timestep_spacing": "leading"})
    with pytest.raises(ValueError, match=r"\[1, 998\]"):
        leading.timesteps("dpmpp_2m", 999)
    assert leading.timesteps("dpmpp_2m", 998).max() < 1000
    for strength in (0.0, 0.01, 1.5):
        with pytest.raises(ValueError, match="strength"):
            start_of(torch.arange(10), strength)


def test_the_true_sizes_have_stable_diffusions_numbers_of_weights():
    made = {
        "unet": (unet_from_config, diffusers.UNet2DConditionModel, 859_520_964),
        "vae": (autoencoder_from_config, diffusers.AutoencoderKL, 83_653_863),
        "text_encoder": (text_from_config, None, 123_060_480),
    }
    for part, (build, kind, count) in made.items():
        with torch.device("meta"):
            ours = build(SD15[part])
            assert sum(p.numel() for p in ours.parameters()) == count
            if kind is not None:
                theirs = kind(**SD15[part]).state_dict()
                names = sd_weights.renamed(theirs, sd_weights.PARTS[part][2])
                shapes = {name: tensor.shape for name, tensor in names.items()}
                assert shapes == {name: p.shape for name, p in ours.state_dict().items()}


def test_the_weights_in_the_files_precision_are_not_copied(folder, ours):
    whole = load_file(folder / "unet" / UNET)
    for theirs, name, shape in sd_weights.key_table("unet", whole):
        assert torch.equal(ours.unet.state_dict()[name], whole[theirs])
        assert whole[theirs].shape == shape
    for part in (ours.unet, ours.text, ours.space):
        assert {(p.device.type, p.dtype) for p in part.parameters()} == {("cpu", torch.float32)}


def test_the_table_tells_every_key_once(folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["sd_weights", str(folder)])
    monkeypatch.setenv("COLUMNS", "200")
    sd_weights.main()
    out = capsys.readouterr().out
    for words in ("lesson 6's TextUNet", "down_blocks.*.resnets.*.time_emb_proj.weight"):
        assert words in out
    rows = sd_weights.key_table("unet", load_file(folder / "unet" / UNET))
    assert sum(sd_weights.folded(rows).values()) == len(rows)
    assert len({ours for _, ours, _ in rows}) == len(rows)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_key_too_much_and_one_too_few_are_named(copy, part):
    file = next((copy / part).glob("*.safetensors"))
    state = load_file(file)
    lost = sorted(state)[3]
    strangers = {"unet": "add_embedding.linear_1", "vae": "encoder.extra", "text_encoder": "more"}
    stranger = strangers[part]
    save_file({k: v for k, v in state.items() if k != lost}, file)
    ours = sd_weights.key_table(part, {lost: state[lost]})[0][1]
    with pytest.raises(FilesError, match=rf"1 missing \({ours}\)"):
        StableDiffusion.from_pretrained(copy)
    save_file(state | {f"{stranger}.weight": torch.ones(2)}, file)
    with pytest.raises(FilesError, match=rf"1 unknown \('?{stranger}"):
        StableDiffusion.from_pretrained(copy)
    name, tensor = next(iter(state.items()))
    save_file(state | {name: tensor.flatten()[:-1].clone()}, file)
    with pytest.raises(FilesError, match="another shape"):
        StableDiffusion.from_pretrained(copy)


@pytest.mark.parametrize(
    ("part", "changed", "why"),
    [
        ("unet", {"class_embed_type": "timestep"}, "class_embed_type 'timestep'"),
        ("unet", {"use_linear_projection": True}, "use_linear_projection True"),
        ("unet", {"down_block_types": ["SimpleCrossAttnDownBlock2D"] * 3}, "has SimpleCross"),
        ("unet", {"attention_head_dim": [2, 4, 4]}, "other numbers of heads"),
        ("unet", {"attention_head_dim": 5}, "no UNet of ours"),
        ("vae", {"shift_factor": 0.1}, "another kind of autoencoder"),
        ("vae", {"use_post_quant_conv": False}, "another kind of autoencoder"),
        ("text_encoder", {"hidden_act": "gelu"}, "trained with 'gelu'"),
        ("text_encoder", {"eos_token_id": 7}, "tokenizer and text_encoder do not fit"),
    ],
)
def test_other_choices_than_ours_are_named(copy, part, changed, why):
    file = copy / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(FilesError, match=why):
        StableDiffusion.from_pretrained(copy)


def test_a_pickle_is_refused_with_the_way_to_convert_it(copy, monkeypatch):
    file = copy / "unet" / UNET
    pickle, state = file.with_suffix(".bin"), load_file(file)
    torch.save(state, pickle)
    file.unlink()
    with pytest.raises(FilesError, match="is a pickle, which can run any program") as caught:
        StableDiffusion.from_pretrained(copy)
    command = str(caught.value).split("Convert it: ")[1].rstrip(".")
    monkeypatch.chdir(file.parent)
    exec(f"import torch, safetensors.torch; {command}", {})  # what the message says works
    assert load_file(file).keys() == state.keys()


def test_the_oldest_names_are_read_too(copy, ours):
    """Stable Diffusion 1.5's own files: older names in the autoencoder, counted positions."""
    file = copy / "vae" / UNET
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    state = load_file(file)
    for new, former in old.items():
        state = {k.replace(new, former) if "attentions" in k else k: v for k, v in state.items()}
    assert sum(".query." in name for name in state) == 4
    save_file(state, file)
    file = copy / "text_encoder" / "model.safetensors"
    state = {f"text_model.{name}": tensor for name, tensor in load_file(file).items()}
    state["text_model.embeddings.position_ids"] = torch.arange(16)[None]
    save_file(state, file)
    again = StableDiffusion.from_pretrained(copy)
    z = noise_of(ours)
    assert torch.equal(again.decode(z), ours.decode(z))
    assert torch.equal(again.read(PROMPTS), ours.read(PROMPTS))


def test_what_cannot_be_drawn_is_said(ours, tmp_path):
    for arguments, why in (
        ({"prompt": []}, "prompt must be"),
        ({"prompt": "a", "size": (16, 20)}, "two multiples of 8"),
        ({"prompt": "a", "size": (16,)}, "height and width"),
        ({"prompt": "a", "size": 16, "image": Image.new("RGB", (16, 16))}, "image has its own"),
        ({"prompt": "a", "image": "fox.png"}, "image must be a picture"),
        ({"prompt": "a", "sampler": "euler"}, "sampler must be one of"),
    ):
        with pytest.raises(ValueError, match=why):
            ours(**arguments)
    with pytest.raises(ValueError, match="prompt must be one text"):
        sd_sample.draw(ours, ["a fox", "a dog"])
    with pytest.raises(ValueError, match="of 3 steps, strength 0.3 leaves none"):
        ours("a", num_inference_steps=3, image=Image.new("RGB", (16, 16)), strength=0.3)
    with pytest.warns(UserWarning, match="only the first 14 are read"):
        ours("fox " * 20, num_inference_steps=1)
    with pytest.raises(ValueError, match="at least 8 pixels"):
        ours("a", image=Image.new("RGB", (7, 30)))
    (tmp_path / "unet").mkdir()
    with pytest.raises(FilesError, match="lacks tokenizer/, scheduler/, text_encoder/, vae/.$"):
        StableDiffusion.from_pretrained(tmp_path)
    for source, why in ((tmp_path / "no", "There is no folder .*no,"), (" ", "Say which folder")):
        with pytest.raises(FilesError, match=why):
            StableDiffusion.from_pretrained(source)
    single = tmp_path / "v1-5.ckpt"
    single.write_bytes(b"x")
    with pytest.raises(FilesError, match="from_single_file"):
        StableDiffusion.from_pretrained(single)


def test_the_command_draws_with_a_bar_and_says_what_is_wrong(folder, tmp_path, monkeypatch, capsys):
    def typed(*more):
        command = ["sd_sample", "a fox", "--model", str(folder), "--out", str(tmp_path / "fox.png")]
        monkeypatch.setattr("sys.argv", [*command, "--steps", "5", *map(str, more)])
        sd_sample.main()
        return Image.open(tmp_path / "fox.png")

    assert typed().size == (16, 16)
    assert "5/5" in capsys.readouterr().err
    assert typed("--size", 24, 32).size == (32, 24)
    assert typed("--size", 24).size == (24, 24)
    typed("--size", 24, 32)
    assert typed("--image", tmp_path / "fox.png", "--strength", 0.6).size == (32, 24)
    assert "3/3" in capsys.readouterr().err
    for more, why in (
        (("--image", tmp_path / "none.png"), "There is no picture .*none.png"),
        (("--out", "fox.jpg"), "must be a PNG file"),
        (("--model", tmp_path), "no such model in diffusers' layout"),
    ):
        with pytest.raises(SystemExit, match=why):
            typed(*more)
    monkeypatch.setattr("sys.argv", ["sd_weights", str(tmp_path)])
    with pytest.raises(SystemExit, match="no model in diffusers' layout"):
        sd_weights.main()
    monkeypatch.setattr("sys.argv", ["sd_weights", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match="There is no folder"):
        sd_weights.main()


HUB = [
    "README.md",
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/config.json",
    "text_encoder/model-00001-of-00002.safetensors",
    "text_encoder/model-00002-of-00002.safetensors",
    "text_encoder/model.safetensors.index.json",
    "safety_checker/model.safetensors",
    "v1-5-pruned.ckpt",
]


def test_of_a_hub_only_what_is_needed_is_fetched(monkeypatch):
    wanted = sd_files.wanted_files(HUB)
    assert sorted(set(HUB) - set(wanted)) == [
        "README.md",
        "model_index.json",
        "safety_checker/model.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "v1-5-pruned.ckpt",
    ]
    both = [*HUB, "text_encoder/model.fp16.safetensors"]  # no index without its shards
    text = [name for name in sd_files.wanted_files(both) if "text_encoder/model" in name]
    assert text == ["text_encoder/model.fp16.safetensors"]
    with pytest.raises(FilesError, match="unet/.*bin and no safetensors"):
        sd_files.wanted_files([name for name in HUB if "safetensors" not in name])
    asked = []
    told = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in HUB])
    monkeypatch.setattr(huggingface_hub, "model_info", lambda name, timeout: told)
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **more: asked.append((name, more)) or "."
    )
    sd_files.find_pipeline("someone/sd")
    assert asked == [("someone/sd", {"allow_patterns": wanted})]


def test_without_a_network_one_hears_what_to_do(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "model_info", unreachable)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(FilesError, match="hf download someone/sd --local-dir sd"):
        sd_files.find_pipeline("someone/sd")
