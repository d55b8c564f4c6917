"""``streamclust metrics``: what `status` shows, as Prometheus reads it."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.worker.harness import (
    STREAMCLUST,
    Site,
    add_blocks,
    add_entry,
    blobs,
    environment,
    error_line,
    kmeans,
    own_server,
    run,
)


@pytest.fixture
def site(tmp_path: Path, valkey_url: str, namespace: str) -> Site:
    """A model that has learned 90 points and refused one, and 3 entries that it has not read."""
    site = Site(tmp_path, valkey_url, namespace)
    stream = site.stream()
    with site.client as client:
        add_blocks(client, stream, blobs(90))
        add_entry(client, stream, f8=b"odd")
        site.write({"m": kmeans(stream)}).drain()
        add_blocks(client, stream, blobs(90))
    return site


def samples(text: str) -> dict[str, float]:
    """Return the value of each sample of the model."""
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels == {"model": "m"}
    }


def test_they_are_printed_once(site: Site) -> None:
    done = run(site.folder, "metrics")
    assert (done.returncode, done.stderr) == (0, "")
    found = samples(done.stdout)
    assert found["streamclust_up"] == 0.0
    assert found["streamclust_points_total"] == 90.0
    assert found["streamclust_dead_points_total"] == 1.0
    assert found["streamclust_lost_entries_total"] == 0.0
    assert found["streamclust_lag_entries"] == 3.0
    assert found["streamclust_version"] == site.newest("m").version
    assert found["streamclust_effective_weight_points"] == pytest.approx(90.0)


@contextmanager
def served(site: Site) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serve on a free port; give the address."""
    process = subprocess.Popen(
        [STREAMCLUST, "metrics", "--port", "0"],
        cwd=site.folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stderr is not None
            yield process.stderr.readline().strip(), process
        finally:
            process.kill()


def test_they_are_served_and_looked_up_anew(site: Site) -> None:
    with served(site) as (url, process):
        assert samples(urlopen(url).read().decode())["streamclust_points_total"] == 90.0  # noqa: S310
        site.drain()
        assert samples(urlopen(url).read().decode())["streamclust_points_total"] == 180.0  # noqa: S310
        process.send_signal(signal.SIGTERM)
        assert process.wait(30.0) == 0


def test_a_server_that_goes_away_is_a_figure(tmp_path: Path, namespace: str) -> None:
    with own_server(tmp_path) as server:
        site = Site(tmp_path, server.url, namespace).write({"m": kmeans("points")})
        with served(site) as (url, _):
            assert "streamclust_server_up 1.0" in urlopen(url).read().decode()  # noqa: S310
            server.kill()
            assert "streamclust_server_up 0.0" in urlopen(url).read().decode()  # noqa: S310


def test_a_port_that_is_taken_is_one_line(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = error_line(run(site.folder, "metrics", "--port", port), 2)
    assert f"--port: can't listen on 127.0.0.1:{port}" in line
