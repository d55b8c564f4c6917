"""A refit goes into the live model: with a worker, without one, and when one dies at it.

Without forgetting, the mass of the model is the number of points that it knows: one that was lost,
or learned twice, shows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import LogCapture

from streamclust.errors import BusyError, FormatError, StoppedError
from streamclust.failpoints import Instant
from streamclust.refit.command import Callbacks, Selection, score_live, select_live
from streamclust.refit.delivery import load, refit_lock
from streamclust.refit.rollback import rollback
from streamclust.refit.runs import Plan
from streamclust.refit.span import Span
from streamclust.store.model.lease import Lease
from streamclust.worker.context import ModelContext
from streamclust.worker.model_worker import ModelWorker, open_model_worker
from tests.support.killed_worker import die_at
from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_blocks, add_entry, add_points, blobs
from tests.support.refit_helpers import EAGER, poor_workspace, reasons, refit, save, waiting
from tests.support.servers import busy
from tests.support.waiting import wait_until
from tests.support.workers import WorkerProcess, drain, open_job
from tests.support.workspace import Workspace


def feed(workspace: Workspace, X: np.ndarray[Any, Any]) -> None:
    with workspace.client as client:
        add_blocks(client, workspace.stream(), X)


def held_lease(workspace: Workspace) -> None:
    """As if a worker had the model that doesn't come to looking for refits."""
    with workspace.client as client:
        client.set(workspace.keys("m").lease, "1:other", px=60_000)


def free_lease(workspace: Workspace) -> None:
    with workspace.client as client:
        client.delete(workspace.keys("m").lease)


def set_aside(workspace: Workspace) -> Callable[[], None]:
    """Refit, and let the model go on without it for now; what is returned proposes it again."""
    held_lease(workspace)
    with pytest.raises(BusyError, match="has not adopted the refit"):
        refit(workspace, force=True, timeout=0.0)
    keys = workspace.keys("m")
    with workspace.client as client:
        kept = client.hgetall(keys.proposal)
        client.delete(keys.lease, keys.proposal)

    def propose() -> None:
        with workspace.client as client:
            client.hset(keys.proposal, mapping=kept)

    return propose


def test_without_a_worker_it_is_swapped_in_place(workspace: Workspace) -> None:
    # Given a model that learned poorly
    drain(poor_workspace(workspace, blobs(600)))
    before = workspace.newest("m")
    # When it is refitted
    report = refit(workspace)
    # Then it is better, published as such, and nothing else has changed
    assert report.live_loss is not None
    assert report.better
    assert report.loss < 0.5 * report.live_loss
    assert report.delivered is not None
    assert (report.delivered.version, report.delivered.by_worker) == (before.version + 1, False)
    after = workspace.newest("m")
    assert (after.version, after.reason) == (before.version + 1, "refit")
    assert (after.points, after.position) == (before.points, before.position)
    assert after.loss == before.loss
    assert sorted(after.means[:, 0].round().tolist()) == [-10, 0, 10]
    assert after.mass.sum() == pytest.approx(600)
    # and once more it is no better, and left alone
    again = refit(workspace)
    assert (again.better, again.delivered) == (False, None)
    assert workspace.newest("m").version == after.version
    # unless it is forced
    forced = refit(workspace, force=True)
    assert forced.delivered is not None
    assert forced.delivered.version == after.version + 1


def test_a_dry_run_changes_nothing(workspace: Workspace) -> None:
    drain(poor_workspace(workspace, blobs(300)))
    before = workspace.state("m")
    report = refit(workspace, dry_run=True)
    assert report.better
    assert report.delivered is None
    assert workspace.state("m") == before
    assert not waiting(workspace)


