"""Proposals: one refit per model waits under its own key, until it is replaced or withdrawn."""

from __future__ import annotations

import pytest
import redis

from streamclust.errors import UnknownModelError
from streamclust.formats.checkpoint import Checkpoint
from streamclust.models import KMeans
from streamclust.store.model import proposal
from streamclust.store.model.keys import Keys

FAMILY = KMeans(2)

pytestmark = pytest.mark.every_server


def propose(client: redis.Redis, keys: Keys, refit: str, points: int = 7) -> None:
    checkpoint = Checkpoint(refit=refit, published_points=points)
    proposal.propose(client, keys, checkpoint, FAMILY)


def test_a_later_proposal_replaces_an_earlier_one(client: redis.Redis, keys: Keys) -> None:
    assert proposal.proposal_id(client, keys) == ""
    assert proposal.read_proposal(client, keys, FAMILY) is None
    assert proposal.proposed_model_id(client, keys) == 0
    client.mset({keys.state: b"state", keys.id: 42})
    for refit, points in (("first", 7), ("second", 8)):
        propose(client, keys, refit, points)
        assert proposal.proposal_id(client, keys) == refit
        assert proposal.proposed_model_id(client, keys) == 42
        found = proposal.read_proposal(client, keys, FAMILY)
        assert found is not None
        assert (found.refit, found.published_points) == (refit, points)


def test_a_refit_of_a_deleted_model_is_discarded(client: redis.Redis, keys: Keys) -> None:
    with pytest.raises(UnknownModelError, match="model 'm' was deleted; the refit was discarded"):
        propose(client, keys, "late")
    assert not client.exists(keys.proposal)


def test_only_the_proposal_that_is_named_is_withdrawn(client: redis.Redis, keys: Keys) -> None:
    assert not proposal.withdraw(client, keys, "first")
    client.set(keys.state, b"state")
    propose(client, keys, "second")
    assert not proposal.withdraw(client, keys, "first")
    assert proposal.proposal_id(client, keys) == "second"
    assert proposal.withdraw(client, keys, "second")
    assert not client.exists(keys.proposal)


def test_a_refit_that_runs_or_is_proposed_is_under_way(client: redis.Redis, keys: Keys) -> None:
    assert not proposal.has_refit(client, keys)
    client.set(keys.refitting, "a process")
    assert proposal.has_refit(client, keys)
    client.delete(keys.refitting)
    client.set(keys.state, b"state")
    propose(client, keys, "first")
    assert proposal.has_refit(client, keys)


def test_the_id_of_a_proposal_is_unique_and_says_why_a_version_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.time", lambda: 1700000000.5)
    refit, rollback = proposal.new_id(), proposal.new_id("rollback")
    assert refit.startswith("1700000000500-")
    assert rollback.startswith("rollback-1700000000500-")
    assert [proposal.reason_of(each) for each in (refit, rollback)] == ["refit", "rollback"]
    assert len({proposal.new_id() for _ in range(9)}) == 9
    assert len(refit) == len("1700000000500-") + 12
