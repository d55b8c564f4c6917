"""Settings of models, as they are in a config.yaml."""

from __future__ import annotations

from typing import Any


def kmeans(*streams: str, K: int = 3, **more: Any) -> dict[str, Any]:
    """Settings of a K-means model with a small warm-up."""
    init = {"kind": "warm_up", "points": 60}
    return {"kind": "kmeans", "n_clusters": K, "streams": list(streams), "init": init, **more}


def mixture(*streams: str, K: int = 3, **more: Any) -> dict[str, Any]:
    """Settings of a Gaussian mixture with a small warm-up."""
    settings = kmeans(*streams, **more)
    del settings["n_clusters"]
    return {**settings, "kind": "gaussian_mixture", "n_components": K}
