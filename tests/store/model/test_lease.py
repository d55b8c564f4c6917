"""The lease: one holder, tokens that grow, and no write by a worker that slept past it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from streamclust.errors import LeaseLostError, ServerError
from streamclust.store.model.commit import Commit, commit
from streamclust.store.model.keys import Keys
from streamclust.store.model.lease import (
    RENEWED_PAUSED,
    Lease,
    decode_lease,
    read_leases,
    release_ended,
)
from streamclust.store.model.workers import WorkerReport, beat, leave
from tests.support.waiting import wait_until

pytestmark = pytest.mark.every_server

LONG = 3600.0
SHORT = 0.02


@pytest.fixture
def new(client: redis.Redis, keys: Keys) -> Callable[..., Lease]:
    """Makes a lease that isn't taken yet, of a worker of its own."""
    return lambda seconds=LONG: Lease(client, keys, seconds)


def lapse(client: redis.Redis, keys: Keys) -> None:
    """Let the lease run out: give it a millisecond and wait."""
    client.pexpire(keys.lease, 1)
    wait_until(lambda: not client.exists(keys.lease))


def test_a_lease_has_one_holder(new: Callable[..., Lease]) -> None:
    first, second = new(), new()
    assert first.take()
    assert first.token > 0
    assert not second.take()
    assert second.token == 0
    assert not second.renew()
    assert first.renew()


def test_the_lease_says_who_holds_it_and_for_how_long(
    client: redis.Redis, keys: Keys, new: Callable[..., Lease]
) -> None:
    lease = new(LONG)
    assert lease.take()
    value, token = client.get(keys.lease), client.get(keys.token)
    assert token == str(lease.token).encode()
    assert isinstance(value, bytes)
    assert value.startswith(token + b":")
    assert LONG - 60 < int(str(client.pttl(keys.lease))) / 1000 <= LONG
    assert client.pttl(keys.token) == -1


def test_a_worker_without_the_lease_reports_unless_another_holds_it(
    client: redis.Redis, keys: Keys, new: Callable[..., Lease]
) -> None:
    lease, other = new(), new()
    for number in range(2):
        assert lease.report(f"stuck {number}", 60.0)
        assert client.get(keys.health) == b"stuck %d" % number
        assert 0 < int(str(client.pttl(keys.health))) <= 60_000
        assert lease.take()  # then with its own lease
    assert not other.report("stuck too", 60.0)
    assert client.get(keys.health) == b"stuck 1"


