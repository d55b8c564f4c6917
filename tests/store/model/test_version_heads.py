"""The facts of stored versions, without their arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamclust.formats.model import encode_model
from streamclust.store.model.keys import Keys
from streamclust.store.model.version_heads import _CALL_BYTES, VersionHead, read_heads
from streamclust.store.server.connect import Address, open_server
from tests.support.commits import a_model
from tests.support.publisher import Publisher


def facts(head: VersionHead) -> tuple[object, ...]:
    return head.version, head.points, head.reason, head.score, head.n_components, head.error


def test_they_are_those_of_the_versions_oldest_first(address: Address, namespace: str) -> None:
    with open_server(address) as server:
        publisher, client = Publisher(server, namespace), server.client()
        publisher.publish(1, 2, 3, 4, model_id=8)
        found = read_heads(client, publisher.keys, 10)
        assert [facts(head) for head in found] == [
            (n, 100 * n, "step", 0.5, 2, "") for n in (1, 2, 3, 4)
        ]
        assert {head.model_id for head in found} == {8}
        assert all(head.published_ms for head in found)
        newest = read_heads(client, publisher.keys, 2)
        assert [head.version for head in newest] == [3, 4]
        middle = read_heads(client, publisher.keys, 10, after=1, before=4)
        assert [head.version for head in middle] == [2, 3]


def test_a_version_that_is_damaged_has_the_reason(address: Address, namespace: str) -> None:
    with open_server(address) as server:
        client, keys = server.client(), Keys(namespace, "m")
        payload = encode_model(a_model(2))
        client.xadd(keys.models, {"payload": b"junk"}, id="1-0")
        client.xadd(keys.models, {"payload": payload}, id="2-0")
        client.xadd(keys.models, {"payload": payload[:-8]}, id="3-0")
        client.xadd(keys.models, {"payload": b"\xff" * 64}, id="4-0")
        client.xadd(keys.models, {"other": b"field"}, id="5-0")
        client.xadd(keys.models, {"payload": payload}, id="6-0")
        found = read_heads(client, keys, 10)
    assert [head.version for head in found] == [1, 2, 3, 4, 5, 6]
    assert [bool(head.error) for head in found] == [True, False, True, True, True, True]


def test_large_versions_are_read_in_several_calls(address: Address, namespace: str) -> None:
    with open_server(address) as server:
        client, keys = server.client(), Keys(namespace, "m")
        padding = np.zeros(_CALL_BYTES // 16)
        for version in range(1, 6):
            large = replace(a_model(version, K=2), mass=padding)
            client.xadd(keys.models, {"payload": encode_model(large)}, id=f"{version}-0")
        found = read_heads(client, keys, 20)
    assert [head.version for head in found] == [1, 2, 3, 4, 5]
    assert not any(head.error for head in found)


def test_no_version_is_an_empty_list(address: Address, namespace: str) -> None:
    with open_server(address) as server:
        assert read_heads(server.client(), Keys(namespace, "m"), 10) == []


def test_a_user_without_scripts_gets_them_too(address: Address, namespace: str) -> None:
    with open_server(address) as server:
        Publisher(server, namespace).publish(1, 2, 3)
        server.client().acl_setuser(
            namespace,
            enabled=True,
            passwords=["+secret"],
            keys=["*"],
            commands=["+@all", "-eval", "-evalsha"],
        )
        user = replace(address, username=namespace, password="secret")
        with open_server(user) as limited:
            found = read_heads(limited.client(), Keys(namespace, "m"), 2)
        server.client().acl_deluser(namespace)
    assert [facts(head)[:2] for head in found] == [(2, 200), (3, 300)]