@pytest.mark.parametrize("kind", [kmeans, mixture])
def test_a_running_worker_takes_it_over_while_the_feed_goes_on(
    workspace: Workspace, kind: Any
) -> None:
    # Given a worker that is at work on a feed, with some bad points in it, without forgetting
    stream = workspace.stream()
    feed(workspace, blobs(600))
    workspace.write(
        {"m": kind(stream, **{**EAGER, "publish": {"every": "200ms", "keep": 100_000}})}
    )
    done = threading.Event()

    def more() -> None:
        with workspace.client as client:
            while not done.wait(0.03):
                add_blocks(client, stream, blobs(90, seed=1))
                add_entry(client, stream, f8=b"bad")

    with WorkerProcess(workspace) as worker:
        worker.wait(lambda: workspace.committed("m") >= 600)
        feeder = threading.Thread(target=more)
        feeder.start()
        try:
            # When it is refitted, twice
            for _ in range(2):
                report = refit(workspace, force=True)
                assert report.delivered is not None
                assert report.delivered.by_worker
        finally:
            done.set()
            feeder.join()
        with workspace.client as client:
            last: Any = client.xinfo_stream(stream)["last-generated-id"]
            bad = int(client.xlen(stream) - 20) // 4
        worker.wait(lambda: workspace.position("m") == {stream: last.decode()})
        assert worker.leave() == 0
        assert len(worker.events("model_published")) == len(workspace.versions("m"))
    # Then each point counts once, and each bad one is kept once
    model, total = workspace.newest("m"), 600 + 90 * bad
    assert model.points == total
    assert model.mass.sum() == pytest.approx(total, rel=1e-9)
    assert len(workspace.dead("m")) == bad
    assert reasons(workspace).count("refit") == 2
    assert not waiting(workspace)


def test_components_keep_their_numbers(workspace: Workspace) -> None:
    feed(workspace, blobs(900))
    drain(workspace.write({"m": kmeans(workspace.stream(), **EAGER)}))
    before = workspace.newest("m")
    refit(workspace, force=True)
    after = workspace.newest("m")
    assert after.reason == "refit"
    assert np.abs(after.means - before.means).max() < 1.0


def test_a_worker_that_dies_before_the_swap_is_not_waited_for(workspace: Workspace) -> None:
    # Given a worker that is killed, while its lease goes on, and points that it didn't learn
    feed(workspace, blobs(600))
    workspace.write({"m": kmeans(workspace.stream(), **EAGER)})
    with WorkerProcess(workspace) as worker:
        worker.wait(lambda: workspace.committed("m") == 600)
    feed(workspace, blobs(90, seed=1))
    # When a refit is proposed to it Then that goes in once the lease has lapsed
    report = refit(workspace, force=True)
    assert report.delivered is not None
    assert not report.delivered.by_worker
    assert workspace.newest("m").reason == "refit"
    # and the next worker learns the rest on top
    drain(workspace)
    assert workspace.newest("m").points == 690
    assert workspace.newest("m").mass.sum() == pytest.approx(690, rel=1e-9)


@pytest.mark.parametrize(
    ("instant", "is_in"), [("reading", False), ("committing", False), ("landed", True)]
)
def test_a_worker_that_is_killed_at_the_swap(
    workspace: Workspace, instant: Instant, is_in: bool
) -> None:
    # Given a refit that waits, and points that the model has learned since it began
    feed(workspace, blobs(600))
    drain(workspace.write({"m": kmeans(workspace.stream(), **EAGER)}))
    propose = set_aside(workspace)
    feed(workspace, blobs(900, seed=1))
    drain(workspace)
    propose()
    # When the worker is killed as it reads those again, before it commits, or after
    die_at(workspace, instant)
    # Then it is all or nothing
    assert waiting(workspace) is not is_in
    assert reasons(workspace).count("refit") == int(is_in)
    free_lease(workspace)
    # and after the next worker the refit is in, once, and each point counts once
    feed(workspace, blobs(300, seed=2))
    drain(workspace)
    model = workspace.newest("m")
    assert model.points == 1800
    assert model.mass.sum() == pytest.approx(1800, rel=1e-9)
    assert reasons(workspace).count("refit") == 1
    assert not waiting(workspace)


def test_a_stop_withdraws_a_refit_that_waits(workspace: Workspace) -> None:
    drain(poor_workspace(workspace, blobs(300)))
    before = workspace.state("m")
    held_lease(workspace)
    with pytest.raises(StoppedError, match="withdrawn, nothing was changed"):
        refit(workspace, Callbacks(stop=lambda: waiting(workspace)))
    assert not waiting(workspace)
    assert workspace.state("m") == before


