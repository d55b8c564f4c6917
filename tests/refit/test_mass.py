"""The mass after a swap is that of a single pass, by an oracle that knows only what happened.

One component has the weighted mean of all points as its centroid, whatever was learned when. So the
oracle needs the points, in their order, and how much each of them weighs: a list of weights that is
decayed by the closed form of the policy, and cut where a drift or a rollback cuts the mass.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose

from streamclust import Forgetting, HalfLife, HalfLifeTime, KMeans, PowerSchedule
from streamclust.arrays import Array
from streamclust.formats.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint
from streamclust.formats.dead import DeadLetters
from streamclust.online.drift import Drift
from streamclust.online.learner import LearnerState, StreamLearner
from streamclust.refit.delivery import checkpoint_of
from streamclust.refit.runs import SearchResult
from streamclust.store.stream.batches import Batch
from streamclust.worker.swap import _with_score_of, learn_on_top
from tests.support.exhaustive import examples

POLICIES: dict[str, Forgetting] = {
    "none": Forgetting(),
    "points": HalfLife(points=150.0),
    "time": HalfLifeTime(seconds=30.0),
    "power": PowerSchedule(kappa=0.7),
}
FAMILY = KMeans(1)


@dataclass
class Oracle:
    """The points that count, and what each of them weighs."""

    policy: Forgetting
    X: Array = field(default_factory=lambda: np.empty((0, 1)))
    w: Array = field(default_factory=lambda: np.empty(0))
    steps: int = 0
    drifted: float = 1.0

    def learn(self, X: Array, w: Array, seconds: float) -> None:
        """Forget by the closed form of the policy, and take points."""
        m, n = float(w.sum()), float(self.w.sum())
        self.steps += 1
        if isinstance(self.policy, HalfLife):
            lam = 0.5 ** (m / self.policy.points)
        elif isinstance(self.policy, HalfLifeTime):
            lam = 0.5 ** (seconds / self.policy.seconds)
        elif isinstance(self.policy, PowerSchedule):
            gamma = (self.steps + self.policy.t0) ** -self.policy.kappa
            lam = m * (1.0 - gamma) / (gamma * n)
        else:
            lam = 1.0
        lam, self.drifted = lam * self.drifted, 1.0
        self.X, self.w = np.concatenate([self.X, X]), np.concatenate([lam * self.w, w])

    def drift(self) -> None:
        """Forget all but a hundredth with the next batch, on top of what that forgets."""
        self.drifted = 0.01

    def cut(self, share: float) -> None:
        """Leave a share of the mass."""
        self.w = share * self.w

    def replace(self, X: Array, w: Array, most: float) -> None:
        """Put points in place of all, which weigh no more than `most`."""
        self.X, self.w = X, w * min(1.0, most / float(w.sum()))


def written(state: LearnerState[Any]) -> LearnerState[Any]:
    """The state as the next worker reads it."""
    data = encode_checkpoint(Checkpoint(learner=state), FAMILY)
    return decode_checkpoint(data, FAMILY, "the state").learner


class Story:
    """A learner to which things happen, the log of it, and the oracle of the live model."""

    def __init__(self, policy: Forgetting, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.learner: StreamLearner[Any] = StreamLearner(
            FAMILY, policy, warm_up=10, coreset=0, drift=Drift(on_drift="forget")
        )
        self.state: LearnerState[Any] = self.learner.init()
        self.oracle = Oracle(policy)
        self.log: list[tuple[Any, ...]] = []
        self.ms, self.place = 0.0, 0.0
        first = self._points(20)
        self.state, _ = self.learner.update(self.state, first, time_ms=0.0)
        self.oracle.X, self.oracle.w = first, np.ones(20)

    def _points(self, n: int) -> Array:
        return self.place + self.rng.normal(size=(n, 1))

    def learn(self) -> None:
        """A batch comes, with weights, some of them 0."""
        n = int(self.rng.integers(1, 40))
        X, w = self._points(n), self.rng.choice([0.0, 0.5, 1.0, 1.0, 2.0], size=n)
        w[0] = 1.0
        before, self.ms = self.ms, self.ms + 1000.0 * float(self.rng.integers(0, 9))
        batch = Batch(X, w, {}, None, DeadLetters(), time_ms=self.ms)
        self.state, info = self.learner.update(self.state, X, w, time_ms=self.ms)
        self.state = written(self.state)
        if info.drifted:
            self._both("drift")
        self._both("learn", X[w > 0.0], w[w > 0.0], (self.ms - before) / 1000.0)
        self.log.append(("batch", batch))

    def jump(self) -> None:
        """The feed changes, so that the detector finds a drift soon after."""
        self.place += 40.0
        for _ in range(16):
            self.learn()

    def rollback(self) -> None:
        """An older version comes back, with the mass of then, at most that of now."""
        mass, place = float(self.rng.uniform(5.0, 400.0)), self.rng.normal(size=(1, 1))
        stats = replace(FAMILY.prior_stats(FAMILY.from_arrays({"centroids": place}), mass))
        params = FAMILY.m_step(stats, FAMILY.from_arrays({"centroids": place}))
        before = float(self.oracle.w.sum())
        self.state = written(self.learner.adopt(self.state, params, stats))
        self.oracle.replace(place, np.array([mass]), before)
        self.log.append(("cut", min(1.0, mass / before)))

    def _both(self, name: str, *arguments: Any) -> None:
        getattr(self.oracle, name)(*arguments)
        self.log.append((name, *arguments))

    def refit(self, last: int | None) -> Checkpoint:
        """Begin a refit of all points, or of the last so many, at the present position."""
        batches = [entry[1] for entry in self.log if entry[0] == "batch"]
        X = np.concatenate([batch.X[batch.w > 0.0] for batch in batches] or [self.oracle.X[:20]])
        X = X if last is None else X[-last:]
        stats = FAMILY.e_step(
            FAMILY.from_arrays({"centroids": np.zeros((1, 1))}), X, np.ones(len(X))
        )
        params = FAMILY.m_step(stats, FAMILY.from_arrays({"centroids": np.zeros((1, 1))}))
        at = Checkpoint(learner=self.state, position={"s": "1-0"})
        found = SearchResult(params, stats, 0.0, None, (), stopped=False)
        proposal = checkpoint_of(found, at, None, at_position=True)
        self.expected = replace(self.oracle)
        self.expected.replace(X, np.ones(len(X)), float(self.oracle.w.sum()))
        self.log.append(("refit",))
        data = encode_checkpoint(proposal, FAMILY)
        return decode_checkpoint(data, FAMILY, "the proposal")

    def swap(self, refit: Checkpoint) -> None:
        """Take the refit over; the oracle repeats what happened since on the refit's points."""
        began = max(n for n, entry in enumerate(self.log) if entry[0] == "refit")
        since = self.log[began + 1 :]
        for name, *arguments in since:
            if name in ("cut", "drift", "learn"):
                getattr(self.expected, name)(*arguments)
        batches = [entry[1] for entry in since if entry[0] == "batch"]
        state = learn_on_top(self.learner, self.state, refit, batches)
        self.state = written(_with_score_of(FAMILY, self.state, state))
        self.oracle = self.expected

    def check(self) -> None:
        """Compare mass and centroid."""
        stats = self.state.stats
        assert stats is not None
        assert_allclose(stats.mass, self.oracle.w.sum(), rtol=1e-9)
        mean = float(np.average(self.oracle.X[:, 0], weights=self.oracle.w))
        assert float(stats.averages(stats.reference)[0, 0]) == pytest.approx(mean, abs=1e-6)


EVENTS = st.lists(
    st.sampled_from(["learn", "learn", "learn", "jump", "rollback"]), min_size=1, max_size=8
)


@pytest.mark.parametrize("policy", POLICIES)
@given(
    before=EVENTS,
    during=EVENTS,
    after=EVENTS,
    last=st.sampled_from([None, 3, 50]),
    seed=st.integers(0, 1 << 20),
)
@examples(8)
def test_after_a_swap_the_mass_is_that_of_a_single_pass(
    policy: str,
    before: list[str],
    during: list[str],
    after: list[str],
    last: int | None,
    seed: int,
) -> None:
    story = Story(POLICIES[policy], seed)
    for event in before:
        getattr(story, event)()
        story.check()
    refit = story.refit(last)
    for event in during:
        getattr(story, event)()
    story.check()
    story.swap(refit)
    story.check()
    for event in after:
        getattr(story, event)()
        story.check()
    # and a second one, from where the first has led
    refit = story.refit(None)
    story.learn()
    story.rollback()
    story.learn()
    story.swap(refit)
    story.check()
