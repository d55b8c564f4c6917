"""The live workers of a namespace: each one reports itself, and reads the reports of the others.

A worker writes one key with a time to live, whatever the number of its models. While this key
exists, the worker lives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import blake2b
from typing import Any, NamedTuple

import redis

from streamclust.store.model.keys import WorkerKeys
from streamclust.store.server.round_trip import round_trip

TROUBLES = 20
"""Maximum number of failed models that a report names."""

_REASON = 300
"""Maximum characters of a reason."""

# KEYS: the list of workers, the key of this worker. ARGV: its ID, its report or '', milliseconds,
# and the start of the keys of workers. All keys are in one slot. A worker that has ended leaves the
# list; a worker that isn't in the list enters it.
_BEAT = """
local existed = redis.call('EXISTS', KEYS[2])
if ARGV[2] ~= '' then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
local listed, ids, found, own = redis.call('GET', KEYS[1]) or '', {}, {}, false
for id in string.gmatch(listed, '%x+') do
  local report = redis.call('GET', ARGV[4] .. id)
  own = own or id == ARGV[1]
  if report or id == ARGV[1] then table.insert(ids, id) end
  if report and id ~= ARGV[1] then
    table.insert(found, id)
    table.insert(found, report)
  end
end
if not own then table.insert(ids, ARGV[1]) end
local list = table.concat(ids, ' ')
if list ~= listed then redis.call('SET', KEYS[1], list) end
return {existed, found}
"""

_LEAVE = """
redis.call('DEL', KEYS[2])
local listed, ids = redis.call('GET', KEYS[1]) or '', {}
for id in string.gmatch(listed, '%x+') do
  if id ~= ARGV[1] then table.insert(ids, id) end
end
if #ids == 0 then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], table.concat(ids, ' '))
return 0
"""


@dataclass(frozen=True)
class WorkerReport:
    """A worker's report. Each field has a default, because other versions may omit it.

    Parameters
    ----------
    id : str
        Unique per process; also the owner in the leases of its models.
    host : str
    pid : int
    release : str
        Version of streamclust.
    started, time : float
        Wall clock of the start and of the report, seconds since the epoch.
    models : int
        Number of models in its settings.
    held : int
        Models of which it holds the lease: `awake` and `asleep`.
    awake, asleep : int
        Models in memory, and models that have left memory.
    waiting : int
        Models that other workers hold, or that wait for a worker.
    failed, stalled : int
        Models that it can't continue, and models without progress for `worker.stall`.
    paused : int
        Models that users have paused; they are asleep too.
    avoids : int
        Models that have failed in this worker recently. Each of them reduces the number of models
        that it takes.
    shares : str
        Digest of the models in its settings. Workers with the same digest share their models; a
        worker with an empty digest shares with no other.
    offers : tuple of str
        Models that it has handed over just now.
    troubles : mapping of str to str
        The first failed and stalled models, with their reasons.
    """

    id: str = ""
    host: str = "?"
    pid: int = 0
    release: str = ""
    started: float = 0.0
    time: float = 0.0
    models: int = 0
    held: int = 0
    awake: int = 0
    asleep: int = 0
    waiting: int = 0
    failed: int = 0
    stalled: int = 0
    paused: int = 0
    avoids: int = 0
    shares: str = ""
    offers: tuple[str, ...] = ()
    troubles: Mapping[str, str] = field(default_factory=dict)


class Beat(NamedTuple):
    """The reply to a beat.

    Parameters
    ----------
    existed : bool
        Whether the worker's own key existed before; if not, others may have taken its models.
    others : tuple of WorkerReport
        The other live workers.
    """

    existed: bool
    others: tuple[WorkerReport, ...]


def digest(names: Iterable[str]) -> str:
    """Return a text that is the same for all workers with the same models and templates."""
    return blake2b("\n".join(sorted(names)).encode(), digest_size=8).hexdigest()


def encode_report(report: WorkerReport) -> str:
    """Return the value of a worker's key; only the first troubles, with shortened reasons."""
    first = sorted(report.troubles.items())[:TROUBLES]
    troubles = {name: reason[:_REASON] for name, reason in first}
    return json.dumps(asdict(replace(report, troubles=troubles)))


def decode_report(worker_id: str, data: bytes) -> WorkerReport:
    """Return a worker's report. A field that is missing, or has another type, gets its default."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    known = found if isinstance(found, dict) else {}
    values = {
        each.name: _checked(each.name, known[each.name])
        for each in fields(WorkerReport)
        if each.name in known
    }
    usable = {name: value for name, value in values.items() if value is not None}
    return WorkerReport(**{**usable, "id": worker_id})


def _checked(name: str, value: Any) -> Any:
    """Return the value of a field, or None if it has another type."""
    if name in ("host", "release", "shares", "id"):
        return value if isinstance(value, str) else None
    if name == "offers":
        texts = value if isinstance(value, list) else []
        return tuple(each for each in texts if isinstance(each, str))
    if name == "troubles":
        return {k: str(v) for k, v in value.items()} if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        return None
    return float(value) if name in ("started", "time") else int(value)


def beat(
    client: redis.Redis, namespace: str, worker_id: str, report: WorkerReport | None, seconds: float
) -> Beat:
    """Report a worker for `seconds`, and read the reports of the other live workers.

    Parameters
    ----------
    client : redis.Redis
    namespace : str
    worker_id : str
        Hexadecimal digits.
    report : WorkerReport or None
        None reads without a new report.
    seconds : float

    Raises
    ------
    redis.RedisError
        If the server can't be reached, or refuses.
    """
    keys = WorkerKeys(namespace)
    data = "" if report is None else encode_report(report)
    names = (keys.workers, keys.worker(worker_id))
    answer: Any = client.eval(
        _BEAT, 2, *names, worker_id, data, int(seconds * 1000), keys.worker("")
    )
    existed, found = answer
    pairs = zip(found[::2], found[1::2], strict=True)
    return Beat(bool(existed), tuple(decode_report(key.decode(), data) for key, data in pairs))


def leave(client: redis.Redis, namespace: str, worker_id: str) -> None:
    """Remove a worker that has returned its leases."""
    keys = WorkerKeys(namespace)
    client.eval(_LEAVE, 2, keys.workers, keys.worker(worker_id), worker_id)


def read_workers(client: redis.Redis, namespace: str) -> list[WorkerReport]:
    """Return the reports of all live workers of a namespace, in the order of host and start.

    Raises
    ------
    redis.RedisError
        If the server can't be reached, or refuses.
    """
    keys = WorkerKeys(namespace)
    listed: Any = client.get(keys.workers)
    ids = re.findall(r"[0-9a-f]+", (listed or b"").decode(errors="replace"))
    names = [keys.worker(each) for each in ids]
    replies = round_trip(client, [(name, ("GET", name)) for name in names]) if names else []
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    pairs = zip(ids, replies, strict=True)
    found = [decode_report(each, data) for each, data in pairs if data is not None]
    return sorted(found, key=lambda report: (report.host, report.started, report.id))


def is_live(client: redis.Redis, namespace: str, worker_id: str) -> bool:
    """Return whether a worker lives; True if the user may not read the workers' keys."""
    try:
        return client.get(WorkerKeys(namespace).worker(worker_id)) is not None
    except redis.exceptions.NoPermissionError:
        return True
