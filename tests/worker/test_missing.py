"""Points with missing values, from the stream to versions, codes, a refit and a kill -9."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from streamclust import Client, KMeans
from streamclust.errors import FormatError
from streamclust.formats.codes import CodedEntry, decode_fields
from streamclust.refit.command import Selection, score_live
from streamclust.refit.span import Span
from streamclust.store.model.health import read_health
from tests.support.commands import shown
from tests.support.gaps import with_gaps
from tests.support.killed_worker import die_at
from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_blocks, add_entry, add_points, blobs
from tests.support.refit_helpers import refit
from tests.support.workers import WorkerProcess, drain, open_job
from tests.support.workspace import Workspace

FEW: dict[str, Any] = {"batch": {"size": 50}, "commit": {"points": 50}, "encode": True}
NAMES = ["x0", "x1", "x2"]
LEARN: dict[str, Any] = {"missing": "learn"}
NOTHING = b"all features are missing"


def gapped(n: int, share: float = 0.2, D: int = 3) -> NDArray[np.float64]:
    """Return blobs with missing values; no point lacks all."""
    return with_gaps(blobs(n, 1, D), share)


def codes(workspace: Workspace) -> list[CodedEntry]:
    key = workspace.keys("m").codes()
    with workspace.client as client:
        return [decode_fields(each.decode(), fields, key) for each, fields in client.xrange(key)]


def add_json(workspace: Workspace, X: NDArray[np.float64]) -> None:
    """Append objects by feature name, without the missing values."""
    with workspace.client as client:
        for row in X.tolist():
            pairs = zip(NAMES, row, strict=True)
            present = {name: value for name, value in pairs if not math.isnan(value)}
            add_entry(client, workspace.stream(), json=json.dumps(present))


@pytest.mark.parametrize(
    ("form", "kind"),
    [("fields", kmeans), ("objects", mixture), ("float32", mixture), ("float64", kmeans)],
)
def test_points_with_gaps_are_learned_and_encoded(
    workspace: Workspace, form: str, kind: Any
) -> None:
    X = gapped(400)
    X[[3, 250]] = np.nan
    points = {**LEARN, "features": NAMES}
    workspace.write({"m": kind(workspace.stream(), points=points, **FEW)})
    with workspace.client as client:
        if form == "fields":
            add_points(client, workspace.stream(), X)
        elif form == "objects":
            add_json(workspace, X)
        else:
            X = X.astype(form)
            add_blocks(client, workspace.stream(), X, block=40)
    drain(workspace)
    dead, model = workspace.dead("m"), workspace.newest("m")
    assert [letter[b"reason"] for letter in dead] == [NOTHING] * 2
    assert model.points == 398
    # The clusters of the feed are found, and each point has the code of its own.
    order = np.argsort(model.means[:, 0])
    assert_allclose(model.means[order], np.array([-10.0, 0.0, 10.0])[:, None] * np.ones(3), atol=1)
    found = codes(workspace)
    index = np.concatenate([entry.code for entry in found])
    distance = np.concatenate([entry.distance for entry in found])
    assert np.flatnonzero(index < 0).tolist() == [3, 250]
    good = np.delete(np.arange(400), [3, 250])
    assert np.isfinite(distance[good]).all()
    at = {model.version: model for model in workspace.versions("m")}
    versions = np.concatenate([np.full(len(e.code), e.version) for e in found])
    for n in good[::29]:
        assert index[n] == at[versions[n]].predict(X[n : n + 1])[0]


def test_after_a_kill_the_model_is_that_of_a_quiet_run(
    workspace: Workspace, tmp_path: Path
) -> None:
    X, points = gapped(300), {**LEARN, "features": NAMES}
    settings = mixture(workspace.stream(), points=points, **FEW)
    with workspace.client as client:
        add_points(client, workspace.stream(), X)
    workspace.write({"m": settings})
    die_at(workspace, "landed")  # the first commit is that of the new model
    die_at(workspace, "landed")
    assert 0 < workspace.committed("m") < 300
    drain(workspace)
    folder = tmp_path / "quiet"
    folder.mkdir()
    quiet = Workspace(folder, workspace.url, f"{workspace.namespace}-quiet")
    quiet.write({"m": settings})
    drain(quiet)
    (one, arrays), (other, quiet_arrays) = workspace.state("m"), quiet.state("m")
    assert one["learner"]["points"] == 300
    assert one["missing"] == other["missing"] == int(np.isnan(X).sum())
    assert arrays == quiet_arrays
    assert workspace.newest("m").means.tobytes() == quiet.newest("m").means.tobytes()


def test_rejected_points_are_learned_after_the_setting_changes(workspace: Workspace) -> None:
    stream, X = workspace.stream(), gapped(90, 0.1)
    whole = ~np.isnan(X).any(axis=1)
    with workspace.client as client:
        add_points(client, stream, blobs(60, D=3))
        for row in X.tolist():
            present = {f"x{d}": str(v) for d, v in enumerate(row) if not math.isnan(v)}
            add_entry(client, stream, **present)
    # Given a model that rejects missing values
    workspace.write({"m": mixture(stream)})
    drain(workspace)
    assert workspace.newest("m").points == 60 + whole.sum()
    [reason] = {letter[b"reason"][-45:] for letter in workspace.dead("m")}
    assert reason == b"; points.missing: learn accepts missing values"[-45:]
    # When it learns them, and the dead letters are requeued
    workspace.write({"m": mixture(stream, points=LEARN)})
    drain(workspace)
    done = shown(workspace, "dead", "requeue", "m", "--yes")
    assert f"requeued {(~whole).sum()} entries" in done.stdout, done.output
    drain(workspace)
    # Then all points are learned, and no letter is left
    assert workspace.newest("m").points == 150
    assert workspace.dead("m") == []
    # and the model can't go back
    workspace.write({"m": mixture(stream)})
    with pytest.raises(FormatError, match="holds points with missing values"):
        drain(workspace)


def test_a_setting_that_had_no_effect_can_go_back(workspace: Workspace) -> None:
    with workspace.client as client:
        add_points(client, workspace.stream(), blobs(90))
    for points, n in ((LEARN, 90), ({}, 120), (LEARN, 150)):
        workspace.write({"m": kmeans(workspace.stream(), points=points)})
        drain(workspace)
        assert workspace.newest("m").points == n
        with workspace.client as client:
            add_points(client, workspace.stream(), blobs(30, seed=n))


def test_points_of_a_block_that_were_learned_are_not_requeued(workspace: Workspace) -> None:
    stream = workspace.stream()
    X = blobs(90)
    X[[4, 31, 32, 33], 1] = np.nan
    with workspace.client as client:
        add_blocks(client, stream, np.delete(X, [31, 32, 33], axis=0), block=29)
        add_blocks(client, stream, X[31:34], block=3)
    workspace.write({"m": kmeans(stream)})
    drain(workspace)
    workspace.write({"m": kmeans(stream, points=LEARN)})
    drain(workspace)
    done = shown(workspace, "dead", "requeue", "m", "--yes")
    assert "requeued 1 entry (3 dead letters)" in done.stdout
    assert "not requeued: 1 in a block whose other points were learned" in done.stdout


def test_the_share_of_missing_values_is_reported(workspace: Workspace) -> None:
    X = gapped(200)
    with workspace.client as client:
        add_points(client, workspace.stream(), X)
        workspace.write({"m": kmeans(workspace.stream(), points=LEARN, publish={"points": 50})})
        with WorkerProcess(workspace) as worker:
            worker.wait(lambda: workspace.committed("m") == 200)

            def reported() -> bool:
                health = read_health(client, workspace.keys("m"))
                return health is not None and health.missing == np.isnan(X).sum()

            worker.wait(reported)
            [warning] = worker.events("features_of_first_entry")
            assert set(warning["features"]) <= {"x0", "x1", "x2"}
            [row] = json.loads(shown(workspace, "status", "--json").stdout)
            assert_allclose(row["missing_share"], np.isnan(X).mean())
            assert row["missing_values"] == np.isnan(X).sum()
            text = shown(workspace, "status", "m").stdout
            assert f"MISSING: {np.isnan(X).mean():.2%} of the values" in text
            metrics = shown(workspace, "metrics").stdout
            [line] = [
                line
                for line in metrics.splitlines()
                if line.startswith("streamclust_missing_share{")
            ]
            assert_allclose(float(line.split()[-1]), np.isnan(X).mean())


def test_refit_and_score_use_what_is_there(workspace: Workspace, tmp_path: Path) -> None:
    X = gapped(300)
    workspace.write({"m": mixture(workspace.stream(), points={**LEARN, "features": NAMES}, **FEW)})
    with workspace.client as client:
        add_points(client, workspace.stream(), X)
    drain(workspace)
    report = refit(workspace, force=True)
    assert report.points == 300
    model = workspace.newest("m")
    assert model.reason == "refit"
    assert_allclose(-model.score_samples(X).mean(), report.loss, rtol=1e-6)
    path = tmp_path / "points.csv"
    lines = [",".join("" if math.isnan(v) else repr(v) for v in row) for row in X.tolist()]
    path.write_text("\n".join([",".join(NAMES), *lines]) + "\n")
    with open_job(workspace) as job:
        for selection in (Selection(Span()), Selection(Span(), (path,))):
            _, score = score_live(job, selection)
            assert score.points == 300
            assert score.log_likelihood_per_point is not None
            assert_allclose(-score.log_likelihood_per_point, report.loss, rtol=1e-6)
        _, score = score_live(job, Selection(Span(), from_coreset=True))
        assert_allclose(score.weight, 300)
    with Client(workspace.url, namespace=workspace.namespace) as client:
        found = client.model("m")
        filled = found.impute(X)
        assert_allclose(np.asarray(filled)[~np.isnan(X)], X[~np.isnan(X)])
        assert np.abs(np.asarray(filled) - blobs(300, 1, 3))[np.isnan(X)].mean() < 1.0


def test_a_model_learns_gaps_in_the_warm_up_with_one_feature_that_is_rare(
    workspace: Workspace,
) -> None:
    X = blobs(300, D=3)
    X[np.arange(300) % 20 > 0, 2] = np.nan
    with workspace.client as client:
        add_points(client, workspace.stream(), X)
    workspace.write({"m": mixture(workspace.stream(), points={**LEARN, "features": NAMES})})
    drain(workspace)
    model = workspace.newest("m")
    assert model.points == 300
    assert np.isfinite(model.means).all()


def test_the_metric_cosine_needs_all_values(workspace: Workspace) -> None:
    workspace.write({"m": kmeans(workspace.stream(), metric="cosine", points=LEARN)})
    done = shown(workspace, "config", "check")
    assert done.exit_code == 2
    assert "points.missing is learn, but metric is cosine" in " ".join(done.output.split())
    with pytest.raises(ValueError, match="missing is 'learn'"):
        KMeans(2, metric="cosine", missing="learn")
