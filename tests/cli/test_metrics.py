"""``streamclust metrics``: what `status` shows, as Prometheus reads it."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamclust.store.model.health import Health
from tests.support.commands import served
from tests.support.many_models import fill
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, add_entry, blobs
from tests.support.servers import own_server
from tests.support.workers import drain
from tests.support.workspace import Workspace, error_line, run


@pytest.fixture
def workspace(tmp_path: Path, valkey_url: str, namespace: str) -> Workspace:
    """A model that has learned 90 points and refused one, and 3 entries that it has not read."""
    workspace = Workspace(tmp_path, valkey_url, namespace)
    stream = workspace.stream()
    with workspace.client as client:
        add_blocks(client, stream, blobs(90))
        add_entry(client, stream, f8=b"odd")
        drain(workspace.write({"m": kmeans(stream)}))
        add_blocks(client, stream, blobs(90))
    return workspace


def samples(text: str) -> dict[str, float]:
    """Return the value of each sample of the model."""
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels == {"model": "m"}
    }


def test_they_are_printed_once(workspace: Workspace) -> None:
    done = run(workspace.folder, "metrics")
    assert (done.returncode, done.stderr) == (0, "")
    found = samples(done.stdout)
    assert found["streamclust_up"] == 0.0
    assert found["streamclust_points_total"] == 90.0
    assert found["streamclust_dead_points_total"] == 1.0
    assert found["streamclust_lost_entries_total"] == 0.0
    assert found["streamclust_lag_entries"] == 3.0
    assert found["streamclust_version"] == workspace.newest("m").version
    assert found["streamclust_effective_weight_points"] == pytest.approx(90.0)
    health = workspace.newest("m").codebook_health
    assert found["streamclust_codebook_perplexity"] == pytest.approx(health.perplexity)
    assert found["streamclust_codebook_largest_share"] == pytest.approx(health.largest_share)
    assert found["streamclust_codebook_dead"] == health.dead
    assert found["streamclust_codebook_near_dead"] == health.near_dead


def test_they_are_served_and_looked_up_anew(workspace: Workspace) -> None:
    with served(workspace) as (url, process):
        assert samples(urlopen(url).read().decode())["streamclust_points_total"] == 90.0  # noqa: S310
        drain(workspace)
        assert samples(urlopen(url).read().decode())["streamclust_points_total"] == 180.0  # noqa: S310
        process.send_signal(signal.SIGTERM)
        assert process.wait(30.0) == 0


def test_a_server_that_goes_away_is_a_figure(tmp_path: Path, namespace: str) -> None:
    with own_server(tmp_path) as server:
        workspace = Workspace(tmp_path, server.url, namespace).write({"m": kmeans("points")})
        with served(workspace) as (url, _):
            assert "streamclust_server_up 1.0" in urlopen(url).read().decode()  # noqa: S310
            server.kill()
            assert "streamclust_server_up 0.0" in urlopen(url).read().decode()  # noqa: S310


def test_a_port_that_is_taken_is_one_line(workspace: Workspace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = error_line(run(workspace.folder, "metrics", "--port", port), 2)
    assert f"--port: can't listen on 127.0.0.1:{port}" in line


def many(workspace: Workspace, number: int) -> list[str]:
    """Write so many learned models, of which every 10th has failed; return their names."""
    names = [f"clicks-{place:04}" for place in range(number)]

    def health(name: str) -> Health | None:
        return Health(phase="failed", reason="no memory") if name.endswith("0") else None

    with workspace.client as client:
        fill(client, workspace.namespace, names, health, waiting=lambda name: int(name[7:]) % 3)
    return names


def by_labels(text: str, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a series by the values of their labels."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"streamclust_{name}"
    }


def test_many_models_have_bounded_series(tmp_path: Path, valkey_url: str, namespace: str) -> None:
    workspace = Workspace(tmp_path, valkey_url, namespace).write({})
    names = many(workspace, 300)
    text = run(workspace.folder, "metrics").stdout
    # there are more groups than series for them, so the rest is summed up
    models = by_labels(text, "group_models")
    assert len({group for group, _ in models}) == 100
    assert sum(models.values()) == 300
    assert sum(value for (_, phase), value in models.items() if phase == "failed") == 30
    assert models["other", "stopped"] + models["other", "failed"] == 201
    lags = by_labels(text, "group_lag_entries")
    assert sum(lags.values()) == sum(number % 3 for number in range(300))
    assert by_labels(text, "group_largest_lag_entries")["other",] == 2
    assert sum(by_labels(text, "group_points_total").values()) == 2000 * 300
    # and no model has series of its own
    assert by_labels(text, "up") == {}
    assert by_labels(text, "models_without_series") == {(): 300.0}
    # except on request
    text = run(workspace.folder, "metrics", "--per-model", "clicks-000*").stdout
    assert set(by_labels(text, "version")) == {(name,) for name in names[:10]}
    assert by_labels(text, "failed")["clicks-0000",] == 1.0
    assert by_labels(text, "models_without_series") == {(): 290.0}
