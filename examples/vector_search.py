"""Vector search: a codebook that was learned from a stream, as the lists of an IVF index of faiss.

An IVF index puts each vector into the list of its nearest centroid, and a search reads only the
`nprobe` lists that are nearest to the query. Here the centroids are those of spherical K-means
after one pass over the vectors; the other index trains its own centroids on all vectors. Recall@10
is the share of the ten nearest vectors that a search finds.

Then the stream changes, and the model continues to learn. The map from the old version to the new
one shows which vectors change lists. Only those must move.

    python -m examples.vector_search        (needs faiss: pip install faiss-cpu)
"""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from streamclust import HalfLife, KMeans, StreamLearner
from streamclust.formats.model import Model

D, N_LISTS, BATCH = 96, 128, 1024
PROBES = (1, 4, 16)


def unit(X: Any) -> Any:
    """Return the rows divided by their lengths."""
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def vectors(n: int, seed: int, turned: float = 0.0) -> Any:
    """Return unit vectors around 400 directions; `turned` is how far these have moved."""
    fixed, rng = np.random.default_rng(0), np.random.default_rng(seed)
    centres = unit(fixed.normal(size=(400, D))) + turned * unit(fixed.normal(size=(400, D)))
    noise = unit(rng.normal(size=(n, D)))
    return unit(unit(centres)[rng.integers(400, size=n)] + 0.8 * noise).astype(np.float32)


def learn(learner: StreamLearner[Any], X: Any, state: Any = None) -> Any:
    """Return the state after one pass over the vectors."""
    state = learner.init() if state is None else state
    for start in range(0, len(X), BATCH):
        state, _ = learner.update(state, X[start : start + BATCH])
    return state


def version(learner: StreamLearner[Any], state: Any, number: int) -> Model:
    """Return the model as a worker publishes it."""
    return Model(
        "stories",
        number,
        "step",
        learner.family,
        learner.in_units(state),
        state.stats.weight,
        {},
        state.points,
        learner.loss(state),
        None,
    )


def recall(index: Any, X: Any, queries: Any, nprobe: int) -> float:
    """Return recall@10 of an IVF index."""
    exact = np.argsort(-queries @ X.T, axis=1)[:, :10]
    index.nprobe = nprobe
    found = index.search(queries, 10)[1]
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)]))


def ivf(quantizer: Any, X: Any) -> Any:
    """Return an IVF index of `X`; an empty quantizer is trained."""
    import faiss

    index = faiss.IndexIVFFlat(quantizer, D, N_LISTS, faiss.METRIC_INNER_PRODUCT)
    index.cp.spherical = True
    index.train(X)
    index.add(X)
    return index


@click.command()
@click.option("--points", type=int, default=20_000, show_default=True)
def main(points: int) -> None:
    """Measure the recall of an index over a learned codebook, and how many vectors change lists."""
    try:
        import faiss
    except ImportError:
        raise click.ClickException("this example needs faiss: pip install faiss-cpu") from None
    from streamclust.formats.export import to_faiss

    X, queries = vectors(points, 1), vectors(200, 2)
    learner = StreamLearner(KMeans(N_LISTS, metric="cosine"), HalfLife(points=points))
    state = learn(learner, X)
    before = version(learner, state, 1)
    data = np.frombuffer(to_faiss(before.family, before.params), np.uint8)
    learned, trained = ivf(faiss.deserialize_index(data), X), ivf(faiss.IndexFlatIP(D), X)
    click.echo(f"recall@10 of {points:,} vectors in {N_LISTS} lists, 200 queries")
    click.echo("lists read  learned in one pass  trained by faiss")
    for nprobe in PROBES:
        ours, theirs = (recall(index, X, queries, nprobe) for index in (learned, trained))
        click.echo(f"{nprobe:>10}  {ours:>19.3f}  {theirs:>16.3f}")
    after = version(learner, learn(learner, vectors(points, 3, turned=0.5), state), 2)
    found = after.map_from(before, X)
    click.echo(f"after the change, {found.moved:.1%} of the vectors change lists")


if __name__ == "__main__":
    main()
