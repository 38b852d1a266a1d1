"""Scenes painted once and kept in a GPU's memory: a GPU learns faster than a processor paints.

    store = SceneStore(400_000, "many", 64, tokenizer, length=32, device="cuda")
    store.levels, store.tokens                        # (N, 3, 64, 64) uint8, (N, 32)
    images, tokens, rows, wrong = next(StoredPairs(store, 1024, steps=5000))

The scenes are those of SceneBatches and PairBatches, and nothing that these hold out is among them.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from t2i.bpe import Tokenizer
from t2i.engine.batches import Batches, refuse_other_data
from t2i.files.picture_files import to_images
from t2i.runs.clip_batches import captions_of, token_rows
from t2i.runs.pair_clip import PLAIN_SHARE, tell_plainly
from t2i.world.captions import COLOURS
from t2i.world.scene_specs import Specs, draw_specs
from t2i.world.scenes import paint
from t2i.world.wrong_captions import replaced_captions, swapped_captions, wrong_chances

PART = 5000  # scenes painted or told at once
WRONG = 3  # wrong captions of each scene


@dataclass
class SceneStore:
    """The first scenes of a world's training split, painted and told when they are first asked for.

    Args:
        count: how many.
        world, size: as in scenes.
        tokenizer: of the captions.
        length: tokens of a caption.
        device: where the pictures and the numbers are kept; 12 kB a scene of 64 × 64.
    """

    count: int
    world: str
    size: int
    tokenizer: Tokenizer
    length: int
    device: str | torch.device = "cpu"

    data = "scenes"  # what is learned from, as a workshop calls it

    def __len__(self) -> int:
        return self.count

    @property
    def plain(self) -> int:
        """So many of the scenes, the first ones, are told in the order of the picture."""
        return round(PLAIN_SHARE * self.count)

    @cached_property
    def levels(self) -> Tensor:
        """(N, 3, size, size) uint8."""
        kept = torch.empty(self.count, 3, self.size, self.size, dtype=torch.uint8)
        kept = kept.to(self.device)
        for rows in tqdm(self._parts(), desc="painting", unit="part"):
            images = paint(draw_specs(rows, world=self.world), self.size, device=self.device)
            kept[rows.start : rows.stop] = images.add_(1).mul_(127.5).round_().byte()
        return kept

    @cached_property
    def told(self) -> tuple[Tensor, Tensor]:
        """The captions, (N, length), and WRONG wrong ones of each, (N, WRONG, length), as int16."""
        tell = partial(
            tell_scenes,
            world=self.world,
            tokenizer=self.tokenizer,
            length=self.length,
            plain=self.plain,
        )
        with ProcessPoolExecutor() as pool:
            parts = list(tqdm(pool.map(tell, self._parts()), desc="telling", total=self.num_parts))
        right, wrong = (torch.from_numpy(np.concatenate(each)) for each in zip(*parts, strict=True))
        return right.to(self.device), wrong.to(self.device)

    @property
    def tokens(self) -> Tensor:
        """(N, length) int64, the captions."""
        return self.told[0].long()

    @property
    def num_parts(self) -> int:
        """In so many parts the scenes are painted and told."""
        return -(-self.count // PART)

    def _parts(self) -> list[range]:
        ends = [self.count * part // self.num_parts for part in range(self.num_parts + 1)]
        return [range(*each) for each in pairwise(ends)]  # nearly alike: none is too small to fill


def tell_scenes(
    rows: range, world: str, tokenizer: Tokenizer, length: int, plain: int
) -> tuple[np.ndarray, np.ndarray]:
    """The captions of some scenes, and wrong ones.

    A scene of which fewer than WRONG wrong captions are known gets captions of other things.

    Args:
        rows: numbers of N scenes.
        world, tokenizer, length: as in SceneStore.
        plain: scenes below this number are told in the order of the picture, see PairBatches.

    Returns:
        (N, length) and (N, WRONG, length), int16.

    Raises:
        ValueError: the scenes are so few that one finds no other.
    """
    specs = draw_specs(rows, world=world)
    tell_plainly(specs, max(0, plain - rows.start))
    right = token_rows(captions_of(specs), tokenizer, length)
    wrong = np.zeros((len(rows), WRONG, length), dtype=np.int16)
    found = np.zeros(len(rows), dtype=int)
    chances = wrong_chances(rows, world, seed=0)
    for whose, captions in (swapped_captions(specs), replaced_captions(specs, chances)):
        for row, numbers in zip(whose, token_rows(captions, tokenizer, length), strict=True):
            wrong[row, found[row]] = numbers
            found[row] += 1
    _fill_up(wrong, found, right, specs)
    return right, wrong


def _fill_up(wrong: np.ndarray, found: np.ndarray, right: np.ndarray, specs: Specs) -> None:
    """Where captions are missing, take those of the scenes before it that hold other things."""
    there = np.arange(3) < specs.count[:, None]
    things = np.sort(np.where(there, len(COLOURS) * specs.kind + specs.colour, -1))
    for shift in range(1, WRONG * len(right) + 1):
        rows = np.flatnonzero(found < WRONG)
        if not len(rows):
            return
        others = (rows - shift) % len(right)
        apart = (things[rows] != things[others]).any(axis=1)
        rows, others = rows[apart], others[apart]
        wrong[rows, found[rows]] = right[others]
        found[rows] += 1
    if (found < WRONG).any():
        raise ValueError(f"{len(right)} scenes are too few to find wrong captions for each of them")


class StoredPairs:
    """Endless batches of a store for CLIP: (images, tokens, rows, wrong), as PairBatches has them.

    In the first steps only the scenes that are told plainly come up.

    Args:
        store: of the scenes.
        batch_size: of a batch.
        steps: of the whole training.
    """

    def __init__(self, store: SceneStore, batch_size: int, steps: int):
        self.store, self.batch_size = store, batch_size
        self.first = round(PLAIN_SHARE * steps)
        rows = torch.arange(len(store))
        self.stages = [
            Batches(rows[: store.plain], batch_size=batch_size),
            Batches(rows[store.plain :], batch_size=batch_size),
        ]
        pictures = torch.arange(batch_size, device=store.device)
        self.rows = pictures.repeat_interleave(WRONG)

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        plain, usual = self.stages
        picked = next(plain if plain.position < self.first else usual).to(self.store.device)
        right, wrong = (each[picked].long() for each in self.store.told)
        return to_images(self.store.levels[picked]), right, self.rows, wrong.flatten(0, 1)

    def state(self) -> dict:
        """What restore needs to go on from here."""
        return self._kind() | {"stages": [stage.state() for stage in self.stages]}

    def restore(self, state: dict) -> None:
        """Go on where such batches stood; ValueError when their scenes were others."""
        refuse_other_data(self._kind(), state)
        for stage, was in zip(self.stages, state["stages"], strict=True):
            stage.restore(was)

    def _kind(self) -> dict:
        """Which scenes these are, and how they are told."""
        kind = {name: getattr(self.store, name) for name in ("world", "size", "length")}
        return kind | {"plain": self.first}
