"""Addresses of several hosts: what they mean, and what is said of those that can't be used."""

from __future__ import annotations

import re

import pytest

from streamclust.errors import ConfigError
from streamclust.store.server.address import Address, read_address

SECRET = "s3cr3t"


def test_a_list_of_sentinels() -> None:
    url = f"redis+sentinel://ann:{SECRET}@a,[::1]:7,c:8/primary/3?socket_keepalive=yes"
    found = read_address(Address(url, sentinel_username="bob", sentinel_password="pw"))
    assert (found.kind, found.service) == ("sentinel", "primary")
    assert found.hosts == (("a", 26379), ("::1", 7), ("c", 8))
    assert found.options == {
        "db": 3,
        "username": "ann",
        "password": SECRET,
        "socket_keepalive": True,
    }
    assert found.login == {"username": "bob", "password": "pw"}
    assert found.tls == {}
    assert found.label == "redis+sentinel://a:26379,[::1]:7,c:8/primary/3"
    assert SECRET not in repr(found)


def test_the_nodes_of_a_cluster_over_tls() -> None:
    url = "rediss+cluster://a,b:7001?ssl_ca_certs=ca.pem"
    found = read_address(Address(url, username="ann", password=SECRET))
    assert found.kind == "cluster"
    assert found.hosts == (("a", 6379), ("b", 7001))
    assert found.tls == {"ssl": True, "ssl_ca_certs": "ca.pem"}
    assert found.label == "rediss+cluster://a:6379,b:7001"
    assert "db" not in found.options


def test_one_server_has_no_list_of_hosts() -> None:
    found = read_address(Address(f"redis://:{SECRET}@a:7/2"))
    assert (found.kind, found.hosts, found.label) == ("server", (), "redis://a:7/2")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (
            f"redis+sentinel://:{SECRET}@a,b",
            "expected one service; write redis+sentinel://host:26379,host:26379/service/0",
        ),
        (
            f"rediss+sentinel://:{SECRET}@a:b/x",
            "a host or its port can't be read; write redis+sentinel://host:26379,host:26379",
        ),
        (f"redis+cluster://:{SECRET}@a,b/1", "a cluster has no databases; write redis+cluster://"),
        (f"redis+cluster://:{SECRET}@a,,b", "a host or its port is missing; write redis+cluster"),
    ],
)
def test_a_malformed_list_is_said(url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)) as bad:
        read_address(Address(url))
    assert SECRET not in str(bad.value)


@pytest.mark.parametrize(
    ("url", "option"),
    [
        ("redis+sentinel://a/x?ssl_ca_certs=ca.pem", "ssl_ca_certs"),
        ("redis+sentinel://a/x?timeout=3", "timeout"),
        ("redis+cluster://a?db=1", "db"),
        ("rediss+cluster://a?ssl_ciphers=x", "ssl_ciphers"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(url: str, option: str) -> None:
    with pytest.raises(ConfigError, match=rf"redis\.url: '{option}' isn't an option of redis"):
        read_address(Address(url))