def test_each_token_is_larger_than_the_one_before(
    client: redis.Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.randbelow", lambda _: 0)
    lease = Lease(client, keys, LONG, "own")
    assert lease.take()
    assert lease.take()
    assert lease.token == 2


def test_times_are_sent_in_milliseconds(client: redis.Redis, keys: Keys) -> None:
    lease = Lease(client, keys, 1.25, "own")
    assert lease.take_command()[5:7] == ("own", 1250)
    assert lease.renew_command("well", 2.5)[7:] == ("own", 0, 1250, "well", 2500)
    assert lease.sleep_command("well", 2.5)[7:] == ("own:asleep", 0, 2500, "well", 2500)
    assert lease.report_command("well", 2.5)[5:] == ("own", "well", 2500)
    assert len(Lease(client, keys, 1.0).owner) == 16


def test_leases_of_two_models_are_apart(client: redis.Redis, namespace: str) -> None:
    assert Lease(client, Keys(namespace, "a"), LONG).take()
    assert Lease(client, Keys(namespace, "b"), LONG).take()
    assert Lease(client, Keys(namespace + "2", "a"), LONG).take()


def test_a_lapsed_lease_can_be_taken_under_a_larger_token(
    client: redis.Redis, keys: Keys, new: Callable[..., Lease]
) -> None:
    tokens = []
    for lease in (new(SHORT), new(SHORT), new(SHORT)):
        wait_until(lease.take)
        tokens.append(lease.token)
    assert tokens == sorted(set(tokens))


def test_renewing_makes_it_last(client: redis.Redis, keys: Keys, new: Callable[..., Lease]) -> None:
    lease = new(LONG)
    assert lease.take()
    before = client.get(keys.lease)
    client.pexpire(keys.lease, 60_000)
    assert lease.renew()
    assert int(str(client.pttl(keys.lease))) > 60_000
    assert client.get(keys.lease) == before


def test_renewing_says_how_the_worker_is(
    client: redis.Redis, keys: Keys, new: Callable[..., Lease]
) -> None:
    slept, other = new(), new()
    assert slept.take()
    assert slept.renew("well", 60.0)
    assert client.get(keys.health) == b"well"
    assert 0 < int(str(client.pttl(keys.health))) <= 60_000
    # When another has taken over Then it alone speaks
    lapse(client, keys)
    assert other.take()
    assert other.renew("better", 60.0)
    assert not slept.renew("well", 60.0)
    slept.drop()
    assert client.get(keys.health) == b"better"
    other.drop()
    assert client.exists(keys.health) == 0


def test_what_is_said_lapses(client: redis.Redis, keys: Keys, new: Callable[..., Lease]) -> None:
    lease = new()
    assert lease.take()
    assert lease.renew("well", 0.001)
    wait_until(lambda: client.get(keys.health) is None)


def test_the_reply_to_a_renewal_says_whether_a_user_has_paused_the_model(
    client: redis.Redis, keys: Keys, new: Callable[..., Lease]
) -> None:
    lease, other = new(), new()
    assert lease.take()
    replies = [client.eval(*lease.renew_command("", 0.0)[1:])]
    client.set(keys.paused, "{}")
    replies += [client.eval(*each.renew_command("", 0.0)[1:]) for each in (lease, other)]
    assert replies == [1, RENEWED_PAUSED, 0]
    assert not client.exists(keys.health)  # nothing was said


def test_renewing_fails_once_another_worker_has_it(
    client: redis.Redis, keys: Keys, new: Callable[..., Lease]
) -> None:
    slept, other = new(), new()
    assert slept.take()
    lapse(client, keys)
    assert other.take()
    assert other.token > slept.token
    held = client.get(keys.lease)
    assert not slept.renew()
    assert client.get(keys.lease) == held
    assert other.renew()


def test_renewing_fails_also_when_the_other_worker_has_left(
    client: redis.Redis, keys: Keys, new: Callable[..., Lease]
) -> None:
    slept, other = new(), new()
    assert slept.take()
    lapse(client, keys)
    assert other.take()
    other.drop()
    assert not slept.renew()
    assert client.exists(keys.lease) == 0


def test_renewing_works_while_nobody_else_has_taken_it(
    client: redis.Redis, keys: Keys, new: Callable[..., Lease]
) -> None:
    lease = new()
    assert lease.take()
    lapse(client, keys)
    assert lease.renew()
    assert not new().take()


def test_the_holder_can_take_it_again_under_a_larger_token(
    client: redis.Redis, keys: Keys, new: Callable[..., Lease]
) -> None:
    lease = new()
    assert lease.take()
    before = lease.token
    assert lease.take()
    assert lease.token > before
    with pytest.raises(LeaseLostError):
        commit(client, keys, Commit(before, b"sent before, arrived after"))
    commit(client, keys, Commit(lease.token, b"new"))


def test_only_its_holder_drops_it(
    client: redis.Redis, keys: Keys, new: Callable[..., Lease]
) -> None:
    slept, other, never = new(), new(), new()
    assert slept.take()
    lapse(client, keys)
    assert other.take()
    held = client.get(keys.lease)
    slept.drop()
    never.drop()
    assert client.get(keys.lease) == held
    other.drop()
    assert client.exists(keys.lease) == 0
    assert client.exists(keys.token) == 1
    other.drop()
    assert other.token == 0
    assert not other.renew()


@pytest.mark.parametrize("keeps_report", [True, False])
def test_it_is_dropped_with_its_report_or_without(
    client: redis.Redis, keys: Keys, new: Callable[..., Lease], keeps_report: bool
) -> None:
    lease = new()
    assert lease.take()
    assert lease.renew("a report", 60.0)
    lease.drop(keeps_report=keeps_report)
    assert client.exists(keys.lease) == 0
    assert client.get(keys.health) == (b"a report" if keeps_report else None)


def test_a_dropped_lease_can_be_taken_at_once(new: Callable[..., Lease]) -> None:
    first, second = new(), new()
    assert first.take()
    token = first.token
    first.drop()
    assert second.take()
    assert second.token > token


def test_a_writer_that_slept_past_its_lease_writes_nothing(
    client: redis.Redis, keys: Keys, new: Callable[..., Lease]
) -> None:
    slept, other = new(), new()
    assert slept.take()
    commit(client, keys, Commit(slept.token, b"before"))
    lapse(client, keys)
    commit(client, keys, Commit(slept.token, b"nobody else was there"))
    assert other.take()
    with pytest.raises(LeaseLostError):
        commit(client, keys, Commit(slept.token, b"after"))
    assert client.get(keys.state) == b"nobody else was there"
    other.drop()
    with pytest.raises(LeaseLostError):
        commit(client, keys, Commit(slept.token, b"after"))


def test_a_server_that_forgot_the_newest_token_does_not_give_it_away_twice(
    client: redis.Redis, keys: Keys, new: Callable[..., Lease]
) -> None:
    # As after a failover to a replica that the last writes had not reached.
    known = [new()]
    assert known[0].take()
    for _ in range(20):
        client.delete(keys.lease, keys.token)
        lease = new()
        assert lease.take()
        for before in known:
            assert not before.renew()
            with pytest.raises(LeaseLostError):
                commit(client, keys, Commit(before.token, b"old"))
        known.append(lease)
    assert client.exists(keys.state) == 0


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("seven", "'seven'"),
        ("", "''"),
        ("-99999999999", "'-99999999999'"),
        ("1.5", "'1.5'"),
        ("9" * 16, f"'{'9' * 16}'"),
        (b"\xff\x1b[2J\n", r"'\\xff\x1b[2J\n'"),
    ],
)
def test_a_token_that_no_worker_wrote_is_said(
    client: redis.Redis, keys: Keys, new: Callable[..., Lease], value: str | bytes, shown: str
) -> None:
    client.set(keys.token, value)
    lease = new()
    with pytest.raises(ServerError) as failure:
        lease.take()
    assert str(failure.value) == (
        f"key {keys.token} holds {shown}, expected a whole number: another program wrote it. Stop "
        "the model's workers, delete the key, and start them again; the next worker creates the key"
    )
    assert not client.exists(keys.lease)
    # and what it says helps
    client.delete(keys.token)
    assert lease.take()


