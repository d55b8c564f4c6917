"""Segmentation: the regions of a picture, as a mixture over colour and position.

Each pixel is a point (red, green, blue, x, y). A full covariance lets a component follow how a
colour changes over its region, such as a sky that brightens towards the horizon.

    python -m examples.segmentation --out docs/pictures/segmentation.png
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray

from examples.image_compression import Picture, load
from streamclust import GaussianMixture, fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Segments = NDArray[np.intp]

SAMPLE = 20_000
"""Pixels that the mixture is fitted to; every pixel is then assigned."""


def features(picture: Picture, position: float = 1.0) -> NDArray[np.float64]:
    """Return a pixel's colour and position, each standardised; shape (height * width, 5).

    Parameters
    ----------
    picture : array of shape (height, width, 3)
    position : float, default=1.0
        Weight of the position against the colour; 0 leaves it out.
    """
    height, width, _ = picture.shape
    y, x = np.mgrid[:height, :width]
    table = np.column_stack([picture.reshape(-1, 3), x.ravel(), y.ravel()]).astype(np.float64)
    table = (table - table.mean(axis=0)) / table.std(axis=0)
    table[:, 3:] *= position
    return np.asarray(table if position else table[:, :3])


def segment(
    picture: Picture, n_segments: int, position: float = 1.0, seed: int = 0
) -> tuple[Segments, NDArray[np.float64]]:
    """Return each pixel's segment (height, width), and its certainty: max_k gamma_nk."""
    X = features(picture, position)
    family = GaussianMixture(n_segments, reg_covar=1e-4)
    sample = np.random.default_rng(seed).choice(len(X), min(SAMPLE, len(X)), replace=False)
    params = fit(family, X[sample], seed=seed).params
    shares = family.responsibilities(params, X)
    shape = picture.shape[:2]
    return shares.argmax(axis=1).reshape(shape), shares.max(axis=1).reshape(shape)


def mean_colours(picture: Picture, segments: Segments) -> Picture:
    """Return the picture with each segment in its mean colour."""
    pixels = picture.reshape(-1, 3).astype(np.float64)
    labels = segments.ravel()
    sizes = np.maximum(np.bincount(labels), 1)
    sums = [np.bincount(labels, weights=pixels[:, c]) for c in range(3)]
    colours = np.stack(sums, axis=1) / sizes[:, None]
    painted: Picture = colours[labels].round().astype(np.uint8).reshape(picture.shape)
    return painted


def draw(picture: Picture, segments: Segments, certainty: NDArray[np.float64]) -> Figure:
    """Return the picture, its segments, and the largest responsibility of each pixel."""
    from matplotlib.figure import Figure

    figure = Figure((13.0, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.imshow(picture)
    left.set_title("original")
    middle.imshow(mean_colours(picture, segments))
    edges = np.zeros(segments.shape, bool)
    edges[:, 1:] |= segments[:, 1:] != segments[:, :-1]
    edges[1:] |= segments[1:] != segments[:-1]
    middle.imshow(np.ma.masked_where(~edges, edges), cmap="gray", vmin=0, vmax=1)
    middle.set_title(f"{segments.max() + 1} segments, in their mean colours")
    shown = right.imshow(certainty, cmap="magma", vmin=0.0, vmax=1.0)
    right.set_title("largest responsibility of each pixel")
    figure.colorbar(shown, ax=right, shrink=0.8)
    for axes in (left, middle, right):
        axes.set_axis_off()
    return figure


@click.command()
@click.option("--picture", type=click.Choice(["china.jpg", "flower.jpg"]), default="flower.jpg")
@click.option("--segments", "n_segments", type=int, default=6, show_default=True)
@click.option("--position", type=float, default=1.0, show_default=True, help="Weight of x and y.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default="segmentation.png")
def main(picture: str, n_segments: int, position: float, seed: int, out: Path) -> None:
    """Cut a picture into segments by colour and position."""
    original = load(picture)
    segments, certainty = segment(original, n_segments, position, seed)
    shares = np.bincount(segments.ravel(), minlength=n_segments) / segments.size
    click.echo("segment  share of the pixels")
    for number, share in enumerate(shares):
        click.echo(f"{number:7}  {share:8.1%}")
    click.echo(f"pixels whose segment is at least 90 % certain: {np.mean(certainty >= 0.9):.1%}")
    draw(original, segments, certainty).savefig(out, dpi=110)
    click.echo(f"written: {out}")


if __name__ == "__main__":
    main()