def test_a_worker_that_does_not_answer_in_time(workspace: Workspace) -> None:
    drain(poor_workspace(workspace, blobs(300)))
    held_lease(workspace)
    with pytest.raises(BusyError, match=r"has not adopted the refit within 0\.2 s"):
        refit(workspace, timeout=0.2)
    assert waiting(workspace)
    # and it goes in when a worker comes
    free_lease(workspace)
    drain(workspace)
    assert workspace.newest("m").reason == "refit"
    assert not waiting(workspace)


def test_what_was_learned_meanwhile_is_learned_again_on_top(workspace: Workspace) -> None:
    # Given a refit that waits while the model goes on, with bad points on the way
    drain(poor_workspace(workspace, blobs(300)))
    propose = set_aside(workspace)
    feed(workspace, blobs(900, seed=1))
    with workspace.client as client:
        add_entry(client, workspace.stream(), f8=b"bad")
    drain(workspace)
    before, position = workspace.newest("m"), workspace.position("m")
    # When it goes in
    propose()
    drain(workspace)
    # Then all points are in the statistics, and counts, score and position are as they were
    after = workspace.newest("m")
    assert after.reason == "refit"
    assert (after.points, after.position, after.loss) == (1200, position, before.loss)
    assert after.mass.sum() == pytest.approx(1200, rel=1e-9)
    assert sorted(after.mass.round().tolist()) == [400, 400, 400]
    assert len(workspace.dead("m")) == 1
    # and the same refit doesn't go in again
    propose()
    drain(workspace)
    assert reasons(workspace).count("refit") == 1
    assert not waiting(workspace)


@pytest.mark.parametrize("score", ["model", "tail_score"])
def test_a_refit_brings_the_scores_of_its_own_parameters(workspace: Workspace, score: str) -> None:
    # Given a model that learned poorly and remembers its scores, and a refit that waits meanwhile
    drain(poor_workspace(workspace, blobs(600), anomaly={"rate": 0.1, "score": score}))
    propose = set_aside(workspace)
    feed(workspace, blobs(900, seed=1))
    drain(workspace)
    # When it goes in
    propose()
    drain(workspace)
    # Then the remembered scores are those of all points under the new parameters, once each
    after = workspace.newest("m")
    assert (after.reason, after.points) == ("refit", 1500)
    assert after.scores is not None
    assert after.scores.total == pytest.approx(1500)
    if score == "tail_score":
        assert after.feature_distribution is not None
        np.testing.assert_allclose(after.feature_distribution.total, 1500.0)
    flagged = after.anomaly_scores(blobs(3000, seed=2)) > after.scores.threshold(0.1)
    assert flagged.mean() == pytest.approx(0.1, abs=0.03)


def test_growth_of_the_mass_since_a_refit_began_counts_once(workspace: Workspace) -> None:
    # Given a model that went back to its first version, and so has the mass of then
    feed(workspace, blobs(300))
    drain(workspace.write({"m": kmeans(workspace.stream(), **EAGER)}))
    feed(workspace, blobs(1500, seed=1))
    drain(workspace)
    with open_job(workspace) as job:
        rollback(job, 1, timeout=10.0)
    mass = float(workspace.versions("m")[0].mass.sum())
    assert workspace.newest("m").mass.sum() == pytest.approx(mass)
    assert mass < 600.0
    # When a refit of all points begins there, and the model learns on before it goes in
    propose = set_aside(workspace)
    feed(workspace, blobs(600, seed=2))
    drain(workspace)
    propose()
    drain(workspace)
    # Then the refit weighs what the model weighed at its position
    after = workspace.newest("m")
    assert (after.reason, after.points) == ("refit", 2400)
    assert after.mass.sum() == pytest.approx(mass + 600, rel=1e-9)


def test_entries_that_the_worker_refused_for_their_size_are_left_out_here_too(
    workspace: Workspace,
) -> None:
    # Given a model that has refused large entries, before and after a refit of it has begun
    large = {"f8": bytes(16 * 70_000)}
    drain(poor_workspace(workspace, blobs(300), batch={"size": 30, "max_entry_bytes": 1 << 20}))
    for seed in (1, 2):
        with workspace.client as client:
            client.xadd(workspace.stream(), large)
        feed(workspace, blobs(90, seed=seed))
        drain(workspace)
        if seed == 1:
            propose = set_aside(workspace)
    # When it is taken over Then what was learned is learned again, and nothing else
    propose()
    drain(workspace)
    model = workspace.newest("m")
    assert (model.reason, model.points) == ("refit", 480)
    assert model.mass.sum() == pytest.approx(480, rel=1e-9)
    # and a score is of the same points
    with open_job(workspace) as job:
        assert score_live(job, Selection(Span()))[1].points == 480


