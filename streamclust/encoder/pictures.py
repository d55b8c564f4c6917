"""Pictures as points: a pixel is one, its channels are the features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamclust.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

    from streamclust.arrays import Array

_MODES = {1: "L", 3: "RGB"}
"""How Pillow calls pictures of so many channels."""


def read_picture(path: str | Path, channels: int) -> NDArray[np.uint8]:
    """Return a picture, shape (height, width, channels).

    Raises
    ------
    DataError
        If it can't be read, or `channels` isn't 1 (grey) or 3 (colour).
    MissingExtraError
        If Pillow isn't installed.
    """
    if channels not in _MODES:
        raise DataError(f"the model has {channels} features; a picture has 1 (grey) or 3 (RGB)")
    Image = _pillow()
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert(_MODES[channels]), np.uint8)
    except (OSError, ValueError) as error:
        raise DataError(f"can't read the picture {path}: {error}") from None
    return pixels.reshape(*pixels.shape[:2], channels)


def write_picture(path: str | Path, X: Array, shape: tuple[int, int, int], peak: float) -> None:
    """Write pixels, shape (height x width, channels), as a picture; `peak` is white.

    Raises
    ------
    DataError
        If it can't be written.
    """
    Image = _pillow()
    pixels = np.clip(np.rint(X * (255.0 / peak)), 0, 255).astype(np.uint8).reshape(shape)
    try:
        Image.fromarray(pixels[:, :, 0] if shape[2] == 1 else pixels).save(path)
    except (OSError, ValueError) as error:
        raise DataError(f"can't write the picture {path}: {error}") from None


def psnr(distortion: float, n_features: int, peak: float) -> float:
    """Return the peak signal-to-noise ratio in dB, 10 log10(peak^2 D / (J / N))."""
    if distortion == 0.0:
        return float("inf")
    return 10.0 * float(np.log10(peak**2 * n_features / distortion))


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError(
            "pictures need Pillow: pip install 'streamclust[pictures]'"
        ) from None
    return Image
