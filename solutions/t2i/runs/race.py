"""How soon is it good? Lesson 10's three trainings by the clock, with a look at prompts meanwhile.

    make race                    (= python -m t2i.runs.race --tier gpu)

From nothing to nine seen prompts in ten: painting, autoencoder, CLIP, encoding and the transformer
all count. Every few seconds the transformer's slow copy draws the same prompts, and the judge of
lesson 6 reads the pictures; the clock stands still for that.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from t2i.engine.precision import gpu_precision
from t2i.files.picture_files import to_tensor
from t2i.files.places import DATA
from t2i.files.results import machine, share_of, update_json
from t2i.judging.scene_judge import satisfied
from t2i.runs.text_to_image_recipes import GUIDANCE_SCALE, RECIPES, text_to_image_recipe
from t2i.runs.text_to_image_runs import train_all
from t2i.text_to_image import TextToImage
from t2i.training import TrainState
from t2i.world.asked_scenes import UNSEEN
from t2i.world.scene_specs import draw_specs

STEPS = 20  # of a drawing
GOAL = 0.9


class Observer:
    """Looks at a model in training now and then, and remembers what it saw.

    Args:
        prompts: that are drawn each time.
        every: seconds of training between two looks.
    """

    def __init__(self, prompts: list[str], every: float):
        self.prompts, self.every, self.last = prompts, every, 0.0
        self.looks: list[dict] = []

    def __call__(self, pipe: TextToImage, state: TrainState, seconds: float) -> None:
        """Draw and judge, if it is time."""
        if seconds - self.last < self.every:
            return
        self.last = seconds
        with gpu_precision(pipe.device):
            drawn = to_tensor(pipe(self.prompts, STEPS, GUIDANCE_SCALE))
        share = share_of(satisfied(drawn, self.prompts).tolist())
        self.looks.append({"seconds": round(seconds, 1), "step": state.step} | share)
        print(self.looks[-1], flush=True)

    @property
    def seconds_to_goal(self) -> float | None:
        """When GOAL was first reached."""
        return next((look["seconds"] for look in self.looks if look["share"] >= GOAL), None)


def race(tier: str, work: Path, out: Path, device: str, count: int, every: float) -> dict:
    """Train a tier's model from nothing, or go on, and watch how good it is.

    Args:
        tier: one of RECIPES.
        work, out, device: as in train_all.
        count: prompts of a look, all of seen combinations.
        every: seconds between two looks.
    """
    world = text_to_image_recipe(tier).world
    observer = Observer(draw_specs(range(count), "train", world, UNSEEN + 3).captions(), every)
    train_all(tier, out, work, device, watch=observer)
    return {
        "tier": tier,
        "prompts": count,
        "looks": observer.looks,
        "seconds_to_goal": observer.seconds_to_goal,
        "goal": GOAL,
        "machine": machine(torch.device(device)),
    }


def main() -> None:
    """Train lesson 10's model from nothing by the clock; write data/race_TIER.json."""
    parser = argparse.ArgumentParser(prog="python -m t2i.runs.race", description=main.__doc__)
    parser.add_argument("--tier", choices=tuple(RECIPES), default="gpu")
    parser.add_argument("--count", type=int, default=250, help="prompts of a look")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two looks")
    parser.add_argument("--work", type=Path, help="folder to go on in; none: from nothing")
    parser.add_argument("--out", type=Path, help="folder of the model; none: it is thrown away")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.tier == "gpu" and device == "cpu":
        parser.exit(2, "There is no GPU here that CUDA knows; on a processor this takes days.\n")
    with tempfile.TemporaryDirectory() as folder:
        work, out = options.work or Path(folder) / "work", options.out or Path(folder) / "model"
        found = race(options.tier, work, out, device, options.count, options.every)
    update_json(DATA / f"race_{options.tier}.json", found)
    seconds = found["seconds_to_goal"]
    when = "were never reached" if seconds is None else f"after {seconds} seconds"
    print(f"{GOAL:.0%} of the prompts {when}.")


if __name__ == "__main__":
    main()
