"""The reference runs of lesson 7's recipes: train, recognise what was never taught as a class.

Called by `python -m t2i.runs.clip_recipes train` and `... evaluate`; what they find goes to the
JSON file beside the weights, from which the lesson's own tables are made. `python -m
t2i.runs.clip_runs` trains for a short time with small, middling and large batches and adds what
comes out.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.bpe import Tokenizer
from t2i.clip import CLIP
from t2i.files.checkpoint import digest
from t2i.files.results import machine, share_of, update_json
from t2i.runs.clip_batches import LENGTH, WORLDS, caption_tokenizer, captions_of
from t2i.runs.clip_recipes import WEIGHTS, clip_loss, clip_recipe, load_clip
from t2i.runs.recipe_runs import train_weights
from t2i.training import train
from t2i.world.caption_synonyms import SYNONYMS
from t2i.world.captions import COLOURS, KINDS, SIZES, article
from t2i.world.scene_specs import Specs, draw_specs
from t2i.world.scenes import paint

PAIRS = 512  # of a retrieval
BATCH_SIZES, PICTURES = (16, 64, 256), 65_536


def train_recipe(tier: str, out: Path, device: torch.device) -> dict:
    """Train a tier's recipe on scenes, write weights (fp16) and how the training went (JSON)."""
    plan = clip_recipe(tier)
    return train_weights(plan, plan.batches(), clip_loss, out, device, tier=tier)


def evaluate(path: Path, count: int, device: torch.device, seed: int = 1) -> dict:
    """Zero-shot recognition and retrieval with unseen handwriting, added to the JSON file.

    Args:
        path: the weights.
        count: pictures of each set, 1000 or more for figures to quote.
        seed: of the scenes.
    """
    model, tokenizer, _ = load_clip(path)
    model, started = model.to(device), time.perf_counter()
    result = {"weights": digest(path), "zero_shot": {}, "retrieval": {}}
    for world in WORLDS:
        for split in ("train", "heldout_pairs"):
            specs = draw_specs(range(count), split, world, seed)
            result["zero_shot"][f"{world}/{split}"] = zero_shot(model, tokenizer, specs)
        for split in ("train", "heldout_pairs", "heldout_phrasings"):
            specs = draw_specs(range(PAIRS), split, world, seed)
            result["retrieval"][f"{world}/{split}"] = retrieval(model, tokenizer, specs)
    result["evaluation_seconds"] = round(time.perf_counter() - started, 1)
    result["evaluation_machine"] = machine(device)
    update_json(path.with_suffix(".json"), result)
    return result


def class_texts(said_otherwise: bool = False) -> dict[str, list[list[str]]]:
    """What zero-shot recognition reads: for each class, captions that describe it.

    Args:
        said_otherwise: name the classes by their synonyms, "crimson" and "scarlet" for red.

    Returns:
        "colour": (8, 16) or (8, 32) captions, "object": (16, 8) or (16, 16), "pair": (128, 1 or 4).
    """

    def names(plain: str) -> Sequence[str]:
        return SYNONYMS[plain] if said_otherwise else (plain,)

    def told(colour: str, kind: str) -> list[str]:
        return [_named(f"{c} {k}") for c in names(colour) for k in names(kind)]

    def plain_colour(colour: str) -> list[str]:
        return [_named(f"{name} {kind}") for name in names(colour) for kind in KINDS]

    def plain_kind(kind: str) -> list[str]:
        return [_named(f"{colour} {name}") for name in names(kind) for colour in COLOURS]

    return {
        "colour": [plain_colour(colour) for colour in COLOURS],
        "object": [plain_kind(kind) for kind in KINDS],
        "pair": [told(colour, kind) for colour in COLOURS for kind in KINDS],
    }


@torch.no_grad()
def text_features(model: CLIP, tokenizer: Tokenizer, texts: Sequence[Sequence[str]]) -> Tensor:
    """Features of K classes described in P ways each: (K, P, D)."""
    device = model.logit_scale.device
    flat = [text for row in texts for text in row]
    parts = [
        model.encode_texts(tokenizer(flat[first : first + 512], LENGTH).to(device))
        for first in range(0, len(flat), 512)
    ]
    return torch.cat(parts).unflatten(0, (len(texts), -1))


@torch.no_grad()
def image_features(model: CLIP, images: Tensor) -> Tensor:
    """Features of pictures (N, 3, H, W), a part at a time: (N, D)."""
    device = model.logit_scale.device
    return torch.cat([model.encode_images(part.to(device)) for part in images.split(256)])


def closest_class(image_features: Tensor, text_features: Tensor) -> Tensor:
    """The likeliest class of `clip.zero_shot_probabilities`, for which no probability is needed.

    Lesson 7 counts with it while it trains, before that function is written.

    Args:
        image_features: (N, D).
        text_features: (K, P, D): each of K classes described in P ways.

    Returns:
        (N,) int64.
    """
    ways = F.normalize(text_features, dim=-1)
    return (image_features @ F.normalize(ways.mean(dim=1), dim=-1).T).argmax(dim=1)


