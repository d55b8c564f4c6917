"""The picture shows the points, each by the number of its cluster, as PNG and as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from streamclust.arrays import Array
from streamclust.formats.model import Model
from streamclust.models import KMeans, KMeansParams
from streamclust.quickstart.picture import View, draw, make_view, text_rows

CENTRES = np.array([[0.0, 0.0, 5.0], [9.0, 9.0, 5.0], [9.0, 0.0, 900.0]])


def model_of(D: int) -> Model:
    centroids = CENTRES[:, :D]
    return Model(
        "m", 3, "step", KMeans(3), KMeansParams(centroids), np.full(3, 100.0), {}, 300, 1.0, None
    )


def points(D: int) -> Array:
    rng = np.random.default_rng(0)
    return np.repeat(CENTRES[:, :D], 100, axis=0) + rng.normal(size=(300, D))


def view_of(D: int) -> View:
    return make_view(model_of(D), points(D), ("x", "y", "z")[:D])


def test_two_features_are_the_axes() -> None:
    view = view_of(2)
    assert view.axes == ("x", "y")
    assert np.array_equal(view.centroids, CENTRES[:, :2])


def test_more_features_are_drawn_along_their_principal_axes() -> None:
    view = view_of(3)
    assert view.points.shape == (300, 2)
    assert view.axes[0].startswith("principal axis 1 (")
    apart = np.linalg.norm(view.centroids[:, None] - view.centroids, axis=2)
    assert apart[np.triu_indices(3, 1)].min() > 0.5


def test_text_has_the_number_of_each_cluster_at_its_place() -> None:
    rows = text_rows(view_of(2), 60, 12)
    assert {len(row) for row in rows} == {60} and len(rows) == 12
    found: dict[str, list[tuple[int, int]]] = {symbol: [] for symbol in "012"}
    for height, row in enumerate(rows):
        for column, (symbol, k) in enumerate(row):
            assert (symbol == " ") == (k == -1)
            if k >= 0:
                found[symbol].append((column, height))
    middle = {symbol: np.mean(places, axis=0) for symbol, places in found.items()}
    (left, bottom), (right, top) = middle["0"], middle["1"]
    assert left < 20 and right > 40
    assert top < 4 and bottom > 8


@pytest.mark.parametrize("D", [1, 2, 3])
def test_the_picture_is_a_png(tmp_path: Path, D: int) -> None:
    draw(view_of(D), model_of(D), ("x\x1b", "$y_{$", "温度")[:D], tmp_path / "m.png")
    with Image.open(tmp_path / "m.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 900
