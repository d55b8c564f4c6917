"""``streamclust watch``: versions as they come, for people and for programs."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.worker.harness import (
    LIMIT,
    STREAMCLUST,
    Site,
    Worker,
    add_points,
    blobs,
    environment,
    kmeans,
    run,
)


@contextmanager
def watching(site: Site, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A `watch` whose output is read while it runs; it ends by itself when nothing comes."""
    with subprocess.Popen(
        [STREAMCLUST, "watch", *arguments, "--timeout", str(LIMIT)],
        cwd=site.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def as_json(site: Site, *arguments: str) -> list[dict[str, Any]]:
    done = run(site.folder, "watch", *arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_json_has_a_line_a_version_from_any_kept_one_on(learned: Site) -> None:
    versions = as_json(learned, "km", "--since", "1", "--count", "3")
    assert [line["version"] for line in versions] == [2, 3, 4]
    assert [line["points"] for line in versions] == [120, 180, 240]
    first = versions[0]
    assert (first["model"], first["kind"], first["reason"]) == ("km", "kmeans", "step")
    assert first["features"] == ["x0", "x1"]
    assert first["effective_weight"] == pytest.approx(120, abs=1e-9)
    assert 0 < first["inertia"] < 20
    assert list(first["position"]) == [learned.stream()]


def test_it_begins_with_the_newest_version(learned: Site) -> None:
    assert [line["version"] for line in as_json(learned, "km", "--count", "1")] == [5]
    assert [line["version"] for line in as_json(learned, "km", "--timeout", "0.1")] == [5]
    assert as_json(learned, "km", "--since", "5", "--timeout", "0.1") == []


def test_arrays_are_those_of_the_model(learned: Site) -> None:
    [line] = as_json(learned, "km", "--arrays", "--count", "1")
    newest = learned.newest("km")
    assert line["centroids"] == newest.means.tolist()
    assert line["mass"] == newest.mass.tolist()
    [line] = as_json(learned, "gm", "--arrays", "--count", "1")
    newest = learned.newest("gm")
    assert {name: line[name] for name in ("weights", "means", "covariances")} == {
        "weights": newest.params.weights.tolist(),
        "means": newest.params.means.tolist(),
        "covariances": newest.params.covariances.tolist(),
    }


def test_a_person_sees_a_table(learned: Site) -> None:
    done = run(learned.folder, "watch", "gm", "--since", "0", "--count", "5")
    assert (done.returncode, done.stderr) == (0, "")
    header, first, *rest = done.stdout.splitlines()
    assert header.split()[:4] == ["VERSION", "TIME", "POINTS", "REASON"]
    assert "LOG LIKELIHOOD" in header
    assert [first.split()[0], *first.split()[2:]][:5] == ["1", "60", "start", "-", "-"]
    assert [line.split()[0] for line in rest] == ["2", "3", "4", "5"]
    assert rest[-1].split()[2:4] == ["300", "step"]
    moved = [float(line.split()[5]) for line in rest]
    assert all(0 < value < 5 for value in moved)
    assert {len(line.split()[-1]) for line in [first, *rest]} == {3}  # a bar a component


def test_arrays_need_json(learned: Site) -> None:
    done = run(learned.folder, "watch", "km", "--arrays")
    assert done.returncode == 2
    assert "--arrays needs --json" in done.stderr


def test_it_waits_for_a_model_and_ends_with_ctrl_c(
    tmp_path: Path, server_url: str, namespace: str
) -> None:
    # Given a watch on a model that isn't there yet
    site = Site(tmp_path, server_url, namespace)
    site.write({"m": kmeans(site.stream(), publish={"every": "100ms"})})
    with watching(site, "m") as watch, site.client as client:
        assert watch.stdout is not None
        assert watch.stderr is not None
        assert watch.stderr.readline() == "waiting for the first version of 'm'\n"
        # When versions are published Then each is shown at once
        with Worker(site) as worker:
            add_points(client, site.stream(), blobs(60))
            assert watch.stdout.readline().startswith(" VERSION")
            assert watch.stdout.readline().split()[0] == "1"
            add_points(client, site.stream(), blobs(60, seed=1))
            assert watch.stdout.readline().split()[0] == "2"
            assert worker.leave() == 0
        # and Ctrl-C ends it, in silence
        watch.send_signal(signal.SIGINT)
        assert watch.wait(LIMIT) == 130
        assert watch.stderr.read() == ""


def test_it_says_that_it_waits_for_a_model_that_still_warms_up(
    tmp_path: Path, valkey_url: str, namespace: str
) -> None:
    site = Site(tmp_path, valkey_url, namespace)
    with site.client as client:
        add_points(client, site.stream(), blobs(1))  # too few points for three clusters
    site.write({"m": kmeans(site.stream())}).drain()
    done = run(site.folder, "watch", "m", "--timeout", "0.1")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "waiting for the first version of 'm'\n"


def test_a_reader_that_leaves_early_is_no_fault(learned: Site) -> None:
    with watching(learned, "km", "--since", "0") as watch:
        assert watch.stdout is not None
        assert watch.stderr is not None
        watch.stdout.close()
        assert watch.stderr.read() == ""
        assert watch.wait(LIMIT) == 1


def test_a_model_that_was_begun_anew_is_said(
    tmp_path: Path, valkey_url: str, namespace: str
) -> None:
    # Given a watch that has shown a version of a model
    site = Site(tmp_path, valkey_url, namespace)
    site.write({"m": kmeans(site.stream())})
    keys = site.keys("m")
    with site.client as client, watching(site, "m") as watch:
        assert watch.stdout is not None
        assert watch.stderr is not None
        assert watch.stderr.readline().startswith("waiting")
        add_points(client, site.stream(), blobs(60))
        site.drain()
        assert watch.stdout.readline().startswith(" VERSION")
        assert watch.stdout.readline().split()[0] == "1"
        # When it is begun anew Then that is said, and its versions are shown
        client.delete(keys.state, keys.models, keys.token)
        site.drain()
        assert "the model was deleted and started again" in watch.stderr.readline()
        shown = watch.stdout.readline().split()
    assert (shown[0], shown[5]) == ("1", "-")  # what has moved since another model says nothing
