"""Checks of the rights of the server's user, for each command of streamclust.

The server answers which commands the user may run (``acl_check_cmd`` in a script, since Redis 7).
So the check changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import redis

from streamclust.checks.check import Check
from streamclust.config.placeholders import has_placeholder
from streamclust.store.model.keys import Keys
from streamclust.store.stream.keys import dead_key, progress_key

if TYPE_CHECKING:
    from streamclust.config import ModelSettings

_ASK = """
if not redis.acl_check_cmd then return false end
local answers = {}
for number, command in ipairs(cjson.decode(ARGV[1])) do
  local known, permitted = pcall(redis.acl_check_cmd, unpack(command))
  answers[number] = (known and not permitted) and 0 or 1
end
return answers
"""

_SHAPES: Mapping[str, str] = {
    "ping": "",
    "info": "",
    "time": "",
    "multi": "",
    "exec": "",
    "scan": "0",
    "client|setname": "streamclust",
    "script|load": "return",
    "eval": "",
    "evalsha": "0 1 KEY",
    "exists": "KEY",
    "type": "KEY",
    "get": "KEY",
    "set": "KEY 1",
    "append": "KEY 1",
    "strlen": "KEY",
    "del": "KEY",
    "unlink": "KEY",
    "rename": "KEY KEY",
    "incrby": "KEY 1",
    "hget": "KEY id",
    "hset": "KEY id 1",
    "hdel": "KEY id",
    "hgetall": "KEY",
    "expire": "KEY 1",
    "publish": "KEY 1",
    "subscribe": "KEY",
    "unsubscribe": "KEY",
    "xadd": "KEY * x 1",
    "xlen": "KEY",
    "xdel": "KEY 1-1",
    "xtrim": "KEY MAXLEN 1",
    "xsetid": "KEY 1-1",
    "xread": "COUNT 1 STREAMS KEY 0",
    "xrange": "KEY - +",
    "xrevrange": "KEY + -",
    "xinfo|stream": "KEY",
    "xinfo|groups": "KEY",
    "xinfo|consumers": "KEY g",
    "xgroup|create": "KEY g 0",
    "xgroup|setid": "KEY g 0",
    "xgroup|destroy": "KEY g",
    "xgroup|delconsumer": "KEY g c",
    "xreadgroup": "GROUP g c STREAMS KEY >",
    "xpending": "KEY g",
    "xautoclaim": "KEY g c 0 0",
    "xclaim": "KEY g c 0 1-1",
    "xack": "KEY g 1-1",
}
"""Arguments of each command of the server. The server finds the key by its place."""

Needs = Mapping[str, str]  # a kind of key -> commands of the server

_WORKER = {
    "": "ping info client|setname",
    "state": "eval get set append strlen del incrby type exists hget xadd xinfo|stream",
    "models": "publish",
    "stream": "eval type exists xread xrange xinfo|stream xinfo|groups xgroup|create xgroup|setid",
}
NEEDS: Mapping[str, Needs] = {
    "worker": _WORKER,
    "encode": {
        "": "ping info client|setname",
        "models": "xread xrevrange type",
        "codes": "type xadd xread xrevrange xinfo|stream",
        "stream": "exists xinfo|stream xinfo|groups xinfo|consumers xgroup|create xgroup|setid "
        "xgroup|delconsumer xreadgroup xpending xautoclaim xclaim xack eval",
    },
    "refit": {
        "": "ping info client|setname script|load",
        "state": "eval evalsha get set append strlen del incrby type exists hget hset xadd xread "
        "xinfo|stream",
        "models": "publish",
        "stream": "eval type exists xread xrange xrevrange xinfo|groups xgroup|setid",
    },
    "watch": {
        "": "ping client|setname scan",
        "models": "exists xread xrange xrevrange subscribe unsubscribe",
    },
    "status": {
        "": "ping client|setname scan",
        "state": "get xrevrange",
        "stream": "exists eval xinfo|stream xrange",
    },
    "ingest": {
        "": "ping client|setname multi exec",
        "stream": "xadd xinfo|stream xrange",
        "progress": "hgetall hset hdel expire",
    },
    "dead": {
        "": "ping client|setname scan",
        "state": "exists type get set incrby del unlink rename xlen xdel xtrim xread xrange "
        "xrevrange xinfo|stream",
        "stream": "exists eval xrange xrevrange xinfo|stream xinfo|groups xinfo|consumers "
        "xgroup|create xgroup|destroy xpending xadd",
        "bad rows": "exists eval xrange xrevrange xinfo|stream xdel xtrim",
    },
}
"""The rights that each command of streamclust needs, as in deploy/redis-acl.conf."""

_WRITE_ALERTS = "type xadd xinfo|stream"

_SHARED = {"dead": "`dead`, `peek`, `codes`, `alerts` and `models`"}
"""Commands that share the rights of one user in that file."""


def check_rights(
    client: redis.Redis, namespace: str, models: Mapping[str, ModelSettings]
) -> Iterator[Check]:
    """Yield the checks of the rights of the client's user."""
    missing: dict[str, list[str]] = {}
    for name, model in models.items():
        for command, needs in _needed(name, model).items():
            questions = list(_questions(needs, Keys(namespace, name), model.streams))
            try:
                answers: Any = client.eval(_ASK, 0, json.dumps([words for words, _ in questions]))
            except redis.ResponseError as error:
                if not re.search("NOPERM|permission", str(error)):
                    raise
                yield Check("fail", "rights", "the user lacks +eval; see deploy/redis-acl.conf")
                return
            if answers is None:
                yield Check("ok", "rights", "not checked: the server is older than Redis 7")
                return
            pairs = zip(questions, answers, strict=True)
            refused = [text for (_, text), permitted in pairs if not permitted]
            missing.setdefault(command, []).extend(refused)
    names = {command: _SHARED.get(command, f"`{command}`") for command in missing}
    permitted = ", ".join(names[command] for command, refused in missing.items() if not refused)
    if permitted:
        yield Check("ok", "rights", f"the user may run {permitted}")
    for command, refused in missing.items():
        if refused:
            yield Check(
                "fail" if command == "worker" else "warn",
                "rights",
                f"the user may not run {names[command]}: it lacks "
                f"{', '.join(dict.fromkeys(refused))}; see deploy/redis-acl.conf",
            )


