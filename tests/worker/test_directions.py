"""A model with the metric cosine, from the stream to versions, codes, refit and rollback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose

from streamclust import Client, KMeans
from streamclust.cli.main import cli
from streamclust.errors import FormatError
from streamclust.fitting.fit import fit
from streamclust.formats.codes import CodedEntry, decode_fields
from streamclust.refit.command import Selection, score_live
from streamclust.refit.rollback import rollback
from streamclust.refit.span import Span
from tests.support.directions import directions, unit
from tests.support.killed_worker import die_at
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, add_points
from tests.support.refit_helpers import EAGER, refit, save
from tests.support.waiting import LIMIT
from tests.support.workers import drain, open_job
from tests.support.workspace import Workspace

ZERO = b"zero vector: it has no direction, which metric cosine needs"
FEW: dict[str, Any] = {"batch": {"size": 50}, "commit": {"points": 50}}
COSINE: dict[str, Any] = {"metric": "cosine", "encode": True, **FEW}


def with_zeros(X: Any, places: list[int]) -> Any:
    """Return the points with zero vectors at these places."""
    X = X.copy()
    X[places] = 0.0
    return X


def codes(workspace: Workspace) -> list[CodedEntry]:
    key = workspace.keys("m").codes()
    with workspace.client as client:
        return [decode_fields(each.decode(), fields, key) for each, fields in client.xrange(key)]


@pytest.mark.parametrize(
    ("block", "dtype"), [(0, np.float64), (1, np.float64), (40, np.float32), (40, np.float64)]
)
def test_zero_vectors_are_dead_letters_and_all_others_are_learned(
    workspace: Workspace, block: int, dtype: Any
) -> None:
    places = [0, 1, 57, 250, 251, 399]
    X = with_zeros(directions(400, 3, 4)[0], places).astype(dtype)
    workspace.write({"m": kmeans(workspace.stream(), **COSINE)})
    with workspace.client as client:
        if block:
            add_blocks(client, workspace.stream(), X, block=block)
        else:
            add_points(client, workspace.stream(), X)
    drain(workspace)
    dead, model = workspace.dead("m"), workspace.newest("m")
    assert [letter[b"reason"] for letter in dead] == [ZERO] * 6
    assert model.points == 394
    assert_allclose(np.linalg.norm(model.means, axis=1), 1.0)
    assert (model.metric, model.summary()["metric"]) == ("cosine", "cosine")
    # Each entry has codes, with the cosine of the point and its centroid.
    index = np.concatenate([entry.code for entry in codes(workspace)])
    similarity = np.concatenate([entry.similarity for entry in codes(workspace)])
    assert np.flatnonzero(index < 0).tolist() == places
    assert np.isnan(similarity[places]).all()
    good = np.delete(np.arange(400), places)
    at = {model.version: model for model in workspace.versions("m")}
    versions = np.concatenate([np.full(len(e.code), e.version) for e in codes(workspace)])
    for n in good[:: 7 if block else 29]:
        cosines = unit(X[n : n + 1]) @ at[versions[n]].means.T
        assert index[n] == cosines.argmax()
        assert_allclose(similarity[n], cosines.max(), atol=1e-6)


def test_after_a_kill_the_model_is_that_of_a_quiet_run(
    workspace: Workspace, tmp_path: Path
) -> None:
    X = with_zeros(directions(600, 3, 4)[0], [5, 333])
    with workspace.client as client:
        add_blocks(client, workspace.stream(), X, block=20)
    workspace.write({"m": kmeans(workspace.stream(), **COSINE)})
    die_at(workspace, "landed")  # the first commit is that of the new model
    die_at(workspace, "landed")
    assert 0 < workspace.committed("m") < 598
    drain(workspace)
    folder = tmp_path / "quiet"
    folder.mkdir()
    quiet = Workspace(folder, workspace.url, f"{workspace.namespace}-quiet")
    quiet.write({"m": kmeans(workspace.stream(), **COSINE)})
    drain(quiet)
    one, other = workspace.newest("m"), quiet.newest("m")
    assert one.points == other.points == 598
    assert one.means.tobytes() == other.means.tobytes()
    assert len(workspace.dead("m")) == 2


def test_refit_rollback_score_and_the_client(workspace: Workspace, tmp_path: Path) -> None:
    X = directions(900, 3, 5, spread=0.5)[0]
    poor = {"kind": "parameters", "centroids": [[1, 0, 0, 0, 0]] * 2 + [[0, 9, 0, 0, 0]]}
    workspace.write({"m": kmeans(workspace.stream(), metric="cosine", init=poor, **EAGER)})
    with workspace.client as client:
        add_blocks(client, workspace.stream(), with_zeros(X, [7]))
    drain(workspace)
    first = workspace.versions("m")[0]
    assert_allclose(first.means, [[1, 0, 0, 0, 0]] * 2 + [[0, 1, 0, 0, 0]])
    # A refit has the loss of a batch fit of the good points, and its centroids are unit vectors.
    report = refit(workspace, force=True)
    good = np.delete(X, 7, axis=0)
    best = fit(KMeans(3, metric="cosine"), good, n_init=10)
    assert_allclose(report.loss, best.loss, rtol=1e-4)
    model = workspace.newest("m")
    assert model.reason == "refit"
    assert_allclose(np.linalg.norm(model.means, axis=1), 1.0)
    assert_allclose(model.score_samples(good).mean(), best.loss, rtol=1e-4)
    assert report.points == 899
    # A file with zero vectors: they are skipped, and reported.
    warnings: list[str] = []
    path = save(tmp_path / "points.csv", with_zeros(X, [7, 8]))
    selection = Selection(Span(), (path,), warn=warnings.append)
    with open_job(workspace) as job:
        _, score = score_live(job, selection)
        assert score.points == 898
        assert_allclose(score.inertia_per_point, best.loss, rtol=0.01)
        assert sum("row skipped: zero vector" in each for each in warnings) == 2
        assert rollback(job, first.version, LIMIT).version == model.version + 1
    rolled = workspace.newest("m")
    assert_allclose(np.sort(rolled.means, axis=0), np.sort(first.means, axis=0))
    with Client(workspace.url, namespace=workspace.namespace) as client:
        found = client.model("m")
        assert found.metric == "cosine"
        assert found.predict(1e-9 * good).tolist() == found.predict(good).tolist()


def test_another_metric_than_the_learned_one_is_refused(workspace: Workspace) -> None:
    with workspace.client as client:
        add_blocks(client, workspace.stream(), directions(200, 3, 4)[0])
    workspace.write({"m": kmeans(workspace.stream(), metric="cosine")})
    drain(workspace)
    workspace.write({"m": kmeans(workspace.stream())})
    with pytest.raises(FormatError, match="metric 'cosine', the config says 'euclidean'"):
        drain(workspace)
    workspace.write({"m": kmeans(workspace.stream(), metric="cosine")})
    config = str(workspace.folder / "config.yaml")
    shown = CliRunner().invoke(cli, ["models", "show", "m", "--json", "-c", config])
    assert '"metric": "cosine"' in shown.output, shown.output


def test_a_scale_is_refused_with_the_metric_cosine(workspace: Workspace) -> None:
    workspace.write({"m": kmeans(workspace.stream(), metric="cosine", scale="standard")})
    config = str(workspace.folder / "config.yaml")
    shown = CliRunner().invoke(cli, ["config", "check", "-c", config])
    assert shown.exit_code == 2
    assert "scale is standard, but metric is cosine" in " ".join(shown.output.split())
