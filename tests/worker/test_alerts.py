"""Alerts: each flagged point has one, in order, from the worker's commit or from an encoder."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from streamclust.arrays import Array
from streamclust.formats.alerts import Alert
from streamclust.formats.codes import decode_fields
from streamclust.store.model.read_alerts import read_alerts
from tests.support.commands import invoke
from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_points, blobs
from tests.support.waiting import LIMIT
from tests.support.workers import WorkerProcess, drain
from tests.support.workspace import Workspace

EAGER: dict[str, Any] = {
    "batch": {"size": 30},
    "commit": {"points": 30},
    "publish": {"points": 90},
    "init": {"points": 120},
}
RATE: dict[str, Any] = {"anomaly": {"rate": 0.01, "learn_flagged": False}}
QUANTILES: dict[str, Any] = {"encode": {"worker": True, "score": "quantile"}}


def alerts(workspace: Workspace) -> list[Alert]:
    with workspace.client as client:
        found = list(read_alerts(client, workspace.keys("m")))
    assert all(isinstance(each, Alert) for each in found)
    return [each for each in found if isinstance(each, Alert)]


def feed(workspace: Workspace, n: int, seed: int = 0, name: str = "points", far: int = 0) -> Array:
    """Add points, of which the last `far` are far from all others."""
    X = blobs(n, seed=seed)
    X[n - far :] += [[300.0, 0.0]]
    with workspace.client as client:
        add_points(client, workspace.stream(name), X)
    return X


def ids(workspace: Workspace, stream: str) -> list[str]:
    with workspace.client as client:
        return [entry_id.decode() for entry_id, _ in client.xrange(stream)]


def flagged(workspace: Workspace, rate: float = 0.01) -> list[str]:
    """IDs of the entries whose codes say so, after the warm-up."""
    first = next(iter(workspace.versions("m"))).position[workspace.stream()]
    key = workspace.keys("m").codes()
    with workspace.client as client:
        coded = [decode_fields(each.decode(), fields, key) for each, fields in client.xrange(key)]
    after = [each.entry_id for each in coded].index(first) + 1
    return [each.entry_id for each in coded[after:] if each.scores["quantile"][0] > 1.0 - rate]


def test_the_setting_alone_makes_the_worker_write_alerts(any_workspace: Workspace) -> None:
    workspace = any_workspace
    workspace.write({"m": mixture(workspace.stream(), **RATE, **EAGER)})
    X = feed(workspace, 600, far=2)
    drain(workspace)
    found = alerts(workspace)
    *_, one, two = found
    assert [one.entry_id, two.entry_id] == ids(workspace, workspace.stream())[-2:]
    assert [each.number for each in found] == list(range(1, len(found) + 1))
    assert one.top[0].feature == "x0"
    assert one.top[0].value == X[-2, 0]
    assert one.top[0].share > 0.5
    assert one.quantile > 0.99
    assert 1 <= one.version <= workspace.newest("m").version
    with workspace.client as client:
        assert not client.exists(workspace.keys("m").codes())
    # and what is learned again, or nothing, adds none
    drain(workspace)
    assert alerts(workspace) == found


def test_alerts_and_codes_agree(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamclust.worker.own_codes.READ_ENTRIES", 100)
    more = {**EAGER, "commit": {"points": 1000}, "publish": {"points": 500}}
    workspace.write({"m": kmeans(workspace.stream(), **RATE, **QUANTILES, **more)})
    feed(workspace, 2000, far=3)
    drain(workspace)
    wanted = flagged(workspace)
    assert len(wanted) > 3
    assert [each.entry_id for each in alerts(workspace)] == wanted


def test_tail_scores_are_in_the_codes_and_raise_the_alerts(workspace: Workspace) -> None:
    # Given a model whose alerts and quantiles are of tail scores
    more = {**EAGER, "commit": {"points": 1000}, "publish": {"points": 500}}
    encode = {"worker": True, "score": ["tail_score", "quantile"]}
    settings = mixture(
        workspace.stream(),
        scale="standard",
        anomaly={"rate": 0.01, "score": "tail_score"},
        encode=encode,
        **more,
    )
    workspace.write({"m": settings})
    X = feed(workspace, 2000, far=3)
    # When a worker has learned the points
    drain(workspace)
    # Then the alerts are of the points whose codes have the highest scores
    found, model, key = alerts(workspace), workspace.newest("m"), workspace.keys("m").codes()
    assert [each.entry_id for each in found] == flagged(workspace)
    assert [each.entry_id for each in found[-3:]] == ids(workspace, workspace.stream())[-3:]
    with workspace.client as client:
        (_, fields), *_ = client.xrevrange(key, count=1)
    code = decode_fields("1-0", fields, key)
    assert code.scores["tail_score"][0] == pytest.approx(found[-1].score, rel=1e-6)
    # and an alert has the term of each feature, and the median of the feature
    one = found[-1]
    assert (one.top[0].feature, one.top[0].value) == ("x0", X[-1, 0])
    assert sum(each.share for each in one.top) == pytest.approx(1.0)
    version = workspace.versions("m")[one.version - 1]
    terms = version.remembered_features.terms(X[-1:])[0]
    assert one.top[0].share * one.score == pytest.approx(terms[0])
    assert one.top[0].expected == pytest.approx(np.median(X[:, 0]), abs=2.0)
    # and clients compute the same scores from a version
    assert model.anomaly_score == "tail_score"
    np.testing.assert_array_equal(model.anomaly_scores(X), model.tail_scores(X))
    assert version.anomalies(X, 0.01)[-3:].all()
    contribution = model.attribution(X).contribution
    np.testing.assert_allclose(contribution.sum(axis=1), model.tail_scores(X))


def test_no_more_alerts_are_kept_than_the_setting_says_but_all_are_counted(
    workspace: Workspace,
) -> None:
    anomaly = {"rate": 0.05, "keep": 2, "learn_flagged": False, "top": 1}
    workspace.write({"m": kmeans(workspace.stream(), anomaly=anomaly, **EAGER)})
    feed(workspace, 600)
    drain(workspace)
    feed(workspace, 20, seed=1, far=10)
    drain(workspace)
    one, two = alerts(workspace)
    assert [one.entry_id, two.entry_id] == ids(workspace, workspace.stream())[-2:]
    assert two.number == one.number + 1 >= 10
    assert len(one.top) == 1


def test_several_streams_have_their_alerts_in_one_place(workspace: Workspace) -> None:
    streams = [workspace.stream("a"), workspace.stream("b")]
    workspace.write({"m": kmeans(*streams, **RATE, **EAGER)})
    feed(workspace, 300, name="a", far=1)
    feed(workspace, 300, name="b", far=1)
    drain(workspace)
    feed(workspace, 30, name="a", seed=1, far=1)
    drain(workspace)
    found = [(each.stream, each.entry_id) for each in alerts(workspace)]
    for stream in streams:
        mine = [entry_id for name, entry_id in found if name == stream]
        assert mine == sorted(set(mine), key=lambda each: tuple(map(int, each.split("-"))))
        assert ids(workspace, stream)[299] in mine
    assert found[-1] == (streams[0], ids(workspace, streams[0])[-1])


def test_labels_are_part_of_the_alert(workspace: Workspace) -> None:
    points = {"features": ["x0", "x1"]}
    encode = {"labels": ["host"]}
    workspace.write(
        {"m": kmeans(workspace.stream(), points=points, encode=encode, **RATE, **EAGER)}
    )
    X = blobs(400)
    X[-1, 1] = 500.0
    with workspace.client as client:
        for n, (x0, x1) in enumerate(X.tolist()):
            client.xadd(workspace.stream(), {"x0": x0, "host": f"h{n}", "x1": x1})
    drain(workspace)
    newest = alerts(workspace)[-1]
    assert newest.labels == {b"host": b"h399"}
    assert (newest.top[0].feature, newest.top[0].value) == ("x1", 500.0)


@pytest.mark.parametrize("encode", [{}, QUANTILES], ids=["alerts alone", "with codes"])
def test_a_killed_worker_writes_each_alert_once_and_in_order(
    workspace: Workspace, encode: dict[str, Any]
) -> None:
    # Given a worker that is killed three times while points come, of which some are far away
    anomaly = {"rate": 0.1, "learn_flagged": False}  # 1 point in 20 is far away
    workspace.write({"m": kmeans(workspace.stream(), anomaly=anomaly, **encode, **EAGER)})
    feed(workspace, 200)
    done = threading.Event()
    far: list[int] = []

    X = blobs(20, seed=1)
    X[-1] += [300.0, 0.0]

    def more() -> None:
        n = 200
        with workspace.client as client:
            while not done.wait(0.04):
                add_points(client, workspace.stream(), X)
                n += 20
                far.append(n - 1)

    feeder = threading.Thread(target=more)
    feeder.start()
    try:
        for points in (300, 500, 700):
            with WorkerProcess(workspace) as worker:
                worker.wait(lambda points=points: workspace.committed("m") > points)
                worker.kill()
    finally:
        done.set()
        feeder.join(LIMIT)
    before = alerts(workspace)
    # When another one has finished Then each far point has one alert, and all are in order
    drain(workspace)
    found, entries = alerts(workspace), ids(workspace, workspace.stream())
    assert found[: len(before)] == before
    assert len(before) >= 30
    assert [each.number for each in found] == list(range(1, len(found) + 1))
    places = [entries.index(each.entry_id) for each in found]
    assert (np.diff(places) > 0).all()
    assert set(far) <= set(places)
    if encode:
        assert [each.entry_id for each in found] == flagged(workspace, 0.1)


@pytest.mark.parametrize("where", ["the model's stream", "another stream"])
def test_an_encoder_writes_the_alerts_of_what_no_worker_flags(
    workspace: Workspace, where: str
) -> None:
    anomaly, stream = dict(RATE["anomaly"]), workspace.stream()
    encode: dict[str, Any] = {"score": "quantile"}
    if where == "another stream":
        stream = workspace.stream("queries")
        encode["streams"] = [stream]
    else:
        anomaly["worker"] = False
    settings = kmeans(workspace.stream(), anomaly=anomaly, encode=encode, **EAGER)
    workspace.write({"m": settings})
    feed(workspace, 600)
    drain(workspace)
    before = len(alerts(workspace))
    if where == "another stream":
        feed(workspace, 100, seed=2, name="queries", far=2)
    else:
        assert before == 0
        feed(workspace, 100, seed=2, far=2)
    config = str(workspace.folder / "config.yaml")
    done = invoke("encode", "m", "--until-idle", "-c", config)
    assert done.exit_code == 0, done.stderr
    found = alerts(workspace)[before:]
    assert [each.entry_id for each in found[-2:]] == ids(workspace, stream)[-2:]
    assert {each.stream for each in found} == {stream}
    assert f"{len(found)} flagged as anomalies" in done.stdout
    assert invoke("encode", "m", "--until-idle", "-c", config).exit_code == 0
    assert alerts(workspace)[before:] == found


def test_an_encoder_leaves_the_alerts_of_learned_points_to_the_worker(
    workspace: Workspace,
) -> None:
    workspace.write(
        {"m": kmeans(workspace.stream(), **RATE, encode={"score": "quantile"}, **EAGER)}
    )
    feed(workspace, 600, far=2)
    drain(workspace)
    found = alerts(workspace)
    done = invoke("encode", "m", "--until-idle", "-c", str(workspace.folder / "config.yaml"))
    assert done.exit_code == 0, done.stderr
    assert "flagged" not in done.stdout
    assert alerts(workspace) == found


def test_a_model_without_the_setting_has_no_alerts(workspace: Workspace) -> None:
    workspace.write({"m": kmeans(workspace.stream(), **EAGER)})
    feed(workspace, 600, far=2)
    drain(workspace)
    with workspace.client as client:
        assert not client.exists(workspace.keys("m").alerts)
    assert workspace.newest("m").scores is None
