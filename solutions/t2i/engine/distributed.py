"""Training on many processes: each takes its rows of one batch, and all keep the same model.

    python -m t2i.runs.text_to_image_runs --tier gpu                                # one process
    torchrun --nproc-per-node 8 -m t2i.runs.text_to_image_runs --tier gpu           # eight of them
    torchrun --nproc-per-node 8 -m t2i.runs.text_to_image_runs --tier gpu --fsdp    # a larger model

The numbers are those of one process with the same batch, but for rounding: what is random is drawn
for the whole batch, each process (a *rank*) uses what belongs to its rows, and the gradients are
averaged over all. So a run may go on with another number of processes than it began with.
"""

import contextlib
import datetime
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

# A process that died is found by torchrun at once. This is for those that wait while the first one
# makes something that takes long.
PATIENCE = datetime.timedelta(days=1)
GLOO_LETS_GO = 0.5  # seconds


@dataclass(frozen=True)
class Team:
    """The processes that train one model together, seen by one of them; by default it is alone.

    Args:
        rank: number of this process, from 0.
        size: how many there are.
        fsdp: each keeps a part of every weight (FSDP2), for models that are too large for one
            device; otherwise each keeps a whole copy (DDP).
    """

    rank: int = 0
    size: int = 1
    fsdp: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files and talks."""
        return self.rank == 0

    def rows(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """This process's rows of a batch: (B, ...) each -> (B / size, ...) each.

        Raises:
            ValueError: the batch cannot be shared out evenly.
        """
        count, rest = divmod(len(tensors[0]), self.size)
        if rest:
            raise ValueError(
                f"a batch of {len(tensors[0])} cannot be shared out evenly among {self.size} "
                f"processes: take a number of them that divides it"
            )
        return tuple(each[self.rank * count : (self.rank + 1) * count] for each in tensors)

    def wrap(self, model: nn.Module) -> nn.Module:
        """What the loss calls in the model's place, so that gradients are averaged over all."""
        if self.fsdp:
            return self.shard(model)
        if self.size > 1:
            return nn.parallel.DistributedDataParallel(model)
        return model

    def shard(self, model: nn.Module) -> nn.Module:
        """With FSDP, let this process keep its part of every weight, in place; else do nothing.

        Each block of a list of blocks is put together only while it works.

        Source: Zhao et al. 2023, arXiv:2304.11277 (FSDP; torch's fully_shard is its second form).
        """
        if not self.fsdp:
            return model
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (self.size,))
        for blocks in [each for each in model.modules() if isinstance(each, nn.ModuleList)]:
            for block in blocks:
                fully_shard(block, mesh=mesh)
        # Left whole after forward, as is usual for the outermost module, the weights would hide
        # their parts' gradients from the zero_grad() between forward and backward.
        return fully_shard(model, mesh=mesh, reshard_after_forward=True)

    def mean(self, value: Tensor) -> float:
        """The mean over all processes of one number of each."""
        if self.size == 1:
            return value.item()
        total = value.detach().clone()
        dist.all_reduce(total)
        return total.item() / self.size

    def gathered(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors, for a file. All processes have to ask; only the first one gets them."""
        found = {}
        for name, tensor in tensors.items():
            together = whole(tensor)  # one at a time: all of them might not fit
            if self.is_first:
                found[name] = together if together is tensor else together.cpu()
        return found

    def wait(self) -> None:
        """Go on when every process has come here."""
        if self.size > 1:
            dist.barrier()

    @contextlib.contextmanager
    def first_goes_ahead(self) -> Iterator[None]:
        """The first process does what follows; then the others do, and find its files."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()


ALONE = Team()


class OwnRows:
    """A process's rows of batches that all processes make alike.

    Args:
        batches: as train takes them; a batch is a tuple of tensors.
        team: who shares them.
    """

    def __init__(self, batches: Any, team: Team):
        self.batches, self.team = batches, team

    def __next__(self) -> tuple[Tensor, ...]:
        return self.team.rows(*next(self.batches))

    def state(self) -> dict:
        """The same in all processes, and with any number of them."""
        return self.batches.state()

    def restore(self, state: dict) -> None:
        """Go on where such batches stood."""
        self.batches.restore(state)


@contextlib.contextmanager
def joined_team(fsdp: bool = False) -> Iterator[Team]:
    """The team that torchrun started this process for; without torchrun, one that is alone.

    Raises:
        ValueError: fsdp without torchrun.
    """
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        if fsdp:
            raise ValueError("FSDP shares out a model among processes: start them with torchrun")
        yield ALONE
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, rank, size = next(dist.rendezvous("env://", timeout=PATIENCE))
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=_clean_corner(store, rank, size),
        rank=rank,
        world_size=size,
        timeout=PATIENCE,
    )
    try:
        yield Team(rank, size, fsdp)
    finally:
        dist.destroy_process_group()
        # gloo's threads are not ended by that, and let go of the last tensors only now. One that
        # does so while Python shuts down aborts the process (pytorch issue 190489).
        time.sleep(GLOO_LETS_GO)


def _clean_corner(store: "dist.Store", rank: int, size: int) -> "dist.Store":
    """A corner of torchrun's store in which no process of an earlier try has written.

    The store outlives a restart, and with it the addresses of processes that are dead; who reads
    them cannot connect (pytorch issue 135712). So everybody says who it is under a name that was
    never used before, and the first process answers to that name until all have heard it.
    """
    me = uuid.uuid4().hex
    store.set(f"here/{rank}", me)
    if rank:
        corner = store.get(f"answer/{me}").decode()  # waits until there is one
        store.add(f"heard/{corner}", 1)
        return dist.PrefixStore(corner, store)
    while store.add(f"heard/{me}", 0) < size - 1:
        for here in [f"here/{other}" for other in range(1, size)]:
            if store.check([here]):  # it may be a dead one's: then nobody hears the answer
                store.set(f"answer/{store.get(here).decode()}", me)
        time.sleep(0.05)
    return dist.PrefixStore(me, store)


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor of which each process keeps a part; any other tensor as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def part_like(tensor: Tensor, like: Tensor) -> Tensor:
    """The part of a whole tensor that this process keeps of `like`; as it is if that is whole."""
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)
