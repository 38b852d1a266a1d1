"""Lesson 10's trainings, in order: the autoencoder, CLIP, the transformer; then one folder.

    make train tier=cpu          (= python -m t2i.runs.text_to_image_runs train --tier cpu)
    make train data=my_pictures  (= the same with --data my_pictures; see picture_runs)
    torchrun --nproc-per-node 8 -m t2i.runs.text_to_image_runs --tier gpu --shards data/shards

It goes on where it was stopped, at any moment. What is finished lies in data/runs/, with the model
and its log. The course's own model, in data/checkpoints/scenes, is that of the GPU tier.
"""

import argparse
import sys
from pathlib import Path

import torch

from t2i.engine.distributed import ALONE, Team, joined_team
from t2i.files.checkpoint import CheckpointError
from t2i.files.folders import write_json
from t2i.files.places import DATA
from t2i.files.shards import check_lanes
from t2i.runs.shard_training import shard_loss
from t2i.runs.small_parts import SmallParts, Watch
from t2i.runs.stored_recipes import stored_recipe
from t2i.runs.text_to_image_recipes import RECIPES, TextToImageRecipe, text_to_image_recipe
from t2i.runs.workshop import Part, Workshop
from t2i.text_to_image import TextToImage


def train_all(
    tier: str,
    out: Path | None = None,
    work: Path | None = None,
    device: str = "cpu",
    shards: Path | None = None,
    team: Team = ALONE,
    lanes: int = 8,
    plan: TextToImageRecipe | None = None,
    watch: Watch | None = None,
) -> TextToImage:
    """Train the three parts, or go on, and write the whole model.

    Args:
        tier: one of RECIPES.
        out: the model's folder, where training.json says how the trainings went; None:
            home_of(tier).
        work: the Workshop's folder; None: data/runs/text_to_image_TIER.
        device: where to train.
        shards: the transformer learns from this folder of shards, written if it is empty; None:
            from latents in memory.
        team: who trains the transformer. The two small parts are the first process's work.
        lanes: shards that are open at a time.
        plan: None: the tier's recipe, on scenes.
        watch: called after each step of the transformer, see SmallParts.watched.

    Returns:
        the model, on that device.

    Raises:
        CheckpointError: another recipe, or other data, left something in the Workshop's folder.
        ValueError: lanes that do not share out the batch.
    """
    plan, out = plan or text_to_image_recipe(tier), out or home_of(tier)
    if shards:
        check_lanes(lanes, plan.batch_size, team.size)
    shop = Workshop(work or DATA / "runs" / f"text_to_image_{tier}", torch.device(device))
    if plan.stored and shop.device.type == "cuda":
        plan = stored_recipe(plan, device)
    parts = SmallParts(plan, shop, team)
    if shards:
        loss, batches = shard_loss(plan, parts.text, team), lambda: parts.shards(shards, lanes)
    else:
        loss, batches = plan.loss(parts.text, team), parts.latents
    how = {"team": team, "watch": watch and parts.watched(watch)}
    part = Part(plan.build(), loss, batches, plan.training, **how)
    pipe = parts.whole(shop.part("transformer", part, **parts.made_of))
    if team.is_first:
        pipe.save_pretrained(out)
        write_json(out / "training.json", {"tier": tier} | plan.about() | shop.log)
    team.wait()
    return pipe


def home_of(tier: str) -> Path:
    """Where a tier's model is written; the course's own, in CHECKPOINT, is not replaced."""
    return DATA / "runs" / f"text_to_image_{tier}" / "model"


def main() -> None:
    """Train the three parts of a tier, or go on where it was stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m t2i.runs.text_to_image_runs", description=main.__doc__
    )
    parser.add_argument("command", nargs="?", choices=("train",), help="there is no other")
    parser.add_argument("--tier", choices=tuple(RECIPES), default="cpu")
    parser.add_argument("--data", type=Path, help="pictures to learn from in place of scenes")
    parser.add_argument("--out", type=Path, help="folder of the model")
    parser.add_argument("--work", type=Path, help="folder of what is finished so far")
    parser.add_argument("--shards", type=Path, help="folder of shards to learn from")
    parser.add_argument("--lanes", type=int, default=8, help="shards that are open at a time")
    parser.add_argument("--fsdp", action="store_true", help="under torchrun: share out the weights")
    options = parser.parse_args()
    out, prompt = options.out or home_of(options.tier), "a red seven"
    if options.tier == "gpu" and not torch.cuda.is_available():
        print("There is no GPU here that CUDA knows; on a processor this tier takes days.")
    how = {"device": "cuda" if torch.cuda.is_available() else "cpu", "shards": options.shards}
    try:
        with joined_team(options.fsdp) as team:
            how |= {"team": team, "lanes": options.lanes}
            if options.data:
                from t2i.runs.picture_runs import train_on_pictures  # it stands on this module

                where = (options.data, options.tier, options.out, options.work)
                out, prompt = train_on_pictures(*where, **how)[1], "one of the captions"
            else:
                train_all(options.tier, out, options.work, **how)
    except (ValueError, CheckpointError) as error:  # FilesError is a ValueError
        sys.exit(f"{error}")
    if team.is_first:
        told = f'"{prompt}" --out picture.png --model {out}'
        print(f"The model is in {out}: python -m t2i.apps.sample {told}")


if __name__ == "__main__":
    main()