def _needed(name: str, model: ModelSettings) -> dict[str, Needs]:
    """Return the rights for each command, with those that the settings of the model add."""
    worker = dict(_WORKER)
    if has_placeholder(name):
        worker[""] += " scan"
    if model.trim.kind != "none":
        worker[""] += " time"
        worker["stream"] += " xpending xlen xtrim"
    if model.worker_alerts:
        worker["alerts"] = _WRITE_ALERTS
        worker["models"] += " xrevrange"
    if model.encode.worker:
        worker["codes"] = "xrevrange"
        if model.start != "earliest":
            worker["codes"] += " xgroup|create xgroup|destroy xsetid"
    encode = dict(NEEDS["encode"])
    others = set(model.encode.streams) - set(model.streams)
    if model.anomaly.rate is not None and (others or not model.anomaly.worker):
        encode["alerts"] = f"eval {_WRITE_ALERTS}"
    return {**NEEDS, "worker": worker, "encode": encode}


def _questions(
    needs: Needs, keys: Keys, streams: tuple[str, ...]
) -> Iterator[tuple[list[str], str]]:
    """Yield each command as a list of words, and as a text for people."""
    places: Mapping[str, Sequence[str]] = {
        "": [""],
        "state": [keys.state],
        "models": [keys.models],
        "codes": [keys.codes()],
        "alerts": [keys.alerts],
        "stream": streams,
        "progress": [progress_key(stream) for stream in streams],
        "bad rows": [dead_key(stream) for stream in streams],
    }
    for place, commands in needs.items():
        for key in places[place]:
            for command in commands.split():
                arguments = [key if word == "KEY" else word for word in _SHAPES[command].split()]
                if command == "eval":
                    arguments = ["return 1", "1", key]
                words = [*command.split("|"), *arguments]
                yield words, f"+{command}" + (f" on {key}" if key else "")
