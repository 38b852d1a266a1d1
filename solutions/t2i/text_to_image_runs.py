"""Lesson 10's trainings, in order: the autoencoder, CLIP, the transformer; then one folder.

    make train tier=cpu          (= python -m t2i.text_to_image_runs --tier cpu)

It goes on where it was stopped, at any moment. What is finished lies in data/runs/, the model and
its log in data/checkpoints/.
"""

import argparse
import statistics
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
from t2i.folders import write_json
from t2i.latents import LatentSpace
from t2i.recipe_runs import curve, machine, peak_memory
from t2i.recipes import DATA
from t2i.text_to_image import TextToImage
from t2i.text_to_image_recipes import CHECKPOINT, RECIPES, encode_scenes, text_to_image_recipe
from t2i.training import TrainConfig, train
from t2i.vae_runs import measure_scaling_factor


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
    ) -> nn.Module:
        """A trained part: from its file, or by training it now.

        Args:
            name: of the part, and of its file.
            model: fresh.
            loss_fn, training: as train takes them.
            batches: makes the batches, only if there is something to train.
            finish: what to measure of the trained part and write down.

        Raises:
            CheckpointError: its file is of a training of another length.
        """
        file = self.folder / f"{name}.safetensors"
        if not file.exists():
            print(f"Training {name}: {training.steps} steps.")
            running, speeds = self.folder / f"{name}.run.safetensors", []
            model = model.to(self.device)
            for state in train(model, loss_fn, batches(), training, checkpoint=running):
                speeds.append(state.images_per_second)
            trained = state.ema_model.cpu().float()
            info = {
                "steps": training.steps,
                "parameters": sum(p.numel() for p in model.parameters()),
                "images_per_second": round(statistics.median(speeds), 1),
                "machine": machine(self.device),
                "peak_memory_bytes": peak_memory(),
                "losses": curve(state.losses),
            }
            save_weights(file, trained, info | finish(trained), torch.float32)
            running.unlink(missing_ok=True)
        tensors, info = load_tensors(file)
        _same(file, "steps", info.get("steps"), training.steps)
        load_into(model.cpu(), tensors, file)
        self.log[name] = {key: value for key, value in info.items() if key != "format"}
        return model.eval().requires_grad_(False).to(self.device)

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
    tier: str, out: Path = CHECKPOINT, work: Path | None = None, device: str = "cpu"
) -> TextToImage:
    """Train the three parts, or go on, and write the whole model.

    Args:
        tier: one of RECIPES.
        out: the model's folder; training.json in it says how the trainings went.
        work: the Workshop's folder; None: data/runs/text_to_image_TIER.
        device: where to train.

    Returns:
        the model, on that device.
    """
    plan = text_to_image_recipe(tier)
    shop = Workshop(work or DATA / "runs" / f"text_to_image_{tier}", torch.device(device))
    vae = shop.part(
        "vae",
        plan.vae.build(),
        plan.vae.loss,
        plan.vae.batches,
        plan.vae.training,
        lambda vae: {
            "scaling_factor": measure_scaling_factor(vae, plan.vae.size, world=plan.world)
        },
    )
    space = LatentSpace(vae, shop.log["vae"]["scaling_factor"]).to(shop.device)
    clip = shop.part("clip", plan.clip.build(), clip_loss, plan.clip.batches, plan.clip.training)

    def batches():
        made_of = {"scenes": plan.scenes, "vae": digest(shop.folder / "vae.safetensors")}
        data = shop.tensors("latents", lambda: _encoded(plan, space), **made_of)
        return plan.batches(data["z_0"].float(), data["tokens"])

    transformer = shop.part(
        "transformer", plan.build(), plan.loss(clip.text), batches, plan.training
    )
    pipe = TextToImage(
        plan.clip.tokenizer, clip.text, transformer, space, plan.vae.size, plan.shift
    )
    pipe.save_pretrained(out)
    write_json(out / "training.json", {"tier": tier} | shop.log)
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
    parser.add_argument("--tier", choices=tuple(RECIPES), default="cpu")
    parser.add_argument("--out", type=Path, default=CHECKPOINT, help="folder of the model")
    parser.add_argument("--work", type=Path, help="folder of what is finished so far")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train_all(options.tier, options.out, options.work, device)
    print(f'The model is in {options.out}: python -m t2i.sample "a red seven" --out seven.png')


if __name__ == "__main__":
    main()
