"""Commands that only look never fail for one model, whatever its keys hold."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from streamclust.formats.checkpoint import FORMAT as STATE
from streamclust.formats.container import pack, unpack
from streamclust.formats.model import FORMAT as MODEL
from streamclust.store.model.keys import Keys
from tests.support.commands import run_here, served
from tests.support.model_settings import kmeans
from tests.support.points import add_points, blobs
from tests.support.workers import drain
from tests.support.workspace import Workspace, error_line, run

OFTEN: dict[str, Any] = {"batch": {"size": 60}, "publish": {"points": 60}}
Trouble = Callable[[redis.Redis, Keys], object]


def newest(client: redis.Redis, keys: Keys) -> bytes:
    entries: Any = client.xrevrange(keys.models, count=1)
    payload: bytes = entries[0][1][b"payload"]
    return payload


def publish(client: redis.Redis, keys: Keys, payload: bytes) -> None:
    client.xadd(keys.models, {"payload": payload}, id="99-0")


def other_type(name: str) -> Trouble:
    def spoil(client: redis.Redis, keys: Keys) -> None:
        client.delete(getattr(keys, name))
        client.rpush(getattr(keys, name), "mine")

    return spoil


def of_format(form: str, name: str) -> Trouble:
    def spoil(client: redis.Redis, keys: Keys) -> None:
        if form == STATE:
            state: Any = client.get(keys.state)
            client.set(keys.state, pack(name, *unpack(state, STATE, "state")))
        else:
            publish(client, keys, pack(name, *unpack(newest(client, keys), MODEL, "model")))

    return spoil


TROUBLES: dict[str, tuple[Trouble, str]] = {
    "truncated-state": (lambda c, k: c.set(k.state, c.get(k.state)[:-9]), "does not hold a"),  # type: ignore[index]
    "no-state": (lambda c, k: c.set(k.state, b"\xff\x00"), "does not hold a"),
    "newer-state": (of_format(STATE, "streamclust.state/9"), "streamclust.state/9"),
    "odd-position": (
        lambda c, k: c.set(k.state, with_position(c.get(k.state), "sideways")),
        "can't be decoded",
    ),
    "truncated-model": (lambda c, k: publish(c, k, newest(c, k)[:-9]), "does not hold a"),
    "no-payload": (lambda c, k: c.xadd(k.models, {"other": "x"}, id="99-0"), "does not hold a"),
    "newer-model": (of_format(MODEL, "streamclust.model/9"), "streamclust.model/9"),
    "odd-health": (lambda c, k: c.set(k.health, b"\xff{"), "holds no worker's report"),
    "list-health": (other_type("health"), "holds a list"),
    "list-state": (other_type("state"), "holds a list"),
    "list-models": (other_type("models"), "holds a list"),
    "list-dead": (other_type("dead"), "holds a list"),
}


def with_position(state: Any, end: str) -> bytes:
    arrays, meta = unpack(state, STATE, "state")
    return pack(STATE, arrays, {**meta, "position": dict.fromkeys(meta["position"], end)})


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory, valkey_url: str) -> Workspace:
    """Models that were learned and then spoilt, each in its way; and keys that were left over."""
    folder: Path = tmp_path_factory.mktemp("troubled")
    workspace = Workspace(folder, valkey_url, folder.name)
    streams = {name: workspace.stream(name) for name in ("healthy", "stream", *TROUBLES)}
    workspace.write({name: kmeans(stream, **OFTEN) for name, stream in streams.items()})
    with workspace.client as client:
        for stream in streams.values():
            add_points(client, stream, blobs(120))
        workspace.drain()
        for name, (spoil, _) in TROUBLES.items():
            spoil(client, workspace.keys(name))
        client.delete(streams["stream"])
        client.rpush(streams["stream"], "mine")
        for leftover in ("state", "dead", "lease", "token", "proposal", "codes"):
            client.set(f"{{{workspace.namespace}:left-{leftover}}}:{leftover}", "1")
        client.set(f"{{{workspace.namespace}:\xff".encode("latin-1") + b"}:token", "1")
    return workspace.write({"healthy": kmeans(streams["healthy"])})


def test_status_has_a_row_for_each(troubled: Workspace) -> None:
    done = run_here(troubled, "status", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row["model"]: row for row in json.loads(done.stdout)}
    assert (rows["healthy"]["phase"], rows["healthy"]["reason"]) == ("stopped", None)
    for name, (_, text) in TROUBLES.items():
        assert rows[name]["phase"] == "damaged", name
        assert any(part in rows[name]["reason"] for part in text.split("|")), rows[name]["reason"]
        assert f"{{{troubled.namespace}:{name}}}:" in rows[name]["reason"] or "odd-p" in name
    assert rows["stream"]["phase"] == "damaged"
    assert troubled.stream("stream") in rows["stream"]["reason"]
    # what can be read is shown all the same
    assert rows["list-dead"]["published"]["version"] == 2
    assert rows["list-models"]["dead"] == rows["healthy"]["dead"] == 0
    assert rows["list-state"]["lag"] is rows["list-state"]["lost"] is None
    # and what was left over
    assert rows["left-token"]["reason"] == "never published"
    assert rows["left-state"]["phase"] == "damaged"
    assert rows["\\xff"]["reason"] == "the name isn't UTF-8, so its keys can't be read"
    assert len(rows) == 1 + 1 + len(TROUBLES) + 6 + 1


def test_a_person_sees_the_reasons_below_the_table(troubled: Workspace) -> None:
    done = run_here(troubled, "status")
    assert (done.returncode, done.stderr) == (0, "")
    _, *lines = done.stdout.splitlines()
    table, reasons = lines[:22], lines[22:]
    assert table[0].split()[0] == "MODEL"
    assert {line.partition(": ")[0] for line in reasons} >= {*TROUBLES, "left-token", "\\xff"}
    assert "left-token: stopped: never published" in reasons
    assert not any(line.startswith("healthy") for line in reasons)
    # also of one alone
    for name in ("no-state", "left-dead", "list-models"):
        assert run_here(troubled, "status", name).returncode == 0
    assert "'nobody'" in error_line(run_here(troubled, "status", "nobody"), 1)


def test_metrics_have_figures_of_each(troubled: Workspace) -> None:
    with served(troubled) as (url, _):
        texts = [run_here(troubled, "metrics").stdout, urlopen(url).read().decode()]  # noqa: S310
    for text in texts:
        failed = {
            sample.labels["model"]: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "streamclust_failed"
        }
        assert failed["healthy"] == failed["left-token"] == 0.0
        assert all(failed[name] == 1.0 for name in TROUBLES)
        assert len(failed) == 21


def test_check_names_what_it_cannot_read(troubled: Workspace) -> None:
    models = json.dumps(
        {
            name: {"kind": "kmeans", "n_clusters": 2, "streams": "s"}
            for name in ("healthy", "odd-health", "list-health")
        }
    )
    done = run(troubled.folder, "worker", "--check", STREAMCLUST_MODELS=models)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert "healthy: no live worker" in lines
    assert all(
        any(f"{name}: key {{" in line for line in lines) for name in ("odd-health", "list-health")
    )


def test_versions_around_a_damaged_one_are_listed_and_watched(
    tmp_path: Path, valkey_url: str, namespace: str
) -> None:
    # Given five versions, of which the third is damaged
    workspace = Workspace(tmp_path, valkey_url, namespace)
    workspace.write({"m": kmeans(workspace.stream(), **OFTEN)})
    with workspace.client as client:
        add_points(client, workspace.stream(), blobs(300))
        drain(workspace)
        versions: Any = client.xrange(workspace.keys("m").models)
        client.delete(workspace.keys("m").models)
        for entry_id, fields in versions:
            payload = fields[b"payload"][: -1 if entry_id == b"3-0" else None]
            client.xadd(workspace.keys("m").models, {"payload": payload}, id=entry_id)
    # When they are listed, or watched Then only that one is missing, and named
    for command in (["models", "list", "m"], ["watch", "m", "--since", "0", "--timeout", "0"]):
        done = run_here(workspace, *command)
        assert (done.returncode, done.stderr) == (0, "")
        rows = done.stdout.splitlines()[1:6]
        assert [row.split()[0] for row in rows] == ["1", "2", "3", "4", "5"]
        assert "  damaged: " in rows[2]
        done = run_here(workspace, *command, "--json")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line["version"] for line in lines] == [1, 2, 3, 4, 5]
        assert "does not hold a streamclust.model/1 payload" in lines[2]["error"]
    # and so is a damaged newest one
    with workspace.client as client:
        client.xadd(workspace.keys("m").models, {"payload": "x", "model_id": "x"}, id="6-0")
    for command in (["models", "list", "m"], ["watch", "m", "--timeout", "2"]):
        done = run_here(workspace, *command)
        assert (done.returncode, done.stderr) == (0, "")
        assert re.search(r"^ *6  damaged", done.stdout, re.MULTILINE)
    # and so are entries whose IDs are those of no version, once each
    ids = ["7-3", f"{2**64 - 1}-{2**64 - 1}"]
    with workspace.client as client:
        for entry_id in ids:
            client.xadd(workspace.keys("m").models, {"payload": "x"}, id=entry_id)
    for command in (["models", "list", "m"], ["watch", "m", "--since", "5", "--timeout", "0"]):
        lines = run_here(workspace, *command).stdout.splitlines()
        rows = [line for line in lines if " damaged: " in line][-3:]
        assert rows[0].split()[:2] == ["6", "damaged:"]
        for entry_id, row in zip(ids, rows[1:], strict=True):
            assert f" entry {entry_id} " in row