def test_a_token_of_fifteen_digits_is_the_largest_that_grows(
    client: redis.Redis, keys: Keys, new: Callable[..., Lease]
) -> None:
    client.set(keys.token, "1" * 15)
    lease = new()
    assert lease.take()
    assert 0 < lease.token - int("1" * 15) <= 1 << 24
    assert client.get(keys.token) == b"%d" % lease.token


def test_a_lease_that_no_worker_wrote_is_said_and_not_waited_for(
    client: redis.Redis, keys: Keys, new: Callable[..., Lease]
) -> None:
    client.set(keys.lease, "mine")
    with pytest.raises(ServerError, match="lease holds 'mine', expected a token and its owner"):
        new().take()
    client.delete(keys.lease)
    client.hset(keys.lease, "a", "b")
    with pytest.raises(ServerError, match="lease holds a hash, expected a token and its owner"):
        new().take()
    client.delete(keys.lease)
    client.hset(keys.token, "a", "b")
    with pytest.raises(ServerError, match="token holds a hash, expected a whole number"):
        new().take()


def test_a_token_that_becomes_text_under_a_worker_lets_nothing_be_written(
    client: redis.Redis, keys: Keys, new: Callable[..., Lease]
) -> None:
    lease = new()
    assert lease.take()
    client.set(keys.token, b"\xff\x1b")
    with pytest.raises(LeaseLostError, match=r"token '.*xff.*x1b'"):
        commit(client, keys, Commit(lease.token, b"state"))
    assert not lease.renew()
    assert not client.exists(keys.state)


