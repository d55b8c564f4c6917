"""Topics of real text: plain K-means on unit vectors of reduced TF-IDF.

The text is the Lee background corpus, a part of the gensim package: 300 news stories of the
Australian Broadcasting Corporation, 2001-2002. Words are weighted by TF-IDF, reduced to 40
dimensions by a truncated SVD (latent semantic analysis), and divided by their length, so that
distances are angles: ||x - y||^2 = 2 - 2 cos(x, y). The centroids are averages and lie inside the
sphere. (Spherical K-means, `KMeans(..., metric="cosine")`, would scale them to length one; see
`examples.embeddings`.)

    python -m examples.topics --out docs/pictures/topics.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from examples.packaged import packaged_text
from streamclust import KMeans, fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIMENSIONS = 40
STOP_WORDS = ("mr", "says", "said", "say", "told", "new", "year", "today", "day", "people")


@dataclass(frozen=True)
class Topic:
    """A cluster of documents.

    Parameters
    ----------
    words : tuple of str
        Those with the largest mean TF-IDF in the cluster.
    strengths : tuple of float
        Their means.
    documents : tuple of int
        Numbers of its documents, the most typical first.
    """

    words: tuple[str, ...]
    strengths: tuple[float, ...]
    documents: tuple[int, ...]


def load() -> list[str]:
    """Return the documents, one news story each."""
    text = packaged_text("gensim", "test", "test_data", "lee_background.cor")
    return [line for line in text.splitlines() if line.strip()]


def vectorize(documents: list[str]) -> tuple[Any, list[str]]:
    """Return TF-IDF rows of length one, a sparse matrix (N, V), and the V words."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

    vectorizer = TfidfVectorizer(
        sublinear_tf=True,
        min_df=3,
        max_df=0.5,
        stop_words=sorted(ENGLISH_STOP_WORDS.union(STOP_WORDS)),
        token_pattern=r"[A-Za-z]{2,}",  # noqa: S106 -- a pattern of words, no secret
    )
    return vectorizer.fit_transform(documents), list(vectorizer.get_feature_names_out())


def reduce(tfidf: Any, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the rows in `DIMENSIONS` dimensions, each of length one."""
    from sklearn.decomposition import TruncatedSVD

    reduced = TruncatedSVD(DIMENSIONS, random_state=seed).fit_transform(tfidf)
    length = np.linalg.norm(reduced, axis=1, keepdims=True)
    return np.asarray(reduced / np.where(length > 0.0, length, 1.0))


def find_topics(
    documents: list[str], n_topics: int, seed: int = 0, n_words: int = 8
) -> list[Topic]:
    """Cluster the documents; return the topics, the largest first."""
    tfidf, words = vectorize(documents)
    X = reduce(tfidf, seed)
    family = KMeans(n_topics)
    params = fit(family, X, n_init=20, seed=seed).params
    labels, distance = family.predict(params, X), family.score_points(params, X)
    topics = [
        _describe(tfidf, words, np.flatnonzero(labels == k), distance, n_words)
        for k in range(n_topics)
    ]
    return sorted(topics, key=lambda topic: -len(topic.documents))


def _describe(tfidf: Any, words: list[str], members: Any, distance: Any, n_words: int) -> Topic:
    mean = np.asarray(tfidf[members].mean(axis=0)).ravel()
    top = mean.argsort()[::-1][:n_words]
    typical = members[distance[members].argsort()]
    return Topic(
        tuple(words[i] for i in top),
        tuple(float(mean[i]) for i in top),
        tuple(int(n) for n in typical),
    )


def draw(topics: list[Topic]) -> Figure:
    """Return one panel per topic, with a bar for each of its words."""
    from matplotlib.figure import Figure

    columns = 4
    rows = -(-len(topics) // columns)
    figure = Figure((12.0, 2.3 * rows), layout="constrained")
    panels: Any = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for axes, topic in zip(panels.flat, topics, strict=False):
        axes.barh(topic.words[::-1], topic.strengths[::-1], color="#1f5fa8")
        axes.set_title(f"{len(topic.documents)} stories", fontsize=10)
        axes.tick_params(labelsize=8)
    for axes in panels.flat[len(topics) :]:
        axes.set_axis_off()
    figure.supxlabel("mean TF-IDF within the topic", fontsize=9)
    return figure


@click.command()
@click.option("--topics", "n_topics", type=int, default=12, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default="topics.png")
def main(n_topics: int, seed: int, out: Path) -> None:
    """Find the topics of 300 news stories; print each one's words and most typical story."""
    documents = load()
    topics = find_topics(documents, n_topics, seed)
    for topic in topics:
        click.echo(f"{len(topic.documents):4} stories: {', '.join(topic.words)}")
        click.echo(f"             {documents[topic.documents[0]][:84]}...")
    draw(topics).savefig(out, dpi=110)
    click.echo(f"written: {out}")


if __name__ == "__main__":
    main()
