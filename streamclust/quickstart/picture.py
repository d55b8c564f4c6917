"""The picture of a model: points in two dimensions, coloured by cluster, as PNG and as text."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamclust.arrays import Array, Labels
from streamclust.demo.terminal_charts import component_colour
from streamclust.files import new_file
from streamclust.models.directions import normalized
from streamclust.models.family import size_name
from streamclust.models.scaling import learn_scaling
from streamclust.quickstart.first_rows import MAX_NAMED_FEATURES
from streamclust.quickstart.size import principal_axes
from streamclust.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from streamclust.formats.model import Model

_SAMPLE = 5000
_DPI = 120
_MAX_SHARES = 8
"""Largest number of components whose shares are written into the picture."""

_MAX_ROWS, _MAX_COLUMNS = 24, 16
"""Largest table of centroids beside the points."""

_MAX_NAME = 24
SYMBOLS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, eq=False)
class View:
    """Points and centroids in two dimensions.

    Parameters
    ----------
    points : array of shape (n, 2)
    labels : array of shape (n,)
        Component of each point, as a row of the parameters.
    centroids : array of shape (K, 2)
    axes : tuple of str
        Names of the two axes.
    low, high : arrays of shape (2,)
        Corners of the visible part: the middle 99 % of the points, with a margin.
    profile : array of shape (K, D)
        Centroids in standard deviations from the mean of the points.
    """

    points: Array
    labels: Labels
    centroids: Array
    axes: tuple[str, str]
    low: Array
    high: Array
    profile: Array


def make_view(model: Model, X: NDArray[Any], features: tuple[str, ...]) -> View:
    """Return the view of a sample of the points: two features, or the first two principal axes."""
    X = np.asarray(X[np.linspace(0, len(X) - 1, min(len(X), _SAMPLE)).astype(int)], np.float64)
    if model.metric == "cosine":
        X = np.asarray(normalized(X[X.any(axis=1)]), np.float64)
    if np.isnan(X).any():
        X = np.asarray(model.impute(X))
    is_wide = X.shape[1] > MAX_NAMED_FEATURES  # the features then have the same unit
    scaling = None if is_wide else learn_scaling("standard", X, np.ones(len(X)))
    Z, means = X, model.means
    if scaling is not None:
        Z, means = scaling.apply(X), scaling.apply(model.means)
    names = [printable(name, _MAX_NAME) for name in features]
    if X.shape[1] <= 2:
        column = [0, X.shape[1] - 1]
        points, centroids = X[:, column], model.means[:, column]
        axes = (names[0], names[-1] if len(names) > 1 else "")
        if X.shape[1] == 1:  # the second axis spreads the points, so that they don't overlap
            points[:, 1] = np.random.default_rng(0).uniform(-1.0, 1.0, len(X))
            centroids = np.column_stack([model.means[:, 0], np.zeros(len(model.means))])
    else:
        A, axes = _principal_axes(Z, names)
        points, centroids = Z @ A.T, means @ A.T
    low, high = np.percentile(points, [0.5, 99.5], axis=0)
    margin = 0.08 * np.where(high > low, high - low, 1.0)
    rows = model.family.predict(model.params, X)
    return View(points, rows, centroids, axes, low - margin, high + margin, means)


def _principal_axes(Z: Array, names: list[str]) -> tuple[Array, tuple[str, str]]:
    """Return the first two principal axes of the bulk of the points, and their names."""
    bulk = np.clip(Z, *np.percentile(Z, [1.0, 99.0], axis=0))
    variance, axes = principal_axes(bulk)
    share = variance / max(float(variance.sum()), 1e-300)
    words = [
        f"principal axis {number + 1} ({share[number]:.0%} of the variance)" for number in (0, 1)
    ]
    if len(names) <= _MAX_COLUMNS:
        words = [f"{word}: {_loadings(axes[n], names)}" for n, word in enumerate(words)]
    return axes[:2], (words[0], words[1])


def _loadings(axis: Array, names: list[str]) -> str:
    """Return the features with the largest weights in a principal axis."""
    order = np.argsort(-np.abs(axis), kind="stable")[:3]
    strong = [k for k in order.tolist() if abs(axis[k]) > 0.5 * abs(axis[order[0]])]
    return ", ".join(f"{'-' if axis[k] < 0.0 else '+'}{names[k]}" for k in strong)


def can_draw() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw(view: View, model: Model, features: tuple[str, ...], path: Path) -> None:
    """Draw the view as a PNG. For few features, add a table of the centroids as colours."""
    import matplotlib

    # Names aren't formulas. Characters that the font doesn't have must not give warnings.
    with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        _draw(view, model, features, path)


def _draw(view: View, model: Model, features: tuple[str, ...], path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    K, D = model.means.shape
    is_table = D > 2 and D <= _MAX_COLUMNS and K <= _MAX_ROWS
    size = (12.5, 5.8) if is_table else (8.0, 6.0)
    figure = Figure(size, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    panels: Any = figure.subplots(
        1, 2 if is_table else 1, width_ratios=[3, 2] if is_table else None
    )
    left, *right = np.atleast_1d(panels)
    _draw_points(left, view, model)
    if right:
        _draw_profile(right[0], view, features, model.numbers.tolist())
    figure.suptitle(
        f"{printable(model.name)}: {K} {size_name(type(model.family)).removeprefix('n_')}, "
        f"{model.points:,} points learned (version {model.version})"
    )
    with new_file(path) as file:
        figure.savefig(file, format="png", dpi=_DPI)


def _draw_points(axes: Axes, view: View, model: Model) -> None:
    colours = [component_colour(row) for row in view.labels.tolist()]
    size = float(np.clip(20_000 / len(view.points), 5.0, 30.0))
    axes.scatter(view.points[:, 0], view.points[:, 1], s=size, c=colours, alpha=0.45, linewidths=0)
    share = model.mass / (float(model.mass.sum()) or 1.0)
    inside = ((view.centroids >= view.low) & (view.centroids <= view.high)).all(axis=1)
    for row in np.flatnonzero(inside).tolist():
        number = str(model.numbers[row])
        part = f" ({share[row]:.0%})" if share[row] >= 0.005 else " (<1%)"
        axes.annotate(
            number + part * (len(share) <= _MAX_SHARES),
            view.centroids[row],
            ha="center",
            va="center",
            fontsize=9,
            bbox={
                "boxstyle": "round,pad=0.25",
                "facecolor": "white",
                "edgecolor": component_colour(row),
                "linewidth": 1.5,
                "alpha": 0.85,
            },
        )
    axes.set_xlim(view.low[0], view.high[0])
    axes.set_ylim(view.low[1], view.high[1])
    axes.set_xlabel(textwrap.fill(view.axes[0], 70))
    axes.set_ylabel(textwrap.fill(view.axes[1], 55))
    if not view.axes[1]:
        axes.set_yticks([])
    outside = int((~inside).sum())
    title = (
        f"each dot is one of {len(view.points):,} points; labels: number and share of a cluster"
        + (f"; {outside} centroids are outside" * (outside > 0))
    )
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.2)


def _draw_profile(
    axes: Axes, view: View, features: tuple[str, ...], numbers: Sequence[int]
) -> None:
    names = [printable(name, _MAX_NAME) for name in features]
    limit = 2.5
    image = axes.imshow(view.profile, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    K, D = view.profile.shape
    for row in range(K):
        for column in range(D):
            value = float(view.profile[row, column])
            colour = "white" if abs(value) > 1.6 else "black"
            if D <= 10:
                text = f"{value:+.1f}" if abs(value) < 10.0 else f"{value:+.0f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(D), names, rotation=40, ha="right", fontsize=8)
    axes.set_yticks(range(K), map(str, numbers))
    axes.set_ylabel("number of the cluster or component")
    axes.set_title("centroids in standard deviations from the mean", fontsize=10)
    axes.figure.colorbar(image, ax=axes, shrink=0.7)


def text_rows(view: View, width: int, height: int) -> list[list[tuple[str, int]]]:
    """Return the view as rows of cells: symbol and number of the most frequent component.

    An empty cell is (" ", -1).
    """
    inside = ((view.points >= view.low) & (view.points <= view.high)).all(axis=1)
    points, labels = view.points[inside], view.labels[inside]
    places = (points - view.low) / (view.high - view.low)
    columns = np.minimum((places[:, 0] * width).astype(int), width - 1)
    rows = height - 1 - np.minimum((places[:, 1] * height).astype(int), height - 1)
    K = len(view.centroids)
    counts = np.zeros((height * width, K), np.int64)
    np.add.at(counts, (rows * width + columns, labels), 1)
    best = np.where(counts.any(axis=1), counts.argmax(axis=1), -1).reshape(height, width)
    return [
        [(SYMBOLS[k % len(SYMBOLS)] if k >= 0 else " ", k) for k in row] for row in best.tolist()
    ]
