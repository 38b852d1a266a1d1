"""Lesson 10's trainings, in order: the autoencoder, CLIP, the transformer; then one folder.

    make train tier=cpu          (= python -m t2i.text_to_image_runs train --tier cpu)
    make train data=my_pictures  (= the same with --data my_pictures; see picture_runs)
    torchrun --nproc-per-node 8 -m t2i.text_to_image_runs --tier gpu --shards data/shards

It goes on where it was stopped, at any moment. What is finished lies in data/runs/, the model and
its log in data/checkpoints/.
"""

import argparse
import copy
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from t2i.checkpoint import (
    CheckpointError,
    digest,
    load_into,
    load_tensors,
    save_tensors,
    save_weights,
)
from t2i.clip_recipes import clip_loss
from t2i.distributed import ALONE, OwnRows, Team, joined_team
from t2i.folders import FilesError, read_json, write_json
from t2i.latents import LatentSpace
from t2i.recipe_runs import curve, machine, peak_memory
from t2i.recipes import DATA
from t2i.sharded_scenes import is_written, shard_loss, write_scene_shards
from t2i.shards import ShardBatches
from t2i.text_to_image import TextToImage
from t2i.text_to_image_recipes import (
    CHECKPOINT,
    RECIPES,
    TextToImageRecipe,
    encode_scenes,
    text_to_image_recipe,
)
from t2i.training import TrainConfig, train
from t2i.vae_runs import scaling_factor_of


@dataclass
class Workshop:
    """Where the parts are made: what is finished stays, what is half-done goes on.

    Args:
        folder: of the finished parts and of the checkpoints.
        device: where to train.
    """

    folder: Path
    device: torch.device
    log: dict[str, Any] = field(default_factory=dict)

    def part(
        self,
        name: str,
        model: nn.Module,
        loss_fn: Callable,
        batches: Callable[[], Any],
        training: TrainConfig,
        finish: Callable[[nn.Module], dict] = lambda model: {},
        team: Team = ALONE,
    ) -> nn.Module:
        """A trained part: from its file, or by training it now.

        Args:
            name: of the part, and of its file.
            model: fresh.
            loss_fn, training: as train takes them.
            batches: makes the batches, only if there is something to train.
            finish: what to measure of the trained part and write down.
            team: the processes that train it together.

        Raises:
            CheckpointError: its file is of a training of another length.
        """
        file = self.folder / f"{name}.safetensors"
        if not file.exists():
            self._train(file, model, loss_fn, batches(), training, finish, team)
        tensors, info = load_tensors(file)
        _same(file, "steps", info.get("steps"), training.steps)
        load_into(model.cpu(), tensors, file)
        self.log[name] = {key: value for key, value in info.items() if key != "format"}
        return model.eval().requires_grad_(False).to(self.device)

    def _train(
        self,
        file: Path,
        model: nn.Module,
        loss_fn: Callable,
        batches: Any,
        training: TrainConfig,
        finish: Callable[[nn.Module], dict],
        team: Team,
    ) -> None:
        """Train a copy of a part and write its file, from the first process of the team."""
        if team.is_first:
            print(f"Training {file.stem}: {training.steps} steps.")
        running, speeds = file.with_suffix(".run.safetensors"), []
        learner = copy.deepcopy(model)
        if not team.fsdp:  # FSDP moves the weights itself, a block at a time
            learner = learner.to(self.device)
        for state in train(learner, loss_fn, batches, training, running, team=team):
            speeds.append(state.images_per_second)
        trained = team.gathered(state.ema_model.state_dict())
        team.wait()  # all have read what they go on from
        if team.is_first:
            model.load_state_dict(trained)
            info = {
                "steps": training.steps,
                "parameters": sum(p.numel() for p in model.parameters()),
                "images_per_second": round(statistics.median(speeds), 1),
                "machine": machine(self.device),
                "processes": team.size,
                "peak_memory_bytes": peak_memory(),
                "losses": curve(state.losses),
            }
            info |= finish(model.cpu().float().eval().requires_grad_(False))
            save_weights(file, model, info, torch.float32)
            running.unlink(missing_ok=True)
        team.wait()

    def claim(self, data: str) -> None:
        """Say that what is made here is made of this data; nobody else's work is gone on with.

        Args:
            data: "scenes", or what a folder of pictures calls itself.

        Raises:
            CheckpointError: there are parts that were made of other data.
        """
        file, parts = self.folder / "data.json", list(self.folder.glob("*.safetensors"))
        found = read_json(file).get("data") if file.exists() else "scenes" if parts else data
        _same(self.folder, "data", found, data)
        if data != "scenes":
            write_json(file, {"data": data})

    def tensors(
        self, name: str, make: Callable[[], dict[str, Tensor]], **made_of: Any
    ) -> dict[str, Tensor]:
        """Tensors that take long to make: from their file, or made now.

        Args:
            name: of their file.
            make: makes them.
            **made_of: what they depend on; it is written down beside them.

        Raises:
            CheckpointError: the file was made of something else.
        """
        file = self.folder / f"{name}.safetensors"
        if not file.exists():
            save_tensors(file, make(), made_of)
        found, info = load_tensors(file)
        for what, value in made_of.items():
            _same(file, what, info.get(what), value)
        return found


