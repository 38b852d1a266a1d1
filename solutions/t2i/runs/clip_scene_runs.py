"""Does lesson 6's denoiser understand words that it never saw, if CLIP reads them to it?

Called by `python -m t2i.runs.clip_scene_recipes train` and `... evaluate`. Two networks draw the
same captions from the same noise: lesson 6's, with a vector for each word, and the same with CLIP.
In the plain captions both know all words; in those said otherwise every colour and every object has
a name that neither was trained to draw. Lesson 6's network needs vectors for these names, and gets
what it would have, had they stood in its table from the first day: random, never trained.
"""

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from t2i.engine.batches import stream_seed
from t2i.files.checkpoint import digest
from t2i.files.results import machine, share_told, update_json
from t2i.judging.scene_judge import look
from t2i.runs.clip_batches import LENGTH as CLIP_LENGTH
from t2i.runs.clip_batches import caption_tokenizer, captions_of
from t2i.runs.clip_scene_recipes import (
    clip_scene_loss,
    clip_scene_recipe,
    draw_tokens,
    empty_caption,
    load_clip_scenes,
)
from t2i.runs.recipe_runs import train_weights
from t2i.runs.scene_recipes import LENGTH, ByTokens, load_scenes
from t2i.runs.scene_recipes import WEIGHTS as SCENES
from t2i.runs.scene_runs import count_lone_views, prompts
from t2i.text_unet import SceneDenoiser
from t2i.world.caption_reading import PADDING, VOCABULARY, parse
from t2i.world.caption_synonyms import WORDS
from t2i.world.scene_heldout import HELDOUT_PAIRS

PART = 64  # pictures drawn at once
_NUMBER = {word: number for number, word in enumerate((*VOCABULARY, *WORDS))}


def train_recipe(tier: str, out: Path, device: torch.device) -> dict:
    """Train a tier's recipe, write weights (fp16) and how the training went (JSON)."""
    plan = clip_scene_recipe(tier)
    return train_weights(plan, plan.batches(), clip_scene_loss, out, device, tier=tier)


def evaluate(path: Path, count: int, device: torch.device, seed: int = 0) -> dict:
    """Let both networks draw plain captions and the same captions said otherwise; the judge looks.

    Args:
        path: weights of the network with CLIP; the figures go to the .json beside them.
        count: captions of each kind.
        seed: of phrasings and noise.
    """
    started = time.perf_counter()
    readers = {
        "one vector per word": by_words(load_scenes()[0].to(device)),
        "CLIP": by_clip(load_clip_scenes(path)[0].to(device)),
    }
    specs = prompts(~HELDOUT_PAIRS, count, "train", seed)
    asked = [parse(caption) for caption in specs.captions()]
    found: dict = {name: {} for name in readers}
    for kind, share in (("plain", 0.0), ("said otherwise", 1.0)):
        captions = captions_of(specs, share)
        for name, read in readers.items():
            views = look(draw(read, captions, seed, f"{name}, {kind}"))
            counted = count_lone_views(views, asked, specs)
            counted.pop("failures")
            found[name][kind] = counted
            print(name, kind, counted)
    result = {
        "weights": digest(path),
        "words_weights": digest(SCENES),
        "drawn": found,
        "examples": captions_of(specs, 1.0)[:6],
        "sampling_seconds": round(time.perf_counter() - started, 1),
        "sampling_machine": machine(device),
    }
    update_json(path.with_suffix(".json"), result)
    return result


Read = Callable[[Sequence[str]], tuple[nn.Module, Tensor, int | Tensor]]


def by_clip(model: nn.Module) -> Read:
    """How the network with CLIP takes captions: model, tokens, and the tokens of nothing."""
    return lambda captions: (model, caption_tokenizer()(captions, CLIP_LENGTH), empty_caption())


def by_words(model: SceneDenoiser, seed: int = 0) -> Read:
    """How lesson 6's network takes captions, with untrained vectors for the words it lacks.

    Args:
        model: lesson 6's; its table of words grows in place.
        seed: of the new vectors, drawn as every word's vector was before training.
    """
    table = model.words.words
    generator = torch.Generator().manual_seed(seed)
    new = torch.randn(len(WORDS), table.embedding_dim, generator=generator)
    if table.num_embeddings == len(VOCABULARY):
        grown = torch.cat([table.weight.data, new.to(table.weight)])
        model.words.words = nn.Embedding.from_pretrained(grown)
    return lambda captions: (ByTokens(model), word_tokens(captions), PADDING)


def word_tokens(captions: Sequence[str], length: int = LENGTH) -> Tensor:
    """Captions as `caption_reading.encode` gives them; synonyms have the numbers after all others.

    Raises:
        ValueError: a word that is neither.
    """
    tokens = torch.full((len(captions), length), PADDING)
    for row, caption in enumerate(captions):
        words = re.findall(r"[^\s,.:;!?]+", caption.lower())
        unknown = [word for word in words if word not in _NUMBER]
        if unknown:
            raise ValueError(f"its table has no vector for {unknown[0]!r}")
        numbers = [_NUMBER[word] for word in words]
        tokens[row, : len(numbers)] = torch.tensor(numbers)
    return tokens


def draw(read: Read, captions: Sequence[str], seed: int, name: str = "") -> Tensor:
    """A picture for each caption, a part at a time; the noise depends on the seed alone."""
    model, tokens, null = read(captions)
    parts = tqdm(tokens.split(PART), desc=name, unit="batch")
    drawn = [
        draw_tokens(model, part, null, stream_seed("told", seed, i)) for i, part in enumerate(parts)
    ]
    return torch.cat(drawn)


def draw_readable(read: Read, captions: Sequence[str], seed: int, name: str = "") -> Tensor:
    """As draw; but a caption that cannot be read is told, and its picture stays empty.

    Raises:
        ValueError: none of them can be read.
    """
    problems: dict[int, ValueError] = {}
    for row, caption in enumerate(captions):
        try:
            read([caption])
        except ValueError as error:
            problems[row] = error
            print(f"{name} paints nothing for {caption!r}: {error}")
    known = [caption for row, caption in enumerate(captions) if row not in problems]
    if not known:
        raise next(iter(problems.values()))
    told = [known[0] if row in problems else caption for row, caption in enumerate(captions)]
    drawn = draw(read, told, seed, name)
    drawn[list(problems)] = 0  # grey
    return drawn


def summary(measured: dict) -> list[tuple[str, ...]]:
    """The figures of evaluate as rows of text: reader, captions, n, then shares in percent."""
    rows = []
    for kind in ("plain", "said otherwise"):
        for name, sets in measured["drawn"].items():
            found = sets[kind]
            cells = [found[key] for key in ("colour", "object", "satisfied", "shuffled")]
            shares = [share_told(each) for each in cells]
            rows.append((kind, name, str(found["n"]), *shares))
    return rows
