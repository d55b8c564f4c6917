"""Pictures in few colours, and how far they are from the originals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamclust.models import KMeans, KMeansParams

if TYPE_CHECKING:
    from streamclust.arrays import Array
    from streamclust.demo.feeds import Picture


def quantize(picture: Picture, colours: Array) -> Picture:
    """Return the picture with each pixel replaced by the nearest of the colours (K, 3)."""
    pixels = picture.reshape(-1, 3).astype(np.float64)
    nearest = KMeans(len(colours)).predict(KMeansParams(colours), pixels)
    rounded = np.clip(np.round(colours), 0, 255).astype(np.uint8)
    return np.asarray(rounded[nearest].reshape(picture.shape), dtype=np.uint8)


def psnr(picture: Picture, other: Picture) -> float:
    """Return the peak signal-to-noise ratio in dB: 10 log10(255^2 / mean squared error)."""
    error = picture.astype(np.float64) - other.astype(np.float64)
    mse = float(np.mean(error**2))
    return float("inf") if mse == 0.0 else 10.0 * float(np.log10(255.0**2 / mse))


def count_colours(picture: Picture) -> int:
    """Return the number of different colours of a picture."""
    red, green, blue = np.moveaxis(picture.astype(np.uint32), -1, 0)
    return len(np.unique(red << 16 | green << 8 | blue))
