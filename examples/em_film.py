"""The EM algorithm as a film, on the eruptions of the Old Faithful geyser.

Six frames show the initial configuration, the first E-step (responsibilities as colours), the first
M-step, and the state after two, five and twenty cycles. Ellipses mark one and two standard
deviations (as in Bishop 2006, figure 9.8). The 272 eruptions are part of the plotnine package.

    python -m examples.em_film --out docs/pictures/em-film.png
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from examples.packaged import packaged_text
from streamclust import GaussianMixture, MixtureParams

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAMILY = GaussianMixture(2)
CYCLES = (1, 2, 5, 20)
COLOURS = np.array([[0.12, 0.37, 0.66], [0.85, 0.25, 0.08]])


@dataclass(frozen=True)
class Frame:
    """One moment of EM.

    Parameters
    ----------
    title : str
    params : MixtureParams
    responsibilities : array of shape (N, 2) or None
        None before the first E-step.
    log_likelihood : float
        Per point, in nats.
    """

    title: str
    params: MixtureParams
    responsibilities: NDArray[np.float64] | None
    log_likelihood: float


def load() -> NDArray[np.float64]:
    """Return duration (minutes) and waiting time (minutes) of 272 eruptions, standardised."""
    text = packaged_text("plotnine", "data", "faithful.csv")
    rows = list(csv.DictReader(text.splitlines()))
    table = np.array([[float(row["eruptions"]), float(row["waiting"])] for row in rows])
    return np.asarray((table - table.mean(axis=0)) / table.std(axis=0))


def start() -> MixtureParams:
    """Return two round components, badly placed on purpose."""
    means = np.array([[-1.5, 1.0], [1.5, -1.0]])
    covariances = np.stack([0.5 * np.eye(2)] * 2)
    return MixtureParams(np.array([0.5, 0.5]), means, covariances, "full")


def film(X: NDArray[np.float64]) -> list[Frame]:
    """Run EM from `start`; return the frames."""
    params, w = start(), np.ones(len(X))
    frames = [_frame("initial configuration", params, X, coloured=False)]
    for cycle in range(1, max(CYCLES) + 1):
        if cycle == 1:
            frames.append(_frame("first E-step", params, X))
        params = FAMILY.m_step(FAMILY.e_step(params, X, w), params)
        if cycle in CYCLES:
            frames.append(_frame(_title(cycle), params, X))
    return frames


def _title(cycle: int) -> str:
    return "first M-step" if cycle == 1 else f"after {cycle} cycles"


def _frame(title: str, params: MixtureParams, X: Any, coloured: bool = True) -> Frame:
    shares = FAMILY.responsibilities(params, X) if coloured else None
    return Frame(title, params, shares, float(FAMILY.score_points(params, X).mean()))


def draw(X: NDArray[np.float64], frames: list[Frame]) -> Figure:
    """Return one panel per frame."""
    from matplotlib.figure import Figure

    figure = Figure((11.0, 7.4), layout="constrained")
    panels: Any = figure.subplots(2, 3, sharex=True, sharey=True)
    for axes, frame in zip(panels.flat, frames, strict=True):
        _draw_frame(axes, X, frame)
    figure.supxlabel("duration of an eruption (standardised)", fontsize=10)
    figure.supylabel("time to the next one (standardised)", fontsize=10)
    return figure


def _draw_frame(axes: Axes, X: NDArray[np.float64], frame: Frame) -> None:
    shares = frame.responsibilities
    colours: Any = "#7a7a7a" if shares is None else np.clip(shares @ COLOURS, 0.0, 1.0)
    axes.scatter(X[:, 0], X[:, 1], c=colours, s=9)
    for k, colour in enumerate(COLOURS):
        for radius in (1.0, 2.0):
            outline = ellipse(frame.params.means[k], frame.params.covariances[k], radius)
            axes.plot(*outline.T, color=colour, linewidth=1.6 / radius)
        axes.plot(*frame.params.means[k], "+", color=colour, markersize=10, markeredgewidth=2)
    axes.set_title(f"{frame.title}: {frame.log_likelihood:.3f} nats per point", fontsize=10)
    axes.set(xlim=(-2.4, 2.4), ylim=(-2.6, 2.4), aspect="equal")


def ellipse(mean: NDArray[Any], covariance: NDArray[Any], radius: float) -> NDArray[np.float64]:
    """Return points (100, 2) at Mahalanobis distance `radius` from the mean."""
    angle = np.linspace(0.0, 2.0 * np.pi, 100)
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    return np.asarray(mean + radius * circle @ np.linalg.cholesky(covariance).T)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default="em-film.png")
def main(out: Path) -> None:
    """Draw the first cycles of EM on the Old Faithful eruptions."""
    X = load()
    frames = film(X)
    for frame in frames:
        click.echo(f"{frame.title:22} {frame.log_likelihood:9.4f} nats per point")
    draw(X, frames).savefig(out, dpi=110)
    click.echo(f"written: {out}")


if __name__ == "__main__":
    main()
