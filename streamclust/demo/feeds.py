"""The data: two photographs that come with scikit-learn, and the Shuttle data of river."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamclust.demo.plan import COLOURS, PIXELS, SHUTTLE
from streamclust.errors import MissingExtraError

if TYPE_CHECKING:
    from streamclust.demo.plan import Plan
    from streamclust.formats.layout import EntryFormat

Picture = NDArray[np.uint8]
"""Height x width x 3, red, green and blue."""

PIXELS_PER_ENTRY = 500


@dataclass(frozen=True, eq=False)
class Feed:
    """Points in the order of sending.

    Parameters
    ----------
    name : str
        Name of the feed in the view and the charts.
    stream : str
    features : tuple of str
    X : array of shape (N, D)
    format : str
    block : int
        Points per entry.
    rate : float
        Points per second.
    """

    name: str
    stream: str
    features: tuple[str, ...]
    X: NDArray[Any]
    format: EntryFormat
    block: int
    rate: float


@dataclass(frozen=True, eq=False)
class Feeds:
    """All data of the demonstration.

    Parameters
    ----------
    pictures : dict of str to Picture
        By name, in the order of sending.
    pixels : tuple of Feed
        One per picture, in this order.
    shuttle : Feed
    """

    pictures: dict[str, Picture]
    pixels: tuple[Feed, ...]
    shuttle: Feed


def require_extras() -> None:
    """Raise MissingExtraError if scikit-learn or matplotlib is missing."""
    missing = [name for name in ("sklearn", "matplotlib") if find_spec(name) is None]
    if missing:
        names = [name.replace("sklearn", "scikit-learn") for name in missing]
        raise MissingExtraError(
            f"the demo needs {' and '.join(names)}: pip install {' '.join(names)}"
        )


def load_feeds(plan: Plan) -> Feeds:
    """Return the data; each feed is shuffled by the plan's seed, then cut to the plan's size."""
    from river.datasets import Shuttle
    from sklearn.datasets import load_sample_image

    pictures, pixels = dict[str, Picture](), []
    for name in ("china.jpg", "flower.jpg"):
        picture = pictures[name] = np.asarray(load_sample_image(name), dtype=np.uint8)
        X = shuffled(picture.reshape(-1, 3), plan.seed)[: plan.pixels].astype(np.float32)
        feed = Feed(name, PIXELS, COLOURS, X, "float32", PIXELS_PER_ENTRY, plan.pixel_rate)
        pixels.append(feed)
    rows = [row for row, _ in Shuttle()]
    X = shuffled(np.array([list(row.values()) for row in rows], np.float64), plan.seed)
    features, X = tuple(rows[0]), X[: plan.rows]
    shuttle = Feed("Shuttle", SHUTTLE, features, X, "fields", 1, plan.row_rate)
    return Feeds(pictures, tuple(pixels), shuttle)


def shuffled(X: NDArray[Any], seed: int) -> NDArray[Any]:
    """Return the rows in an order that the seed determines."""
    return np.random.default_rng(seed).permutation(X)
