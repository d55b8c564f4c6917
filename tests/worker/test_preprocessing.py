"""Scaling, choice of features, and missing values, as a worker does it."""

from __future__ import annotations

import numpy as np
import pytest

from streamclust.errors import StreamclustError
from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_entry, add_points
from tests.support.workers import WorkerProcess, drain
from tests.support.workspace import Workspace

UNITS = np.array([1.0, 1e4])


def skewed(n: int, seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Three clusters, two of which only the feature of the small unit tells apart."""
    X = np.random.default_rng(seed).normal(size=(n, 2))
    X += np.array([[-9.0, 0.0], [0.0, 9.0], [9.0, 0.0]])[np.arange(n) % 3]
    return np.asarray(X * UNITS)


@pytest.mark.parametrize("scale", ["standard", "robust"])
def test_a_scaled_model_tells_apart_what_an_unscaled_one_does_not(
    workspace: Workspace, scale: str
) -> None:
    X, stream = skewed(900), workspace.stream()
    with workspace.client as client:
        add_points(client, stream, X)
    models = {
        "plain": kmeans(stream),
        "k": kmeans(stream, scale=scale),
        "g": mixture(stream, scale=scale, batch={"size": 100}),
    }
    workspace.write(models).drain()
    truth = np.arange(900) % 3

    def purity(name: str) -> float:
        labels = workspace.newest(name).predict(X)
        largest = [np.bincount(truth[labels == k], minlength=3).max() for k in range(3)]
        return float(sum(largest)) / 900.0

    assert purity("plain") < 0.9
    assert min(purity("k"), purity("g")) > 0.98
    centroids = workspace.newest("k").means
    assert np.allclose(np.sort(centroids[:, 0]), [-9.0, 0.0, 9.0], atol=0.5)  # in the feed's units
    found = workspace.newest("g")
    score = found.score
    assert score is not None
    assert score == pytest.approx(found.score_samples(X).mean(), abs=0.2)


def test_kill_9_changes_no_bit_of_a_scaled_model(workspace: Workspace) -> None:
    X, stream = skewed(1200), workspace.stream()
    settings = kmeans(stream, scale="robust", batch={"size": 50}, commit={"points": 100})
    with workspace.client as client:
        add_points(client, stream, X[:600], first_id=1000)
        with WorkerProcess(workspace.write({"m": settings})) as worker:
            worker.wait(lambda: workspace.committed("m") == 600)
        add_points(client, stream, X[600:], first_id=10**7)
    drain(workspace)
    crashed = workspace.newest("m").params
    drain(workspace.write({"quiet": settings}), "quiet")
    quiet = workspace.newest("quiet").params
    assert crashed.centroids.tobytes() == quiet.centroids.tobytes()
    assert crashed.scale.tobytes() == quiet.scale.tobytes()


def test_a_change_of_scale_needs_a_new_model(workspace: Workspace) -> None:
    stream = workspace.stream()
    with workspace.client as client:
        add_points(client, stream, skewed(90))
    drain(workspace.write({"m": kmeans(stream, scale="standard")}))
    workspace.write({"m": kmeans(stream)})
    with pytest.raises(StreamclustError) as failure:
        drain(workspace)
    line = str(failure.value)
    assert "was learned with scale 'standard', the config says 'none'" in line


# ---- features by name


def test_features_are_chosen_and_ordered_by_name(workspace: Workspace) -> None:
    fields, text, X = workspace.stream("fields"), workspace.stream("json"), skewed(90) / UNITS
    with workspace.client as client:
        for number, (a, b) in enumerate(X.tolist()):
            entry = {"b": str(b), "other": "text", "a": str(a)}
            add_entry(client, fields, **dict(sorted(entry.items(), reverse=number % 2 == 0)))
            add_entry(client, text, json=f'[{{"a": {a!r}, "z": null, "b": {b!r}}}]')
    points = {"features": ["b", "a"]}
    workspace.write(
        {name: kmeans(stream, points=points) for name, stream in (("f", fields), ("j", text))}
    )
    workspace.drain()
    for name in ("f", "j"):
        model = workspace.newest(name)
        assert model.features == ("b", "a")
        assert model.points == 90
        assert np.allclose(np.sort(model.means[:, 1]), [-9.0, 0.0, 9.0], atol=0.7)
        assert np.allclose(np.sort(model.means[:, 0]), [0.0, 0.0, 9.0], atol=0.7)
        assert workspace.dead(name) == []


# ---- missing values


def test_a_missing_value_costs_its_point_and_no_other(workspace: Workspace) -> None:
    fields, text, X = workspace.stream("fields"), workspace.stream("json"), skewed(90) / UNITS
    missing = [{"a": "1"}, {"a": "1", "b": ""}, {"a": "1", "b": "nan"}, {"a": "1", "b": "inf"}]
    with workspace.client as client:
        for a, b in X.tolist():
            add_entry(client, fields, a=str(a), b=str(b))
            add_entry(client, text, json=f"[[{a!r}, {b!r}], [{a!r}, null], [{a!r}]]")
        for entry in missing:
            add_entry(client, fields, **entry)
    workspace.write({"f": kmeans(fields), "j": kmeans(text)}).drain()
    assert workspace.newest("f").points == workspace.newest("j").points == 90
    assert len(workspace.dead("f")) == len(missing)
    assert len(workspace.dead("j")) == 180
