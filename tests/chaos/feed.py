"""What the workers of a round learn: two models, two streams each, with bad points among the good.

All of it follows from the seed. Every entry has an ID of its own, so that the same backlog is there
again for the undisturbed worker, whatever came when.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import redis

from streamclust.formats.layout import ENTRY_FORMATS, Layout
from streamclust.formats.points import encode

MODELS = ("kmeans", "mixture")
D = 3
_WEIGHT = "w"
_FIELD = {"fields": None, "json": "json", "float32": "f4", "float64": "f8"}
_FORGETTING: list[dict[str, Any]] = [
    {"kind": "none"},
    {"kind": "points", "half_life": 700},
    {"kind": "time", "half_life": "20s"},
    {"kind": "power", "hold": 300, "average": True},
]
_COVARIANCES = ("full", "diag", "tied", "spherical")
_JUNK = [b"junk", b"\xff\x00"]
_BEGIN = 1_700_000_000_000
_SPAN = 10**6
"""Milliseconds between the first IDs of two instalments."""


@dataclass
class Feed:
    """The streams and the settings of one round.

    Parameters
    ----------
    seed, number : int
        Of all rounds, and of this one: formats, policies and cadences go round with it.
    prefix : str
        Of the streams' keys.
    """

    seed: int
    number: int
    prefix: str
    instalments: int = 0

    def __post_init__(self) -> None:
        self.good = dict.fromkeys(MODELS, 0)
        self.bad = dict.fromkeys(MODELS, 0)

    def streams(self, model: str) -> list[str]:
        return [f"{self.prefix}-{model}-{part}" for part in "ab"]

    def settings(self) -> dict[str, Any]:
        """What decides where batches and versions end counts points, never seconds."""
        number = self.number
        shared = {
            "batch": {"size": 50, "linger": "1h"},
            "commit": {"points": 50 + 40 * (number % 3), "every": ("1d", "20ms")[number % 2]},
            "publish": {"points": 130, "every": "1d", "keep": (1_000_000, 10)[number % 2]},
            "dead": {"keep": (10**5, 25)[number % 3 // 2]},
            "init": {"kind": "warm_up", "points": 200},
            "coreset": {"points": 200},  # few, so that solves are pending when a worker is killed
        }
        kmeans: dict[str, Any] = {
            "kind": "kmeans",
            "n_clusters": (4, "auto")[number % 3 == 1],
            "forgetting": _FORGETTING[number % 4],
            "scale": ("none", "standard", "robust")[number % 3],
        }
        mixture = {
            "kind": "gaussian_mixture",
            "n_components": 3,
            "covariance_type": _COVARIANCES[number % 4],
            "forgetting": _FORGETTING[(number + 1 + number // 4) % 4],
        }
        own = {"kmeans": kmeans, "mixture": mixture}
        return {
            name: {**shared, **own[name], "streams": self.streams(name), "points": points}
            for name, points in zip(MODELS, map(self._points, MODELS), strict=True)
        }

    def extend(self, client: redis.Redis, points: int = 350) -> None:
        """Append the next instalment, `points` and more to each stream."""
        for model in MODELS:
            for stream in self.streams(model):
                with client.pipeline(transaction=False) as pipe:
                    for entry_id, flat in self._entries(model, stream, points):
                        pipe.execute_command("XADD", stream, entry_id, *flat)  # type: ignore[no-untyped-call]
                    pipe.execute()
        self.instalments += 1

    def _points(self, model: str) -> dict[str, Any]:
        weight = {"weight_field": _WEIGHT} if self._weighted(model) else {}
        return weight | ({"missing": "learn"} if self._gapped(model) else {})

    def _gapped(self, model: str) -> bool:
        """Whether points with missing values are learned."""
        return (self.number // 2 + MODELS.index(model)) % 2 == 1

    def _weighted(self, model: str) -> bool:
        return (self.number + MODELS.index(model)) % 2 == 1

    def _layout(self, model: str) -> Layout:
        form = ENTRY_FORMATS[(self.number + MODELS.index(model)) % 4]
        names = tuple(f"x{d}" for d in range(D)) if form == "fields" else ()
        weight = _WEIGHT if self._weighted(model) else None
        return Layout(form, _FIELD[form], weight, names, D, strict=form == "fields")

    def _entries(self, model: str, stream: str, points: int) -> Iterator[tuple[str, list[bytes]]]:
        """Yield a bad entry, then good ones with bad ones and bad points among them."""
        layout = self._layout(model)
        rng = np.random.default_rng(
            [self.seed, self.number, self.instalments, *stream.removeprefix(self.prefix).encode()]
        )
        block = 1 if layout.format == "fields" else int(rng.choice([1, 7, 16]))
        X = rng.normal(size=(points, D)) + 8.0 * rng.integers(0, 4, (points, 1))
        poisoned = rng.random(points) < 0.03
        X[poisoned, rng.integers(D)] = rng.choice([np.nan, np.inf, -1e30])
        X[poisoned & (np.abs(X) < 1e99).all(axis=1), 0] = np.nan
        gapped = self._gapped(model)
        if gapped:
            X[rng.random(X.shape) < 0.1] = np.nan
            X[np.isnan(X).all(axis=1), 0] = 1.0
            X[poisoned, 0] = np.inf
        w = rng.integers(1, 4, points).astype(float) if layout.weight_field else None
        milliseconds = _BEGIN + _SPAN * self.instalments
        for number, flat in enumerate(encode(X, layout, w, block)):
            milliseconds += int(rng.integers(1, 40))
            if number == 0 or rng.random() < 0.03:
                self.bad[model] += 1
                spoilt = _spoilt(flat, rng, 2 if gapped else 4)
                yield f"{milliseconds}-0", spoilt if number else _JUNK
            bad = int(poisoned[number * block : (number + 1) * block].sum())
            self.bad[model] += bad
            self.good[model] += min(block, points - number * block) - bad
            yield f"{milliseconds}-1", flat


def _spoilt(flat: list[bytes], rng: np.random.Generator, most: int) -> list[bytes]:
    """Return an entry that makes no sense as a whole, in one of up to `most` ways.

    An empty text, of the third way, can be a missing value.
    """
    ways = (
        _JUNK,
        [flat[0] + b"_", *flat[1:]],
        [flat[0], b"", *flat[2:]],
        [flat[0], b"[[1,", *flat[2:]],
    )
    return list(ways[rng.integers(most)])
