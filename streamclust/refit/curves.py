"""The chart for a selection of K: J, the criteria, and the silhouette over K."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamclust.errors import DataError, MissingExtraError
from streamclust.files import new_file
from streamclust.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from streamclust.refit.scoring import Score
    from streamclust.refit.selection import Choice

_DPI = 120
_BLUE, _ORANGE, _GREY = "#1f5fa8", "#d9660a", "#555555"


def check_plotting() -> None:
    """Check that matplotlib is installed. Call this before a long computation.

    Raises
    ------
    MissingExtraError
        If matplotlib isn't installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "the chart needs matplotlib: pip install matplotlib, or use --no-png"
        ) from None


def draw(scores: Sequence[Score], choice: Choice, title: str, path: Path) -> None:
    """Draw the curves into a PNG file.

    Raises
    ------
    DataError
        If the file can't be written.
    """
    from matplotlib.figure import Figure

    figure = Figure((11.0, 3.8), layout="constrained")
    figure.suptitle(printable(title), parse_math=False)
    left, middle, right = figure.subplots(1, 3)
    K = [score.n_components for score in scores]
    _curve(left, K, [score.inertia_per_point for score in scores], _BLUE, "inertia per point, J/N")
    _mark(left, choice.elbow, "elbow")
    _curve(middle, K, [score.bic for score in scores], _BLUE, "BIC")
    _curve(middle, K, [score.aic for score in scores], _ORANGE, "AIC", marker="s", linestyle="--")
    _mark(middle, choice.bic, "lowest BIC")
    _curve(right, K, [score.silhouette for score in scores], _BLUE, "silhouette")
    _mark(right, choice.silhouette, "highest")
    names = (
        "Mean squared distance: look for the bend",
        "Information criteria: lower is better",
        "Silhouette (-1 to 1): higher is better",
    )
    for axes, name in zip((left, middle, right), names, strict=True):
        axes.set_title(name, fontsize="medium")
        axes.set_xlabel("number of components K")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:,.10g}")
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.35 * (high - low))  # room for the legend
        axes.legend(loc="upper right", framealpha=1.0, edgecolor="none")
        axes.spines[["top", "right"]].set_visible(False)
    try:
        with new_file(path) as file:
            figure.savefig(file, dpi=_DPI, format=path.suffix.removeprefix(".").lower() or "png")
    except DataError:
        raise
    except ValueError as error:  # an unknown format
        raise DataError(f"can't write {path}: {error}") from None


def _curve(
    axes: Axes,
    K: list[int],
    values: Sequence[float | None],
    colour: str,
    name: str,
    **style: Any,
) -> None:
    with_gaps: Any = [float("nan") if value is None else value for value in values]
    axes.plot(
        K, with_gaps, **{"marker": "o", "markersize": 4, "color": colour, "label": name, **style}
    )


def _mark(axes: Axes, K: int | None, name: str) -> None:
    if K is not None:
        axes.axvline(K, color=_GREY, linestyle=":", label=f"{name}: K = {K}")
