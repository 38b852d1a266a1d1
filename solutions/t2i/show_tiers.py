"""Lesson 10's two tiers: what each of them reached, and how soon the large one was good."""

from pathlib import Path

from IPython.display import Markdown

from t2i.results import figures_in, share_told, table
from t2i.scene_specs import WORLDS
from t2i.show import BLUE, GREY, SKY, Picture, panels
from t2i.text_to_image_eval import NUMBERS
from t2i.text_to_image_recipes import CHECKPOINT, DATA, text_to_image_recipe

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
    axes.axvspan(0, seconds[0], color=SKY, alpha=0.25, lw=0)
    axes.text(seconds[0] / 2, 0.5, "autoencoder, CLIP,\nencoding", ha="center", va="center")
    axes.set(xlabel="seconds of training, from nothing", ylabel="prompts satisfied")
    axes.set(xlim=(0, seconds[-1] * 1.02), ylim=(-0.03, 1.03))
    note = (
        f"{known['prompts']} prompts of seen combinations at each look, with 95 % intervals; the "
        f"clock stands still while they are drawn. {known['machine']}."
    )
    told = f"{known['goal']:.0%} after {known['seconds_to_goal']:.0f} seconds"
    return Picture(figure, f"Prompts satisfied against seconds of training: {told}. {note}", note)


def tiers_table(folder: Path = CHECKPOINT, file: Path = CPU_TIER) -> Markdown:
    """What the CPU tier's model reached, and what the course's own did: a line each."""
    gpu = {name: figures_in(folder / f"{name}.json") for name in ("training", "evaluation")}
    head = ("tier", "pictures", "things", "trained on", "minutes", *NUMBERS)
    return table(head, [_line(**known) for known in (figures_in(file), gpu)])


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
    pictures, machine = (
        f"{plan.vae.size} × {plan.vae.size}",
        training["transformer"]["machine"].split(", "),
    )
    where = ", ".join(machine[:2])  # without the version of torch
    about = (pictures, f"{min(things)} to {max(things)}", where, f"{seconds / 60:.0f}")
    return (training["tier"], *about, *shares)
