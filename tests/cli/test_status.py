"""``streamclust status``: models, their workers, and what is still to learn."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.worker.harness import (
    Site,
    Worker,
    add_entry,
    add_points,
    blobs,
    error_line,
    kmeans,
    mixture,
    run,
)


@pytest.fixture
def site(tmp_path: Path, valkey_url: str, namespace: str) -> Site:
    return Site(tmp_path, valkey_url, namespace)


def rows(site: Site, *arguments: str) -> dict[str, dict[str, Any]]:
    done = run(site.folder, "status", "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return {row["model"]: row for row in json.loads(done.stdout)}


def table(site: Site, *arguments: str) -> list[list[str]]:
    done = run(site.folder, "status", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    where, *lines = done.stdout.splitlines()
    assert where.startswith(f"{site.url}  namespace {site.namespace}  20")
    return [line.split() for line in lines if line.strip()]


def test_before_anything_it_says_what_to_do(site: Site) -> None:
    site.write({})
    done = run(site.folder, "status")
    assert done.returncode == 0
    assert "no models yet" in done.stdout
    assert "streamclust worker" in done.stdout
    assert rows(site) == {}


def test_a_model_goes_from_waiting_to_learned(
    tmp_path: Path, server_url: str, namespace: str
) -> None:
    # Given a model in the file, and points that nobody has learned
    site = Site(tmp_path, server_url, namespace)
    stream = site.stream()
    with site.client as client:
        add_points(client, stream, blobs(90))
        add_entry(client, stream, x0="nan", x1="1")
    site.write({"m": mixture(stream)})
    # Then all of them are still to come
    row = rows(site)["m"]
    assert (row["worker"], row["phase"], row["published"], row["lag"]) == (
        None,
        "stopped",
        None,
        91,
    )
    # When they are learned Then nothing is left to do
    site.drain()
    row = rows(site)["m"]
    assert (row["worker"], row["phase"], row["lag"], row["dead"]) == (None, "stopped", 0, 1)
    assert row["points_seen"] == row["published"]["points"] == 90
    assert row["published"]["version"] == 1
    assert sum(row["weight_per_cluster"]) == pytest.approx(90, abs=1e-9)
    # and a person sees the same
    header, model = table(site)
    assert header[:7] == ["MODEL", "KIND", "WORKER", "VER", "POINTS", "RATE/S", "LAG"]
    assert header[7:] == ["LOST", "DEAD", "SCORE", "WEIGHTS"]
    assert model[:8] == ["m", "mixture", "3x2", "none", "1", "90", "-", "0"]
    assert model[8:10] == ["0", "1"]
    # When more comes Then that is the lag
    with site.client as client:
        add_points(client, stream, blobs(7))
    assert rows(site)["m"]["lag"] == 7


def test_one_model_is_shown_with_its_components(site: Site) -> None:
    stream = site.stream()
    with site.client as client:
        add_points(client, stream, blobs(90))
    site.write({"m": kmeans(stream), "other": kmeans(stream)}).drain()
    assert [line[0] for line in table(site)] == ["MODEL", "m", "other"]
    *_, header, first, second, third = table(site, "m")
    assert header == ["#", "WEIGHT", "SHARE", "x0", "x1"]
    means = site.newest("m").means
    for number, component in enumerate((first, second, third)):
        assert component[:3] == [str(number), "30.0", "33.33%"]
        assert np.array(component[3:], float) == pytest.approx(means[number], rel=1e-3)


def test_names_of_features_are_shown_as_they_are(site: Site) -> None:
    with site.client as client:
        for number in range(60):
            add_entry(client, site.stream(), **{"t[/C]": str(number % 3), "[red]": "1.5"})
    site.write({"m": kmeans(site.stream())}).drain()
    assert ["#", "WEIGHT", "SHARE", "t[/C]", "[red]"] in table(site, "m")


def test_a_live_worker_is_named(site: Site) -> None:
    stream = site.stream()
    site.write({"m": kmeans(stream), "idle": kmeans(site.stream("none"))})
    with Worker(site) as worker, site.client as client:
        add_points(client, stream, blobs(600))
        worker.wait(lambda: site.committed("m") == 600)
        worker.wait(lambda: rows(site)["m"]["points_seen"] == 600)
        found = rows(site)
        assert found["m"]["worker"] == f"{os.uname().nodename}:{worker.process.pid}"
        assert found["m"]["phase"] == "learning"
        assert found["m"]["rate"] >= 0
        assert (found["idle"]["phase"], found["idle"]["points_seen"]) == ("warming", 0)
        assert worker.leave() == 0
    assert {row["worker"] for row in rows(site).values()} == {None}


def test_an_unknown_model_is_an_error_that_names_those_there_are(site: Site) -> None:
    with site.client as client:
        add_points(client, site.stream(), blobs(3))
    site.write({"palette": kmeans(site.stream())}).drain()
    line = error_line(run(site.folder, "status", "pallete"), 1)
    assert "'pallete'" in line
    assert "palette" in line.replace("pallete", "")
