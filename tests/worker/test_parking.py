"""A model that can't go on is parked: said once, shown, tried again; the others go on."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tests.waiting import wait_until
from tests.worker.harness import Site, Worker, add_blocks, blobs, kmeans, run
from tests.worker.inline import InlineWorker

EAGER: dict[str, Any] = {
    "batch": {"size": 30, "linger": "50ms"},
    "commit": {"points": 30, "every": "50ms"},
    "publish": {"every": "100ms"},
}
FAILED = "model_failed"
RECOVERED = "model_recovered"

OF_ANOTHER_TYPE = ("stream", "state", "models", "dead", "proposal", "lease", "token")
"""Keys of a model that another program uses; a model is called by the key that is."""


def status(site: Site) -> dict[str, dict[str, Any]]:
    done = run(site.folder, "status", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return {row["model"]: row for row in json.loads(done.stdout)}


def test_models_that_fail_are_parked_while_the_others_go_on(site: Site) -> None:
    # Given models that were learned, whose state is then damaged, lost, or of another K
    names = ("good", "damaged", "lost", "resized", *OF_ANOTHER_TYPE)
    models = {name: kmeans(site.stream(name), **EAGER) for name in names}
    with site.client as client:
        for name in names:
            add_blocks(client, site.stream(name), blobs(90))
        site.write(models).drain()
        states = {name: client.get(site.keys(name).state) for name in ("damaged", "lost")}
        client.set(site.keys("damaged").state, b"damaged")
        client.delete(site.keys("lost").state)
        # and models with a key that another program has begun to use
        kept = {}
        for name in OF_ANOTHER_TYPE:
            key = site.stream(name) if name == "stream" else getattr(site.keys(name), name)
            if client.exists(key):
                kept[key] = f"{key}-kept"
                client.rename(key, kept[key])
            client.rpush(key, "mine")
        add_blocks(client, site.stream("dead"), blobs(30, seed=1))
        client.xadd(site.stream("dead"), {"f8": b"odd"})
        add_blocks(client, site.stream("models"), blobs(30, seed=1))
        site.write({**models, "resized": kmeans(site.stream("resized"), K=4, **EAGER)})
        bad = set(names) - {"good"}
        with Worker(site) as worker:
            # When a worker has all of them Then each of the bad ones is said to have failed
            worker.wait(lambda: {e["model"] for e in worker.events(FAILED)} == bad)
            phases = dict.fromkeys(bad, "failed") | {"good": "learning"}
            worker.wait(lambda: {n: row["phase"] for n, row in status(site).items()} == phases)
            # and shown, with the reason
            rows = status(site)
            assert "n_clusters 3, the config says 4" in rows["resized"]["reason"]
            assert "does not hold a streamclust.state/1 payload" in rows["damaged"]["reason"]
            assert "was the state deleted" in rows["lost"]["reason"]
            assert f"key {site.stream('stream')} holds a list" in rows["stream"]["reason"]
            assert all(rows[name]["reason"] for name in bad)
            checked = run(site.folder, "worker", "--check")
            assert checked.returncode == 1
            assert checked.stdout == "good: alive, learning, 90 points\n"
            lines = checked.stderr.splitlines()
            assert {line.partition(": failed: ")[0] for line in lines} == bad
            metrics = run(site.folder, "metrics").stdout
            for name in names:
                healthy = float(name == "good")
                assert f'streamclust_up{{model="{name}"}} {healthy}' in metrics
                assert f'streamclust_failed{{model="{name}"}} {1.0 - healthy}' in metrics
            # while the good one is learned
            add_blocks(client, site.stream("good"), blobs(300, seed=1))
            worker.wait(lambda: site.committed("good") == 390)
            # and the others are tried again and again, which is not said again
            wait_until(lambda: failed_tries(worker, "resized") == 1)
            assert len(worker.events(FAILED)) == len(bad)
            # When what was wrong is put right
            for name in OF_ANOTHER_TYPE:
                key = site.stream(name) if name == "stream" else getattr(site.keys(name), name)
                client.delete(key)
                if key in kept:
                    client.rename(kept[key], key)
            for name, state in states.items():
                client.set(site.keys(name).state, state)
            # Then they recover, which is said
            mended = bad - {"resized"}
            worker.wait(lambda: {e["model"] for e in worker.events(RECOVERED)} == mended)
            worker.wait(lambda: site.committed("models") == 120)
            worker.wait(lambda: site.committed("dead") == 120)
            # and what is still failed in the end decides the exit code
            assert worker.leave() == 1
            stopped, last = worker.log.splitlines()[-2:]
            assert json.loads(stopped)["failed"] == ["resized"]
            assert last.startswith("error: model 'resized' failed: key {")


def failed_tries(worker: Worker, model: str) -> int:
    return sum(event["model"] == model for event in worker.events(FAILED))


def test_until_idle_learns_the_others_and_says_which_failed(site: Site) -> None:
    # Given a good model, and two that can't be learned
    streams = {name: site.stream(name) for name in ("good", "bad", "worse")}
    site.write({name: kmeans(stream) for name, stream in streams.items()})
    with site.client as client:
        add_blocks(client, streams["good"], blobs(600))
        client.rpush(streams["bad"], "mine")
        client.set(site.keys("worse").state, b"no state")
        # When what is there is learned
        done = run(site.folder, "worker", "--until-idle")
    # Then it comes to an end, with all of the good one
    assert site.committed("good") == 600
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [line.partition(" failed: ")[0] for line in errors] == [
        "error: model 'bad'",
        "error: model 'worse'",
    ]
    assert done.returncode == 3


def test_a_model_that_failed_for_a_moment_leaves_no_trace_in_the_exit_code(site: Site) -> None:
    stream = site.stream()
    site.write({"m": kmeans(stream, **EAGER)})
    with Worker(site) as worker, site.client as client:
        # Given a worker whose stream becomes something else while it waits
        worker.says("model_created")
        client.rpush(stream, "mine")
        assert "WRONGTYPE" in worker.says(FAILED)["error"]
        # When it is put right
        client.delete(stream)
        add_blocks(client, stream, blobs(90))
        worker.says(RECOVERED)
        assert worker.leave(signal.SIGINT) == 0
    assert site.newest("m").points == 90


def test_a_parked_model_is_left_to_whoever_can_learn_it(site: Site) -> None:
    # Given a worker that can't learn the model, and has parked it
    stream = site.stream()
    site.write({"m": kmeans(stream)}).drain()
    site.write({"m": kmeans(stream, K=4, **EAGER)})
    with InlineWorker(site) as first, site.client as client:
        first.says(FAILED)
        # When another one comes, which can
        site.write({"m": kmeans(stream, **EAGER)})
        with InlineWorker(site) as second:
            second.says("model_resumed")
            # Then it learns, and the health that is shown is its own
            add_blocks(client, stream, blobs(90))
            second.says("model_published")
            first.says("standby_started")
            second.wait(lambda: status(site)["m"]["phase"] == "learning")
        assert second.failure is None
        # and the first goes on trying when the other has left
        first.wait(lambda: status(site)["m"]["phase"] == "failed")
    assert first.failure is not None
    assert "n_clusters 3, the config says 4" in str(first.failure)


def test_a_standby_says_at_once_what_would_not_fit(site: Site) -> None:
    # Given a worker that learns
    stream = site.stream()
    site.write({"m": kmeans(stream, **EAGER)})
    with InlineWorker(site) as first, site.client as client:
        add_blocks(client, stream, blobs(90))
        first.says("model_published")
        # When another stands by, with settings that don't fit, of each kind
        for more, text in (
            ({"K": 5}, "n_clusters 3, the config says 5"),
            ({"scale": "standard"}, "scale 'none', the config says 'standard'"),
        ):
            site.write({"m": kmeans(stream, **EAGER, **more)})
            with InlineWorker(site) as second:
                # Then it says so, while the first goes on
                said = second.says("standby_failed")
                assert text in said["error"]
                assert not first.events("lease_lost")
        # and one with the same settings has nothing to say
        site.write({"m": kmeans(stream, **EAGER)})
        with InlineWorker(site) as third:
            third.says("standby_started")
            first.leave()
            third.says("model_resumed")
            assert not third.events("standby_failed")


def test_an_error_that_nobody_expected_parks_the_model_too(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamclust.worker import commits

    def broken(*_: object) -> None:
        raise KeyError("no such thing")

    monkeypatch.setattr(commits, "encode_checkpoint", broken)
    site.write({"m": kmeans(site.stream(), **EAGER)})
    with InlineWorker(site) as worker:
        failed = worker.says(FAILED)
        assert failed["error"] == "unexpected error: KeyError('no such thing')"
        assert failed["exc_info"].args == ("no such thing",)
        worker.wait(lambda: status(site)["m"]["phase"] == "failed")
        monkeypatch.undo()
        worker.says(RECOVERED)
    assert worker.failure is None


def test_pauses_grow_from_half_a_second_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    from streamclust.worker import parking

    monkeypatch.setattr("random.uniform", lambda _, high: high)
    pauses = [parking.pause(tries) for tries in range(10)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    monkeypatch.setattr("random.uniform", lambda low, _: low)
    assert parking.pause(10**6) == 30.0
