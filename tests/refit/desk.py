"""Workers and refits of one site within this process: no time is lost on starting others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from structlog.testing import LogCapture

from streamclust.config import load_settings
from streamclust.refit.command import Callbacks, Report, Request, Selection
from streamclust.refit.command import refit as run_refit
from streamclust.refit.runs import Plan
from streamclust.refit.span import Span
from streamclust.runtime.job import Job
from streamclust.store.model.proposal import proposed
from streamclust.store.server.connect import Address, open_server
from streamclust.worker.together import run_model
from tests.worker.harness import Points, Site, add_blocks, kmeans

EAGER: dict[str, Any] = {
    "batch": {"size": 30, "linger": "50ms"},
    "commit": {"points": 30},
    "publish": {"every": "200ms"},
}
POOR = {"kind": "parameters", "centroids": [[9.0, 9.0], [10.0, 10.0], [11.0, 11.0]], "weight": 1}
"""A start that online K-means doesn't get away from: two clusters share one centroid."""


@contextmanager
def a_job(site: Site, *, until_idle: bool = False) -> Iterator[tuple[Job, LogCapture]]:
    """The model `m` of the site, as the command line would open it."""
    logged = LogCapture()
    log = structlog.wrap_logger(structlog.PrintLogger(), [logged], structlog.BoundLogger)
    settings = load_settings(site.folder / "config.yaml", ())
    with open_server(Address(site.url)) as server:
        yield Job("m", settings, server, threading.Event(), until_idle, log), logged


def drain(site: Site) -> list[Any]:
    """Learn all that is there; return what was logged."""
    with a_job(site, until_idle=True) as (job, logged):
        run_model(job)
    return logged.entries


def refit(site: Site, callbacks: Callbacks | None = None, **request: Any) -> Report:
    """Refit the model as the command does."""
    selection = request.pop("selection", Selection(Span(), request.pop("files", ())))
    whole = {"selection": selection, "plan": Plan(restarts=2), **request}
    with a_job(site) as (job, _):
        return run_refit(job, Request(**whole), callbacks or Callbacks())


def waiting(site: Site) -> bool:
    """Whether a refit waits to be taken over."""
    with site.client as client:
        return bool(proposed(client, site.keys("m")))


def poor_site(site: Site, X: Points, **more: Any) -> Site:
    """A site with points in its stream, and a model that will learn them poorly."""
    with site.client as client:
        add_blocks(client, site.stream(), X)
    return site.write({"m": kmeans(site.stream(), **{**EAGER, "init": POOR, **more})})


def reasons(site: Site) -> list[str]:
    """Why each version was published; versions must be numbered without a hole."""
    versions = site.versions("m")
    assert [model.version for model in versions] == list(range(1, len(versions) + 1))
    return [model.reason for model in versions]


def save(path: Path, X: Points) -> Path:
    """Write points as CSV, with the names of their columns."""
    names = ",".join(f"x{d}" for d in range(X.shape[1]))
    lines = (",".join(map(repr, row)) for row in X.tolist())
    path.write_text("\n".join([names, *lines]), encoding="utf-8")
    return path
