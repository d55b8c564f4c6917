"""Pattern recognition without labels: handwritten digits, compared with scikit-learn.

The 1,797 digits of 8 x 8 pixels in scikit-learn are clustered with K = 10 without their
labels. The labels are used only to evaluate the clusters: purity, adjusted Rand index (ARI) and
normalised mutual information (NMI).

    python -m examples.digits --out docs/pictures/digits.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from streamclust import KMeans, fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

K = 10


@dataclass(frozen=True)
class Quality:
    """How well clusters agree with the true classes; 1 is perfect.

    Parameters
    ----------
    purity : float
        Share of points whose class is the most frequent one of their cluster.
    ari, nmi : float
        Adjusted Rand index; normalised mutual information.
    inertia : float
        J, the sum of squared distances; lower is better.
    """

    purity: float
    ari: float
    nmi: float
    inertia: float


def load() -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return pixels (1797, 64) in 0..16, and the true digits."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.data, data.target


def judge(labels: NDArray[Any], digits: NDArray[Any], inertia: float) -> Quality:
    """Return how well `labels` agree with `digits`."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    counts = np.zeros((labels.max() + 1, digits.max() + 1))
    np.add.at(counts, (labels, digits), 1)
    return Quality(
        purity=float(counts.max(axis=1).sum() / len(labels)),
        ari=float(adjusted_rand_score(digits, labels)),
        nmi=float(normalized_mutual_info_score(digits, labels)),
        inertia=inertia,
    )


def ours(X: NDArray[Any], seed: int) -> tuple[NDArray[Any], NDArray[Any], float]:
    """Return labels, centroids and J of streamclust's batch fit."""
    family = KMeans(K)
    run = fit(family, X, n_init=10, seed=seed)
    return family.predict(run.params, X), run.params.centroids, run.stats.objective


def theirs(X: NDArray[Any], seed: int) -> tuple[NDArray[Any], NDArray[Any], float]:
    """Return labels, centroids and J of scikit-learn's KMeans."""
    from sklearn.cluster import KMeans as SklearnKMeans

    model = SklearnKMeans(K, n_init=10, random_state=seed).fit(X)
    return model.labels_, model.cluster_centers_, float(model.inertia_)


def draw(centroids: NDArray[Any], labels: NDArray[Any], digits: NDArray[Any]) -> Figure:
    """Return each centroid as the picture that it is, with the digits in its cluster."""
    from matplotlib.figure import Figure

    figure = Figure((10.0, 4.6), layout="constrained")
    panels: Any = figure.subplots(2, 5)
    names = [np.bincount(digits[labels == k], minlength=10).argmax() for k in range(K)]
    for axes, k in zip(panels.flat, np.argsort(names), strict=True):
        inside = digits[labels == k]
        axes.imshow(centroids[k].reshape(8, 8), cmap="gray_r")
        axes.set_title(f"mostly {names[k]}: {np.mean(inside == names[k]):.0%} of {len(inside)}")
        axes.set_axis_off()
    return figure


@click.command()
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default="digits.png")
def main(seed: int, out: Path) -> None:
    """Cluster handwritten digits, and evaluate the clusters by the true classes."""
    X, digits = load()
    click.echo("                 J   purity    ARI    NMI")
    for name, method in (("streamclust", ours), ("scikit-learn", theirs)):
        labels, _, inertia = method(X, seed)
        found = judge(labels, digits, inertia)
        agreement = f"{found.purity:6.3f}  {found.ari:.3f}  {found.nmi:.3f}"
        click.echo(f"{name:12} {found.inertia:9,.0f}  {agreement}")
    labels, centroids, _ = ours(X, seed)
    draw(centroids, labels, digits).savefig(out, dpi=110)
    click.echo(f"written: {out}")


if __name__ == "__main__":
    main()
