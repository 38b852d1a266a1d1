"""Files of figures: what was measured, on which machine, and how a reader is told.

update_json(path, {"n": 1000, "machine": machine(device)})      # whole or not at all
figures_in(path)["n"]                                           # {} where there is no file
table(("samples", "share"), [("1000", "98 %")])                 # for a notebook
"""

import json
import math
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from IPython.display import Markdown

from t2i.files.checkpoint import lock_of, write_atomically


def machine(device: torch.device) -> str:
    """The machine in a few words."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' * (threads > 1)}, torch {torch.__version__}"


def processor() -> str:
    """The processor's name; where Linux tells its generation, with that."""
    file = Path("/proc/cpuinfo")
    told = file.read_text(encoding="utf-8") if file.exists() else ""
    found = dict(re.findall(r"^(model name|cpu family|model)\s*: (.+)$", told, re.MULTILINE))
    if len(found) < 3:
        return platform.processor() or platform.machine()
    return f"{found['model name']} (family {found['cpu family']}, model {found['model']})"


def peak_memory(device: torch.device | None = None) -> int:
    """The most memory that this process ever held, in bytes: a GPU's, or the machine's own."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    told = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    if told:  # Linux, where what getrusage tells begins with what the parent held
        return 1024 * int(told[1])
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # not there on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def figures_in(path: Path) -> dict:
    """What a file of figures holds; nothing if there is none yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@contextmanager
def changing_json(path: Path) -> Iterator[dict]:
    """A file's figures, to be changed in place; what they are at the end is written whole.

    Until then no other process may change the file: whatever it has added before is there.
    """
    with lock_of(path):
        known = figures_in(path)
        yield known
        write_atomically(path, (json.dumps(known, indent=1) + "\n").encode())


def update_json(path: Path, values: dict) -> None:
    """Add values to a file of figures."""
    with changing_json(path) as known:
        known.update(values)


def only_of(known: dict, head: dict, *tables: str) -> dict:
    """Figures with their head, which says what they are of; those of another are forgotten.

    Args:
        known: changed in place, and returned.
        head: what must be the same, and stands first.
        tables: what they hold besides, empty at first.
    """
    if any(known.get(name) != value for name, value in head.items()):
        known.clear()
    for name, value in (head | {table: {} for table in tables}).items():
        known.setdefault(name, value)
    return known


def how_trained(figures: dict, seen: str) -> str:
    """A sentence on how long a training took, by the clock if it was timed, and on what.

    Args:
        figures: of the JSON file beside the weights.
        seen: what was learned from, in the plural.
    """
    clock = figures.get("clock") or figures
    memory = (clock.get("peak_memory_bytes") or 0) / 1e9
    return (
        f"Trained in {clock['training_seconds'] / 60:.1f} minutes ({figures['images_seen']:,} "
        f"{seen} seen, {memory:.1f} GB of memory at most) on {clock['machine']}."
    )


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Where the true share lies, in 95 of 100 such cases, when `hits` of n were right.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if not 0 <= hits <= n or n < 1:
        raise ValueError(f"hits must lie in [0, n] and n be at least 1, got {hits} of {n}")
    share, square = hits / n, z * z / n
    middle = share + square / 2
    half = z * math.sqrt(share * (1 - share) / n + square / (4 * n))
    low, high = (middle - half) / (1 + square), (middle + half) / (1 + square)
    return max(0.0, min(share, low)), min(1.0, max(share, high))  # whatever is rounded


def share_gap(hits: int, n: int, others: int, of: int) -> tuple[float, float]:
    """How much larger one true share is than another, in 95 of 100 such cases.

    Two intervals may overlap although the shares differ for certain; this one says whether.

    Args:
        hits, n: of one group, so many of n were right.
        others, of: of the other group, independent of the first.

    Source: Newcombe 1998, "Interval estimation for the difference between independent
        proportions", Statistics in Medicine 17, 873-890, method 10 (Wilson's intervals combined).
    """
    (low, high), (other_low, other_high) = wilson(hits, n), wilson(others, of)
    share, other = hits / n, others / of
    below = math.hypot(share - low, other_high - other)
    above = math.hypot(high - share, other - other_low)
    return share - other - below, share - other + above


def share_of(hits: Sequence[bool]) -> dict[str, float]:
    """The share that is right, with its 95 % interval."""
    low, high = wilson(sum(hits), len(hits))
    return {"share": sum(hits) / len(hits), "low": round(low, 4), "high": round(high, 4)}


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], note: str = "", right: bool = False
) -> Markdown:
    """A table for a notebook.

    Args:
        head, rows: texts, one a column.
        note: sentences below it.
        right: whether all columns but the first are flush right, as numbers like to be.
    """
    rule = ["---"] + ["--:" if right else "---"] * (len(head) - 1)
    text = "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rows))
    return Markdown(f"{text}\n\n{note.strip()}" if note else text)


def share_told(found: Mapping[str, float]) -> str:
    """A share with its 95 % interval, as share_of gives it, in percent."""
    return f"{found['share']:.1%} ({found['low']:.1%} to {found['high']:.1%})"
