"""The final figures: one pass over the stream, compared with scikit-learn's full-batch fits."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rich.box import SQUARE
from rich.table import Table

from streamclust.demo.pictures import psnr, quantize
from streamclust.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from streamclust.demo.baseline import Baselines
    from streamclust.demo.feeds import Feed, Feeds
    from streamclust.demo.learning import Learned
    from streamclust.demo.plan import Plan


@dataclass(frozen=True)
class PaletteReport:
    """A palette at the end of a picture, on that picture's pixels.

    Parameters
    ----------
    picture : str
    pixels, version : int
        `version` is the version after the last of these pixels.
    inertia, batch_inertia : float
        Per pixel, of the stream and of scikit-learn.
    inertia_ratio : float
        Below 1, the stream is better.
    psnr_db, batch_psnr_db : float
        Of the whole picture in 64 colours.
    batch_passes : int
    batch_seconds : float
    """

    picture: str
    pixels: int
    version: int
    inertia: float
    batch_inertia: float
    inertia_ratio: float
    psnr_db: float
    batch_psnr_db: float
    batch_passes: int
    batch_seconds: float


@dataclass(frozen=True)
class MixtureReport:
    """The mixture on all points that it had learned.

    Parameters
    ----------
    points, version : int
    log_likelihood : float
        Per point, in nats.
    batch_log_likelihood : float
        The median of scikit-learn's fits.
    gap : float
        Above 0, the stream is better.
    batch_log_likelihoods, batch_passes, batch_seconds : tuple
        One per fit.
    """

    points: int
    version: int
    log_likelihood: float
    batch_log_likelihood: float
    gap: float
    batch_log_likelihoods: tuple[float, ...]
    batch_passes: tuple[int, ...]
    batch_seconds: tuple[float, ...]


@dataclass(frozen=True)
class WorkerReport:
    """The worker.

    Parameters
    ----------
    points : int
        Of both feeds.
    seconds : float
        From the first point sent to the publication of the last one.
    points_per_second : float
        Limited by the rate of the feeds.
    cpu_seconds : float
        Total processor time of the worker, including its start.
    versions : dict of str to int
        Published, by model.
    exit_code : int
    """

    points: int
    seconds: float
    points_per_second: float
    cpu_seconds: float
    versions: dict[str, int]
    exit_code: int


@dataclass(frozen=True)
class Report:
    """All figures.

    Parameters
    ----------
    seed : int
        Of the shuffled order, of the models, and of scikit-learn.
    palettes : tuple of PaletteReport
    mixture : MixtureReport
    worker : WorkerReport
    """

    seed: int
    palettes: tuple[PaletteReport, ...]
    mixture: MixtureReport
    worker: WorkerReport

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(asdict(self), indent=2)


def make_report(plan: Plan, feeds: Feeds, learned: Learned, baselines: Baselines) -> Report:
    """Compare the learned models with scikit-learn's fits."""
    return Report(
        plan.seed,
        tuple(_palette(feed, feeds, learned, baselines) for feed in feeds.pixels),
        _mixture(feeds.shuttle, learned, baselines),
        _worker(learned),
    )


def _palette(feed: Feed, feeds: Feeds, learned: Learned, baselines: Baselines) -> PaletteReport:
    model, batch = learned.ends[feed.name], baselines.palettes[feed.name]
    picture = feeds.pictures[feed.name]
    inertia = float(model.score_samples(feed.X).mean())
    return PaletteReport(
        picture=feed.name,
        pixels=len(feed.X),
        version=model.version,
        inertia=inertia,
        batch_inertia=batch.inertia,
        inertia_ratio=inertia / batch.inertia,
        psnr_db=psnr(picture, quantize(picture, model.means)),
        batch_psnr_db=psnr(picture, quantize(picture, batch.colours)),
        batch_passes=batch.passes,
        batch_seconds=batch.seconds,
    )


