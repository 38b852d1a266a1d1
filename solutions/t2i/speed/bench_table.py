"""Bench: a file of results as a table for a text.

python -m t2i.speed.bench_table data/bench_gpu.json     (the table in data/benchmarks.md)
"""

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

HEAD = "| network, mode, batch | step | ours | theirs | ratio | pictures a second | GB | MFU |"
RULE = "|---|---|--:|--:|--:|--:|--:|--:|"


def table_lines(found: Mapping) -> list[str]:
    """Markdown, a line for each kind of step of each pair, sorted; below 1 we are the faster ones.

    Args:
        found: what `python -m t2i.speed.bench --json FILE` wrote.
    """
    rows = [row for _, row in sorted(found["rows"].items()) if "training" in row]
    return [HEAD, RULE, *(line for row in rows for line in _pair(row))]


def _pair(row: Mapping) -> Iterator[str]:
    # "DiT 768 × 12 against DiTTransformer2DModel, eager" -> network and mode
    network, _, rest = row["title"].partition(" against ")
    mode = rest.rpartition(", ")[2]
    for kind in ("training", "sampling"):
        step = row[kind]
        times = (_time(step["seconds"][who]) for who in ("ours", "diffusers"))
        speeds, memory = step["images_per_second"], step["peak_memory_bytes"]
        cells = [
            f"{network}, {mode}, {row['batch_size']}",
            kind,
            *times,
            f"{step['ratio']:.2f}",
            " : ".join(f"{speed:,.0f}" for speed in speeds.values()),
            " : ".join(f"{size / 1e9:.2g}" for size in memory.values() if size),
            f"{step['model_flop_utilisation']:.0%}" if step["model_flop_utilisation"] else "",
        ]
        yield "| " + " | ".join(cells) + " |"


def _time(seconds: list[float]) -> str:
    """The median in milliseconds, and the fastest and slowest run."""
    low, middle, high = (1000 * of(seconds) for of in (min, statistics.median, max))
    digits = 0 if middle >= 100 else 1
    return f"{middle:.{digits}f} ms ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    """Print the table of a file."""
    parser = argparse.ArgumentParser(
        prog="python -m t2i.speed.bench_table", description=main.__doc__
    )
    parser.add_argument("file", type=Path, help="what `make bench json=FILE` wrote")
    options = parser.parse_args()
    print("\n".join(table_lines(json.loads(options.file.read_text(encoding="utf-8")))))


if __name__ == "__main__":
    main()
