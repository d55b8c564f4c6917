"""Errors of type WRONGTYPE name the key, whatever command or script met them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from streamclust.errors import ServerError
from streamclust.store.model.code_writer import open_code_writer
from streamclust.store.model.commit import commit
from streamclust.store.model.dead_letters import newest_letter
from streamclust.store.model.health import read_health
from streamclust.store.model.keys import Keys
from streamclust.store.model.lease import Lease
from streamclust.store.model.proposal import proposal_id
from streamclust.store.model.versions import follow, read_model
from streamclust.store.server.connect import Server, translate
from streamclust.store.server.wrong_type import expected_type
from streamclust.store.stream.group import GroupMember
from streamclust.store.stream.info import look
from streamclust.store.stream.lag import lag
from streamclust.store.stream.prefetch import Prefetch
from streamclust.store.stream.ranges import RangeReader
from streamclust.store.stream.read_size import ReadSize
from streamclust.store.stream.reader import StreamReader
from tests.support.commits import of_version

Use = Callable[[Server, Keys], Any]


def reading(server: Server, keys: Keys) -> Any:
    return StreamReader(server.raw_client(), {points(keys): "0-0"}).read(10, None)


def ranging(server: Server, keys: Keys) -> Any:
    reader = RangeReader(server.raw_client(), {points(keys): "0-0"}, {points(keys): "9-0"})
    return reader.read(10, None)


def early(server: Server, keys: Keys) -> Any:
    """A read that was sent ahead leaves its error to the read itself."""
    client = server.raw_client()
    ahead = Prefetch(client)
    ahead.send({points(keys): "0-0"}, 10)
    assert ahead.receive({points(keys): "0-0"}) == (None, {})
    return client.xread({points(keys): "0-0"})


def member_of(server: Server, keys: Keys) -> GroupMember:
    return GroupMember(server.raw_client(), points(keys), keys.encoders, ReadSize(most=10))


def exchanging(server: Server, keys: Keys) -> Any:
    client = server.client()
    client.xgroup_create(points(keys), keys.encoders, "0", mkstream=True)
    writer = open_code_writer(client, member_of(server, keys), keys, keys.codes(), 10)
    return writer.write_and_read([(b"1-0", [b"n", b"1"])], lambda _: True, 0, None)


def committing(server: Server, keys: Keys) -> Any:
    client = server.client()
    client.set(keys.token, 1)
    return commit(client, keys, of_version(1, 1))


def points(keys: Keys) -> str:
    return f"{keys.namespace}-points"


USES: dict[str, tuple[str, Use]] = {
    "state": ("state", lambda server, keys: server.client().get(keys.state)),
    "lease": ("lease", lambda server, keys: Lease(server.client(), keys, 9.0).take()),
    "token": ("token", lambda server, keys: Lease(server.client(), keys, 9.0).take()),
    "health": ("health", lambda server, keys: read_health(server.client(), keys)),
    "proposal": ("proposal", lambda server, keys: proposal_id(server.client(), keys)),
    "models, newest": ("models", lambda server, keys: read_model(server.client(), keys)),
    "models, next": ("models", lambda server, keys: list(follow(server.client(), keys, 0))),
    "models, commit": ("models", committing),
    "models, round": ("models", exchanging),
    "codes, round": ("codes", exchanging),
    "dead": ("dead", lambda server, keys: newest_letter(server.client(), keys)),
    "points, read": ("points", reading),
    "points, range": ("points", ranging),
    "points, early": ("points", early),
    "points, group": ("points", lambda server, keys: member_of(server, keys).read_new(None)),
    "points, look": ("points", lambda server, keys: look(server.client(), points(keys))),
    "points, lag": (
        "points",
        lambda server, keys: lag(server.client(), [points(keys)], {points(keys): "0-0"}, {}),
    ),
}


@pytest.mark.parametrize("use", USES)
def test_the_key_is_named(server: Server, client: redis.Redis, keys: Keys, use: str) -> None:
    name, call = USES[use]
    key = points(keys) if name == "points" else f"{{{keys.namespace}:{keys.model}}}:{name}"
    if expected_type(key) == "stream":
        client.set(key, "of another program")
        found = "string"
    else:
        client.rpush(key, "of another program")
        found = "list"
    with pytest.raises(ServerError) as failure, translate(server.label):
        call(server, keys)
    assert f"key {key} holds a {found}, " in str(failure.value)