def _mixture(feed: Feed, learned: Learned, baselines: Baselines) -> MixtureReport:
    model, fits = learned.ends[feed.name], baselines.mixtures
    log_likelihood = float(model.score_samples(feed.X).mean())
    return MixtureReport(
        points=len(feed.X),
        version=model.version,
        log_likelihood=log_likelihood,
        batch_log_likelihood=baselines.log_likelihood,
        gap=log_likelihood - baselines.log_likelihood,
        batch_log_likelihoods=tuple(fit.log_likelihood for fit in fits),
        batch_passes=tuple(fit.passes for fit in fits),
        batch_seconds=tuple(fit.seconds for fit in fits),
    )


def _worker(learned: Learned) -> WorkerReport:
    recorders = (learned.palette, learned.shuttle)
    points = sum(recorder.learned for recorder in recorders)
    return WorkerReport(
        points=points,
        seconds=learned.seconds,
        points_per_second=points / learned.seconds,
        cpu_seconds=learned.worker.cpu_seconds,
        versions={recorder.name: len(recorder.versions) for recorder in recorders},
        exit_code=learned.worker.exit_code,
    )


def save_report(report: Report, path: Path) -> Path:
    """Write the report as JSON; return the path."""
    write_whole(path, f"{report.to_json()}\n".encode())
    return path


def as_table(report: Report, width: int = 80) -> Table:
    """Return the figures as a table that fits a terminal of this width, at least 40."""
    narrow = width < _WIDE_TABLE
    table = Table(
        title="One pass over a stream, beside scikit-learn's full-batch fits",
        box=None if narrow else SQUARE,
        padding=(0, 1, 0, 0) if narrow else (0, 1),
        pad_edge=not narrow,
    )
    table.add_column("", overflow="fold")
    for name in ("stream", "sklearn" if narrow else "scikit-learn", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    for palette in report.palettes:
        table.add_row(f"{palette.picture} (1 fit, n_init=1)", style="bold")
        table.add_row(
            "  inertia per pixel, lower is better",
            f"{palette.inertia:.2f}",
            f"{palette.batch_inertia:.2f}",
            f"{palette.inertia_ratio - 1.0:+z.1%}",
        )
        table.add_row(
            "  PSNR, higher is better",
            f"{palette.psnr_db:.2f} dB",
            f"{palette.batch_psnr_db:.2f} dB",
            f"{palette.psnr_db - palette.batch_psnr_db:+z.2f} dB",
        )
        table.add_row(
            "  passes over the data", "1", f"{palette.batch_passes}", "", end_section=True
        )
    _add_mixture(table, report.mixture)
    return table


_WIDE_TABLE = 78
"""Width of the table with lines."""


def _add_mixture(table: Table, mixture: MixtureReport) -> None:
    fits = len(mixture.batch_passes)
    which = f"median of {fits} fits" if fits > 1 else "1 fit"
    table.add_row(f"Shuttle ({which}, n_init=1)", style="bold")
    table.add_row(
        "  log-likelihood, higher is better",
        f"{mixture.log_likelihood:.2f}",
        f"{mixture.batch_log_likelihood:.2f}",
        f"{mixture.gap:+z.2f} nats",
    )
    least, most = min(mixture.batch_passes), max(mixture.batch_passes)
    passes = f"{least} to {most}" if least < most else f"{most}"
    table.add_row("  passes over the data", "1", passes, "")


def remarks(report: Report) -> list[str]:
    """Return sentences about the figures that the table doesn't have."""
    worker, mixture = report.worker, report.mixture
    fits = ", ".join(f"{x:.2f}" for x in mixture.batch_log_likelihoods)
    which = "fits reached" if len(mixture.batch_passes) > 1 else "fit reached"
    versions = " and ".join(f"{n:,} versions of {name}" for name, n in worker.versions.items())
    return [
        f"The worker learned {worker.points:,} points in {worker.seconds:.1f} s "
        f"({worker.points_per_second:,.0f} per second, as fast as they were sent). It used "
        f"{worker.cpu_seconds:.1f} s of processor time, published {versions}, and exited "
        f"with code {worker.exit_code}.",
        f"Both feeds were shuffled (seed {report.seed}). The stream gets the readings as they are. "
        "scikit-learn's mixture gets standardised readings, and its score is converted back to "
        "the original units.",
        f"scikit-learn's mixture {which} {fits}. EM finds one of many local optima: other seeds "
        "give other differences.",
    ]
