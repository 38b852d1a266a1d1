"""The reference runs of lesson 9: UNet and DiT of three sizes, trained and measured alike.

    python -m t2i.runs.dit_runs                      # an hour on one core; goes on where it stopped
    python -m t2i.runs.dit_runs --tier smoke --out scratch.json
    python -m t2i.runs.dit_runs --tier gpu           # real sizes, hours on one GPU

Each cell ("dit/small") is one training and its measurements. It goes to data/dit_TIER.json as soon
as it is done; the lesson's charts and tables are made from there. The largest DiT's weights go to
the .safetensors file beside it. Cells of another contest are thrown away.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch

from t2i.files.checkpoint import digest, save_weights
from t2i.files.places import DATA
from t2i.files.results import changing_json, figures_in, machine, only_of
from t2i.runs.dit_recipes import KINDS, SIZES, Contest, dit_contest, flops_of_step
from t2i.runs.dit_studies import (
    attention_distances,
    gate_sizes,
    heldout_loss,
    look_on,
    measured_scenes,
)
from t2i.runs.relation_studies import judge_relations, relation_prompts
from t2i.runs.scene_recipes import GUIDANCE_SCALE, scene_loss
from t2i.training import train

POINTS = 10  # of a curve


def run(tier: str, out: Path, cells: list[str]) -> dict:
    """Train and measure what is not yet in the file; write after each cell.

    Args:
        tier: whose contest.
        out: the JSON file; weights go beside it.
        cells: "kind/size" each.

    Returns:
        everything in the file: tier, contest, machine, cells by name.
    """
    contest = dit_contest(tier)
    head = {"tier": tier, "contest": json.loads(json.dumps(asdict(contest)))}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for cell in cells:
        if cell in only_of(figures_in(out), head, "cells")["cells"]:
            continue
        result = measure(contest, *cell.split("/"), tier, out, device)
        with changing_json(out) as known:
            only_of(known, head, "cells")["cells"][cell] = result
            known["machine"] = machine(device)
        print(
            f"{cell:12} loss {result['curve'][-1][1]:.4f}  {result['seconds']:7.1f} s", flush=True
        )
    return only_of(figures_in(out), head, "cells")


def measure(
    contest: Contest, kind: str, size: str, tier: str, out: Path, device: torch.device
) -> dict:
    """Train one network for its compute, then see what it can do.

    Returns:
        parameters, flops of a step, steps, scenes seen, seconds; `curve`: (flops so far, loss on
        unseen scenes) of the slow copy; `gates`: (step, mean |gate|s) for a DiT; `relations` and
        `unseen_relations`: see count_relations; `layers`: see attention_distances.
    """
    model, config = contest.build(kind, size).to(device), contest.training(kind, size)
    per_step = flops_of_step(model, next(contest.batches()))
    count = min(256, 8 * contest.count)
    unseen, few = (
        measured_scenes(number, contest.side, world=contest.world) for number in (count, 16)
    )
    marks = sorted({max(1, round(config.steps * 0.02 ** (1 - i / 9))) for i in range(POINTS)})
    curve, gates, seconds, begun = [], [], 0.0, time.perf_counter()
    for state in train(model, scene_loss, contest.batches(), config):
        if state.step in marks:
            seconds += time.perf_counter() - begun
            loss = heldout_loss(state.ema_model, unseen)
            curve.append((state.step * per_step, round(loss, 5)))
            if kind == "dit":
                opened = gate_sizes(state.model.eval(), look_on(state.model, few))
                gates.append((state.step, list(opened.values())))
            begun = time.perf_counter()
    best = state.ema_model
    if (kind, size) == ("dit", SIZES[-1]):
        save_weights(out.with_suffix(".safetensors"), best, {"tier": tier, "size": size})
    drawn = {}
    for name, split in (("relations", "train"), ("unseen_relations", "heldout_triples")):
        number = contest.count if name == "relations" else contest.count // 2
        prompts = relation_prompts(number, split, contest.world)
        sampler = (contest.inference_steps, contest.side, GUIDANCE_SCALE)
        drawn[name] = judge_relations(best, prompts, *sampler)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "flops_per_step": per_step,
        "steps": config.steps,
        "images_seen": config.steps * contest.batch_size,
        "seconds": round(seconds, 1),
        "curve": curve,
        "gates": gates,
        **drawn,
        "layers": attention_distances(best, look_on(best, few), contest.side),
    }


def main() -> None:
    """Train and measure UNet and DiT of three sizes with the same weights and the same compute."""
    parser = argparse.ArgumentParser(prog="python -m t2i.runs.dit_runs", description=main.__doc__)
    parser.add_argument("--tier", choices=("smoke", "cpu", "gpu"), default="cpu")
    parser.add_argument("--out", type=Path, help="file of the figures (data/dit_TIER.json)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=SIZES)
    options = parser.parse_args()
    out = options.out or DATA / f"dit_{options.tier}.json"
    cells = [f"{kind}/{size}" for size in options.sizes for kind in options.kinds]
    run(options.tier, out, cells)
    weights = out.with_suffix(".safetensors")
    if weights.exists():
        print(f"{weights.name}: {weights.stat().st_size / 1e6:.1f} MB, SHA-256 {digest(weights)}")


if __name__ == "__main__":
    main()
