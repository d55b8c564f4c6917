"""The charts: pictures in few colours, palettes, the mixture, scores."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.demo.mixture_plot import draw_mixture
from streamclust.demo.pictures import count_colours, psnr, quantize
from streamclust.demo.plan import N_COLOURS
from streamclust.demo.terminal_charts import by_luminance
from streamclust.files import new_file

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from streamclust.demo.baseline import Baselines
    from streamclust.demo.feeds import Feeds
    from streamclust.demo.learning import Learned
    from streamclust.demo.recorder import Recorder
    from streamclust.formats.model import Model

_DPI = 120
_COLUMNS = 16
_BLUE, _ORANGE, _GREY = "#1f5fa8", "#d9660a", "#555555"


def draw(feeds: Feeds, learned: Learned, baselines: Baselines, out: Path) -> tuple[Path, ...]:
    """Draw all pictures into the folder `out`; return their paths."""
    figures = {
        "pictures.png": draw_pictures(feeds, learned.ends),
        "palette.png": draw_palettes([(name, learned.ends[name]) for name in feeds.pictures]),
        "mixture.png": draw_mixture(feeds.shuttle.X, learned.ends[feeds.shuttle.name]),
        "score.png": draw_scores(feeds, learned, baselines),
    }
    for name, figure in figures.items():
        with new_file(out / name) as file:
            figure.savefig(file, dpi=_DPI)
    return tuple(out / name for name in figures)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure((width, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))


def draw_pictures(feeds: Feeds, ends: dict[str, Model]) -> Figure:
    """Return each picture beside itself in the 64 colours of its own last version."""
    figure = _figure(11.0, 8.4)
    grid: Any = figure.subplots(len(feeds.pictures), 2)
    for (left, right), (name, picture) in zip(grid, feeds.pictures.items(), strict=True):
        quantized = quantize(picture, ends[name].means)
        left.imshow(picture)
        left.set_title(f"{name}: {count_colours(picture):,} colours")
        right.imshow(quantized)
        right.set_title(
            f"the same in {N_COLOURS} colours (version {ends[name].version}, "
            f"PSNR {psnr(picture, quantized):.1f} dB)"
        )
    for axes in grid.flat:
        axes.set_axis_off()
    _caption(
        figure,
        f"Right: each pixel has the nearest of the {N_COLOURS} colours that the worker had learned "
        "when the picture's last pixel had arrived.\nPSNR (peak signal-to-noise ratio) measures "
        "how close the two pictures are; higher is better.",
    )
    return figure


def _caption(figure: Figure, text: str) -> None:
    figure.supxlabel(text, fontsize=9, color=_GREY)


def draw_palettes(ends: list[tuple[str, Model]]) -> Figure:
    """Return the colours of each version, dark to light; a swatch's area is its share of pixels."""
    figure = _figure(9.0, 2.9 * len(ends))
    panels: Any = figure.subplots(len(ends), 1)
    for axes, (name, model) in zip(np.atleast_1d(panels), ends, strict=True):
        _draw_swatches(axes, model)
        axes.set_title(f"Palette after {name} (version {model.version})")
    _caption(
        figure,
        "Each square is one colour. Its area is the colour's share of the recent pixels. "
        "The order is from dark to light.",
    )
    return figure


def _draw_swatches(axes: Axes, model: Model) -> None:
    from matplotlib.patches import Rectangle

    order = by_luminance(model.means)
    sides = 0.96 * np.sqrt(model.mass / model.mass.max())[order]
    for place, (side, colour) in enumerate(zip(sides, model.means[order], strict=True)):
        row, column = divmod(place, _COLUMNS)
        corner = (column + 0.5 - side / 2, -row - 0.5 - side / 2)
        fill = np.clip(colour / 255.0, 0.0, 1.0)
        swatch = Rectangle(corner, side, side, facecolor=fill, edgecolor=_GREY, linewidth=0.5)
        axes.add_patch(swatch)  # with an outline, so that white is visible
    axes.set(xlim=(0, _COLUMNS), ylim=(-len(order) / _COLUMNS, 0), aspect="equal")
    axes.set_axis_off()


def draw_scores(feeds: Feeds, learned: Learned, baselines: Baselines) -> Figure:
    """Return both models' prequential scores over the points learned."""
    figure = _figure(9.0, 7.2)
    top, bottom = figure.subplots(2, 1)
    _draw_palette_score(top, feeds, learned.palette, baselines)
    _draw_mixture_score(bottom, learned.shuttle, baselines)
    _caption(
        figure,
        "The worker scores each point before it learns the point. scikit-learn's scores are of the "
        "points\nto which it was fitted in many passes.",
    )
    return figure


def _draw_palette_score(axes: Axes, feeds: Feeds, recorder: Recorder, baselines: Baselines) -> None:
    points, scores = recorder.scores()
    axes.plot(points, scores, color=_BLUE, label="stream: each pixel scored before it is learned")
    edges = np.cumsum([0, *(len(feed.X) for feed in feeds.pixels)])
    label = "scikit-learn: full-batch fit to that picture (n_init=1)"
    for feed, (start, end) in zip(feeds.pixels, pairwise(edges), strict=True):
        batch = baselines.palettes[feed.name].inertia
        axes.hlines(batch, start, end, color=_ORANGE, linestyles="dashed", label=label)
        label = ""  # one entry in the legend
    axes.axvline(edges[1], color=_GREY, linestyle="dotted", label="flower.jpg starts")
    axes.set(xlabel="pixels learned", ylabel="inertia per pixel", xlim=(0, None), ylim=(0, None))
    axes.set_title("Palette by K-means: lower is better", fontsize="medium")
    _finish(axes)


def _draw_mixture_score(axes: Axes, recorder: Recorder, baselines: Baselines) -> None:
    points, scores = recorder.scores()
    axes.plot(points, scores, color=_BLUE, label="stream: each reading scored before it is learned")
    fits = [mixture.log_likelihood for mixture in baselines.mixtures]
    label = f"scikit-learn: {len(fits)} full-batch fit{'s' * (len(fits) > 1)} (n_init=1)"
    for fit in fits:
        axes.axhline(fit, color=_ORANGE, linestyle="dashed", linewidth=1, label=label)
        label = ""
    low, high = min(*fits, float(np.percentile(scores, 15))), max(*fits, *scores)
    margin = 0.25 * (high - low)
    axes.set_ylim(low - margin, high + margin)
    axes.set(xlabel="readings learned", xlim=(0, None))
    lowest, title = min(scores), "Shuttle by a mixture: higher is better"
    if lowest < low - margin:
        title += f" (the first scores, from {lowest:,.0f}, are below the chart)"
    axes.set_title(title, fontsize="medium")
    axes.set_ylabel("log-likelihood per reading (nats)")
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axes.grid(alpha=0.25)
    axes.legend(loc="best", fontsize=9)
