"""What lesson 10 learns from as shards: latents and text vectors, made once, by one or by many.

folder = write_encoded_shards(plan, space, text, folder)   # what is there already stays
batches = ShardBatches(folder, plan.batch_size)
loss = shard_loss(plan, text)                              # loss(model, batch), for train()
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from t2i.clip import TextTransformer
from t2i.engine.batches import stream_seed
from t2i.engine.distributed import ALONE, Team
from t2i.files.folders import FilesError, read_json, write_json
from t2i.files.shard_files import (
    CONTEXT,
    INDEX,
    LATENT,
    POOLED,
    shard_name,
    write_index,
    write_shard,
)
from t2i.latents import LatentSpace, seeded_latents
from t2i.runs.flow_training import prompt_flow_loss
from t2i.runs.text_to_image_recipes import PART, TextToImageRecipe
from t2i.runs.workshop import same_or_refuse
from t2i.text_to_image import Prompt, TextDiT, encode_prompt

PER_SHARD = 1000  # samples of a shard
MADE_OF = "made_of.json"  # written before the first shard


def shard_ranges(count: int, lanes: int = 8, per_shard: int = PER_SHARD) -> list[range]:
    """The rows of each shard: about per_shard, in `lanes` shards or more of nearly one size."""
    shards = max(lanes, -(-count // per_shard))
    return [range(count * i // shards, count * (i + 1) // shards) for i in range(shards)]


def write_encoded_shards(
    plan: TextToImageRecipe,
    space: LatentSpace,
    text: TextTransformer,
    folder: str | Path,
    team: Team = ALONE,
    lanes: int = 8,
    **made_of: Any,
) -> Path:
    """Encode a recipe's pictures and write them, each process its shards; the index comes last.

    Args:
        plan: of lesson 10, for scenes or for a folder of pictures.
        space: of a trained autoencoder.
        text: of a trained CLIP.
        folder: made if it is missing; shards that are there already stay.
        team: who shares the work.
        lanes: the least number of shards.
        **made_of: what they depend on; the folder remembers it.

    Returns:
        folder.

    Raises:
        FilesError: fewer pictures than lanes.
        CheckpointError: shards that are there already were made of something else.
    """
    if plan.scenes < lanes:
        raise FilesError(
            f"{plan.scenes} pictures are too few for {lanes} shards: train without shards, or with "
            f"fewer --lanes."
        )
    folder, ranges = Path(folder), shard_ranges(plan.scenes, lanes)
    _claim(folder, shards=len(ranges), **made_of)
    mine = range(team.rank, len(ranges), team.size)
    for number in tqdm(mine, desc="pictures to shards", unit="shard", disable=not team.is_first):
        if not (folder / shard_name(number)).exists():
            write_shard(folder, number, encoded_samples(plan, space, text, ranges[number]))
    team.wait()
    if team.is_first:
        counts = {shard_name(number): len(rows) for number, rows in enumerate(ranges)}
        write_index(folder, plan.clip.length, counts, **made_of)
    team.wait()
    return folder


def _claim(folder: Path, **made_of: Any) -> None:
    """Say what an empty folder's shards will be made of, or refuse one that says something else."""
    file = folder / MADE_OF
    if not file.exists() and not any(folder.glob("*.tar")):
        write_json(file, made_of)
    same_or_refuse(folder, read_json(file) if file.exists() else {}, made_of)


@torch.no_grad()
def encoded_samples(
    plan: TextToImageRecipe, space: LatentSpace, text: TextTransformer, rows: range
) -> Iterator[dict[str, Any]]:
    """Samples of these rows, as write_shard takes them; they depend on the numbers alone."""
    device = space.scaling_factor.device
    for first in range(rows.start, rows.stop, PART):
        part = range(first, min(rows.stop, first + PART))
        images, captions = plan.rows(part)
        latents = _half(seeded_latents(space, images.to(device), stream_seed(0, first)))
        context, mask, pooled = encode_prompt(plan.clip.tokenizer, text, captions)
        context, pooled, words = _half(context), _half(pooled), mask.sum(dim=1).tolist()
        for row, caption in enumerate(captions):
            told = context[row, : words[row]]  # what fills the row up says nothing
            yield {LATENT: latents[row], CONTEXT: told, POOLED: pooled[row], "txt": caption}


def _half(values: Tensor):
    return values.half().cpu().contiguous().numpy()


def shard_loss(
    plan: TextToImageRecipe, text: TextTransformer, team: Team = ALONE
) -> Callable[[TextDiT, tuple[Tensor, ...]], Tensor]:
    """What train minimises with batches from shards.

    Args:
        plan: of lesson 10.
        text: reads the empty prompt, once.
        team: who shares the batch.
    """
    with torch.no_grad():
        nothing = encode_prompt(plan.clip.tokenizer, text, [""])

    def loss(model: TextDiT, batch: tuple[Tensor, ...]) -> Tensor:
        z_0, context, mask, pooled = batch
        return prompt_flow_loss(model, z_0, Prompt(context, mask, pooled), nothing, team)

    return loss


def is_written(folder: str | Path) -> bool:
    """Whether a folder holds all of its shards."""
    return (Path(folder) / INDEX).exists()
