"""How well lesson 10's model draws what is asked for, with everything that belongs beside it.

    make evaluate [count=1000]        (= python -m t2i.runs.text_to_image_eval --count 1000)
    python -m t2i.runs.text_to_image_eval --autoencoder    (what that part alone loses of a scene)
    make evaluate data=my_pictures model=my_model     (how that goes: picture_eval)

The judge of lesson 6 looks at pictures of seen combinations and of all that training held out.
Beside them stand the same pictures judged by other prompts (chance), rendered scenes (what the
judge reads of real handwriting) and rendered scenes through the autoencoder (what latents hold).
A model that writes only usual digits can be above both.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from t2i.engine.batches import stream_seed
from t2i.engine.precision import gpu_precision
from t2i.files.checkpoint import CheckpointError, digest
from t2i.files.folders import FilesError, read_json, write_json
from t2i.files.picture_files import to_tensor
from t2i.files.results import machine, share_of, update_json
from t2i.judging.scene_counts import count_views
from t2i.judging.scene_judge import look, shows
from t2i.judging.scene_judge_net import as_judged, judge_of
from t2i.metrics import frechet_distance, nearest_distances
from t2i.runs.text_to_image_recipes import (
    CHECKPOINT,
    GUIDANCE_SCALE,
    INFERENCE_STEPS,
    load_text_to_image,
    text_to_image_recipe,
)
from t2i.runs.vae_runs import measure_splits, there_and_back
from t2i.text_to_image import TextToImage
from t2i.world.asked_scenes import UNSEEN, asked_for
from t2i.world.scene_specs import Specs
from t2i.world.scenes import paint, scenes

PARTS = {"cpu": 64, "cuda": 512}  # pictures drawn at once
TRAINING = 20_000  # training scenes that are searched for the nearest


@torch.no_grad()
def draw(pipe: TextToImage, prompts: Sequence[str], seed: int, name: str = "") -> Tensor:
    """(B, 3, size, size) on the CPU, a part at a time, which are other parts and noise on a GPU."""
    found, size = [], PARTS[pipe.device.type]
    for first in tqdm(range(0, len(prompts), size), desc=name, unit="batch"):
        part = prompts[first : first + size]
        with gpu_precision(pipe.device):
            found += pipe(part, INFERENCE_STEPS, GUIDANCE_SCALE, stream_seed(seed, first))
    return to_tensor(found)


def training_of(folder: Path) -> dict:
    """What training.json in a model's folder says; FilesError if it is no such folder."""
    if not Path(folder).is_dir():
        raise FilesError(f"There is no folder {folder}: train a model with `make train`.")
    return read_json(Path(folder) / "training.json")


def world_of(log: dict) -> str:
    """Which scenes a model learned from, by its training.json."""
    return text_to_image_recipe(log["tier"]).world


