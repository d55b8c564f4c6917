"""The private part of redis-py that is used: a redis-py without it is reported at the start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from redis._parsers.hiredis import _HiredisParser

from streamclust.errors import ServerError
from streamclust.store.reply.redis_parser import check_redis
from streamclust.store.server.address import Address
from streamclust.store.server.connect import open_server


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    check_redis.cache_clear()
    yield
    check_redis.cache_clear()


def test_the_installed_redis_py_is_supported() -> None:
    check_redis()


def test_another_parser_is_reported_with_the_version(
    monkeypatch: pytest.MonkeyPatch, server_url: str
) -> None:
    # Given a redis-py whose parser keeps its reader under another name
    monkeypatch.setattr(_HiredisParser, "on_connect", lambda parser, connection: None)
    monkeypatch.setattr(redis, "__version__", "99.0")
    with pytest.raises(ServerError, match=r"^redis-py 99\.0 is not supported: .*'redis\[hiredis"):
        open_server(Address(server_url))
