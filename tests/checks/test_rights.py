"""The rights that are checked are those of deploy/redis-acl.conf, for each of its users."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from streamclust.checks.check import Check
from streamclust.checks.rights import check_rights
from streamclust.config import Settings

FILE = Path(__file__).parents[2] / "deploy" / "redis-acl.conf"
PASSWORD = "s3cr3t"
USERS = {
    "streamclust-worker": "worker",
    "streamclust-refit": "refit",
    "streamclust-encoder": "encode",
    "streamclust-subscriber": "watch",
    "streamclust-operator": "status",
    "streamclust-ingest": "ingest",
    "streamclust-admin": "dead",
}
ASK = " +eval"  # what the check itself needs
MODEL = {"kind": "kmeans", "n_clusters": 3, "streams": ["points"]}


def rules(user: str) -> str:
    found = re.search(rf"^user {user} on resetpass (.*)$", FILE.read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.fixture
def admin(server_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server_url) as client:
        yield client
        client.acl_deluser("checked")


def checks(admin: redis.Redis, text: str, model: dict[str, object] = MODEL) -> list[Check]:
    """The checks of a user with these rules."""
    selectors = re.findall(r"\([^)]*\)", text)
    words = [*re.sub(r"\([^)]*\)", "", text).split(), *selectors]
    reset = ["reset", "on", f">{PASSWORD}"]
    admin.execute_command("ACL", "SETUSER", "checked", *reset, *words)  # type: ignore[no-untyped-call]
    options = admin.connection_pool.connection_kwargs
    login = {"username": "checked", "password": PASSWORD, "protocol": 2}
    with redis.Redis(options["host"], options["port"], **login) as client:  # type: ignore[arg-type]
        return list(
            check_rights(
                client, "streamclust", Settings.model_validate({"models": {"m": model}}).models
            )
        )


def permitted(found: list[Check]) -> set[str]:
    texts = [each.text for each in found if each.state == "ok"]
    return set(re.findall(r"`(\w+)`", " ".join(texts)))


@pytest.mark.parametrize("server_name", ["valkey9"])
@pytest.mark.parametrize("user", USERS)
def test_a_user_of_the_file_may_run_its_command(admin: redis.Redis, user: str) -> None:
    text = rules(user)
    assert USERS[user] in permitted(checks(admin, text + ASK))


@pytest.mark.parametrize("server_name", ["valkey9"])
@pytest.mark.parametrize("user", USERS)
def test_each_right_of_the_file_is_checked(admin: redis.Redis, user: str) -> None:
    text = rules(user)
    for grant in re.finditer(r"(?<![^\s(])\+(?!eval\b)[^\s)]+", text):
        lacking = text[: grant.start()] + text[grant.end() :] + ASK
        found = checks(admin, lacking)
        assert USERS[user] not in permitted(found), grant[0]
        [refused] = [each for each in found if f"may not run `{USERS[user]}`" in each.text]
        assert grant[0] in refused.text
        assert refused.state == ("fail" if user == "streamclust-worker" else "warn")


@pytest.mark.parametrize("server_name", ["valkey9"])
def test_settings_that_need_more_rights_are_checked_for_them(admin: redis.Redis) -> None:
    text = rules("streamclust-worker")
    model = {**MODEL, "trim": {"kind": "learned"}, "encode": True, "start": "latest"}
    [refused] = [each for each in checks(admin, text, model) if each.state == "fail"]
    missing = set(re.findall(r"\+([\w|]+) on", refused.text))
    assert missing == {"xpending", "xlen", "xtrim", "xrevrange"} | {
        "xgroup|create",
        "xgroup|destroy",
        "xsetid",
    }


@pytest.mark.parametrize("server_name", ["valkey9", "redis6.2"])
def test_a_user_who_may_not_ask_gets_one_line(admin: redis.Redis, server_name: str) -> None:
    [found] = checks(admin, "-@all +ping")
    assert (found.state, found.about) == ("fail", "rights")
    assert "+eval" in found.text


@pytest.mark.parametrize("server_name", ["redis6.2"])
def test_an_old_server_is_not_asked(admin: redis.Redis) -> None:
    [found] = checks(admin, "~* &* +@all")
    assert found == Check("ok", "rights", "not checked: the server is older than Redis 7")
