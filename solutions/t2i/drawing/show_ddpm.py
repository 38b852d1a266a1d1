"""Lesson 3's own pictures: the loss in its band, the film of a road, distances, results."""

from collections.abc import Callable, Sequence

import torch
from IPython.display import Markdown
from torch import Tensor
from tqdm.auto import tqdm

from t2i.files.places import DATA
from t2i.files.results import figures_in, how_trained, share_told, table, wilson
from t2i.show import BLACK, BLUE, GREY, ORANGE, SKY, VERMILLION, Picture, panels

RESULTS = DATA / "ddpm_cpu.json"
BAND = 0.12  # half the width of the reference band, as a share of the reference loss


class Film:
    """Watches a sampler, shows its progress, and keeps some moments of the first pictures.

        film = Film(x_T, predict_x_0, alphas_cumprod)
        sample_ddpm(model, x_T, alphas_cumprod, on_step=film)
        film.steps, film.x[t], film.guess[t]

    Args:
        x_T: (B, C, H, W) the noise that the sampler starts from.
        predict_x_0: what the clean picture would be, as in lesson 3.
        alphas_cumprod: (T,).
        moments: how many steps to keep, spread evenly from first to last.
        first: how many of the pictures to keep.
    """

    def __init__(
        self,
        x_T: Tensor,
        predict_x_0: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
        alphas_cumprod: Tensor,
        moments: int = 25,
        first: int = 8,
    ):
        last = len(alphas_cumprod) - 1
        self.steps = sorted(set(torch.linspace(last, 0, moments).round().int().tolist()))[::-1]
        self.first, self.alphas_cumprod, self.predict_x_0 = first, alphas_cumprod, predict_x_0
        self.x: dict[int, Tensor] = {}
        self.guess: dict[int, Tensor] = {}
        self._x_t = x_T[:first]
        self._bar = tqdm(total=last + 1, unit="step")

    def __call__(self, step: int, x_prev: Tensor, noise_pred: Tensor) -> None:
        """What `on_step` is: keeps x_t and the guess that the network made from it."""
        step = int(step)
        if step in self.steps:
            t = torch.full((len(self._x_t),), step, device=x_prev.device)
            guess = self.predict_x_0(self._x_t, noise_pred[: self.first], t, self.alphas_cumprod)
            self.x[step], self.guess[step] = self._x_t.cpu(), guess.clamp(-1, 1).cpu()
        self._x_t = x_prev[: self.first]
        self._bar.update()
        if step == 0:
            self._bar.close()


def results() -> dict:
    """What the repository's command measured of the CPU recipe; empty where it never ran."""
    return figures_in(RESULTS)


def smooth(values: Tensor, window: int) -> Tensor:
    """Each value's mean with those before it, at most `window` of them. (N,) -> (N,)."""
    total = torch.cumsum(values.double(), 0)
    before = torch.cat([torch.zeros(window, dtype=torch.float64), total])[: len(total)]
    return (total - before) / torch.arange(1, len(total) + 1).clamp(max=window)


def loss_picture(
    losses: Sequence[float],
    tier: str = "cpu",
    steps: Sequence[int] | None = None,
    label: str = "your training",
) -> Picture:
    """The training loss between its ceiling and, in the CPU tier, the band of the reference run.

    Args:
        losses: of each step.
        tier: "smoke", "cpu" or "gpu"; the band holds for the "cpu" recipe only.
        steps: the steps that the losses belong to; by default 1, 2, 3 and so on.
        label: what to call the line.
    """
    figure, (axes,) = panels(1, 1, 8, 3.2)
    window = max(1, len(losses) // 60)
    reference = results().get("losses") if tier == "cpu" else None
    if reference:
        _draw_band(axes, reference)
    line = smooth(torch.tensor(losses), window)
    axes.plot(steps or range(1, len(losses) + 1), line, color=BLUE, lw=2, label=label)
    axes.axhline(1, color=BLACK, lw=1.2, ls="--", label="ceiling: always answering 0")
    axes.set(xlabel="training step", ylabel="loss (logarithmic)", yscale="log", ylim=(0.01, 1.4))
    marks = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]
    axes.set_yticks(marks, [f"{mark:g}" for mark in marks])
    axes.minorticks_off()
    axes.legend(loc="upper right", bbox_to_anchor=(1, 0.9))
    return Picture(
        figure,
        "The training loss at each step, with the ceiling at 1 as a dashed line.",
        f"Mean of {window} steps, on a logarithmic scale." if window > 1 else "",
    )


def _draw_band(axes, reference: list[list[float]]) -> None:
    """The reference run as (step, mean loss up to there since the point before) pairs."""
    steps, values = torch.tensor(reference).T
    axes.fill_between(
        steps,
        values * (1 - BAND),
        values * (1 + BAND),
        color=ORANGE,
        alpha=0.45,
        lw=0,
        label="reference band",
    )


def distance_picture(samples: Tensor, real: Tensor) -> Picture:
    """Two histograms of the distance to the nearest training digit: samples' and test digits'.

    Args:
        samples, real: (N,) and (M,) distances.
    """
    figure, (axes,) = panels(1, 1, 8, 2.6)
    limits = (0, float(max(samples.max(), real.max())) * 1.05)
    for values, colour, label in (
        (real, SKY, "real test digits"),
        (samples, VERMILLION, "samples"),
    ):
        style = "stepfilled" if colour == SKY else "step"
        axes.hist(
            values.numpy(),
            24,
            limits,
            density=True,
            histtype=style,
            color=colour,
            lw=2,
            label=label,
        )
    axes.axvline(0, color=GREY, lw=2, ls=":")
    axes.text(limits[1] * 0.01, axes.get_ylim()[1] * 0.9, "a copy would lie here", color=GREY)
    axes.set(xlabel="distance to the nearest training digit", yticks=[])
    axes.legend(loc="upper right")
    return Picture(
        figure,
        "Two histograms of distances to the nearest training digit: the samples' and the test "
        "digits'. A copy would lie at 0.",
    )


def results_table() -> Markdown:
    """The lesson's own table, read from what the repository's commands measured."""
    r = results()
    if "recognisability" not in r:
        command = "python -m t2i.runs.recipes train`, then `python -m t2i.runs.recipes evaluate"
        return Markdown(f"Nobody has measured this recipe here yet: `{command}`.")
    share = r["recognisability"] / r["recognisability_real"]
    read = [_read(r[f"recognisability{which}"], r["n"]) for which in ("", "_real", "_noise")]
    rows = (
        ("read as a digit with confidence", *read),
        ("… as a share of real digits' (our aim: 85 %)", f"**{share:.1%}**", "100 %", ""),
        (
            "Fréchet distance",
            f"{r['frechet']:.2f}",
            f"{r['frechet_floor']:.2f} (floor)",
            f"{r['frechet_noise']:,.0f}",
        ),
        (
            "median distance to the nearest training digit",
            f"{r['nearest']:.2f}",
            f"{r['nearest_real']:.2f}",
            f"{r['nearest_noise']:.1f}",
        ),
    )
    note = f"{r['n']:,} samples, 1,000 steps each; in brackets 95 % intervals (chance "
    note += "reaches that far: of a hundred such intervals, some 95 hold the true share). "
    note += how_trained(r, "digits")
    return table(("", "samples", "real digits", "pure noise"), rows, note, right=True)


def _read(share: float, n: int) -> str:
    """The share of n pictures that the judge read, with its 95 % interval."""
    low, high = wilson(round(share * n), n)
    return share_told({"share": share, "low": low, "high": high})
