"""Back to an older version: with a worker, without one, and refusals of one line."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from streamclust.cli.main import cli
from streamclust.errors import DataError, UnknownModelError
from streamclust.refit.delivery import Handover
from streamclust.refit.rollback import rollback
from streamclust.worker.together import run_model
from tests.refit.desk import EAGER, a_job, drain
from tests.waiting import wait_until
from tests.worker.harness import LIMIT, Site, add_blocks, blobs, kmeans, mixture


def two_versions(site: Site, kind: Any = kmeans, **more: Any) -> None:
    """A model that learned three clusters, and then only far away ones."""
    site.write({"m": kind(site.stream(), **EAGER, **more)})
    for X in (blobs(300), blobs(3000, seed=1) + 50.0):
        with site.client as client:
            add_blocks(client, site.stream(), X)
        drain(site)


def back(site: Site, version: int) -> Handover:
    with a_job(site) as (job, _):
        return rollback(job, version, LIMIT)


def nearest(A: Any, B: Any) -> Any:
    """For each row of B, the row of A that is nearest."""
    return np.linalg.norm(A[:, None] - B[None], axis=2).argmin(axis=0)


@pytest.mark.parametrize(
    ("kind", "more"),
    [(kmeans, {}), (mixture, {}), (kmeans, {"scale": "standard"}), (mixture, {"scale": "robust"})],
)
def test_without_a_worker_it_goes_back_in_place(site: Site, kind: Any, more: Any) -> None:
    two_versions(site, kind, **more)
    versions = site.versions("m")
    old, before = versions[0], versions[-1]
    assert before.displacement_from(old).max() > 10.0
    assert back(site, old.version) == Handover(before.version + 1, False)
    after = site.newest("m")
    assert (after.version, after.reason) == (before.version + 1, "rollback")
    assert (after.points, after.position) == (before.points, before.position)
    for name, array in old.family.to_arrays(old.params).items():
        found = after.family.to_arrays(after.params)[name]
        if name != "scale":  # components are numbered like those of the version before
            found = found[nearest(after.means, old.means)]
        np.testing.assert_allclose(found, array, rtol=1e-4, atol=1e-4)
    # and the next points are learned on top of it
    with site.client as client:
        add_blocks(client, site.stream(), blobs(30, seed=2))
    drain(site)
    assert site.newest("m").displacement_from(after).max() < 5.0
    assert site.newest("m").points == before.points + 30


def test_a_running_worker_takes_it_over(site: Site) -> None:
    two_versions(site)
    before = site.newest("m").version
    with a_job(site) as (job, logged):
        worker = threading.Thread(target=run_model, args=(job,))
        worker.start()
        wait_until(lambda: [e for e in logged.entries if e["event"] == "model_resumed"], LIMIT)
        delivered = back(site, 1)
        job.stop.set()
        worker.join()
    assert delivered == Handover(before + 1, True)
    assert site.versions("m")[before].reason == "rollback"


def test_what_cannot_be_gone_back_to_is_said(site: Site) -> None:
    two_versions(site)
    with pytest.raises(UnknownModelError, match="version 999 of 'm' isn't kept"):
        back(site, 999)
    # and a version of another size, from before the model was begun anew
    with site.client as client:
        client.rename(site.keys("m").models, f"{site.namespace}-old")
        client.delete(site.keys("m").state)
    site.write({"m": kmeans(site.stream(), K=2, **EAGER)})
    drain(site)
    with site.client as client:
        client.rename(f"{site.namespace}-old", site.keys("m").models)
    with pytest.raises(DataError, match=r"has n_components 3, the model 2 by now.*init\.path"):
        back(site, 1)


def test_the_command_says_what_it_did(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    two_versions(site)
    before = site.newest("m").version
    monkeypatch.chdir(site.folder)
    done = CliRunner().invoke(cli, ["models", "rollback", "m", "1"])
    assert done.stdout == f"m is back at version 1, as version {before + 1} (in place)\n"
    done = CliRunner().invoke(cli, ["models", "rollback", "m", "1", "--json"])
    assert json.loads(done.stdout)["back_to"] == 1
    for arguments, code, told in (
        (["m", "999"], 1, "version 999 of 'm' isn't kept"),
        (["n", "1"], 2, "isn't configured"),
    ):
        done = CliRunner().invoke(cli, ["models", "rollback", *arguments])
        assert done.exit_code == code
        assert told in done.stderr
