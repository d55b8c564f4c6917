"""Alerts on the server: with the codes of their entries or the commit, once, numbered, and kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import redis

from streamclust.errors import FormatError, LeaseLostError, ServerError
from streamclust.formats.alerts import Alert, encode_alert
from streamclust.store.model.code_stream import Alerts, write_codes
from streamclust.store.model.code_writer import Written
from streamclust.store.model.commit import Commit, commit
from streamclust.store.model.keys import Keys
from streamclust.store.model.read_alerts import new_alerts, newest_alert, read_alerts
from streamclust.store.server.connect import Server
from tests.support.code_writer_fixture import CodeWriterFixture, batch_of
from tests.support.commits import take

ALERT = Alert(0, "points", "1-0", 0, 3, 12.5, 0.999, 1, (), {}, 1_700_000_000_000)


def rows(*entry_ids: str) -> list[tuple[bytes, list[bytes]]]:
    return [(each.encode(), encode_alert(replace(ALERT, entry_id=each))) for each in entry_ids]


def stored(client: redis.Redis, keys: Keys, **how: Any) -> list[tuple[int, str]]:
    return [
        (each.number, each.entry_id)
        for each in read_alerts(client, keys, **how)
        if isinstance(each, Alert)
    ]


def commit_alerts(client: redis.Redis, keys: Keys, token: int, *alerts: str, **more: Any) -> None:
    keep = more.pop("keep", 10)
    commit(client, keys, Commit(token, b"s", alerts=rows(*alerts), **more), keep_alerts=keep)


@pytest.mark.every_server
def test_alerts_land_with_the_commit_or_not_at_all(
    client: redis.Redis, keys: Keys, token: int
) -> None:
    commit_alerts(client, keys, token, "1-0", "1-0", "9-0")
    commit_alerts(client, keys, token)
    commit_alerts(client, keys, token, "10-0")
    assert stored(client, keys) == [(1, "1-0"), (2, "1-0"), (3, "9-0"), (4, "10-0")]
    client.delete(keys.lease)
    take(client, keys)
    with pytest.raises(LeaseLostError):
        commit_alerts(client, keys, token, "11-0")
    assert newest_alert(client, keys) == 4


def test_a_key_of_another_type_refuses_the_whole_commit(
    client: redis.Redis, keys: Keys, token: int
) -> None:
    client.set(keys.alerts, "text")
    with pytest.raises(ServerError, match=r":alerts holds a string"):
        commit_alerts(client, keys, token, "1-0")
    assert not client.exists(keys.state)


def test_only_the_newest_are_kept_and_all_are_counted(
    client: redis.Redis, keys: Keys, token: int
) -> None:
    commit_alerts(client, keys, token, "1-0", "2-0", "3-0", keep=2)
    assert stored(client, keys) == [(2, "2-0"), (3, "3-0")]
    commit_alerts(client, keys, token, "8-0", "9-0", keep=2, skipped_alerts=4)
    assert stored(client, keys) == [(8, "8-0"), (9, "9-0")]


@pytest.mark.every_server
def test_alerts_of_entries_that_have_codes_already_are_not_written_again(
    client: redis.Redis, keys: Keys
) -> None:
    codes = keys.codes()
    assert write_codes(client, codes, batch_of([b"1-0", b"2-0"]), 10, _alerts(keys, "2-0")) == 2
    again = batch_of([b"1-0", b"2-0", b"3-0", b"4-0"])
    assert write_codes(client, codes, again, 10, _alerts(keys, "2-0", "3-0", "3-0")) == 2
    assert write_codes(client, codes, again, 10, _alerts(keys, "2-0", "3-0", "3-0")) == 0
    assert stored(client, keys) == [(1, "2-0"), (2, "3-0"), (3, "3-0")]
    client.delete(keys.alerts)
    client.set(keys.alerts, "text")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        write_codes(client, codes, batch_of([b"5-0"]), 10, _alerts(keys, "5-0"))
    assert client.xlen(codes) == 4


def _alerts(keys: Keys, *entry_ids: str) -> Alerts:
    return Alerts(keys.alerts, 10, rows(*entry_ids))


@pytest.mark.every_server
def test_an_encoder_writes_alerts_when_its_turn_has_come(
    server: Server, client: redis.Redis, keys: Keys, namespace: str
) -> None:
    works = CodeWriterFixture(server, client, keys, f"{namespace}-points")
    works.add(1, 2, 3, 4)
    one, two = works.encoder(), works.encoder()
    assert (one.takes().ids, two.takes().ids) == ([b"1-0", b"2-0"], [b"3-0", b"4-0"])
    later = batch_of([b"3-0", b"4-0"])
    assert two.writer.write(later, _alerts(keys, "4-0")).entries is None
    assert stored(client, keys) == []
    settled: list[int | None] = []

    def on_written(written: Written) -> bool:
        settled.append(written.entries)
        return True

    first, its = batch_of([b"1-0", b"2-0"]), _alerts(keys, "1-0", "2-0")
    one.writer.write_and_read(first, on_written, 0, None, its)
    assert settled == [2]
    assert two.writer.write(later, _alerts(keys, "4-0")).entries == 2
    assert stored(client, keys) == [(1, "1-0"), (2, "2-0"), (3, "4-0")]
    assert works.pending == 0


def test_alerts_are_read_page_by_page_in_both_orders(
    client: redis.Redis, keys: Keys, token: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamclust.store.model.read_alerts._PAGE", 3)
    commit_alerts(client, keys, token, *(f"{n}-0" for n in range(1, 8)))
    wanted = [(n, f"{n}-0") for n in range(1, 8)]
    assert stored(client, keys) == wanted
    assert stored(client, keys, newest_first=True) == wanted[::-1]
    assert stored(client, keys, after=4) == wanted[4:]
    assert stored(client, keys, after=7) == []


def test_an_entry_that_is_no_alert_is_an_error_in_its_place(
    client: redis.Redis, keys: Keys, token: int
) -> None:
    commit_alerts(client, keys, token, "1-0")
    client.xadd(keys.alerts, {"x": "1"}, id="2-0")
    commit_alerts(client, keys, token, "3-0")
    one, two, three = read_alerts(client, keys)
    assert isinstance(two, FormatError)
    assert f"key {keys.alerts} entry 2-0 holds no alert" in str(two)
    assert [each.number for each in (one, three) if isinstance(each, Alert)] == [1, 3]
    found = new_alerts(client, {keys.alerts: 1}, None)
    assert [(key, number) for key, number, _ in found] == [(keys.alerts, 2), (keys.alerts, 3)]
