"""Topics of real text: spherical K-means on embeddings by a neural network.

The text is that of `examples.topics`: 300 news stories of 2001-2002. Each story becomes an
embedding of 384 numbers (`examples.minilm`). Embeddings of similar texts have similar directions,
so the metric is cosine. The words of a topic are those of the largest mean TF-IDF.

    python -m examples.embeddings --out stories.npy

The file of embeddings is for `streamclust try stories.npy`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from examples.minilm import MiniLM
from examples.topics import load, vectorize
from streamclust import KMeans, fit
from streamclust.models.quantize import quantize

WORDS = 6


def embed(documents: list[str]) -> Any:
    """Return an embedding per document, float32 of shape (N, 384)."""
    model, step = MiniLM(), 20
    parts = [documents[start : start + step] for start in range(0, len(documents), step)]
    with click.progressbar(parts, label="embedding") as bar:
        return np.concatenate([model.encode(part) for part in bar])


def topics(documents: list[str], X: Any, n_topics: int, seed: int = 0) -> list[str]:
    """Return lines of text: the size, the words and the most typical story of each topic."""
    family = KMeans(n_topics, metric="cosine")
    params = fit(family, X, n_init=20, seed=seed).params
    codes = quantize(family, params, X)
    tfidf, words = vectorize(documents)
    lines = []
    for k in np.argsort(-np.bincount(codes.index, minlength=n_topics), kind="stable"):
        members = np.flatnonzero(codes.index == k)
        mean = np.asarray(tfidf[members].mean(axis=0)).ravel()
        similarity = np.asarray(codes.similarity)[members]
        typical = documents[members[similarity.argmax()]]
        names = ", ".join(words[i] for i in mean.argsort()[::-1][:WORDS])
        lines.append(f"{len(members):4} stories, mean cosine {similarity.mean():.2f}: {names}")
        lines.append(f"             {typical[:66]}...")
    return lines


@click.command()
@click.option("--topics", "n_topics", type=click.IntRange(1, 300), default=12, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default="stories.npy", show_default=True)
def main(n_topics: int, seed: int, out: Path) -> None:
    """Embed 300 news stories, print their topics, and write the embeddings to a file."""
    documents = load()
    X = embed(documents)
    for line in topics(documents, X, n_topics, seed):
        click.echo(line)
    np.save(out, X)
    click.echo(f"written: {out}, {X.shape[0]} x {X.shape[1]}")


if __name__ == "__main__":
    main()
