"""How well a model that learned from a folder draws its pictures' names, and names it never saw.

    make evaluate data=my_pictures model=my_model [count=1000] [clip=FILE]

No judge knows what your pictures show. But each prompt is the caption of one picture, its *own*,
and that can be looked for: is the drawn picture nearer to its own than to any other of the folder?
Pictures of names that were seen may be repeated from memory. Those that were held out cannot: there
the question is whether the model composed them, or repeated the seen name that is a word away.
How near two pictures are, their pixels say, and with `clip=` the picture's side of a CLIP as well:
data/runs/NAME_TIER/clip.safetensors, which the training left.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.byte_words import split_words
from t2i.files.checkpoint import digest, load_weights
from t2i.files.folders import FilesError, write_json
from t2i.files.picture_folder import read_folder
from t2i.files.results import machine, share_of
from t2i.metrics import nearest_distances
from t2i.runs.heldout_names import NameFrames, NameSplit, split_names
from t2i.runs.picture_recipes import picture_recipe
from t2i.runs.text_to_image_eval import draw, training_of, weights_of
from t2i.runs.text_to_image_recipes import GUIDANCE_SCALE, INFERENCE_STEPS, load_text_to_image
from t2i.runs.vae_runs import there_and_back
from t2i.text_to_image import TextToImage
from t2i.world.asked_scenes import UNSEEN

OFTEN = (1, 5, 50)  # exchanges seen elsewhere: so often at least, and less often than the next
NEAR = 10  # own pictures among so many nearest are counted, too
SAME = 1e-4  # two distances that differ by less count as one: some pictures are there twice

Eyes = Callable[[Tensor], Tensor]


class AskedNames(NamedTuple):
    """Rows of a folder whose captions are asked for."""

    seen: list[int]
    held_out: list[int]
    neighbours: list[int]  # of each held-out row a seen one whose caption differs in one word


def asked_names(split: NameSplit, count: int) -> AskedNames:
    """The names that were held out and some that were seen, at most `count` of each."""
    order = torch.randperm(len(split.seen), generator=torch.Generator().manual_seed(UNSEEN))
    seen = sorted(split.seen[place] for place in order[:count].tolist())
    return AskedNames(seen, split.held_out[:count], split.neighbours[:count])


def nearer_than_own(images: Tensor, pictures: Tensor, own: Sequence[int]) -> Tensor:
    """How many pictures of the folder are nearer to each drawn one than its own: 0 is best.

    Args:
        images: (N, C, H, W) drawn, or (N, dim) what eyes_of sees of them.
        pictures: (M, ...) the folder's, likewise.
        own: for each drawn picture the row of the one whose caption was the prompt.

    Returns:
        (N,) int64, from 0 to M - 1, by the Euclidean distance over all numbers.
    """
    found = torch.cdist(images.flatten(1), pictures.flatten(1))
    return (found < found.gather(1, torch.tensor(own)[:, None]) - SAME).sum(dim=1)


def found_among(images: Tensor, pictures: Tensor, own: Sequence[int]) -> dict:
    """Shares of drawn pictures whose own is the nearest of all, or among the nearest ten."""
    rank = nearer_than_own(images, pictures, own)
    return {"nearest": share_of((rank == 0).tolist()), "near": share_of((rank < NEAR).tolist())}


def eyes_of(file: Path, tier: str, data: Path) -> Eyes:
    """How a CLIP sees pictures: (N, 3, size, size) -> (N, dim) of length 1, alike ones near.

    Args:
        file: of its weights, which the training on the folder left.
        tier, data: of that training.

    Raises:
        CheckpointError: the file is missing, damaged, or of another CLIP.
    """
    clip = picture_recipe(tier, data).clip.build().eval()
    load_weights(file, clip)

    @torch.no_grad()
    def see(images: Tensor) -> Tensor:
        seen = [clip.encode_images(part) for part in images.split(500)]
        return F.normalize(torch.cat(seen), dim=-1)

    return see


def composed(
    images: Tensor, pictures: Tensor, own: Sequence[int], neighbours: Sequence[int]
) -> dict:
    """Share of drawn pictures that are nearer to their own than to their seen neighbour.

    A model that repeats the neighbour gets 0, one that takes no notice of the prompt about a half.
    Where own and neighbour are the same picture there is nothing to tell, and it is left out.

    Args:
        images, pictures, own: as in nearer_than_own.
        neighbours: for each drawn picture the row of its neighbour.
    """

    def gap(some: Tensor, others: Tensor) -> Tensor:
        return (some - others).flatten(1).norm(dim=1)

    nearer = gap(images, pictures[own]) < gap(images, pictures[neighbours])
    differ = gap(pictures[own], pictures[neighbours]) > SAME
    told = nearer[differ].tolist()
    return (share_of(told) if told else {}) | {"n": len(told)}


def by_exchange(
    images: Tensor,
    pictures: Tensor,
    captions: Sequence[str],
    asked: AskedNames,
    training: Sequence[int],
) -> list[dict]:
    """Held-out names whose own picture came nearest, by how often training showed the exchange.

    From "woman pilot" to "man pilot" one word is exchanged, as between many other names that were
    seen; from "last quarter moon" to "first quarter moon" one that hardly any others exchange.

    Returns:
        for each step of OFTEN: `at_least` so many pairs of seen names, `nearest` of `n`.
    """
    words = [tuple(split_words(caption)) for caption in captions]
    known = NameFrames([words[row] for row in training])
    pairs = zip(asked.held_out, asked.neighbours, strict=True)
    times = [known.exchanges(words[own], words[near]) for own, near in pairs]
    first = (nearer_than_own(images, pictures, asked.held_out) == 0).tolist()
    rows = []
    for least, most in zip(OFTEN, (*OFTEN[1:], math.inf), strict=True):
        told = [hit for hit, seen in zip(first, times, strict=True) if least <= seen < most]
        rows.append({"at_least": least, "nearest": sum(told), "n": len(told)})
    return rows


def measure_names(
    images: Tensor,
    pictures: Tensor,
    own: Sequence[int],
    training: Sequence[int],
    pipe: TextToImage,
    eyes: Eyes | None = None,
) -> dict:
    """One set of drawn pictures with its ceiling and its floor, and how near they are to copies.

    Args:
        images: (N, 3, size, size) drawn for the captions of `own`.
        pictures: (M, 3, size, size) of the folder.
        own: (N,) rows of it.
        training: rows of it that were learned from.
        pipe: whose autoencoder is the ceiling.
        eyes: what eyes_of gives, to compare what it sees as well.

    Returns:
        n; found_among of the drawn pictures, of their own through the autoencoder (`vae`), and of
        the drawn ones beside other prompts (`shuffled`), and the same three of what eyes see
        (`features`); the median distance to the nearest training picture, of drawn ones
        (`nearest`) and of their own (`nearest_real`).
    """
    through, known = there_and_back(pipe.space.vae, pictures[own], UNSEEN)[0], pictures[training]
    kinds = {"drawn": images, "vae": through, "shuffled": images.roll(1, 0)}
    found = {name: found_among(some, pictures, own) for name, some in kinds.items()}
    if eyes:
        seen = eyes(pictures)
        features = {name: found_among(eyes(some), seen, own) for name, some in kinds.items()}
        found["features"] = features
    distances = {
        "nearest": nearest_distances(images, known)[0].median().item(),
        "nearest_real": nearest_distances(pictures[own], known)[0].median().item(),
    }
    return {"n": len(own)} | found | distances


def evaluate_names(
    model: Path, data: Path, count: int, device: torch.device, clip: Path | None = None
) -> dict:
    """Measure a model on the folder that it learned from; write evaluation.json beside it.

    Args:
        model: its folder, with training.json.
        data: the folder of pictures.
        count: captions of each set, at most.
        device: where to draw.
        clip: see eyes_of; None: pixels alone are compared.

    Raises:
        CheckpointError: that is no such CLIP.
        FilesError: the model learned from something else, or a folder cannot be used.
    """
    log = training_of(model)
    if "held_out" not in log:
        raise FilesError(
            f"The model in {model} learned from scenes, not from {data}: say with model= which "
            f"model did, or leave data= away."
        )
    eyes = eyes_of(clip, log["tier"], data) if clip else None
    pipe = load_text_to_image(model).to(device)
    folder = read_folder(data, pipe.size)
    captions, pictures, split = folder.captions, folder.images(), split_names(folder.captions)
    if log["held_out"] != [captions[row] for row in split.held_out]:
        raise FilesError(f"{data} holds other captions than the model in {model} learned from.")
    asked, sets = asked_names(split, count), {}
    for name, own in (("seen", asked.seen), ("held_out", asked.held_out)):
        if not own:
            continue  # among a few names none may be held out
        images = draw(pipe, [captions[row] for row in own], UNSEEN, name)
        sets[name] = measure_names(images, pictures, own, split.seen, pipe, eyes)
        if name == "held_out":
            for what, drawn in (("composed", images), ("composed_shuffled", images.roll(1, 0))):
                sets[name][what] = composed(drawn, pictures, own, asked.neighbours)
            told = by_exchange(images, pictures, captions, asked, split.seen)
            sets[name]["by_exchange"] = told
        print(name, sets[name], flush=True)
    result = {"steps": INFERENCE_STEPS, "guidance_scale": GUIDANCE_SCALE, "sets": sets}
    result |= {"pictures": len(pictures), "data": log["data"], "machine": machine(device)}
    result |= {"weights": weights_of(model)} | ({"clip": digest(clip)} if clip else {})
    write_json(Path(model) / "evaluation.json", result)
    return result
