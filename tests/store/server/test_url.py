"""URLs of servers: each fault is named, and no message shows a password."""

from __future__ import annotations

import pytest

from streamclust.store.server.url import fault, masked_url, without_login

SECRET = "hunter2"
RAW = "/?#["
"""Characters that end a part of a URL, so that a raw password with one of them is cut."""


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://localhost:99999", "the port is 99999; expected a number from 1 to 65535"),
        ("redis://localhost:0", "the port is 0; expected"),
        ("redis+cluster://a:7000,b:70000", "the port is 70000; expected"),
        ("redis+sentinel://a,b:99999/primary", "the port is 99999; expected"),
        ("localhost:6379", "write redis://localhost:6379"),
        ("cache.example.org", "write redis://cache.example.org"),
        ("localhost:6379/1", "write redis://localhost:6379/1"),
        ("REDIS://h", "write redis:// in lowercase"),
        ("valkey://h", "write redis:// for Valkey too"),
        ("valkeys://h", "write rediss:// for Valkey too"),
        ("embeded", "did you mean embedded?"),
        ("embed", "did you mean embedded?"),
        ("redis://", "a host or its port is missing; write redis://localhost:6379/0"),
        ("redis://:6379", "a host or its port can't be read"),
        ("redis://h:port", "a host or its port can't be read"),
        ("redis://::1:6379", "an IPv6 address needs brackets, as in redis://[::1]:6379"),
        ("redis://h/db0", "the path isn't the number of a database"),
        ("redis://a,b", "more than one host; write redis+cluster://"),
        ("redis+cluster://a/1", "a cluster has no databases"),
        ("redis+sentinel://a", "expected one service; write redis+sentinel://"),
        ("unix://run/valkey.sock", "write unix:///run/valkey.sock"),
        ("unix://", "write unix:///run/valkey.sock"),
        ("redis://h\n", "the URL has a control character"),
    ],
)
def test_each_fault_has_its_own_text(url: str, problem: str) -> None:
    assert problem in fault(url)


@pytest.mark.parametrize("char", RAW)
@pytest.mark.parametrize("scheme", ["redis", "rediss+sentinel", "redis+cluster", "unix"])
@pytest.mark.parametrize("user", ["", "ann"])
@pytest.mark.parametrize("start", ["a", "123", ""])
def test_a_raw_special_character_of_a_password_is_explained_and_not_shown(
    char: str, scheme: str, user: str, start: str
) -> None:
    place = {"unix": "/run/x.sock", "rediss+sentinel": "h:1/primary"}.get(scheme, "h:1/0")
    url = f"{scheme}://{user}:{start}{char}{SECRET}@{place}"
    if scheme == "unix" and char == "/":
        assert fault(url)  # it may be a path as well
    else:
        assert "must be percent-encoded: @ as %40" in fault(url)
    for text in (fault(url), masked_url(url)):
        assert SECRET not in text
        assert "123" not in text


@pytest.mark.parametrize("char", "@:%!$&'()*+,;=~^|<> é")
def test_other_characters_of_a_password_work_as_they_are(char: str) -> None:
    url = f"redis://ann:a{char}b@h:1/0"
    assert fault(url) == ""
    assert without_login(url) == ("redis://h:1/0", "ann", f"a{char}b")
    assert masked_url(url) == "redis://***@h:1/0"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h?password=a%40b", ("redis://h", "", "a@b")),
        ("redis://h?password=a+b", ("redis://h", "", "a+b")),
        ("rediss://h:1/0?db=1&password=b&username=a", ("rediss://h:1/0?db=1", "a", "b")),
        ("redis://ann:%2F@h", ("redis://h", "ann", "/")),
        ("unix://ann:b@/run/x?db=1", ("unix:///run/x?db=1", "ann", "b")),
        ("redis+sentinel://:b@a,c:7/p/1", ("redis+sentinel://a,c:7/p/1", "", "b")),
        ("redis://h", ("redis://h", "", "")),
        ("embedded", ("embedded", "", "")),
    ],
)
def test_the_login_is_taken_out(url: str, expected: tuple[str, str, str]) -> None:
    assert without_login(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        f"redis://h?password={SECRET}",
        f"redis://h?password=a@{SECRET}",
        f"redis://h?password=a&{SECRET}",
        f"redis://h?password=a&{SECRET}=b",
        f"redis://h?password=a#{SECRET}",
        f"redis://ann:{SECRET}",
        f"redis:/ann:{SECRET}@h",
        f"ann:{SECRET}@h:1",
        f"http://ann:{SECRET}@h",
        f"ann@{SECRET}",
    ],
)
def test_a_password_is_never_shown(url: str) -> None:
    assert SECRET not in masked_url(url) + fault(url)