def test_points_that_were_trimmed_meanwhile_are_said(workspace: Workspace) -> None:
    # Given a refit that waits while the model goes on
    drain(poor_workspace(workspace, blobs(300)))
    propose = set_aside(workspace)
    feed(workspace, blobs(90, seed=1))
    drain(workspace)
    # When what was learned is trimmed before the refit goes in
    with workspace.client as client:
        client.xtrim(workspace.stream(), maxlen=1, approximate=False)
    propose()
    said = drain(workspace).events("refit_points_lost")
    # Then that is said, with the number of points
    assert [each["count"] for each in said] == [60]
    assert workspace.newest("m").points == 390


def test_nothing_is_trimmed_that_a_refit_may_have_to_learn_again(workspace: Workspace) -> None:
    # Given a model that trims what it has learned, and a refit at work
    stream = workspace.stream()
    workspace.write({"m": kmeans(stream, trim={"kind": "learned"}, **EAGER)})
    with workspace.client as client:
        client.set(workspace.keys("m").refitting, "elsewhere:42:abc", px=60_000)
        add_points(client, stream, blobs(900))
        drain(workspace)
        # Then nothing goes until the refit is done
        assert client.xlen(stream) == 900
        client.delete(workspace.keys("m").refitting)
        add_points(client, stream, blobs(30, seed=1))
        drain(workspace)
        assert client.xlen(stream) <= 130  # whole nodes of up to 100 entries go


def test_two_refits_at_once(workspace: Workspace) -> None:
    drain(poor_workspace(workspace, blobs(300)))
    with workspace.client as client:
        client.set(workspace.keys("m").refitting, "elsewhere:42:abc", px=60_000)
    with pytest.raises(BusyError, match=r"another refit of 'm' .*process 42 on elsewhere"):
        refit(workspace)
    with workspace.client as client:
        client.set(workspace.keys("m").refitting, "by hand\x1b[2J")
    with pytest.raises(BusyError, match=r"refitting holds 'by hand\\x1b.*delete the key"):
        refit(workspace)
    # but a comparison disturbs nobody
    assert refit(workspace, dry_run=True).better
    # and a refit that is done is in nobody's way
    with workspace.client as client:
        client.delete(workspace.keys("m").refitting)
        refit(workspace)
        assert not client.exists(workspace.keys("m").refitting)


def test_a_worker_refuses_what_does_not_fit_and_goes_on(workspace: Workspace) -> None:
    drain(poor_workspace(workspace, blobs(300)))
    for state in (b"x", b""):
        with workspace.client as client:
            client.hset(workspace.keys("m").proposal, mapping={"id": "1", "state": state})
        feed(workspace, blobs(30))
        [refused] = drain(workspace).events("refit_refused")
        assert refused["error"].startswith(f"key {workspace.keys('m').proposal} does not hold")
        assert not waiting(workspace)
    assert workspace.newest("m").points == 360
    assert "refit" not in reasons(workspace)