def weights_of(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of weights in a model's folder."""
    files = sorted(Path(folder).glob("*/*.safetensors"))
    return {file.relative_to(folder).as_posix(): digest(file) for file in files}


def scene_features(images: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 5 · width): what the judge of their size sees before it answers."""
    judge = judge_of(images)
    parts = (as_judged(part, judge.side) for part in images.split(500))
    with torch.no_grad():
        return torch.cat([judge.features(part).mean(dim=(2, 3)) for part in parts])


def likeness(images: Tensor, specs: Specs, world: str, size: int) -> dict[str, float]:
    """Fréchet distance and nearest training scene, each beside the same figure of real scenes.

    Args:
        images: (N, 3, size, size) drawn for specs.
        specs: what was asked for.
        world, size: of the training's scenes.
    """
    real, n = paint(specs, size, "test"), len(images)
    others = scenes(range(4 * n), "train", world, UNSEEN + 1, size, "test")[0]
    numbers = range(0, TRAINING, 1000)
    training = torch.cat(
        [scenes(range(i, i + 1000), "train", world, size=size)[0] for i in numbers]
    )
    reference = scene_features(others)
    return {
        "n": n,
        "frechet": frechet_distance(scene_features(images), reference),
        "frechet_floor": frechet_distance(scene_features(real), reference),
        "nearest": nearest_distances(images, training)[0].median().item(),
        "nearest_real": nearest_distances(real, training)[0].median().item(),
        "training_scenes_searched": TRAINING,
    }


def measure_set(images: Tensor, specs: Specs, pipe: TextToImage) -> dict:
    """How many pictures of one set show what was asked, with both ceilings and the failures.

    Args:
        images: (N, 3, size, size) drawn for specs.
        specs: what was asked for.
        pipe: whose autoencoder is a ceiling.

    Returns:
        n, what count_views counts, `rendered` and `vae` (the share satisfied by real scenes, and
        by real scenes through the autoencoder), and up to 20 failures with what the judge saw.
    """
    asked = [specs.told(row) for row in range(len(specs))]
    views, real = look(images), paint(specs, pipe.size, "test")
    found = {"n": len(specs)} | count_views(views, asked)
    packed = there_and_back(pipe.space.vae, real, UNSEEN)[0]
    for ceiling, best in (("rendered", real), ("vae", packed)):
        right = [shows(view, scene) for view, scene in zip(look(best), asked, strict=True)]
        found[ceiling] = share_of(right) | {"n": len(right)}
    wrong = [i for i, view in enumerate(views) if not shows(view, asked[i])]
    found["failures"] = [
        [specs.caption(i), [f"{thing.colour} {thing.kind}" for thing in views[i].things]]
        for i in wrong[:20]
    ]
    return found


def evaluate(folder: Path, count: int, device: torch.device) -> dict:
    """Measure the model in a folder and write evaluation.json beside it.

    Args:
        folder: of the model, with training.json.
        count: prompts of each set; 1000 or more for figures to quote.
        device: where to draw.

    Raises:
        FilesError: a file is missing, or the model learned from other pictures than scenes.
    """
    log = training_of(folder)
    if "held_out" in log:
        raise FilesError(f"The model in {folder} learned from {log['data']}: say which with data=.")
    started = time.perf_counter()
    pipe = load_text_to_image(folder).to(device)
    pipe("a red seven", INFERENCE_STEPS, GUIDANCE_SCALE)
    first = time.perf_counter() - started
    world = world_of(log)
    sets, found, drawn, seconds = asked_for(world, count), {}, {}, 0.0
    for number, (name, specs) in enumerate(sets.items()):
        begun = time.perf_counter()
        drawn[name] = draw(pipe, specs.captions(), stream_seed(UNSEEN, number), name)
        seconds += time.perf_counter() - begun
        found[name] = measure_set(drawn[name], specs, pipe)
        print(name, {k: v for k, v in found[name].items() if k != "failures"}, flush=True)
    result = {
        "steps": INFERENCE_STEPS,
        "guidance_scale": GUIDANCE_SCALE,
        "sets": found,
        "seen": [name for name in found if name.startswith("seen")],
        "likeness": likeness(drawn["seen_mixed"], sets["seen_mixed"], world, pipe.size),
        "images_per_second": round(sum(map(len, sets.values())) / seconds, 2),
        "seconds_to_first_image": round(first, 2),
        "machine": machine(device),
        "weights": weights_of(folder),
    }
    write_json(folder / "evaluation.json", result)
    return result


def evaluate_autoencoder(folder: Path, count: int, device: torch.device) -> dict:
    """Measure what the model's autoencoder loses, and add it to evaluation.json.

    Args:
        folder, device: as in evaluate.
        count: scenes of each split.
    """
    pipe, world = load_text_to_image(folder).to(device), world_of(training_of(folder))
    scenes = measure_splits(pipe.space.vae, pipe.size, count, world=world)
    found = {"machine": machine(device), "scenes": scenes}
    update_json(Path(folder) / "evaluation.json", {"autoencoder": found})
    return found


def main() -> None:
    """Measure the model of lesson 10 and write evaluation.json into its folder."""
    parser = argparse.ArgumentParser(
        prog="python -m t2i.runs.text_to_image_eval", description=main.__doc__
    )
    parser.add_argument("--model", type=Path, default=CHECKPOINT, help="the model's folder")
    parser.add_argument("--count", type=int, default=1000, help="prompts of each set")
    parser.add_argument("--autoencoder", action="store_true", help="measure that part alone")
    parser.add_argument("--data", type=Path, help="the folder of pictures it learned from, if any")
    parser.add_argument("--clip", type=Path, help="with --data: compare what this CLIP sees, too")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if options.data:
            from t2i.runs.picture_eval import evaluate_names  # it stands on this module

            what = (options.model, options.data, options.count, device, options.clip)
            result = evaluate_names(*what)
        elif options.autoencoder:
            result = evaluate_autoencoder(options.model, options.count, device)
        else:
            result = evaluate(options.model, options.count, device)
            result |= {"autoencoder": evaluate_autoencoder(options.model, options.count, device)}
    except (FilesError, CheckpointError) as error:
        parser.exit(2, f"{error}\n")
    print({key: value for key, value in result.items() if key != "sets"})


if __name__ == "__main__":
    main()
