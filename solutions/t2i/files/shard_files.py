"""Shards: tar files of samples that were encoded once, in webdataset's layout.

write_shard(folder, 0, samples)                      # 000000.tar, whole or not at all
write_index(folder, length=77)                       # last: a folder with an index is whole
samples, problems = read_shard(folder / "000000.tar", 77)

000000-000000.latent.npy      (c, h, w) float16, a scaled latent
000000-000000.context.npy     (words, D) float16, a vector for each token up to the end token
000000-000000.pooled.npy      (D,) float16, a vector for the whole caption
000000-000000.txt             the caption itself

python -m t2i.files.shard_files check FOLDER             # what is damaged
python -m t2i.files.shard_files index FOLDER             # count samples of shards that others wrote
"""

import argparse
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from t2i.files.checkpoint import write_atomically
from t2i.files.folders import FilesError, read_json, write_json

INDEX = "index.json"
LATENT, CONTEXT, POOLED = "latent.npy", "context.npy", "pooled.npy"
NUMBERS = (LATENT, CONTEXT, POOLED)  # what training needs; the caption is for people


def write_shard(folder: Path, number: int, samples: Iterable[Mapping[str, Any]]) -> None:
    """Write one shard, whole or not at all.

    Args:
        folder: made if it is missing.
        number: of the shard; it names the file.
        samples: each with an array for every one of NUMBERS, and "txt".
    """
    from webdataset import TarWriter  # here, because nothing else of the course needs it

    memory = io.BytesIO()
    with TarWriter(memory, mtime=0) as tar:  # no clock in it: the same samples, the same bytes
        for row, sample in enumerate(samples):
            tar.write({"__key__": f"{number:06d}-{row:06d}", **sample})
    write_atomically(folder / shard_name(number), memory.getvalue())


def shard_name(number: int) -> str:
    """000000.tar and so on."""
    return f"{number:06d}.tar"


def write_index(
    folder: Path, length: int, counts: Mapping[str, int] | None = None, **made_of: Any
) -> dict:
    """Write down which shards a folder has, in the form of webdataset's own indexes (wids).

    Args:
        folder: of whole shards.
        length: L, the number of tokens that contexts are filled up to.
        counts: samples of each file; None: they are read and counted.
        **made_of: what else to remember.

    Raises:
        FilesError: no shard, or a damaged one.
    """
    counts = counts or {file.name: _count(file, length) for file in _files(folder)}
    listed = [{"url": name, "nsamples": count} for name, count in sorted(counts.items())]
    index = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": listed}
    index |= {"length": length, "made_of": made_of}
    write_json(folder / INDEX, index)
    return index


def _files(folder: Path) -> Iterable[Path]:
    files = sorted(folder.glob("*.tar"))
    if not files:
        raise FilesError(f"There are no shards (*.tar) in {folder}.")
    return tqdm(files, desc="counting samples", unit="shard", disable=len(files) < 100)


def _count(file: Path, length: int) -> int:
    samples, problems = read_shard(file, length)
    if problems:
        raise FilesError(f"{damage(file, problems)} Write it again.")
    return len(samples[LATENT])


def read_shard(
    path: Path, length: int, expected: int | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """All whole samples of a shard, and what is wrong with the others.

    Args:
        path: the tar file.
        length: L.
        expected: how many samples the index promises.

    Returns:
        samples: N rows of LATENT, CONTEXT (N, L, D), POOLED, float32, and "mask" (N, L) bool.
        problems: a line for each sample that is skipped.

    Raises:
        FilesError: no such file, or no whole sample in it.
    """
    from webdataset.tariterators import group_by_keys, tar_file_expander

    problems, whole = [], []

    def skip(error: Exception) -> bool:  # webdataset asks whether to go on
        problems.append(str(next(iter(error.args), type(error).__name__)).partition(" @ ")[0])
        return True

    try:
        with open(path, "rb") as stream:
            source = [{"url": str(path), "stream": stream}]
            members = tar_file_expander(source, skip, lambda name: name.endswith(NUMBERS))
            for sample in group_by_keys(members, handler=skip):
                try:
                    whole.append(_decoded(sample, length, whole[0] if whole else None))
                except ValueError as error:
                    problems.append(f"{sample['__key__']}: {error}")
    except OSError as error:
        raise FilesError(f"{path} cannot be read ({error}).") from error
    if expected is not None and len(whole) < expected:
        problems.append(f"{expected - len(whole)} of {expected} samples are not there or not whole")
    if not whole:
        raise FilesError(f"{path} holds no whole sample ({'; '.join(problems[:2])}).")
    return {name: torch.stack([each[name] for each in whole]) for name in whole[0]}, problems


def _decoded(sample: Mapping[str, bytes], length: int, like: Mapping[str, Tensor] | None) -> dict:
    """The arrays of a sample as tensors, contexts filled up; ValueError says what is wrong."""
    found = {}
    for name in NUMBERS:
        if name not in sample:
            raise ValueError(f"{name} is missing")
        try:
            array = np.load(io.BytesIO(sample[name]), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{name} is damaged ({error})") from None
        found[name] = torch.from_numpy(np.asarray(array, dtype=np.float32))
        if not found[name].isfinite().all():
            raise ValueError(f"{name} holds infinite values or no numbers")
    words = len(found[CONTEXT]) if found[CONTEXT].ndim == 2 else 0
    if not 1 <= words <= length:
        raise ValueError(f"{CONTEXT} must be (1 to {length}, D), got {found[CONTEXT].shape}")
    found[CONTEXT] = F.pad(found[CONTEXT], (0, 0, 0, length - words))
    found["mask"] = torch.arange(length) < words
    for name, tensor in (like or {}).items():
        if found[name].shape != tensor.shape:
            raise ValueError(f"{name} has the shape {tuple(found[name].shape)}, unlike the others")
    return found


def damage(path: Path, problems: Sequence[str]) -> str:
    """One sentence on a damaged shard."""
    more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
    return f"{path} is damaged: {'; '.join(problems[:3])}{more}."


def check(folder: Path) -> int:
    """Read every shard of a folder and print what is damaged; the number of damaged shards."""
    index, damaged = read_json(folder / INDEX), 0
    for each in tqdm(index["shardlist"], desc="reading", unit="shard"):
        path = folder / each["url"]
        try:
            problems = read_shard(path, index["length"], each["nsamples"])[1]
        except FilesError as error:
            problems = [str(error)]
        if problems:
            damaged += 1
            tqdm.write(damage(path, problems))
    print(f"{damaged} of {len(index['shardlist'])} shards are damaged.")
    return damaged


def main() -> None:
    """Look through a folder of shards, or count what others wrote."""
    parser = argparse.ArgumentParser(
        prog="python -m t2i.files.shard_files", description=main.__doc__
    )
    parser.add_argument("command", choices=("check", "index"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--length", type=int, default=77, help="tokens of the longest caption")
    options = parser.parse_args()
    if options.command == "check":
        raise SystemExit(min(1, check(options.folder)))
    print(f"{len(write_index(options.folder, options.length)['shardlist'])} shards")


if __name__ == "__main__":
    main()
