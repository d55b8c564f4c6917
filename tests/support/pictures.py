"""Pictures of points."""

from __future__ import annotations

from pathlib import Path

from streamclust.arrays import Array
from streamclust.encoder.pictures import as_pixels, write_pixels


def write_picture(path: str | Path, X: Array, shape: tuple[int, int, int], peak: float) -> None:
    """Write points, shape (height x width, channels), as a picture; `peak` is white."""
    write_pixels(path, as_pixels(X, peak).reshape(shape))
