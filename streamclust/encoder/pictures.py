"""Pictures as points: each pixel is a point, its channels are the features."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamclust.errors import DataError, MissingExtraError
from streamclust.files import new_file, open_regular

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

    from streamclust.arrays import Array

_MODES = {1: "L", 3: "RGB"}
"""Number of channels -> Pillow's name of the mode."""

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""Formats that are read. Other formats start programs, or are rarely used for photographs."""

MAX_PIXELS = 89_478_485
"""Maximum pixels of a picture. Pillow warns of larger ones, because they can fill the memory."""


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
    with open_regular(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about sizes (checked here) and damaged tags
        try:
            with Image.open(file, formats=_FORMATS) as picture:
                width, height = picture.size
                if not 1 <= width * height <= MAX_PIXELS:
                    raise DataError(
                        f"can't read the picture {path}: it has {width:,} x {height:,} pixels; "
                        f"expected 1 to {MAX_PIXELS:,}"
                    )
                pixels = np.asarray(picture.convert(_MODES[channels]), np.uint8)
        except (DataError, MemoryError):
            raise
        except Exception as error:  # the errors of Pillow's readers aren't documented
            raise DataError(f"can't read the picture {path}: {error}") from None
    return pixels.reshape(*pixels.shape[:2], channels)


def as_pixels(X: Array, peak: float) -> NDArray[np.uint8]:
    """Return points as pixels of 0 to 255; `peak` is white."""
    return np.clip(np.rint(X * (255.0 / peak)), 0, 255).astype(np.uint8)


def write_pixels(path: str | Path, pixels: NDArray[np.uint8]) -> None:
    """Write pixels, shape (height, width, channels), as a picture of the format of the suffix.

    Raises
    ------
    DataError
        If it can't be written.
    """
    Image = _pillow()
    form = Image.registered_extensions().get(Path(path).suffix.lower())
    if form is None:
        raise DataError(f"can't write the picture {path}: unknown format; name a .png file")
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    try:
        with new_file(path) as file:
            picture.save(file, format=form)
    except (ValueError, KeyError) as error:
        if isinstance(error, DataError):
            raise
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
        raise MissingExtraError("pictures need Pillow: pip install pillow") from None
    return Image
