"""Image compression: a picture in K colours, for K = 2, 4, ..., 256.

K-means is a codebook: each pixel is stored as the number of its nearest colour, which takes log2 K
bits instead of 24. The codebook is learned from the pixels as a stream, in one pass.

    python -m examples.image_compression --picture china.jpg --out docs/pictures/compression.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray

from streamclust import KMeans, StreamLearner
from streamclust.demo.pictures import psnr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

Picture = NDArray[np.uint8]

BATCH = 1024
BITS = (1, 2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True)
class Compressed:
    """A picture in K colours.

    Parameters
    ----------
    picture : array of shape (height, width, 3)
        The decoded picture.
    n_clusters : int
    bits_per_pixel : float
        Of the codes and the codebook (24 bits per colour).
    psnr : float
        Peak signal-to-noise ratio, in dB.
    """

    picture: Picture
    n_clusters: int
    bits_per_pixel: float
    psnr: float


def load(name: str) -> Picture:
    """Return a picture that ships with scikit-learn: china.jpg or flower.jpg."""
    from sklearn.datasets import load_sample_image

    picture: Picture = load_sample_image(name)
    return picture


def compress(picture: Picture, n_clusters: int, seed: int = 0) -> Compressed:
    """Learn the codebook in one pass over the pixels, then encode and decode the picture."""
    pixels = picture.reshape(-1, 3).astype(np.float64)
    family = KMeans(n_clusters)
    learner = StreamLearner(family, seed=seed)
    state = learner.init()
    feed = np.random.default_rng(seed).permutation(pixels)
    for start in range(0, len(feed), BATCH):
        state, _ = learner.update(state, feed[start : start + BATCH])
    if state.params is None:  # a picture smaller than the warm-up sample
        state, _ = learner.start(state)
    if state.params is None:
        raise click.ClickException(f"the picture has fewer than {n_clusters} colours")
    codes = family.predict(state.params, pixels)
    colours = np.clip(np.round(state.params.centroids), 0, 255).astype(np.uint8)
    decoded: Picture = colours[codes].reshape(picture.shape)
    bits = float(np.ceil(np.log2(n_clusters))) + 24.0 * n_clusters / len(pixels)
    return Compressed(decoded, n_clusters, bits, psnr(picture, decoded))


def draw(picture: Picture, results: Sequence[Compressed]) -> Figure:
    """Return some of the pictures, and PSNR against bits per pixel."""
    from matplotlib.figure import Figure

    figure = Figure((12.0, 6.6), layout="constrained")
    axes = figure.subplot_mosaic("ABC\nDEF")
    axes["A"].imshow(picture)
    axes["A"].set_title("original: 24 bits per pixel")
    for name, result in zip("BCDE", _four(results), strict=False):
        axes[name].imshow(result.picture)
        axes[name].set_title(
            f"K = {result.n_clusters}: {result.bits_per_pixel:.2f} bits, {result.psnr:.1f} dB"
        )
    for name in "ABCDE":
        axes[name].set_axis_off()
    axes["F"].plot([r.bits_per_pixel for r in results], [r.psnr for r in results], "o-")
    axes["F"].set(xlabel="bits per pixel", ylabel="PSNR (dB)", title="rate and distortion")
    axes["F"].grid(alpha=0.3)
    return figure


def _four(results: Sequence[Compressed]) -> Sequence[Compressed]:
    """Return the results to show: every other one."""
    return results[::2][:4]


@click.command()
@click.option("--picture", type=click.Choice(["china.jpg", "flower.jpg"]), default="china.jpg")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default="compression.png")
def main(picture: str, seed: int, out: Path) -> None:
    """Compress a picture with 2 to 256 colours; print and draw rate and distortion."""
    original = load(picture)
    results = [compress(original, 2**bits, seed) for bits in BITS]
    click.echo("   K  bits/pixel  PSNR (dB)")
    for result in results:
        click.echo(f"{result.n_clusters:4}  {result.bits_per_pixel:10.3f}  {result.psnr:9.2f}")
    draw(original, results).savefig(out, dpi=110)
    click.echo(f"written: {out}")


if __name__ == "__main__":
    main()
