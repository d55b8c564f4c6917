"""The chart of the mixture: nothing is cut, and each component has its number and weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamclust import GaussianMixture, MixtureParams, Model
from streamclust.demo.mixture_plot import curves, draw_mixture, frames
from streamclust.demo.projection import principal_axes


def a_mixture(seed: int) -> tuple[Any, Model]:
    """Five components on top of each other, two apart, and one that is a hundred times wider."""
    rng = np.random.default_rng(seed)
    means = np.vstack((rng.normal(0, 0.1, (5, 3)), [[8, 0, 0], [0, 6, 0]], [[0, 0, 0]]))
    roots = rng.normal(0, [[0.5]] * 3, (8, 3, 3)) + np.eye(3) * 0.3
    roots[-1] *= 100
    covariances = roots @ roots.transpose(0, 2, 1) + 0.01 * np.eye(3)
    weights = np.array([0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.0995, 0.0005])
    labels = rng.choice(8, p=weights, size=2000)
    X = np.array([rng.multivariate_normal(means[k], covariances[k]) for k in labels])
    params = MixtureParams(weights, means, covariances, "full")
    family = GaussianMixture(8)
    return X, Model("m", 1, "step", family, params, weights, {}, len(X), None, None)


@pytest.mark.parametrize("seed", range(3))
def test_each_component_is_whole_in_a_frame_and_has_its_number_and_weight(seed: int) -> None:
    X, model = a_mixture(seed)
    figure = draw_mixture(X, model)
    figure.canvas.draw()
    texts = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {f"{k}: {weight:.1%}" for k, weight in enumerate(model.params.weights[:7])} < texts
    assert "7: <0.1%" in texts
    canvas = figure.bbox
    for axes in figure.axes:
        for text in axes.texts:
            box = text.get_window_extent()
            assert canvas.x0 <= box.x0
            assert box.x1 <= canvas.x1


@pytest.mark.parametrize("seed", range(3))
def test_the_frames_grow_from_a_crowd_to_everything(seed: int) -> None:
    X, model = a_mixture(seed)
    projection = principal_axes(X)
    points, every = projection.points(X), curves(model, projection)
    middle, near, whole = frames(points, every)
    assert (near.size < middle.size).all()
    assert (middle.size < whole.size).all()
    for found in (points, *(curve.points for curve in every)):
        assert (found >= whole.low).all()
        assert (found <= whole.high).all()