def zero_shot(model: CLIP, tokenizer: Tokenizer, specs: Specs) -> dict:
    """How often the best-fitting description is the right one, each with chance beside it.

    Returns:
        "colour", "object", "pair", the same "… said otherwise", and "object, small" and "…, large"
        where there are sizes: share, low, high, chance.
    """
    images = image_features(model, paint(specs, digits="test"))
    colour, kind = (torch.from_numpy(values[:, 0]) for values in (specs.colour, specs.kind))
    right = {"colour": colour, "object": kind, "pair": colour * len(KINDS) + kind}
    found = {"n": len(specs)}
    for otherwise, ending in ((False, ""), (True, " said otherwise")):
        for name, texts in class_texts(otherwise).items():
            features = text_features(model, tokenizer, texts)
            seen = closest_class(images, features).cpu()
            hits = seen == right[name]
            found[name + ending] = _counted(hits, len(texts))
            for number, size in enumerate(SIZES):
                there = torch.from_numpy(specs.size == number)
                if name == "object" and there.any() and not ending:
                    found[f"object, {size}"] = _counted(hits[there], len(texts))
    return found


def _counted(hits: Tensor, classes: int) -> dict:
    found = share_of(hits.tolist()) | {"chance": 1 / classes}
    return {name: round(value, 4) for name, value in found.items()}


def retrieval(model: CLIP, tokenizer: Tokenizer, specs: Specs) -> dict:
    """Among all captions the one of each picture, among all pictures the one of each caption.

    Returns:
        for "picture to caption" and "caption to picture": `first`, how often the best fit is the
        very partner; `chance` of that; `perfect`, what a reader gets who makes no mistake, takes
        of the captions that are true of a picture the one whose details fit the fewest, and
        guesses where several are equal; `true`, how often the best fit is at least true.
    """
    images = image_features(model, paint(specs, digits="test"))
    texts = text_features(model, tokenizer, [captions_of(specs)])[0]
    alike = (F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T).cpu().numpy()
    true, fitting = truths(specs)  # (pictures, captions), (captions,)
    told = true / fitting[None, :]
    most = told == told.max(axis=1, keepdims=True)  # true captions that tell the most
    own = np.arange(len(specs))
    perfect = (np.diag(most) / most.sum(1), 1 / true.sum(0))
    ways = {"picture to caption": (alike, true), "caption to picture": (alike.T, true.T)}
    found = {"n": len(specs)}
    for (name, (fits, fine)), ideal in zip(ways.items(), perfect, strict=True):
        best = fits.argmax(1)
        found[name] = {
            "first": round(float((best == own).mean()), 4),
            "chance": round(1 / len(specs), 4),
            "perfect": round(float(ideal.mean()), 4),
            "true": round(float(fine[own, best].mean()), 4),
        }
    return found


def truths(specs: Specs) -> tuple[np.ndarray, np.ndarray]:
    """Which captions are true of which lone-object pictures, and how much their details tell.

    Returns:
        (N, N) bool, true[i, j]: caption j is true of picture i; (N,) the share of these pictures
        that caption j's size, place and background fit: 1 where it names none.
    """
    true = (specs.kind[:, :1] == specs.kind[:, 0]) & (specs.colour[:, :1] == specs.colour[:, 0])
    details = np.ones_like(true)
    scenes = [specs.told(row) for row in range(len(specs))]
    columns = {
        "size": (specs.size, [scene.things[0].size for scene in scenes]),
        "place": (specs.place, [scene.things[0].place for scene in scenes]),
        "background": (specs.background, [scene.background for scene in scenes]),
    }
    for values, words in columns.values():
        told = np.array([word is not None for word in words])
        details &= (values[:, None] == values[None, :]) | ~told[None, :]
    return true & details, details.mean(axis=0)


def batch_sizes(path: Path, device: torch.device, pictures: int = PICTURES) -> dict:
    """The same number of pictures in small, middling and large batches, and what comes of it.

    Args:
        path: weights, beside which the figures are written; they are not needed themselves.
        device: where to train.
        pictures: of each run.
    """
    plan, tokenizer, found = clip_recipe("cpu"), caption_tokenizer(), {}
    for size in BATCH_SIZES:
        training = replace(plan.training, steps=pictures // size)
        short = replace(plan, batch_size=size, training=training)
        started = time.perf_counter()
        *_, state = train(short.build().to(device), clip_loss, short.batches(), training)
        seconds = round(time.perf_counter() - started, 1)
        model = state.ema_model.eval()
        found[str(size)] = {"steps": training.steps, "seconds": seconds}
        for split in ("train", "heldout_pairs"):
            specs = draw_specs(range(1024), split, "one", 1)
            found[str(size)][split] = zero_shot(model, tokenizer, specs)
        specs = draw_specs(range(PAIRS), "train", "lone", 1)
        found[str(size)]["retrieval"] = retrieval(model, tokenizer, specs)
    result = {"batch_sizes": {"pictures": pictures, "machine": machine(device), "runs": found}}
    update_json(path.with_suffix(".json"), result)
    return result


def _named(words: str) -> str:
    return f"{article(words)} {words}"


def main() -> None:
    """Train with several batch sizes and write down what they gave."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(json.dumps(batch_sizes(WEIGHTS, device), indent=1))


if __name__ == "__main__":
    main()
