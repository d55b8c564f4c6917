"""The chart of the mixture: readings and ellipses in a plane, in three frames.

The middle frame has most readings. Some Gaussians lie on top of each other: a second frame enlarges
them. Others are far wider than the middle frame: a third frame shows all readings and all ellipses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.demo.projection import ellipse, principal_axes
from streamclust.demo.terminal_charts import component_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from streamclust.arrays import Array
    from streamclust.demo.projection import Projection
    from streamclust.formats.model import Model

_SAMPLE = 6_000
_GREY = "#555555"
_NEAR = 0.06
"""Components whose centres are nearer than this share of the frame are enlarged."""

_SLIM = 0.1
"""Components that fill more than this share of the middle frame aren't enlarged."""

_WIDE = 1.5
"""Components that are wider than this many middle frames are only in the frame of all readings."""

_CAPTION = (
    "Each dot is one of {sample:,} readings of {D} sensors, in the plane in which the readings "
    "vary most. Each ellipse is one Gaussian of the\nmixture, at two standard deviations. Beside "
    "it: its number and its weight (the share of the readings). A dot has the colour of its "
    "Gaussian."
)


@dataclass(frozen=True, eq=False)
class Frame:
    """A rectangle of the plane.

    Parameters
    ----------
    low, high : array of shape (2,)
    """

    low: Array
    high: Array

    @property
    def size(self) -> Array:
        """Width and height."""
        return self.high - self.low

    def widened(self, share: float) -> Frame:
        """Return the frame with a margin on each side."""
        return Frame(self.low - share * self.size, self.high + share * self.size)

    def with_points(self, points: Array) -> Frame:
        """Return the smallest frame that has this one and the points (N, 2)."""
        return Frame(np.minimum(self.low, points.min(0)), np.maximum(self.high, points.max(0)))


@dataclass(frozen=True, eq=False)
class Curve:
    """The ellipse of a component.

    Parameters
    ----------
    number : int
    weight : float
    centre : array of shape (2,)
    points : array of shape (n, 2)
        Points on the ellipse.
    """

    number: int
    weight: float
    centre: Array
    points: Array

    @property
    def label(self) -> str:
        """Number and weight."""
        return f"{self.number}: {'<0.1%' if self.weight < 0.001 else f'{self.weight:.1%}'}"

    @property
    def size(self) -> Array:
        """Width and height."""
        return np.asarray(np.ptp(self.points, axis=0))


def draw_mixture(X: Array, model: Model) -> Figure:
    """Return the 2-sigma ellipses of a full mixture over a sample of the points."""
    from matplotlib.figure import Figure

    projection = principal_axes(X)
    sample = X[:_SAMPLE]
    points, owners = projection.points(sample), model.predict(sample)
    every = curves(model, projection)
    middle, near, whole = frames(points, every)
    figure = Figure((11.0, 6.6), layout="constrained")
    parts = figure.add_gridspec(2, 2, width_ratios=(1.75, 1.0))
    main, zoom, overview = (
        figure.add_subplot(part) for part in (parts[:, 0], parts[0, 1], parts[1, 1])
    )
    crowd = _inside(every, near)
    for axes, frame in ((main, middle), (zoom, near), (overview, whole)):
        shown = _inside(every, frame)
        _draw(axes, frame, points, owners, shown)
        if axes is zoom:
            _label_at_the_right(axes, frame, crowd)
        else:
            numbers = {
                curve.number for curve in (crowd if axes is main else _inside(every, middle))
            }
            for curve in shown:
                if curve.number not in numbers:
                    top = curve.points[curve.points[:, 1].argmax()]
                    _write(axes, curve, top, (0, 4), horizontalalignment="center")
    _mark(main, near, "enlarged at the right", above=True)
    _mark(overview, middle, "the left chart")
    zoom.set_title("Gaussians on top of each other", fontsize="medium")
    overview.set_title("All readings and all Gaussians", fontsize="medium")
    for name, axis, share in zip("xy", ("first", "second"), projection.share, strict=True):
        main.set(**{f"{name}label": f"{axis} principal axis ({share:.0%} of the variance)"})
    main.set_title(
        f"Shuttle: {len(model.means)} Gaussians learned from {model.points:,} readings "
        f"(version {model.version})",
        fontsize="medium",
    )
    figure.supxlabel(_CAPTION.format(sample=len(sample), D=X.shape[1]), fontsize=9, color=_GREY)
    return figure


def curves(model: Model, projection: Projection) -> list[Curve]:
    """Return the ellipses at two standard deviations in the plane."""
    turn = np.linspace(0.0, 2.0 * np.pi, 181)
    found = []
    for number, (mean, shape) in enumerate(
        zip(
            projection.points(model.means),
            projection.covariances(model.params.covariances),
            strict=True,
        )
    ):
        width, height, degrees = ellipse(shape)
        angle = np.radians(degrees)
        major, minor = width / 2 * np.cos(turn), height / 2 * np.sin(turn)
        x = major * np.cos(angle) - minor * np.sin(angle)
        y = major * np.sin(angle) + minor * np.cos(angle)
        weight = float(model.params.weights[number])
        found.append(Curve(number, weight, mean, mean + np.column_stack((x, y))))
    return found


