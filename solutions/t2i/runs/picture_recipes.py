"""Lesson 10's three trainings on a folder of pictures, in place of scenes.

    plan = picture_recipe("cpu", "my_pictures")       # a recipe like text_to_image_recipe("cpu")
    plan.source.captions, plan.source.held_out        # what is learned from, what is not

Sizes, steps and learning rates are the tier's. Only what is learned from is another: a Pictures
object, which holds pictures and tokens. `make train data=my_pictures` runs it.
"""

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from t2i.bpe import Tokenizer, train_bpe
from t2i.engine.batches import Batches
from t2i.files.folders import FilesError
from t2i.files.picture_files import to_images
from t2i.files.picture_folder import PictureFolder, read_folder
from t2i.runs.clip_recipes import ClipRecipe
from t2i.runs.heldout_names import split_names
from t2i.runs.known_words import split_prompt
from t2i.runs.text_to_image_recipes import PART, TextToImageRecipe, text_to_image_recipe
from t2i.runs.vae_recipes import VaeRecipe

NUM_MERGES = 1000  # pieces of words; common words become one piece
FEWEST = 2  # CLIP has to tell one picture from another


class Pictures:
    """What is learned from a folder: pictures, captions and tokens, without what is held out.

    Args:
        folder: that was read.
        length: of the captions, in tokens; a longer one is cut, which the report tells.

    Raises:
        FilesError: fewer than two pictures are left.
    """

    def __init__(self, folder: PictureFolder, length: int):
        split = split_names(folder.captions)
        if len(split.seen) < FEWEST:
            raise FilesError(
                f"{folder.report.folder} has {len(split.seen)} picture to train on, and {FEWEST} "
                f"or more are needed."
            )
        self.report, self.length = folder.report, length
        self.levels = folder.levels[split.seen]  # (N, 3, size, size) uint8
        self.captions = [folder.captions[row] for row in split.seen]
        self.held_out = [folder.captions[row] for row in split.held_out]
        for row in split.held_out:
            self.report.handle("held out of training, a word from a seen name", folder.names[row])
        self._names = [folder.names[row] for row in split.seen]

    def __len__(self) -> int:
        return len(self.captions)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Byte-pair encoding, trained on the captions."""
        return Tokenizer(train_bpe(self.captions, NUM_MERGES))

    @cached_property
    def tokens(self) -> Tensor:
        """(N, length) int64, the captions."""
        rows, end = [], self.tokenizer.end
        for name, caption in zip(self._names, tqdm(self.captions, "captions"), strict=True):
            *row, last = self.tokenizer.encode(caption, self.length + 1)  # one more than there is
            if row[-1] != end:
                self.report.handle(f"caption cut to {self.length} tokens", name)
            rows.append([*row[:-1], last])
        return torch.tensor(rows)

    @cached_property
    def data(self) -> str:
        """Which pictures these are, wherever their folder lies."""
        content = hashlib.sha256(self.levels.numpy().tobytes())
        content.update(repr(self.captions).encode())
        return f"{len(self)} pictures ({content.hexdigest()[:12]})"


class PictureBatches(Batches):
    """Endless batches of pictures and tokens, in a new order each epoch.

    Args:
        source: of the pictures.
        batch_size: of a batch; all pictures, where there are fewer.
    """

    def __init__(self, source: Pictures, batch_size: int):
        super().__init__(source.levels, source.tokens, batch_size=min(batch_size, len(source)))
        self.data = source.data

    def __next__(self) -> tuple[Tensor, Tensor]:
        levels, tokens = super().__next__()
        return to_images(levels), tokens

    def state(self) -> dict:
        """What restore compares and needs, which pictures these are among it."""
        return super().state() | {"data": self.data}


class PicturesInOrder:
    """Pictures and tokens from the first to the last, once; the last batch may be smaller."""

    def __init__(self, source: Pictures, batch_size: int = PART):
        self.source, self.batch_size, self.position = source, batch_size, 0

    def __next__(self) -> tuple[Tensor, Tensor]:
        first = self.position * self.batch_size
        if first >= len(self.source):
            raise StopIteration
        self.position += 1
        rows = slice(first, first + self.batch_size)
        return to_images(self.source.levels[rows]), self.source.tokens[rows]


@dataclass(frozen=True)
class PictureVae(VaeRecipe):
    """A VaeRecipe whose batches are a folder's pictures."""

    source: Pictures | None = None

    def batches(self) -> PictureBatches:
        """Pictures and tokens, of which the autoencoder needs the pictures."""
        return PictureBatches(self.source, self.batch_size)


@dataclass(frozen=True)
class PictureClip(ClipRecipe):
    """A ClipRecipe whose words and batches are a folder's."""

    source: Pictures | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """That of the folder's captions."""
        return self.source.tokenizer

    def batches(self, tokenizer: Tokenizer | None = None) -> PictureBatches:
        """Pictures and tokens; there is no other tokenizer than the folder's."""
        return PictureBatches(self.source, self.batch_size)


@dataclass(frozen=True)
class PictureRecipe(TextToImageRecipe):
    """A TextToImageRecipe whose three trainings learn from a folder."""

    source: Pictures | None = None

    @property
    def data(self) -> str:
        """Which pictures are learned from."""
        return self.source.data

    def about(self) -> dict:
        """What to remember beside the model, the captions that it never saw among it."""
        source = self.source
        return {
            "pictures": len(source),
            "data": source.data,
            "skipped": source.report.counts(),
            "held_out": source.held_out,
            "words": sorted({word for said in source.captions for word in split_prompt(said)}),
        }

    def some(self, count: int = 1000) -> Tensor:
        """The first `count` pictures, or all."""
        return self.rows(range(min(count, len(self.source))))[0]

    def rows(self, rows: range) -> tuple[Tensor, list[str]]:
        """Pictures of the folder, those held out not counted, and their captions."""
        part = slice(rows.start, rows.stop)
        return to_images(self.source.levels[part]), self.source.captions[part]

    def encoded(self) -> PicturesInOrder:
        """Each picture once."""
        return PicturesInOrder(self.source)

    def batches(self, z_0: Tensor, tokens: Tensor) -> Batches:
        """Batches of encoded pictures."""
        return Batches(z_0, tokens, batch_size=min(self.batch_size, len(z_0)))


def picture_recipe(tier: str, folder: str | Path) -> PictureRecipe:
    """A tier's recipe, learning from a folder.

    Args:
        tier: as text_to_image_recipe takes it.
        folder: as read_folder takes it.

    Raises:
        FilesError: there is nothing to learn from in the folder.
    """
    plan = text_to_image_recipe(tier)
    source = Pictures(read_folder(folder, plan.vae.size), plan.clip.length)
    return PictureRecipe(
        **arguments_of(TextToImageRecipe, plan)
        | {
            "vae": PictureVae(**arguments_of(VaeRecipe, plan.vae), source=source),
            "clip": PictureClip(**arguments_of(ClipRecipe, plan.clip), source=source),
            "scenes": len(source),
            "stored": False,
            "source": source,
        }
    )


def arguments_of(kind: type, plan) -> dict:
    """What a recipe of this kind was made with; what its own kind adds to that is left out."""
    return {field.name: getattr(plan, field.name) for field in fields(kind)}
