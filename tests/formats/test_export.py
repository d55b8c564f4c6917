"""Models for other programs: what they compute with them is what we compute."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamclust.arrays import Array, CovarianceType
from streamclust.errors import DataError, MissingExtraError
from streamclust.fitting.fit import fit
from streamclust.fitting.search import search_of
from streamclust.formats.export import to_npz
from streamclust.formats.model import Model, decode_model
from streamclust.models import GaussianMixture, KMeans
from streamclust.models.directions import normalized
from tests.support.directions import directions

TYPES: list[CovarianceType] = ["full", "tied", "diag", "spherical"]
X = np.random.default_rng(0).normal(size=(400, 3)) @ np.array(
    [[2.0, 0.3, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 0.1]]
)


def model_of(family: Any, points: Array = X) -> Model:
    w = np.ones(len(points))
    params = search_of(family).init(points, w, np.random.default_rng(1))
    stats = family.e_step(params, points, w)
    params = family.m_step(stats, params)
    return Model("m", 7, "step", family, params, stats.weight, {"s": "1-0"}, 400, 0.5, 1.0, ())


@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_mixture_of_scikit_learn_agrees(covariance_type: CovarianceType) -> None:
    model = model_of(GaussianMixture(4, covariance_type))
    theirs = model.to_sklearn()
    np.testing.assert_array_equal(theirs.predict(X), model.predict(X))
    gamma = model.family.responsibilities(model.params, X)  # type: ignore[attr-defined]
    np.testing.assert_allclose(theirs.predict_proba(X), gamma, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(theirs.score_samples(X), model.score_samples(X), rtol=1e-9)
    points, labels = theirs.sample(10)
    assert points.shape == (10, 3)
    assert labels.max() < 4


def test_k_means_of_scikit_learn_agrees() -> None:
    model = model_of(KMeans(9))
    theirs = model.to_sklearn()
    np.testing.assert_array_equal(theirs.cluster_centers_, model.params.centroids)
    np.testing.assert_array_equal(theirs.predict(X), model.predict(X))
    nearest = theirs.transform(X).min(axis=1) ** 2
    np.testing.assert_allclose(nearest, model.score_samples(X), rtol=1e-7, atol=1e-12)


def test_equal_centroids_are_no_trouble() -> None:
    model = model_of(KMeans(3))
    model.params.centroids[:] = 1.0
    assert model.to_sklearn().predict(X[:2]).shape == (2,)


def test_scikit_learn_s_object_shares_no_memory() -> None:
    model = model_of(KMeans(3))
    before = model.params.centroids.copy()
    model.to_sklearn().cluster_centers_[:] = 0.0
    np.testing.assert_array_equal(model.params.centroids, before)


def test_json_and_npz_hold_the_arrays() -> None:
    model = model_of(GaussianMixture(4, "full"))
    read = json.loads(model.to_json())
    assert {name: read[name] for name in model.summary()} == model.summary()
    with np.load(
        io.BytesIO(to_npz(model.summary(), model.named_arrays())), allow_pickle=False
    ) as file:
        assert json.loads(str(file["summary"])) == model.summary()
        for name, array in model.named_arrays().items():
            np.testing.assert_array_equal(file[name], array)
            np.testing.assert_array_equal(read[name], array)


def test_files(tmp_path: Path) -> None:
    model = model_of(KMeans(3))
    model.save(tmp_path / "m.safetensors")
    data = (tmp_path / "m.safetensors").read_bytes()
    np.testing.assert_array_equal(decode_model(data, "file").means, model.means)
    model.save(tmp_path / "m.npz")
    model.save(str(tmp_path / "m.JSON"))
    assert json.loads((tmp_path / "m.JSON").read_text())["version"] == 7
    with np.load(tmp_path / "m.npz") as file:
        np.testing.assert_array_equal(file["centroids"], model.means)


def test_files_that_cannot_be_written_are_said(tmp_path: Path) -> None:
    model = model_of(KMeans(3))
    with pytest.raises(DataError, match=r"expected a name that ends in .safetensors, .npz, .json"):
        model.save(tmp_path / "m.pkl")
    with pytest.raises(DataError, match="No such file or directory"):
        model.save(tmp_path / "nowhere" / "m.npz")


def test_drift_is_the_way_of_each_component() -> None:
    before, after = model_of(KMeans(3)), model_of(KMeans(3))
    after.params.centroids[1] += [3.0, 4.0, 0.0]
    np.testing.assert_allclose(after.displacement_from(before), [0.0, 5.0, 0.0], atol=1e-12)
    with pytest.raises(DataError, match="versions 7 and 7 differ in size: 3 x 3 and 2 x 3"):
        model_of(KMeans(2)).displacement_from(before)


def test_directions_of_scikit_learn_agree() -> None:
    model = model_of(KMeans(4, metric="cosine"), normalized(X))
    np.testing.assert_array_equal(model.to_sklearn().predict(9.0 * X), model.predict(X))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_faiss_file_finds_the_same_centroids(metric: Any, tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss")
    family = KMeans(5, metric=metric)
    points = family.prepare(X)
    model = model_of(family, points)
    model.save(tmp_path / "lists.faiss")
    index = faiss.read_index(str(tmp_path / "lists.faiss"))
    assert (index.d, index.ntotal) == (3, 5)
    found = index.search(np.asarray(points, np.float32), 1)[1][:, 0]
    assert (found == model.predict(X)).mean() > 0.99  # the index has float32
    with pytest.raises(DataError, match="kind kmeans without scales"):
        model_of(GaussianMixture(2)).save(tmp_path / "mixture.faiss")


def of_onnx(model: Model, path: Path, points: Array) -> dict[str, Array]:
    """Return the outputs of an exported model; its input is checked too."""
    runtime = pytest.importorskip("onnxruntime")
    model.save(path)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    assert (given.name, given.type) == ("X", "tensor(double)")
    summary = json.loads(session.get_modelmeta().custom_metadata_map["summary"])
    assert summary == model.summary()
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(None, {"X": points}), strict=True))


@pytest.mark.parametrize("place", [0.0, 1e8])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_mixture_of_onnx_agrees(
    covariance_type: CovarianceType, place: float, tmp_path: Path
) -> None:
    points = X + place
    model = model_of(GaussianMixture(4, covariance_type), points)
    found = of_onnx(model, tmp_path / "m.onnx", points)
    assert list(found) == ["label", "probabilities", "log_density"]
    np.testing.assert_array_equal(found["label"], model.predict(points))
    np.testing.assert_allclose(found["log_density"], model.score_samples(points), rtol=1e-6)
    gamma = model.family.responsibilities(model.params, points)  # type: ignore[attr-defined]
    np.testing.assert_allclose(found["probabilities"], gamma, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("place", [0.0, 1e8])
def test_k_means_of_onnx_agrees(metric: Any, place: float, tmp_path: Path) -> None:
    family = KMeans(5, metric=metric)
    points = X + (place if metric == "euclidean" else 0.0)
    model = model_of(family, family.prepare(points))
    found = of_onnx(model, tmp_path / "m.onnx", 3.0 * points if metric == "cosine" else points)
    assert list(found) == ["label", "distances"]
    np.testing.assert_array_equal(found["label"], model.predict(points))
    nearest = found["distances"].min(axis=1) ** 2 / (2.0 if metric == "cosine" else 1.0)
    np.testing.assert_allclose(nearest, model.score_samples(points), rtol=1e-6, atol=1e-12)


def test_scaled_features_and_ids_of_onnx_agree(tmp_path: Path) -> None:
    model = model_of(KMeans(4, min_clusters=2))
    scale = np.array([2.0, 0.5, 10.0])
    params = replace(model.params, scale=scale)
    model = replace(model, params=params, ids=np.array([1, 3, 7, 8]))
    found = of_onnx(model, tmp_path / "m.onnx", X)
    np.testing.assert_array_equal(found["label"], model.predict(X))
    assert set(found["label"].tolist()) <= {1, 3, 7, 8}
    np.testing.assert_allclose(found["distances"].min(axis=1) ** 2, model.score_samples(X))
    one = model_of(GaussianMixture(1), X[:, :1])
    assert set(of_onnx(one, tmp_path / "one.onnx", X[:, :1])["label"].tolist()) == {0}


def test_onnx_without_its_extra_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(MissingExtraError, match=r"needs skl2onnx: pip install onnx skl2onnx"):
        model_of(KMeans(3)).save(tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_a_fit_of_directions_is_as_good_as_that_of_faiss() -> None:
    faiss = pytest.importorskip("faiss")
    points = np.asarray(normalized(directions(2000, 12, 16, spread=1.0)[0]), np.float32)
    theirs = faiss.Kmeans(16, 8, niter=50, nredo=10, spherical=True, seed=1)
    theirs.train(points)
    loss = 1.0 - float((points @ theirs.centroids.T).max(axis=1).mean(dtype=np.float64))
    assert fit(KMeans(8, metric="cosine"), points, n_init=10).loss < loss + 1e-3
