"""Anomalies in a feed of three sensors, online, with the reason of each one.

A machine works in one of two states. Its temperature and its load rise together. Some readings are
wrong in one sensor. In some others each value is usual, but load and temperature don't fit each
other. Later the machine is moved to a warmer room. The data jump, and the model adapts.

    python -m examples.anomalies --out docs/pictures/anomalies.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from streamclust import Anomaly, Drift, GaussianMixture, HalfLife, StreamLearner
from streamclust.models.attribution import attribution
from streamclust.models.scores import anomaly_score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from streamclust.arrays import Array, Labels

FEATURES = ("temperature", "load", "vibration")
RATE = 0.001
BATCH = 250


@dataclass(frozen=True)
class Feed:
    """Readings of the sensors.

    Parameters
    ----------
    X : array of shape (N, 3)
    faults : dict of int to str
        Place of a wrong reading -> the sensor that is wrong.
    jump : int
        Place of the first reading in the warmer room.
    """

    X: Array
    faults: dict[int, str]
    jump: int


@dataclass(frozen=True)
class Timeline:
    """What an online model finds in a feed.

    Parameters
    ----------
    start : int
        Place of the first reading that is scored.
    score : array of shape (N - start,)
        Anomaly scores, each before its point is learned.
    threshold : array of shape (N - start,)
        A point with a higher score is flagged.
    reasons : dict of int to str
        Place of a flagged point -> the feature that explains most of its score.
    """

    start: int
    score: Array
    threshold: Array
    reasons: dict[int, str]


def feed(n: int = 40_000, seed: int = 0) -> Feed:
    """Return a feed with faults, and with a jump after three fifths."""
    rng = np.random.default_rng(seed)
    state = rng.random(n) < 0.6
    load = np.where(state, 70.0, 20.0) + rng.normal(scale=5.0, size=n)
    temperature = 35.0 + 0.4 * load + rng.normal(scale=0.8, size=n)
    vibration = np.where(state, 1.8, 0.6) + rng.normal(scale=0.1, size=n)
    X = np.column_stack([temperature, load, vibration])
    places = np.linspace(0.15 * n, 0.97 * n, 9).astype(int)
    faults = {}
    for number, place in enumerate(places.tolist()):
        sensor = ("temperature", "vibration", "load")[number % 3]
        column = FEATURES.index(sensor)
        wrong = {"temperature": 8.0, "vibration": 1.0, "load": -22.0 if state[place] else 22.0}
        X[place, column] += wrong[sensor]
        faults[place] = sensor
    jump = 3 * n // 5
    X[jump:, 0] += 6.0
    return Feed(X, faults, jump)


def follow(X: Array, seed: int = 0) -> Timeline:
    """Score each batch, flag points and explain them, then learn the batch."""
    learner = StreamLearner(
        GaussianMixture(2),
        HalfLife(points=5_000.0),
        drift=Drift(on_drift="forget"),
        seed=seed,
        anomaly=Anomaly(RATE),
    )
    state, start = learner.init(), 0
    scores: list[Array] = []
    thresholds: list[Array] = []
    reasons: dict[int, str] = {}
    for place in range(0, len(X), BATCH):
        batch = X[place : place + BATCH]
        known = learner.score_distribution(state)
        family, params = learner.family, learner.in_units(state)
        if params is not None and known is not None:
            score, limit = anomaly_score(family, params, batch), known.threshold(RATE)
            flagged = np.flatnonzero(score > limit)
            why = attribution(
                family, params, batch[flagged], family.predict(params, batch[flagged])
            )
            for row, feature in zip(flagged.tolist(), why.top(1)[:, 0].tolist(), strict=True):
                reasons[place + row] = FEATURES[feature]
            scores.append(score)
            thresholds.append(np.full(len(batch), limit))
        else:
            start = place + len(batch)
        state, _ = learner.update(state, batch)
    return Timeline(start, np.concatenate(scores), np.concatenate(thresholds), reasons)


def draw(given: Feed, found: Timeline) -> Figure:
    """Return the readings with the flagged points, and the scores with the threshold."""
    from matplotlib.figure import Figure

    figure = Figure((11.0, 6.4), layout="constrained")
    panels: Any = figure.subplots(4, 1, sharex=True, height_ratios=[1, 1, 1, 1.4])
    colours = dict(zip(FEATURES, ("#c1272d", "#1f5fa8", "#2d7d46"), strict=True))
    flagged: Labels = np.array(sorted(found.reasons), np.intp)
    for axes, name, values in zip(panels, FEATURES, given.X.T, strict=False):
        axes.plot(values, ",", color="#999999", rasterized=True)
        why = flagged[[found.reasons[place] == name for place in flagged.tolist()]]
        axes.plot(why, values[why], "o", ms=4, color=colours[name], label=f"flagged: {name}")
        axes.set_ylabel(name)
        axes.legend(loc="upper left", fontsize=8, frameon=False)
    axes = panels[-1]
    axes.plot(found.start + np.arange(len(found.score)), found.score, ",", color="#999999")
    for name in FEATURES:
        why = flagged[[found.reasons[place] == name for place in flagged.tolist()]]
        axes.plot(why, found.score[why - found.start], "o", ms=4, color=colours[name])
    limit = np.where(np.isfinite(found.threshold), found.threshold, np.nan)
    axes.plot(found.start + np.arange(len(limit)), limit, color="black", lw=1)
    axes.set_ylabel("anomaly score")
    axes.set_ylim(0.0, 1.6 * np.nanmax(limit))
    axes.set_xlabel("reading")
    for each in panels:
        each.axvline(given.jump, color="#555555", ls=":", lw=1)
    panels[0].set_title(
        f"the machine is moved to a warmer room after {given.jump:,} readings", fontsize=10
    )
    return figure


@click.command()
@click.option("--points", type=int, default=40_000, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default="anomalies.png")
def main(points: int, seed: int, out: Path) -> None:
    """Find faults of the sensors of a machine while the readings arrive."""
    given = feed(points, seed)
    found = follow(given.X, seed)
    for place, sensor in given.faults.items():
        reason = found.reasons.get(place, "not flagged")
        click.echo(f"reading {place:6}: {sensor} is wrong; flagged because of: {reason}")
    others = [place for place in found.reasons if place not in given.faults]
    early = sum(given.jump <= place < given.jump + 5_000 for place in others)
    click.echo(f"other flagged readings: {len(others)}, of which {early} soon after the jump")
    draw(given, found).savefig(out, dpi=110)
    click.echo(f"written: {out}")


if __name__ == "__main__":
    main()
