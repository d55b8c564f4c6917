"""The name of the kernels that compute, for results that are merged with those of others."""

from __future__ import annotations

from streamclust import kernels
from streamclust.kernels import native


def kernels_identity() -> str:
    """Return the name of the kernels in use. Kernels of the same name return the same bits."""
    name = kernels.describe().partition(" ")[0]
    return name if name == "numpy" else f"{name}-{native.sources_hash()[:12]}"
