"""``streamclust alerts``: figures and reasons of flagged points, stored or new, of one or many."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streamclust.cli.alerts import rarity
from streamclust.formats.alerts import Alert, FeatureShare, encode_alert
from streamclust.formats.model import encode_model
from streamclust.store.model.commit import Commit, commit
from tests.support.commands import shown
from tests.support.commits import a_model, take
from tests.support.forked import PipedCommand
from tests.support.model_settings import kmeans
from tests.support.workspace import Workspace, environment, error_line, run

TOP = (FeatureShare("temperature", 0.83, 95.2, 61.0), FeatureShare("load", 0.17, 3.25, 2.0))
ALERT = Alert(0, "points", "1700000000000-3", 2, 5, 17.25, 1.0 - 1 / 12_340, 4, TOP, {}, 0)


@pytest.fixture
def workspace(tmp_path: Path, valkey_url: str, namespace: str) -> Workspace:
    workspace = Workspace(tmp_path, valkey_url, namespace)
    anomaly = {"rate": 0.01}
    names = ("m", "m-2", "quiet")
    return workspace.write({each: kmeans(workspace.stream(), anomaly=anomaly) for each in names})


def raise_alerts(workspace: Workspace, *alerts: Alert, model: str = "m") -> None:
    with workspace.client as client:
        keys, version = workspace.keys(model), a_model(1)
        client.delete(keys.lease, keys.models)
        rows = [(each.entry_id.encode(), encode_alert(each)) for each in alerts]
        contents = Commit(take(client, keys), b"s", version, encode_model(version), alerts=rows)
        commit(client, keys, contents)


def some(n: int, age: float = 0.0) -> list[Alert]:
    now = int((time.time() - age) * 1000)
    return [replace(ALERT, time_ms=now + k, entry_id=f"17000000000{k:02}-0") for k in range(n)]


def rows(workspace: Workspace, *arguments: str) -> list[dict[str, Any]]:
    done = shown(workspace, "alerts", *arguments, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_person_sees_figures_and_reasons(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    labels = {b"host": b"a\x1b[31m"}
    raise_alerts(workspace, replace(ALERT, labels=labels), replace(ALERT, entry_id="7-0", top=()))
    monkeypatch.setenv("COLUMNS", "100")
    done = shown(workspace, "alerts", "m")
    header, figures, why, second = done.stdout.splitlines()
    assert header.split() == ["TIME", "ENTRY", "#", "CODE", "SCORE", "RARITY"]
    assert figures.split() == [
        *("2023-11-14", "22:13:20", "1700000000000-3", "2", "5", "17.25", "1", "in", "12,300"),
    ]
    assert why == (
        "    temperature 95.2 (expected 61) 83%, load 3.25 (expected 2) 17%, host=a\\x1b[31m"
    )
    assert "7-0" in second
    assert max(map(len, (header, figures))) <= 80
    monkeypatch.setenv("COLUMNS", "60")
    folded = shown(workspace, "alerts", "m", "--last", "2").stdout.splitlines()
    assert folded[:4] == [
        "2023-11-14 22:13:20  1700000000000-3  # 2",
        "    code 5, score 17.25, 1 in 12,300, temperature 95.2",
        "    (expected 61) 83%, load 3.25 (expected 2) 17%,",
        "    host=a\\x1b[31m",
    ]


def test_json_has_all_of_an_alert(workspace: Workspace) -> None:
    raise_alerts(workspace, ALERT)
    [row] = rows(workspace, "m")
    assert row == {"model": "m", **replace(ALERT, number=1).to_dict()}
    assert row["top"][0] == {
        "feature": "temperature",
        "share": 0.83,
        "value": 95.2,
        "expected": 61.0,
    }


def test_the_newest_alerts_or_those_of_some_time_are_shown(workspace: Workspace) -> None:
    raise_alerts(workspace, *some(5, age=3600.0))
    raise_alerts(workspace, *some(12))
    assert [row["alert"] for row in rows(workspace, "m")] == list(range(8, 18))
    assert [row["alert"] for row in rows(workspace, "m", "--last", "2")] == [16, 17]
    assert [row["alert"] for row in rows(workspace, "m", "--since", "10m")] == list(range(6, 18))
    assert [row["alert"] for row in rows(workspace, "m", "--since", "2h", "--count", "3")] == [
        *(1, 2, 3),
    ]
    assert rows(workspace, "m", "--last", "0") == []
    assert shown(workspace, "alerts", "m", "--since", "yesterday").exit_code == 2


def test_new_alerts_are_shown_as_they_come(workspace: Workspace) -> None:
    raise_alerts(workspace, *some(3))
    command = ["alerts", "m*", "-f", "--json", "--last", "1", "--count", "4"]
    with PipedCommand(
        command, cwd=workspace.folder, env=environment(), stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            found = [json.loads(process.stdout.readline())]
            raise_alerts(workspace, *some(2))
            raise_alerts(workspace, *some(1), model="m-2")
            found += map(json.loads, process.stdout)
            assert process.wait() == 0
        finally:
            process.kill()
    assert [(row["model"], row["alert"]) for row in found] == [
        *(("m", 3), ("m", 4), ("m", 5), ("m-2", 1)),
    ]


@pytest.mark.parametrize("start", [(), ("--last", "0"), ("--since", "1h"), ("--since", "1m")])
def test_follow_says_what_it_waits_for_after_the_stored_alerts(
    workspace: Workspace, start: tuple[str, ...]
) -> None:
    raise_alerts(workspace, *some(2, age=600.0))
    command = ["alerts", "m", "-f", "--json", *start]
    pipe = subprocess.PIPE
    with PipedCommand(
        command, cwd=workspace.folder, env=environment(), stdout=pipe, stderr=pipe
    ) as process:
        try:
            assert process.stderr is not None
            note = process.stderr.readline()
            assert note.startswith("m: no alerts since 2" if "1m" in start else "m: waiting for ")
            assert note.endswith("waiting for new alerts\n")
            process.send_signal(signal.SIGINT)
            out, rest = process.communicate(timeout=30)
            assert (process.returncode, rest) == (130, "")
        finally:
            process.kill()
    assert len(out.splitlines()) == (0 if {"0", "1m"} & set(start) else 2)


def test_alerts_that_are_too_old_are_no_silence(workspace: Workspace) -> None:
    raise_alerts(workspace, *some(2, age=600.0))
    done = shown(workspace, "alerts", "m", "--since", "1m")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.startswith("m: no alerts since 2")
    assert "waiting" not in done.stderr


def test_alerts_of_many_models_are_in_the_order_of_their_time(workspace: Workspace) -> None:
    raise_alerts(workspace, *some(1, age=30.0), *some(1, age=10.0))
    raise_alerts(workspace, *some(1, age=20.0), model="m-2")
    assert [row["model"] for row in rows(workspace, "m*")] == ["m", "m-2", "m"]
    lines = shown(workspace, "alerts", "m*").stdout.splitlines()
    assert lines[0].split()[-1] == "MODEL"
    assert [line.split()[-1] for line in lines[1::2]] == ["m", "m-2", "m"]


def test_a_model_without_alerts_is_no_error_and_an_unknown_one_is(workspace: Workspace) -> None:
    quiet = shown(workspace, "alerts", "quiet")
    assert (quiet.exit_code, quiet.stdout) == (0, "")
    assert quiet.stderr == "quiet: no alerts\n"
    workspace.write({"quiet": kmeans(workspace.stream())})
    hint = "; set models.quiet.anomaly.rate, such as 0.001, to flag points"
    assert shown(workspace, "alerts", "quiet").stderr == f"quiet: no alerts{hint}\n"
    assert "neither configured" in error_line(run(workspace.folder, "alerts", "other"), 1)


def test_an_entry_that_is_no_alert_is_reported_in_its_place(workspace: Workspace) -> None:
    raise_alerts(workspace, *some(1))
    with workspace.client as client:
        client.xadd(workspace.keys("m").alerts, {"x": "\x1b"}, id="2-0")
    assert "holds no alert" in rows(workspace, "m")[1]["error"]
    lines = shown(workspace, "alerts", "m").stdout.splitlines()
    assert any("can't be read" in line for line in lines)


def test_removal_and_rename_include_the_alerts(workspace: Workspace) -> None:
    raise_alerts(workspace, *some(2))
    with workspace.client as client:
        client.delete(workspace.keys("m").lease)
    listed = shown(workspace, "models", "rename", "m", "new", "--yes")
    assert listed.exit_code == 0, listed.stderr
    assert len(rows(workspace, "new")) == 2
    deleted = shown(workspace, "models", "delete", "new", "--yes")
    assert ":alerts: 2 alerts," in deleted.stdout + deleted.stderr
    with workspace.client as client:
        assert not client.exists(workspace.keys("new").alerts, workspace.keys("m").alerts)


def test_status_and_metrics_count_alerts_per_model_and_group(workspace: Workspace) -> None:
    assert "ALERTS" not in shown(workspace, "status").stdout
    raise_alerts(workspace, *some(3))
    lines = shown(workspace, "status").stdout.splitlines()
    header = next(line.split() for line in lines if line.startswith("MODEL"))
    row = next(line.split() for line in lines if line.startswith("m "))
    assert "ALERTS" in header
    assert "3" in row
    found = json.loads(shown(workspace, "status", "m", "--json").stdout)
    assert found[0]["alerts"] == 3
    metrics = shown(workspace, "metrics").stdout
    assert 'streamclust_alerts_total{model="m"} 3.0' in metrics
    assert 'streamclust_alerts_total{model="quiet"} 0.0' in metrics
    assert 'streamclust_group_alerts_total{group="m"} 3.0' in metrics


@pytest.mark.parametrize(
    ("quantile", "text"),
    [
        (0.0, "1 in 1"),
        (0.99, "1 in 100"),
        (1.0 - 1 / 1234.0, "1 in 1,230"),
        (1.0 - 1e-8, "1 in 100,000,000"),
        (1.0 - 1e-12, "1 in > 1e9"),
        (1.0, "1 in > 1e9"),
        (float("nan"), "-"),
    ],
)
def test_a_quantile_is_shown_as_one_in_so_many(quantile: float, text: str) -> None:
    assert rarity(replace(ALERT, quantile=quantile)) == text
