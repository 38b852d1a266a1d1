"""The reference runs of lesson 6's recipes: train, draw what captions ask for, count who got it.

Called by `python -m t2i.runs.scene_recipes train` and `... evaluate`; what they find goes to the
JSON file beside the weights, from which the lesson's own table is made.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from t2i.engine.batches import stream_seed
from t2i.files.checkpoint import digest
from t2i.files.results import machine, share_of, share_told, update_json
from t2i.judging.scene_judge import View, look, shows
from t2i.runs.class_recipes import COND_DROP_PROB
from t2i.runs.recipe_runs import train_weights
from t2i.runs.scene_recipes import (
    ETA,
    GUIDANCE_SCALE,
    INFERENCE_STEPS,
    draw_captions,
    load_scenes,
    scene_loss,
    scene_recipe,
)
from t2i.text_unet import SceneDenoiser
from t2i.world.caption_reading import parse
from t2i.world.captions import Scene, phrase
from t2i.world.scene_heldout import HELDOUT_PAIRS
from t2i.world.scene_specs import Specs, draw_specs
from t2i.world.scenes import paint

PART = 64  # pictures drawn at once


def train_recipe(tier: str, out: Path, device: torch.device) -> dict:
    """Train a tier's recipe on scenes, write weights (fp16) and how the training went (JSON)."""
    plan = scene_recipe(tier)
    info = {"tier": tier, "cond_drop_prob": COND_DROP_PROB}
    return train_weights(plan, plan.batches(), scene_loss, out, device, **info)


def evaluate(path: Path, count: int, device: torch.device, seed: int = 0) -> dict:
    """Draw captions of seen pairs, held-out pairs and held-out phrasings; let the judge look.

    Args:
        path: the weights; the figures go to the .json beside them.
        count: captions of seen pairs, 1000 or more for figures to quote; half as many of the
            held-out pairs, and of the held-out phrasings (told of seen pairs).
        seed: of the noise and of the phrasings.

    Returns:
        for each set n and the shares (with 95 % intervals) of pictures with the right colour, the
        right object, the caption satisfied, the same pictures judged by another picture's caption
        (shuffled), and the rendered ceiling: real scenes of unseen digits, made for the captions.
    """
    model, started = load_scenes(path)[0].to(device), time.perf_counter()
    sets = {
        "seen_pairs": prompts(~HELDOUT_PAIRS, count, "train", seed),
        "heldout_pairs": prompts(HELDOUT_PAIRS, -(-count // 2), "train", seed + 1),
        "heldout_phrasings": prompts(~HELDOUT_PAIRS, -(-count // 2), "heldout_phrasings", seed + 2),
    }
    found = {}
    for number, (name, specs) in enumerate(sets.items()):
        captions = specs.captions()
        views = look(draw(model, captions, stream_seed(seed, number), name))
        found[name] = count_lone_views(views, [parse(caption) for caption in captions], specs)
        print(name, {key: value for key, value in found[name].items() if key != "failures"})
    smooth = sets["seen_pairs"].captions()
    views = look(draw(model, smooth, stream_seed(seed, 0), "without fresh noise", eta=0.0))
    smooth_hits = _all_shown(views, [parse(caption) for caption in smooth])
    result = {
        "guidance_scale": GUIDANCE_SCALE,
        "inference_steps": INFERENCE_STEPS,
        "eta": ETA,
        "captions": found,
        "satisfied_without_fresh_noise": share_of(smooth_hits) | {"n": len(smooth)},
        "sampling_seconds": round(time.perf_counter() - started, 1),
        "sampling_machine": machine(device),
        "weights": digest(path),
    }
    update_json(path.with_suffix(".json"), result)
    return result


def prompts(pairs: np.ndarray, count: int, split: str, seed: int) -> Specs:
    """Scenes of one object in which each of these pairs comes up equally often, in turn.

    Args:
        pairs: (8, 16) bool, which colours and kinds are wanted together.
        count: scenes.
        split: whose phrasings are used.
        seed: of phrasings and places.
    """
    colour, kind = np.nonzero(pairs)
    if not len(colour) or count < 1:
        raise ValueError(f"prompts needs a pair and a count of 1 or more, got {count}")
    specs, turn = draw_specs(range(count), split, "one", seed), np.arange(count) % len(colour)
    colours, kinds = specs.colour.copy(), specs.kind.copy()
    colours[:, 0], kinds[:, 0] = colour[turn], kind[turn]
    return replace(specs, colour=colours, kind=kinds)


def set_name(key: str) -> str:
    """ "heldout_pairs" as a reader says it."""
    return key.replace("held_out", "held-out").replace("heldout", "held-out").replace("_", " ")


def draw(
    model: SceneDenoiser, captions: Sequence[str], seed: int, name: str = "", eta: float = ETA
) -> Tensor:
    """A picture for each caption, a part at a time; the noise depends on the seed alone."""
    parts = [captions[first : first + PART] for first in range(0, len(captions), PART)]
    bar = tqdm(parts, desc=name, unit="batch")
    drawn = [
        draw_captions(model, part, stream_seed(seed, i), eta=eta) for i, part in enumerate(bar)
    ]
    return torch.cat(drawn)


def count_lone_views(views: Sequence[View], asked: Sequence[Scene], specs: Specs) -> dict:
    """How many pictures of one thing show its colour, its object, and all that was asked for."""
    wanted = [scene.things[0] for scene in asked]
    order = np.random.default_rng(len(asked)).permutation(len(asked))
    other = [asked[row] for row in order]  # right by chance alone
    ceiling = look(paint(specs, digits="test"))
    pairs = list(zip(views, wanted, strict=True))
    hits = {
        "colour": [thing.colour in {t.colour for t in view.things} for view, thing in pairs],
        "object": [thing.kind in {t.kind for t in view.things} for view, thing in pairs],
        "satisfied": _all_shown(views, asked),
        "shuffled": _all_shown(views, other),
        "rendered": _all_shown(ceiling, asked),
    }
    result = {"n": len(views), "nothing_seen": sum(not v.things for v in views) / len(views)}
    for name, right in hits.items():
        result[name] = share_of(right)
    wrong = [row for row, right in enumerate(hits["satisfied"]) if not right]
    told = {row: [f"{t.colour} {t.kind}" for t in views[row].things] for row in wrong}
    result["failures"] = [[phrase(asked[row]), told[row]] for row in wrong]  # asked, seen
    return result


def summary(measured: dict) -> list[tuple[str, ...]]:
    """The figures of evaluate as rows of text, for a table: set, n, then each share in percent."""
    names = ("colour", "object", "satisfied", "shuffled", "rendered")
    rows = []
    for name, found in measured["captions"].items():
        shares = [share_told(found[key]) for key in names]
        rows.append((set_name(name), str(found["n"]), *shares))
    return rows


def _all_shown(views: Sequence[View], asked: Sequence[Scene]) -> list[bool]:
    return [shows(view, scene) for view, scene in zip(views, asked, strict=True)]
