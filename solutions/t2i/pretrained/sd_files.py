"""A pipeline's folder in diffusers' layout: where it is, what is fetched of it, its small files.

    folder = find_pipeline("my/stable-diffusion-v1-5")                  # a folder, as it is
    folder = find_pipeline("stable-diffusion-v1-5/stable-diffusion-v1-5")     # from the hub, once
    tokenizer = read_tokenizer(folder / "tokenizer")
    schedule = read_schedule(folder / "scheduler")

Only safetensors are fetched and read. A pickle can run any program when it is opened.
"""

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path, PurePosixPath

from t2i.bpe import Tokenizer, load_tokenizer
from t2i.clip import TextTransformer
from t2i.files.folders import FilesError, find_folder, read_json, refuse_misfits
from t2i.pretrained.sd_schedule import Schedule, schedule_from_config
from t2i.text_unet import TextUNet

WEIGHTS = ("unet", "vae", "text_encoder", "transformer")
SMALL = re.compile(r"(tokenizer|scheduler|unet|vae|text_encoder|transformer)/[\w.]+\.(json|txt)")
ENDING = ".safetensors"
SINGLE = (
    "{file} is one file in the original layout. Turn it into a folder in diffusers' layout first, "
    'where you trust the file: python -c "from diffusers import StableDiffusionPipeline as P; '
    "P.from_single_file('{file}').save_pretrained('sd')\""
)


def find_pipeline(source: str | Path) -> Path:
    """The folder itself, or the one into which the hub's files were downloaded.

    Args:
        source: a folder, or a name on the Hugging Face hub.

    Raises:
        FilesError: it is neither, or cannot be had; the message says what to do.
    """
    if Path(source).expanduser().is_file():
        raise FilesError(SINGLE.format(file=source))
    return find_folder(source, partial(wanted_files, source=str(source)), "sd")


def refuse_missing(folder: Path, parts: Iterable[str]) -> None:
    """FilesError, if a folder in diffusers' layout lacks folders of these names."""
    missing = [f"{part}/" for part in parts if not (folder / part).is_dir()]
    if missing:
        raise FilesError(
            f"{folder} is no such model in diffusers' layout: it lacks {', '.join(missing)}."
        )


def wanted_files(names: Iterable[str], source: str = "the folder") -> list[str]:
    """Which of a repository's files are needed: the small ones, and weights once.

    Half precision is taken where there is a choice: half the bytes, and nobody sees a difference.

    Args:
        names: of all its files, with / between folders.
        source: the repository, for the message.

    Raises:
        FilesError: a part's weights are a pickle alone.
    """
    names = list(names)
    wanted = [name for name in names if SMALL.fullmatch(name) and ".index." not in name]
    for part in WEIGHTS:
        own = [name for name in names if str(PurePosixPath(name).parent) == part]
        stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        half = [name for name in own if name.startswith(f"{part}/{stem}.fp16")]
        full = [name for name in own if re.match(rf"{part}/{stem}(-\d+-of-\d+)?\.safetens", name)]
        half, full = ([name for name in kind if name.endswith(ENDING)] for kind in (half, full))
        pickles = [name for name in own if name.endswith((".bin", ".ckpt"))]
        if pickles and not half and not full:
            raise FilesError(
                f"{source} has {pickles[0]} and no safetensors beside it. A pickle can run any "
                f"program when it is opened, so it is not fetched. Look for another repository of "
                f"the same model, or convert it where you trust it: diffusers' from_pretrained, "
                f"then save_pretrained."
            )
        index = f"{part}/{stem}.safetensors.index.{'fp16.json' if half else 'json'}"
        wanted += (half or full) + [name for name in own if name == index]
    return wanted


def read_tokenizer(folder: Path) -> Tokenizer:
    """Lesson 7's tokenizer from vocab.json and merges.txt, or from newer folders' tokenizer.json.

    Raises:
        FilesError: a file is missing or damaged.
    """
    try:
        if (folder / "vocab.json").is_file() or not (folder / "tokenizer.json").is_file():
            return load_tokenizer(folder)
        model = read_json(folder / "tokenizer.json").get("model", {})
        pairs = (each.split(" ") if isinstance(each, str) else each for each in model["merges"])
        return Tokenizer([tuple(pair) for pair in pairs], model["vocab"])
    except (KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        raise FilesError(f"{folder} cannot be read as CLIP's tokenizer: {error}") from error


def read_schedule(folder: Path) -> Schedule:
    """The noise schedule of scheduler_config.json.

    Raises:
        FilesError: the file is missing or damaged, or tells a schedule that ours is not.
    """
    path = folder / "scheduler_config.json"
    try:
        return schedule_from_config(read_json(path))
    except (KeyError, TypeError, ValueError) as error:
        told = f"{error}" if isinstance(error, FilesError) else f"{path}: {error}"
        raise FilesError(told) from None


def check_together(
    folder: Path, tokenizer: Tokenizer, text: TextTransformer, unet: TextUNet, channels: int
) -> None:
    """Say which parts of a folder cannot have been made for each other."""
    fits = {
        "tokenizer and text_encoder": (tokenizer.end, len(tokenizer))
        == (text.end_token, text.tokens.num_embeddings),
        "text_encoder and unet": text.positions.shape[1] == unet.context_dim,
        "unet and vae": channels == unet.conv_in.in_channels == unet.conv_out.out_channels,
    }
    refuse_misfits(folder, fits)
