"""Batches from shards, for trainings whose data do not fit into memory; any team reads the same.

    batches = ShardBatches(folder, 256)                       # for train(), like Batches
    batches = ShardBatches(folder, 256, team, workers=2)      # this process's rows of the same

A batch takes as many rows from each of `lanes` shards, which are open at a time. Lanes belong to
the data and not to the processes: one process reads all of them, each of many reads some. So the
batches are the same for any number of processes, and one number says where a run stands.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from t2i.engine.batches import refuse_other_data, stream_seed
from t2i.engine.distributed import ALONE, Team
from t2i.files.folders import FilesError, read_json
from t2i.files.shard_files import CONTEXT, INDEX, LATENT, POOLED, damage, read_shard


def check_lanes(lanes: int, batch_size: int, readers: int) -> None:
    """Refuse numbers of shards, rows and reading processes that do not divide each other."""
    if lanes < 1 or lanes % readers or batch_size % lanes:
        raise ValueError(
            f"lanes must be a multiple of the {readers} reading processes and divide the batch "
            f"of {batch_size}, got {lanes}"
        )


class ShardBatches:
    """Endless batches from shards, in a new order each epoch, that know where they are.

    In each epoch the shards are shuffled and dealt to the lanes like cards, as many to each; the
    few that are left over wait for another epoch. Within a shard the samples are shuffled, too.

    Args:
        folder: of shards and their index.
        batch_size: rows of the whole team's batch, a multiple of lanes.
        team: who shares the batch; its size divides lanes.
        seed: of the orders.
        lanes: shards that are open at a time; the same for any team.
        workers: processes that read ahead for each of the team; 0: it reads itself.

    Raises:
        FilesError: no index, or a shard without a whole sample.
        ValueError: numbers that do not divide each other, or fewer shards than lanes.
    """

    def __init__(
        self,
        folder: str | Path,
        batch_size: int,
        team: Team = ALONE,
        seed: int = 0,
        lanes: int = 8,
        workers: int = 0,
    ):
        self.folder, index = Path(folder), read_json(Path(folder) / INDEX)
        self.names = [each["url"] for each in index["shardlist"]]
        self.counts = [each["nsamples"] for each in index["shardlist"]]
        if min(self.counts, default=0) < 1:
            raise FilesError(
                f"{self.folder / INDEX} names a shard without a sample, or none at all."
            )
        self.length, self.made_of = index["length"], index["made_of"]
        check_lanes(lanes, batch_size, team.size * max(1, workers))
        if len(self.names) < lanes:
            raise ValueError(f"{folder} has {len(self.names)} shards, too few for {lanes} lanes")
        self.batch_size, self.team, self.seed, self.lanes = batch_size, team, seed, lanes
        self.workers, self.position, self._parts = workers, 0, None
        self.per_shard = min(self.counts)  # of a larger shard, others are left out in each epoch

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """z_0 (B, c, h, w), context (B, L, D), mask (B, L) bool and pooled (B, D)."""
        if self._parts is None:
            self._parts = iter(DataLoader(_Parts(self), batch_size=None, num_workers=self.workers))
        parts = [next(self._parts) for _ in range(max(1, self.workers))]  # in the workers' order
        self.position += 1
        return tuple(torch.cat(each) for each in zip(*parts, strict=True))

    def state(self) -> dict[str, Any]:
        """What restore needs to go on from here, with this team or another."""
        return {
            "shards": len(self.counts),
            "samples": sum(self.counts),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "lanes": self.lanes,
            "position": self.position,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where such batches stood; ValueError when they were others."""
        refuse_other_data(self.state(), state)
        self.position, self._parts = state["position"], None

    def lane(self, number: int, first: int) -> Iterator[tuple[Tensor, ...]]:
        """The samples of a lane without end, from its row `first` on."""
        rounds = len(self.names) // self.lanes  # shards of each lane in an epoch
        place, begin = divmod(first, self.per_shard)
        while True:
            epoch, turn = divmod(place, rounds)
            shard = _shuffled(len(self.names), self.seed, epoch)[turn * self.lanes + number]
            path = self.folder / Path(self.names[shard]).name  # no other folder, and no command
            samples, problems = read_shard(path, self.length, self.counts[shard])
            if problems:
                warnings.warn(f"{damage(path, problems)} The others stand in.", stacklevel=2)
            columns = [samples[name] for name in (LATENT, CONTEXT, "mask", POOLED)]
            order = _shuffled(len(columns[0]), self.seed, epoch, shard)
            for row in range(begin, self.per_shard):
                yield tuple(column[order[row % len(order)]] for column in columns)
            place, begin = place + 1, 0


class _Parts(IterableDataset):
    """What one reading process gives to each batch: the rows of its share of the lanes."""

    def __init__(self, batches: ShardBatches):
        self.batches = batches

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        batches, worker = self.batches, get_worker_info()
        number, of = (worker.id, worker.num_workers) if worker else (0, 1)
        each = batches.batch_size // batches.lanes
        lanes = torch.arange(batches.lanes).chunk(batches.team.size * of)
        mine = lanes[batches.team.rank * of + number].tolist()
        open_lanes = [batches.lane(lane, batches.position * each) for lane in mine]
        while True:
            rows = [next(lane) for lane in open_lanes for _ in range(each)]
            yield tuple(torch.stack(column) for column in zip(*rows, strict=True))


def _shuffled(count: int, *seeds: int) -> list[int]:
    generator = torch.Generator().manual_seed(stream_seed(*seeds))
    return torch.randperm(count, generator=generator).tolist()
