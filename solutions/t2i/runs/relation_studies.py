"""Does a denoiser put two things where the caption wants them? Lesson 9 draws, and counts.

Works on lesson 6's SceneDenoiser and on lesson 9's transformers alike.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from t2i.files.results import wilson
from t2i.guidance import sample_guided
from t2i.judging.scene_judge import View, in_order, look, shows
from t2i.runs.dit_studies import HELDOUT
from t2i.runs.scene_recipes import ByTokens
from t2i.samplers import spaced_timesteps
from t2i.world.caption_reading import MAX_LENGTH, PADDING, encode
from t2i.world.captions import Scene
from t2i.world.scene_specs import Specs, draw_specs
from t2i.world.scenes import paint

DRAWN = 32  # pictures drawn at once


def relation_prompts(count: int, split: str = "train", world: str = "many") -> Specs:
    """Two-object scenes whose captions tell the relation.

    Args:
        count: how many.
        split: "train", or "heldout_triples" for relations that training never shows.
        world: one of WORLDS.
    """
    specs = draw_specs(range(8 * count + 40), split, world, HELDOUT)
    rows = [i for i in range(len(specs)) if specs.count[i] == 2 and specs.told(i).relation]
    if len(rows) < count:
        raise ValueError(f"of {len(specs)} scenes only {len(rows)} tell a relation of two things")
    return specs.take(np.array(rows[:count]))


def count_relations(views: Sequence[View], asked: Sequence[Scene]) -> dict:
    """How often two things are where the caption wants them.

    Returns:
        n, and with 95 % intervals: `both` (both colours are there), `placed` (and stand in the
        relation asked for), `satisfied` (and are the right objects, and nothing besides),
        `placed_of_both` (of the pictures with both colours, those that stand right), and
        `any_relation`: the same if any one of the four relations had been asked for, divided by
        four: what placing without reading the relation gives.
    """
    both, placed, any_of_four = [], [], []
    for view, scene in zip(views, asked, strict=True):
        where = {thing.colour: place for thing, place in zip(view.things, view.places, strict=True)}
        there = all(thing.colour in where for thing in scene.things)
        places = [where[thing.colour] for thing in scene.things] if there else []
        orders = [(places, r) for r in ("left of", "above")]
        orders += [(places[::-1], r) for r in ("left of", "above")]
        both.append(there)
        placed.append(there and in_order(places, scene.relation))
        any_of_four.append(sum(in_order(*order) for order in orders) if there else 0)
    satisfied = [shows(view, scene) for view, scene in zip(views, asked, strict=True)]
    result = {"n": len(views)}
    for name, hits, of in (
        ("both", sum(both), len(both)),
        ("placed", sum(placed), len(placed)),
        ("satisfied", sum(satisfied), len(satisfied)),
        ("placed_of_both", sum(placed), sum(both)),
    ):
        low, high = wilson(hits, of) if of else (0.0, 1.0)
        share = hits / of if of else 0.0
        result[name] = {"share": round(share, 4), "low": round(low, 4), "high": round(high, 4)}
    result["any_relation"] = round(sum(any_of_four) / 4 / max(1, sum(both)), 4)
    return result


def judge_relations(model: nn.Module, specs: Specs, steps: int, side: int, scale: float) -> dict:
    """Draw these captions and count their relations; beside it what the judge says of real scenes.

    Args:
        model: a SceneDenoiser or a JointDenoiser.
        specs: from relation_prompts.
        steps: of the sampler.
        side: height and width of the pictures.
        scale: of the guidance.
    """
    asked = [specs.told(row) for row in range(len(specs))]
    drawn = draw_scenes(model, specs.captions(), steps, side, scale)
    found = count_relations(look(drawn), asked)
    return found | {"rendered": count_relations(look(paint(specs, side, "test")), asked)}


def draw_scenes(
    model: nn.Module, captions: Sequence[str], steps: int, side: int, scale: float, seed: int = 0
) -> Tensor:
    """A picture (B, 3, side, side) for each caption, with guided DDIM; on the CPU."""
    ac, parts = model.alphas_cumprod, []
    generator = torch.Generator().manual_seed(seed)
    timesteps = spaced_timesteps(len(ac), steps)
    for first in range(0, len(captions), DRAWN):
        tokens = encode(captions[first : first + DRAWN], MAX_LENGTH)[0].to(ac.device)
        x_T = torch.randn(len(tokens), 3, side, side, generator=generator).to(ac.device)
        parts.append(
            sample_guided(ByTokens(model), x_T, tokens, PADDING, ac, timesteps, scale).cpu()
        )
    return torch.cat(parts)
