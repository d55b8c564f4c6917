"""Refits of a model within the process of the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from structlog.testing import LogCapture

from streamclust.refit.command import Callbacks, Report, Request, Selection
from streamclust.refit.command import refit as run_refit
from streamclust.refit.runs import Plan
from streamclust.refit.span import Span
from streamclust.store.model.proposal import proposal_id
from tests.support.model_settings import kmeans
from tests.support.points import Points, add_blocks
from tests.support.workers import open_job
from tests.support.workspace import Workspace

EAGER: dict[str, Any] = {
    "batch": {"size": 30, "linger": "50ms"},
    "commit": {"points": 30},
    "publish": {"every": "200ms"},
}
POOR = {"kind": "parameters", "centroids": [[9.0, 9.0], [10.0, 10.0], [11.0, 11.0]], "weight": 1}
"""A start that online K-means doesn't get away from: two clusters share one centroid."""


def refit(
    workspace: Workspace,
    callbacks: Callbacks | None = None,
    logged: LogCapture | None = None,
    **request: Any,
) -> Report:
    """Refit the model as the command does; its log goes to `logged`."""
    selection = request.pop("selection", Selection(Span(), request.pop("files", ())))
    whole = {"selection": selection, "plan": Plan(restarts=2), **request}
    with open_job(workspace, logged=logged) as job:
        return run_refit(job, Request(**whole), callbacks or Callbacks())


def waiting(workspace: Workspace) -> bool:
    """Whether a refit waits to be taken over."""
    with workspace.client as client:
        return bool(proposal_id(client, workspace.keys("m")))


def poor_workspace(workspace: Workspace, X: Points, **more: Any) -> Workspace:
    """A workspace with points in its stream, and a model that will learn them poorly."""
    with workspace.client as client:
        add_blocks(client, workspace.stream(), X)
    return workspace.write({"m": kmeans(workspace.stream(), **{**EAGER, "init": POOR, **more})})


def reasons(workspace: Workspace) -> list[str]:
    """Why each version was published; versions must be numbered without a hole."""
    versions = workspace.versions("m")
    assert [model.version for model in versions] == list(range(1, len(versions) + 1))
    return [model.reason for model in versions]


def save(path: Path, X: Points) -> Path:
    """Write points as CSV, with the names of their columns."""
    names = ",".join(f"x{d}" for d in range(X.shape[1]))
    lines = (",".join(map(repr, row)) for row in X.tolist())
    path.write_text("\n".join([names, *lines]), encoding="utf-8")
    return path
