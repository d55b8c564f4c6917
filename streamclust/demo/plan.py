"""The feeds, rates and models of the demonstration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PALETTE = "palette"
SHUTTLE = "shuttle"
PIXELS = "pixels"
"""The stream of the palette; that of the mixture has the mixture's name."""

COLOURS = ("r", "g", "b")
N_COLOURS = 64
N_COMPONENTS = 10
REG_COVAR = 1e-6
TITLES = {
    PALETTE: f"palette: {N_COLOURS} colours by K-means",
    SHUTTLE: f"shuttle: a mixture of {N_COMPONENTS} Gaussians",
}


@dataclass(frozen=True)
class Plan:
    """Sizes and rates; with the defaults, all data is sent in about 22 seconds.

    Parameters
    ----------
    seed : int
        Seed of the order of the points, of the models, and of scikit-learn.
    pixels : int
        Pixels of each picture.
    rows : int
        Rows of the Shuttle data.
    pixel_rate : float
        Pixels per second. The rows are sent in the same time.
    half_life : float
        Half-life of the palette, in pixels.
    batch_fits : int
        Number of fits of scikit-learn's mixture, from different seeds; the median is compared.
    """

    seed: int = 0
    pixels: int = 273_280
    rows: int = 49_097
    pixel_rate: float = 25_000.0
    half_life: float = 10_000.0
    batch_fits: int = 5

    @property
    def row_rate(self) -> float:
        """Rows per second, so that both feeds end at the same time."""
        return self.rows * self.pixel_rate / (2 * self.pixels)

    def config(self) -> dict[str, Any]:
        """Return the settings of the worker, without the server."""
        return {
            "log": {"format": "json"},
            "models": {PALETTE: self._palette(), SHUTTLE: self._mixture()},
        }

    def _palette(self) -> dict[str, Any]:
        return {
            "kind": "kmeans",
            "n_clusters": N_COLOURS,
            "streams": [PIXELS],
            "points": {"format": "float32", "features": list(COLOURS)},
            "forgetting": {"kind": "points", "half_life": self.half_life},
            "publish": {"points": 5_000, "every": "500ms", "keep": 1_000},
            "seed": self.seed,
        }

    def _mixture(self) -> dict[str, Any]:
        return {
            "kind": "gaussian_mixture",
            "n_components": N_COMPONENTS,
            "covariance_type": "full",
            "reg_covar": REG_COVAR,
            "streams": [SHUTTLE],
            "batch": {"size": 256},
            "forgetting": {"kind": "power", "kappa": 0.6},
            "init": {"kind": "warm_up", "points": 2_000},
            "publish": {"points": 500, "every": "500ms", "keep": 1_000},
            "seed": self.seed,
        }


def quick_plan(seed: int = 0) -> Plan:
    """Return a plan of a few seconds: fewer points, a higher rate, a shorter half-life."""
    return Plan(
        seed=seed,
        pixels=60_000,
        rows=12_000,
        pixel_rate=60_000.0,
        half_life=3_000.0,
        batch_fits=1,
    )