def asleep(lease: Lease, client: redis.Redis) -> bytes:
    """Let the model of a lease sleep; return the lease's value."""
    assert client.eval(*lease.sleep_command("", 900.0)[1:])
    found: Any = client.get(lease.key)
    return bytes(found)


def test_the_lease_of_a_sleeping_model_lasts_long_and_is_its_owners(
    client: redis.Redis, namespace: str
) -> None:
    keys = Keys(namespace, "m")
    lease, other = Lease(client, keys, LONG, "own"), Lease(client, keys, LONG, "other")
    assert lease.take()
    value = asleep(lease, client)
    assert decode_lease(value) == (value.decode(), "own", True)
    assert client.pttl(lease.key) > 800_000
    assert not other.take()
    assert not other.report("{}", 1.0)
    assert lease.report("{}", 1.0)
    # and it becomes short again when the model wakes
    assert lease.renew()
    assert client.pttl(lease.key) <= LONG * 1000
    asleep(lease, client)
    lease.drop()
    assert not client.exists(keys.lease)


def test_only_the_lease_that_was_seen_can_be_broken(client: redis.Redis, namespace: str) -> None:
    # Given a sleeping model whose worker seems to have ended
    keys = Keys(namespace, "m")
    lease, other = Lease(client, keys, LONG, "own"), Lease(client, keys, LONG, "other")
    assert lease.take()
    seen = asleep(lease, client).decode()
    # When its worker wakes it Then the lease isn't broken
    assert lease.renew()
    assert not other.was_taken(client.eval(*other.take_command(seen)[1:]))
    # When it sleeps again Then it is broken, and the first worker can't write any more
    asleep(lease, client)
    assert other.was_taken(client.eval(*other.take_command(seen)[1:]))
    assert other.token > lease.token
    assert not lease.renew()
    assert not client.eval(*lease.sleep_command("", 900.0)[1:])
    # and the worker takes its own sleeping lease again
    asleep(other, client)
    assert other.take()


def test_many_leases_are_read_at_once(client: redis.Redis, namespace: str) -> None:
    keys = [Keys(namespace, f"m{number}") for number in range(1500)]
    for number in (0, 1024, 1499):
        assert Lease(client, keys[number], LONG, f"worker{number}").take()
    client.set(keys[5].lease, "mine")
    client.lpush(keys[6].lease, "mine")
    values = map(decode_lease, read_leases(client, [each.lease for each in keys]))
    found = {number: held.owner for number, held in enumerate(values) if held is not None}
    assert found == {0: "worker0", 1024: "worker1024", 1499: "worker1499"}


def test_the_lease_of_a_worker_that_has_ended_is_released(
    client: redis.Redis, namespace: str
) -> None:
    keys, owner = Keys(namespace, "m"), "ab12"
    lease = Lease(client, keys, LONG, owner)
    assert lease.take()
    release_ended(client, keys)  # the model is awake: only time shows whether its worker has ended
    assert client.exists(keys.lease)
    asleep(lease, client)
    beat(client, namespace, owner, WorkerReport(id=owner), LONG)
    release_ended(client, keys)
    assert client.exists(keys.lease)
    leave(client, namespace, owner)
    release_ended(client, keys)
    assert not client.exists(keys.lease)
    client.lpush(keys.lease, "mine")
    release_ended(client, keys)
    assert client.exists(keys.lease)
