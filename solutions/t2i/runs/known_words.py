"""Which words a model of lesson 10 has met, and what to say of a prompt that has others.

known = words_known("data/checkpoints/scenes")
print(remarks(pipe, "a red zebra", known))   # No caption that the model learnt from has “zebra”
"""

import difflib
import re
from pathlib import Path

from t2i.files.folders import read_json
from t2i.runs.clip_batches import captions_of
from t2i.runs.text_to_image_recipes import RECIPES, text_to_image_recipe
from t2i.text_to_image import TextToImage
from t2i.world.captions import BACKGROUNDS, COLOURS, DIGITS, PLACES, SHAPES, SIZES
from t2i.world.scene_specs import WORLDS, draw_specs

SCENE_EXAMPLES = (
    "a red seven",
    "a green heart on a white background",
    "a blue star above a yellow circle",
    "a pink 3 to the left of a cyan square",
)
OF_THREE = "a red 1, a green star and a blue 4, from left to right"
SCENES = 3000  # whose captions are looked through for the words that a model knows


def words_known(folder: Path) -> frozenset[str]:
    """The words of the captions that a model learnt from; empty if its folder does not tell.

    Args:
        folder: a model's; `training.json` in it names the tier of one that learnt from scenes,
            and the words of one that learnt from a folder.
    """
    log = _log(folder)
    if "held_out" in log or log.get("tier") not in RECIPES:
        return frozenset(log.get("words", ()))
    plan = text_to_image_recipe(log["tier"])
    specs = draw_specs(range(SCENES), "train", plan.world)
    told = specs.captions() + (captions_of(specs) if plan.stored else [])  # these have synonyms
    return frozenset(word for caption in told for word in split_prompt(caption))


def examples_of(folder: Path) -> tuple[str, ...]:
    """Prompts to try with a model: of one that learnt from a folder, names that it never saw."""
    log = _log(folder)
    names = log.get("held_out") or ()
    if names:
        return tuple(names[:: max(1, len(names) // 4)][:4])
    tier = log.get("tier")
    three = tier in RECIPES and 3 in WORLDS[text_to_image_recipe(tier).world].counts
    return (*SCENE_EXAMPLES[:3], OF_THREE) if three else SCENE_EXAMPLES


def _log(folder: Path) -> dict:
    """What training.json of a model says; nothing without it."""
    path = folder / "training.json"
    return read_json(path) if path.is_file() else {}


def told_words(known: frozenset[str]) -> str:
    """A sentence on the words that a model of scenes knows; of another one nothing."""
    if not known.issuperset(COLOURS):
        return ""
    places = tuple(PLACES.values()) if "middle" in known else ()  # else left belongs to a relation
    parts = (
        ("the colours", COLOURS),
        ("the digits (or 0 to 9)", DIGITS),
        ("the shapes", SHAPES),
        ("the sizes", SIZES),
        ("the places", places),
        ("and", ("left of", "right of", "above", "below")),
        ("on backgrounds that are", BACKGROUNDS),
    )
    told = []
    for name, words in parts:
        here = [word for word in words if known.issuperset(word.split())]
        if here:
            told.append(f"{name} {', '.join(here)}")
    return f" It knows {'; '.join(told)}."


def remarks(pipe: TextToImage, prompt: str, known: frozenset[str]) -> str:
    """What to say about a prompt that is drawn all the same; often nothing.

    Args:
        pipe: the model.
        prompt: what was typed.
        known: as words_known gives them; empty: any word may be known.
    """
    told = []
    strange = [word for word in split_prompt(prompt) if known and word not in known]
    if strange:
        near = {word: difflib.get_close_matches(word, known, 1, 0.75) for word in strange}
        hints = [f"{words[0]} instead of {word}" for word, words in near.items() if words]
        hint = f" Did you mean {' and '.join(hints)}?" if hints else ""
        names = " or ".join(f"“{word}”" for word in strange)
        told.append(
            f"No caption that the model learnt from has {names}: it draws all the same, and can "
            f"only go by the rest.{hint}{told_words(known)}"
        )
    length = len(pipe.text.positions)
    if len(pipe.tokenizer.encode(prompt)) > length:
        told.append(f"The prompt is long: the model reads its first {length - 2} pieces only.")
    return " ".join(told)


def split_prompt(text: str) -> list[str]:
    """The words of a prompt or a caption, lower case, each one once."""
    return list(dict.fromkeys(re.findall(r"[^\s,.:;!?\"()]+", text.lower())))