def test_a_refit_that_the_numerics_cannot_take_over_is_refused(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a refit that waits, and whose statistics can't be used
    drain(poor_workspace(workspace, blobs(300)))
    held_lease(workspace)
    with pytest.raises(BusyError):
        refit(workspace, timeout=0.0)
    free_lease(workspace)

    def fails(*_: Any) -> None:
        raise np.linalg.LinAlgError("no factor")

    monkeypatch.setattr(ModelWorker, "adopt", fails)
    feed(workspace, blobs(30))
    # When a worker comes Then it refuses the refit, and goes on
    [refused] = drain(workspace).events("refit_refused")
    assert refused["error"] == "no factor"
    assert not waiting(workspace)
    assert workspace.committed("m") == 330


def test_a_refit_of_points_that_the_model_has_yet_to_learn_is_refused(workspace: Workspace) -> None:
    # Given a refit that waits, and a state of before it, from a backup
    drain(poor_workspace(workspace, blobs(300)))
    with workspace.client as client:
        keys = workspace.keys("m")
        backup = {key: client.get(key) for key in (keys.state, keys.coreset)}
        feed(workspace, blobs(90, seed=1))
        drain(workspace)
        held_lease(workspace)
        with pytest.raises(BusyError):
            refit(workspace, timeout=0.0)
        free_lease(workspace)
        client.mset(backup)
        client.delete(keys.models)
    # Then it is refused, and the points are learned once
    [refused] = drain(workspace).events("refit_refused")
    assert "covers more of stream" in refused["error"]
    assert workspace.committed("m") == 390
    assert not waiting(workspace)


def test_data_from_files_goes_in_at_the_present_position(
    workspace: Workspace, tmp_path: Path
) -> None:
    drain(poor_workspace(workspace, blobs(300)))
    np.save(tmp_path / "a.npy", blobs(600, seed=3))
    files = [tmp_path / "a.npy", save(tmp_path / "b.csv", blobs(300, seed=4))]
    report = refit(workspace, files=files)
    assert (report.points, report.on_top) == (900, False)
    after = workspace.newest("m")
    assert (after.reason, after.points) == ("refit", 300)
    assert sorted(after.means[:, 0].round().tolist()) == [-10, 0, 10]
    # and it counts for no more points than the model had
    assert after.mass.sum() == pytest.approx(303)


def test_a_model_that_is_still_warming_up_gets_its_first_version(workspace: Workspace) -> None:
    feed(workspace, blobs(300))
    init = {"kind": "warm_up", "points": 100_000}
    workspace.write({"m": kmeans(workspace.stream(), **{**EAGER, "init": init})})
    with WorkerProcess(workspace) as worker:
        worker.wait(lambda: workspace.committed("m") == 300)
        report = refit(workspace)
        assert report.live_loss is None
        assert report.delivered is not None
        assert (report.delivered.version, report.delivered.by_worker) == (1, True)
        assert worker.leave() == 0
    first = workspace.versions("m")[0]
    assert (first.reason, first.points) == ("refit", 300)
    assert first.mass.sum() == pytest.approx(300)


def test_scaled_features_stay_on_the_model_s_scale(workspace: Workspace) -> None:
    # Given features of very different units
    X = blobs(600) * np.array([1.0, 1000.0])
    feed(workspace, X)
    drain(workspace.write({"m": kmeans(workspace.stream(), scale="standard", **EAGER)}))
    before = workspace.newest("m")
    # When the model is refitted, and more is learned on top
    report = refit(workspace, force=True)
    assert report.loss < 1.0
    after = workspace.newest("m")
    assert after.reason == "refit"
    assert np.abs((after.means - before.means) / [1.0, 1000.0]).max() < 1.0
    feed(workspace, X)
    drain(workspace)
    assert workspace.newest("m").mass.sum() == pytest.approx(1200, rel=1e-9)


def test_a_model_that_is_warming_up_gets_its_scale_from_the_refit(workspace: Workspace) -> None:
    feed(workspace, blobs(300) * np.array([1.0, 1000.0]))
    init = {"kind": "warm_up", "points": 100_000}
    workspace.write({"m": kmeans(workspace.stream(), scale="robust", **{**EAGER, "init": init})})
    with open_job(workspace) as job:
        client = job.server.client()
        lease = Lease(client, job.keys, 60.0)
        assert lease.take()
        context = ModelContext("m", job.model, client, job.keys, job.log)
        learning = open_model_worker(context, lease.token)
        lease.drop()
        assert learning.checkpoint.learner.params is None
    report = refit(
        workspace, files=[save(workspace.folder / "x.csv", blobs(300) * np.array([1.0, 1e3]))]
    )
    assert report.delivered is not None
    means = workspace.newest("m").means
    assert sorted(means[:, 1].round(-4).tolist()) == [-10_000, 0, 10_000]
    drain(workspace)
    assert workspace.newest("m").points == 300


def test_a_drift_that_is_learned_again_is_not_counted_again(workspace: Workspace) -> None:
    # Given a refit that waits while the feed drifts, and the model says so
    drift = {"detector": "page_hinkley"}
    feed(workspace, blobs(3000))
    drain(workspace.write({"m": kmeans(workspace.stream(), drift=drift, **EAGER)}))
    propose = set_aside(workspace)
    feed(workspace, blobs(3000, seed=1) + 30.0)
    said = drain(workspace).events("drift_detected")
    assert said
    # When it goes in Then drifts, points and mass are what they were
    propose()
    assert not drain(workspace).events("drift_detected")
    meta, _ = workspace.state("m")
    assert meta["learner"]["points"] == 6000
    assert workspace.newest("m").reason == "refit"
    with open_job(workspace) as job:
        assert load(job, job.server.client()).learner.counts.drifts == len(said)


def test_a_server_that_is_busy_for_a_while_is_waited_for(workspace: Workspace) -> None:
    few = {"batch": {"size": 1000, "linger": "50ms"}, "commit": {"points": 1000}}
    drain(poor_workspace(workspace, blobs(20_000), **few))
    logged, waiters = LogCapture(), list[threading.Thread]()

    def end_the_script() -> None:
        wait_until(lambda: any(line["event"] == "server_lost" for line in logged.entries))
        scripts.close()

    def on_points(_count: int) -> None:
        if not waiters:  # the server runs a script when the next entries are read
            scripts.enter_context(busy(client))
            waiters.append(threading.Thread(target=end_the_script))
            waiters[0].start()

    with workspace.client as client, ExitStack() as scripts:
        report = refit(workspace, Callbacks(on_points), logged, force=True)
        waiters[0].join()
    assert report.points == 20_000
    assert report.delivered is not None


@pytest.mark.parametrize(
    "changed",
    [
        {"points": {"n_features": 3}},
        {"points": {"weight_field": "w"}},
        {"points": {"format": "json"}},
        {"scale": "robust"},
    ],
    ids=str,
)
def test_settings_that_change_the_meaning_of_points_are_refused(
    workspace: Workspace, changed: dict[str, Any]
) -> None:
    feed(workspace, blobs(100))
    drain(workspace.write({"m": kmeans(workspace.stream(), **EAGER)}))
    before = workspace.state("m")
    workspace.write({"m": kmeans(workspace.stream(), **{**EAGER, **changed})})
    plan = Plan(restarts=1)
    with open_job(workspace) as job:
        uses: list[Callable[[], Any]] = [
            lambda: refit(workspace, force=True),
            lambda: rollback(job, 1, 1.0),
            lambda: score_live(job, Selection(Span())),
            lambda: select_live(job, Selection(Span()), [2], plan, on_pass=print, stop=bool),
        ]
        for use in uses:
            with pytest.raises(FormatError, match=r"was learned with .*give the model a new name"):
                use()
    assert workspace.state("m") == before


def test_a_refit_of_an_earlier_model_is_refused(workspace: Workspace) -> None:
    # Given a refit of files that waits, and a model that is begun anew meanwhile
    feed(workspace, blobs(300))
    drain(workspace.write({"m": kmeans(workspace.stream(), **EAGER)}))
    held_lease(workspace)
    with pytest.raises(BusyError):
        refit(
            workspace, files=[save(workspace.folder / "x.csv", blobs(90))], force=True, timeout=0.0
        )
    keys = workspace.keys("m")
    with workspace.client as client:
        client.delete(keys.lease, keys.token, keys.state, keys.models)
    # Then the new one doesn't take it over
    said = drain(workspace).events("refit_refused")
    assert "an earlier model of this name" in said[0]["error"]
    assert "refit" not in reasons(workspace)
    assert not waiting(workspace)


def test_a_refit_that_hangs_keeps_others_out_no_longer(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamclust.refit.delivery._LOCK_SECONDS", 0.3)
    key, moving = workspace.keys("m").refitting, True
    with workspace.client as client, refit_lock(client, workspace.keys("m"), lambda: moving):
        # Given a refit that makes progress, and so renews its lock
        left: list[int] = []

        def renewed() -> bool:
            left.append(int(client.pttl(key)))
            return len(left) > 1 and 0 < left[-2] < left[-1]

        wait_until(renewed)
        # When it makes none any more Then the lock lapses
        moving = False
        wait_until(lambda: not client.exists(key))
        with refit_lock(client, workspace.keys("m")):
            assert client.exists(key)