def _same(file: Path, what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise CheckpointError(
            f"{file} was made with {what} {found}, the recipe has {wanted}: delete it to make it "
            f"anew, or give the run another folder."
        )


def train_all(
    tier: str,
    out: Path = CHECKPOINT,
    work: Path | None = None,
    device: str = "cpu",
    shards: Path | None = None,
    team: Team = ALONE,
    lanes: int = 8,
    plan: TextToImageRecipe | None = None,
) -> TextToImage:
    """Train the three parts, or go on, and write the whole model.

    Args:
        tier: one of RECIPES.
        out: the model's folder; training.json in it says how the trainings went.
        work: the Workshop's folder; None: data/runs/text_to_image_TIER.
        device: where to train.
        shards: the transformer learns from this folder of shards, written if it is empty; None:
            from latents in memory.
        team: who trains the transformer. The two small parts are the first process's work.
        lanes: shards that are open at a time.
        plan: None: the tier's recipe, on scenes.

    Returns:
        the model, on that device.

    Raises:
        CheckpointError: another recipe, or other data, left something in the Workshop's folder.
    """
    plan = plan or text_to_image_recipe(tier)
    shop = Workshop(work or DATA / "runs" / f"text_to_image_{tier}", torch.device(device))
    with team.first_goes_ahead():
        shop.claim(plan.data)
        vae = shop.part(
            "vae",
            plan.vae.build(),
            plan.vae.loss,
            plan.vae.batches,
            plan.vae.training,
            lambda vae: {"scaling_factor": scaling_factor_of(vae, plan.some())},
        )
        clip = shop.part(
            "clip", plan.clip.build(), clip_loss, plan.clip.batches, plan.clip.training
        )
    space = LatentSpace(vae, shop.log["vae"]["scaling_factor"]).to(shop.device)
    made_of = {"scenes": plan.scenes, "vae": digest(shop.folder / "vae.safetensors")}

    def batches():
        with team.first_goes_ahead():
            data = shop.tensors("latents", lambda: _encoded(plan, space), **made_of)
        return OwnRows(plan.batches(data["z_0"].float(), data["tokens"]), team)

    def from_shards():
        told = made_of | {"clip": digest(shop.folder / "clip.safetensors")}
        if not is_written(shards):
            write_scene_shards(plan, space, clip.text, shards, team, lanes, **told)
        found = ShardBatches(shards, plan.batch_size, team, lanes=lanes)
        for what, value in told.items():
            _same(shards, what, found.made_of.get(what), value)
        return found

    transformer = shop.part(
        "transformer",
        plan.build(),
        shard_loss(plan, clip.text, team) if shards else plan.loss(clip.text, team),
        from_shards if shards else batches,
        plan.training,
        team=team,
    )
    pipe = TextToImage(
        plan.clip.tokenizer, clip.text, transformer, space, plan.vae.size, plan.shift
    )
    if team.is_first:
        pipe.save_pretrained(out)
        write_json(out / "training.json", {"tier": tier} | plan.about() | shop.log)
    team.wait()
    return pipe


def _encoded(plan, space: LatentSpace) -> dict[str, Tensor]:
    """All scenes of the transformer's training, through the autoencoder once."""
    told = f"{plan.scenes} scenes to latents"
    z_0, tokens = encode_scenes(
        space, plan.encoded(), plan.scenes, lambda parts: tqdm(parts, desc=told, unit="batch")
    )
    return {"z_0": z_0, "tokens": tokens}


def main() -> None:
    """Train the three parts of a tier, or go on where it was stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m t2i.text_to_image_runs", description=main.__doc__
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
    out, prompt = options.out or CHECKPOINT, "a red seven"
    how = {"device": "cuda" if torch.cuda.is_available() else "cpu", "shards": options.shards}
    try:
        with joined_team(options.fsdp) as team:
            how |= {"team": team, "lanes": options.lanes}
            if options.data:
                from t2i.picture_runs import train_on_pictures  # it stands on this module

                where = (options.data, options.tier, options.out, options.work)
                out, prompt = train_on_pictures(*where, **how)[1], "one of the captions"
            else:
                train_all(options.tier, out, options.work, **how)
    except (FilesError, CheckpointError) as error:
        sys.exit(f"{error}")
    if team.is_first:
        told = f" --model {out}" if options.data else ""
        print(f'The model is in {out}: python -m t2i.sample "{prompt}" --out picture.png{told}')


if __name__ == "__main__":
    main()
