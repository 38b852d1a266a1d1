"""The two tiers of lessons 8 and 10: what each reached, and how soon the large one was good."""

from pathlib import Path

from IPython.display import Markdown
from matplotlib.ticker import PercentFormatter

from t2i.drawing.show_vae import RESULTS
from t2i.files.places import DATA
from t2i.files.results import figures_in, how_trained, share_told, table
from t2i.runs.text_to_image_recipes import CHECKPOINT, text_to_image_recipe
from t2i.runs.vae_runs import summary
from t2i.show import BLUE, GREY, SKY, Picture, panels
from t2i.world.asked_scenes import NUMBERS
from t2i.world.scene_specs import WORLDS

NO_RACE = "Not measured yet: `make race` does it, on a GPU."
RACE = DATA / "race_gpu.json"
CPU_TIER = DATA / "text_to_image_cpu.json"  # what `make train` and `make evaluate` wrote of it


def race_chart(file: Path = RACE) -> Picture | Markdown:
    """How many prompts the model satisfied, against the seconds since nothing was trained."""
    known = figures_in(file)
    if not known:
        return Markdown(NO_RACE)
    looks = known["looks"]
    seconds, shares = ([look[name] for look in looks] for name in ("seconds", "share"))
    below = [look["share"] - look["low"] for look in looks]
    above = [look["high"] - look["share"] for look in looks]
    figure, (axes,) = panels(1, 1, 8, 2.8)
    axes.errorbar(seconds, shares, (below, above), fmt="o-", color=BLUE, capsize=3, ms=4, lw=1.2)
    axes.axhline(known["goal"], color=GREY, lw=1, ls="--")
    axes.text(seconds[-1], known["goal"] - 0.08, f"{known['goal']:.0%}", ha="right", color=GREY)
    axes.axvspan(0, seconds[0], color=SKY, alpha=0.25, lw=0)
    axes.text(seconds[0] / 2, 0.5, "autoencoder, CLIP,\nencoding", ha="center", va="center")
    axes.set(xlabel="seconds of training, from nothing", ylabel="prompts satisfied")
    axes.set(xlim=(0, seconds[-1] * 1.02), ylim=(-0.03, 1.03))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    note = (
        f"{known['prompts']} prompts of seen combinations at each look, with 95 % intervals; the "
        f"clock stands still while they are drawn. {known['machine']}."
    )
    when = known["seconds_to_goal"]
    told = f"{known['goal']:.0%} " + ("never" if when is None else f"after {when:.0f} seconds")
    return Picture(figure, f"Prompts satisfied against seconds of training: {told}. {note}", note)


def autoencoder_table(folder: Path = CHECKPOINT) -> Markdown:
    """What the GPU tier's autoencoder loses: lesson 8's table, of a part of lesson 10's model."""
    measured = figures_in(folder / "evaluation.json").get("autoencoder")
    if not measured:
        return Markdown(
            "Not measured yet: `python -m t2i.runs.text_to_image_eval --autoencoder` does."
        )
    known = figures_in(folder / "training.json")
    log, plan = known["vae"], text_to_image_recipe(known["tier"])
    figures = {name: log[name] for name in ("peak_memory_bytes", "machine")}
    figures |= {"training_seconds": log["seconds"]}
    figures |= {"images_seen": log["steps"] * plan.vae.batch_size}
    head = ("GPU tier, 64 × 64 pixels, latents of 16 × 16", *RESULTS)
    return table(head, summary(measured), how_trained(figures, "scenes"), right=True)


def tiers_table(folder: Path = CHECKPOINT, file: Path = CPU_TIER) -> Markdown:
    """What the CPU tier's model reached, and what the course's own did: a line each."""
    gpu = {name: figures_in(folder / f"{name}.json") for name in ("training", "evaluation")}
    head = ("tier", "pictures", "things", "trained on", "minutes", *NUMBERS)
    measured = [known for known in (figures_in(file), gpu) if known and all(known.values())]
    return table(head, [_line(**known) for known in measured])


def _line(training: dict, evaluation: dict) -> tuple[str, ...]:
    """One tier's, from what its training and its evaluation wrote."""
    plan = text_to_image_recipe(training["tier"])
    batches = {"vae": plan.vae.batch_size, "clip": plan.clip.batch_size}
    batches["transformer"] = plan.batch_size
    seconds = sum(
        size * training[name]["steps"] / training[name]["images_per_second"]
        for name, size in batches.items()
    )
    sets = [evaluation["sets"].get(f"seen_{number}") for number in NUMBERS]
    shares = [share_told(found["satisfied"]) if found else "–" for found in sets]
    things = WORLDS[plan.world].counts
    pictures = f"{plan.vae.size} × {plan.vae.size}"
    where = training["transformer"]["machine"].rpartition(", ")[0]  # without torch's version
    about = (pictures, f"{min(things)} to {max(things)}", where, f"{seconds / 60:.0f}")
    return (training["tier"], *about, *shares)