def frames(points: Array, every: list[Curve]) -> tuple[Frame, Frame, Frame]:
    """Return the frame of most readings, of the most crowded components, and of everything."""
    low, high = np.percentile(points, [0.5, 99.5], axis=0)
    middle = Frame(low, high)
    narrow = [curve for curve in every if (curve.size <= _WIDE * middle.size).all()]
    for curve in narrow:
        middle = middle.with_points(curve.points)
    centres = np.array([curve.centre for curve in every])
    apart = np.abs(centres[:, None] - centres) / middle.size
    together = (apart < _NEAR).all(axis=2)
    slim = np.array([float(np.prod(curve.size / middle.size)) < _SLIM for curve in every])
    together &= slim & slim[:, None]
    crowd = np.flatnonzero(together[together.sum(axis=1).argmax()])
    crowded = [every[k].points for k in crowd] or [points]
    near = Frame(crowded[0].min(0), crowded[0].max(0))
    for each in crowded:
        near = near.with_points(each)
    whole = middle.with_points(points)
    for curve in every:
        whole = whole.with_points(curve.points)
    return middle.widened(0.05), near.widened(0.08), whole.widened(0.05)


def _inside(every: list[Curve], frame: Frame) -> list[Curve]:
    """Return the ellipses that are wholly in a frame."""
    return [
        curve
        for curve in every
        if (curve.points >= frame.low).all() and (curve.points <= frame.high).all()
    ]


def _draw(axes: Axes, frame: Frame, points: Array, owners: Any, shown: list[Curve]) -> None:
    inside = ((points >= frame.low) & (points <= frame.high)).all(axis=1)
    colours = [component_colour(number) for number in owners[inside]]
    x, y = points[inside].T
    axes.scatter(x, y, s=5, c=colours, alpha=0.35, linewidths=0)
    for curve in shown:
        axes.plot(*curve.points.T, color=component_colour(curve.number), linewidth=2)
    axes.set(xlim=(frame.low[0], frame.high[0]), ylim=(frame.low[1], frame.high[1]))
    axes.tick_params(labelsize="small", colors=_GREY)
    for side in axes.spines.values():
        side.set_color("#bbbbbb")


def _label_at_the_right(axes: Axes, frame: Frame, crowd: list[Curve]) -> None:
    """Write number and weight at the right of the frame, with a line to each ellipse."""
    right = frame.high[0] + 0.45 * frame.size[0]
    axes.set_xlim(frame.low[0], right)
    heights = np.linspace(frame.high[1], frame.low[1], len(crowd) + 2)[1:-1]
    order = sorted(crowd, key=lambda curve: -curve.points[curve.points[:, 0].argmax(), 1])
    for curve, height in zip(order, heights, strict=True):
        on_right = curve.points[curve.points[:, 0] >= curve.centre[0]]
        end = on_right[np.abs(on_right[:, 1] - height).argmin()]
        colour = component_colour(curve.number)
        place = (frame.high[0] + 0.04 * frame.size[0], height)
        axes.plot((end[0], place[0]), (end[1], height), color=colour, linewidth=1)
        axes.plot(*end, marker="o", markersize=4, color=colour)
        _write(axes, curve, place, (3, -3))


def _write(axes: Axes, curve: Curve, place: Any, offset: tuple[int, int], **style: Any) -> None:
    axes.annotate(
        curve.label,
        place,
        offset,
        textcoords="offset points",
        color=component_colour(curve.number),
        fontsize=9,
        fontweight="bold",
        path_effects=_outlined(),
        **style,
    )


def _mark(axes: Axes, frame: Frame, name: str, *, above: bool = False) -> None:
    """Draw the rectangle of another chart."""
    from matplotlib.patches import Rectangle

    corner = (float(frame.low[0]), float(frame.low[1]))
    width, height = frame.size.tolist()
    axes.add_patch(
        Rectangle(corner, width, height, fill=False, edgecolor="black", linestyle="dotted")
    )
    left = corner[0] + width / 2 < sum(axes.get_xlim()) / 2
    axes.annotate(
        name,
        (corner[0] + (0 if left else width), corner[1] + (height if above else 0)),
        (0, 3 if above else -10),
        textcoords="offset points",
        horizontalalignment="left" if left else "right",
        fontsize=8,
        path_effects=_outlined(),
    )


def _outlined() -> list[Any]:
    """Return the effect that makes text readable over dots and lines."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3, foreground="white")]
