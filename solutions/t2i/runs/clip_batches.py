"""What lesson 7's CLIP learns from: scenes, and the tokens of their captions, without end.

    batches = ClipBatches(256)                        # what train() wants; next(batches) is
    images, tokens = next(batches)                    # (256, 3, 32, 32), (256, 20)

Batch i of a seed is always the same batch.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from t2i.bpe import Tokenizer, train_bpe
from t2i.engine.batches import refuse_other_data
from t2i.world.caption_synonyms import say_otherwise
from t2i.world.scene_specs import Specs, draw_specs
from t2i.world.scenes import paint

WORLDS = ("one", "lone")  # half of a batch from each: large things on black, and all the rest
SIZE, LENGTH = 32, 20  # of the scenes, in pixels; of the captions, in tokens
NUM_MERGES = 400  # fewer come out: then each word is one piece
SYNONYM_SHARE = 0.5  # of the colours and objects in the training captions


@cache
def caption_tokenizer(world: str = WORLDS[-1]) -> Tokenizer:
    """The tokenizer of a world's captions: BPE trained on 4000 of the training captions."""
    return Tokenizer(train_bpe(captions_of(draw_specs(range(4000), world=world)), NUM_MERGES))


def captions_of(specs: Specs, share: float = SYNONYM_SHARE) -> list[str]:
    """The captions of scenes, in which other words stand for some colours and lone objects.

    Args:
        specs: what is to be told.
        share: of the colours and of the objects that get another name; 0: none, 1: all.
    """
    draws = specs.phrasing[:, 8:10]  # the two numbers that the phrasing itself leaves unused
    told = zip(specs.captions(), draws, specs.count == 1, strict=True)
    return [
        say_otherwise(caption, tuple(pair), share) if lone else caption
        for caption, pair, lone in told
    ]


class ClipBatches:
    """Endless batches of scenes and the tokens of their captions for train(), never one twice.

    Args:
        batch_size: pairs in a batch, as many from each world.
        tokenizer: of the captions; None: that of the last world's.
        seed: of the scenes.
        worlds, size, length: as in ClipRecipe.
    """

    def __init__(
        self,
        batch_size: int,
        tokenizer: Tokenizer | None = None,
        seed: int = 0,
        worlds: Sequence[str] = WORLDS,
        size: int = SIZE,
        length: int = LENGTH,
    ):
        if batch_size < 2 or batch_size % len(worlds):
            raise ValueError(
                f"batch_size must be 2 or more and a multiple of {len(worlds)} (as many scenes "
                f"from each world), got {batch_size}"
            )
        self.worlds, self.size, self.length, self.device = tuple(worlds), size, length, "cpu"
        self.batch_size, self.seed, self.position = batch_size, seed, 0
        self._tokenizer = tokenizer or caption_tokenizer(worlds[-1])
        self._words: dict[str, list[int]] = {}  # those that came up before

    def on(self, device: str | torch.device) -> "ClipBatches":
        """The same batches, from now on painted on this device, where the pictures stay."""
        self.device = device
        return self

    def __iter__(self) -> "ClipBatches":
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        share = self.batch_size // len(self.worlds)
        numbers = range(self.position * share, (self.position + 1) * share)
        parts = [draw_specs(numbers, world=world, seed=self.seed) for world in self.worlds]
        self.position += 1
        captions = [caption for specs in parts for caption in captions_of(specs)]
        return self._paint(parts), self._tokens(captions)

    def _paint(self, parts: Sequence[Specs]) -> Tensor:
        return torch.cat([paint(specs, self.size, device=self.device) for specs in parts])

    def _tokens(self, captions: Sequence[str]) -> Tensor:
        rows = token_rows(captions, self._tokenizer, self.length, self._words)
        return torch.from_numpy(rows).long()

    def state(self) -> dict:
        """What restore needs to go on from here."""
        kind = {"worlds": list(self.worlds), "size": self.size, "length": self.length}
        return kind | {"batch_size": self.batch_size, "seed": self.seed, "position": self.position}

    def restore(self, state: dict) -> None:
        """Go on where such a ClipBatches stood; ValueError when its scenes were others."""
        refuse_other_data(self.state(), state)
        self.position = state["position"]


def token_rows(
    captions: Sequence[str],
    tokenizer: Tokenizer,
    length: int,
    known: dict[str, list[int]] | None = None,
) -> np.ndarray:
    """The numbers of captions as the tokenizer has them, but every word is looked up only once.

    Args:
        captions: B texts.
        tokenizer: of at most 32,768 pieces.
        length: L.
        known: the words of earlier calls with their numbers; new ones are added.

    Returns:
        (B, L) int16.
    """
    known = {} if known is None else known
    rows = np.full((len(captions), length), tokenizer.end, dtype=np.int16)
    rows[:, 0] = tokenizer.start
    for row, caption in zip(rows, captions, strict=True):
        numbers = []
        for word in caption.split():
            if word not in known:
                known[word] = tokenizer.encode(word)[1:-1]
            numbers += known[word]
        numbers = numbers[: length - 2]
        row[1 : 1 + len(numbers)] = numbers
    return rows
