"""Back to an older version: with a worker, without one, and refusals of one line."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from streamclust.cli.main import cli
from streamclust.errors import DataError, UnknownModelError
from streamclust.refit.delivery import Handover
from streamclust.refit.rollback import rollback
from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_blocks, blobs
from tests.support.refit_helpers import EAGER
from tests.support.waiting import LIMIT
from tests.support.workers import WorkerThread, drain, open_job
from tests.support.workspace import Workspace


def two_versions(workspace: Workspace, kind: Any = kmeans, **more: Any) -> None:
    """A model that learned three clusters, and then only far away ones."""
    workspace.write({"m": kind(workspace.stream(), **EAGER, **more)})
    for X in (blobs(300), blobs(900, seed=1) + 50.0):
        with workspace.client as client:
            add_blocks(client, workspace.stream(), X)
        drain(workspace)


def back(workspace: Workspace, version: int) -> Handover:
    with open_job(workspace) as job:
        return rollback(job, version, LIMIT)


def nearest(A: Any, B: Any) -> Any:
    """For each row of B, the row of A that is nearest."""
    return np.linalg.norm(A[:, None] - B[None], axis=2).argmin(axis=0)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (kmeans, {}),
        pytest.param(mixture, {}, marks=pytest.mark.exhaustive),
        (kmeans, {"scale": "standard", "anomaly": {"rate": 0.1}}),
        pytest.param(
            mixture,
            {"scale": "robust", "anomaly": {"rate": 0.1}},
            marks=pytest.mark.exhaustive,
        ),
        (mixture, {"scale": "standard", "anomaly": {"rate": 0.1, "score": "tail_score"}}),
    ],
)
def test_without_a_worker_it_goes_back_in_place(workspace: Workspace, kind: Any, more: Any) -> None:
    two_versions(workspace, kind, **more)
    versions = workspace.versions("m")
    old, before = [each for each in versions if each.points <= 300][-1], versions[-1]
    assert before.displacement_from(old).max() > 10.0
    assert back(workspace, old.version) == Handover(before.version + 1, False)
    after = workspace.newest("m")
    assert (after.version, after.reason) == (before.version + 1, "rollback")
    assert (after.points, after.position) == (before.points, before.position)
    for name, array in old.family.to_arrays(old.params).items():
        found = after.family.to_arrays(after.params)[name]
        if name != "scale":  # components are numbered like those of the version before
            found = found[nearest(after.means, old.means)]
        np.testing.assert_allclose(found, array, rtol=1e-4, atol=1e-4)
    # and so is the distribution of scores
    assert (old.scores is None) == ("anomaly" not in more)
    if old.scores is not None:
        assert after.scores is not None
        np.testing.assert_array_equal(after.scores.mass, old.scores.mass)
        assert after.scores.threshold(0.1) == pytest.approx(old.scores.threshold(0.1))
    if old.feature_distribution is not None:
        X = blobs(100)
        np.testing.assert_allclose(after.tail_scores(X), old.tail_scores(X), rtol=1e-6)
    # and the next points are learned on top of it
    with workspace.client as client:
        add_blocks(client, workspace.stream(), blobs(30, seed=2))
    drain(workspace)
    assert workspace.newest("m").displacement_from(after).max() < 5.0
    assert workspace.newest("m").points == before.points + 30


def test_a_running_worker_takes_it_over(workspace: Workspace) -> None:
    two_versions(workspace)
    before = workspace.newest("m").version
    with WorkerThread(workspace) as worker:
        worker.wait_for("model_resumed")
        delivered = back(workspace, 1)
    assert delivered == Handover(before + 1, True)
    assert workspace.versions("m")[before].reason == "rollback"


def test_what_cannot_be_gone_back_to_is_said(workspace: Workspace) -> None:
    two_versions(workspace)
    with pytest.raises(UnknownModelError, match="version 999 of 'm' isn't stored"):
        back(workspace, 999)
    # and a version of another size, from before the model was begun anew
    with workspace.client as client:
        client.rename(workspace.keys("m").models, f"{workspace.namespace}-old")
        client.delete(workspace.keys("m").state)
    workspace.write({"m": kmeans(workspace.stream(), K=2, **EAGER)})
    drain(workspace)
    with workspace.client as client:
        client.rename(f"{workspace.namespace}-old", workspace.keys("m").models)
    with pytest.raises(DataError, match=r"has n_components 3, the model 2 by now.*init\.path"):
        back(workspace, 1)


def test_the_command_says_what_it_did(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_versions(workspace)
    before = workspace.newest("m").version
    monkeypatch.chdir(workspace.folder)
    done = CliRunner().invoke(cli, ["models", "rollback", "m", "1"])
    assert done.stdout == f"m is back at version 1, as version {before + 1} (in place)\n"
    done = CliRunner().invoke(cli, ["models", "rollback", "m", "1", "--json"])
    assert json.loads(done.stdout)["back_to"] == 1
    for arguments, code, told in (
        (["m", "999"], 1, "version 999 of 'm' isn't stored"),
        (["n", "1"], 2, "isn't configured"),
    ):
        done = CliRunner().invoke(cli, ["models", "rollback", *arguments])
        assert done.exit_code == code
        assert told in done.stderr
