"""Reads the facts of many stored versions, without their arrays.

A script cuts each version on the server, so that neither centroids nor covariances are sent. One
call looks at a limited number of bytes, so that other clients don't wait for long. A user without
the right to run scripts gets the facts of fewer versions, which are read whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis

from streamclust.errors import FormatError, StreamclustError
from streamclust.formats.container import unpack_meta, whole
from streamclust.formats.model import FORMAT
from streamclust.models import FAMILIES
from streamclust.models.family import by_kind
from streamclust.store.ids import LESS
from streamclust.store.model.attempts import is_forbidden
from streamclust.store.model.versions import check_id, model_id_of

if TYPE_CHECKING:
    from streamclust.store.model.keys import Keys

_CALL_BYTES = 8 << 20
"""Approximate maximum of bytes that one call of the script looks at."""

_WITHOUT_SCRIPT = 32
"""Maximum number of versions that are read whole."""

_HEADS = (
    LESS
    + """
local found, last, seen = {}, ARGV[1], 0
while #found < tonumber(ARGV[3]) and seen < tonumber(ARGV[4]) do
  local newest = redis.call('XREVRANGE', KEYS[1], last, ARGV[2], 'COUNT', 1)[1]
  if not newest then return {found, ''} end
  local fields = named(newest[2])
  local payload = fields['payload'] or ''
  local stop = #payload < 8 and 0 or 8 + struct.unpack('<I8', payload)
  table.insert(found, {newest[1], string.sub(payload, 1, stop), #payload,
                       fields['time'] or '', fields['model_id'] or ''})
  last, seen = '(' .. newest[1], seen + #payload + 1000
end
return {found, last}
"""
)


@dataclass(frozen=True)
class VersionHead:
    """The facts of a stored version; None stands for an unknown one.

    Parameters
    ----------
    version : int
    model_id : int
        0 if unknown.
    published_ms : int or None
    time_ms : float or None
        Event time of the newest point.
    points : int
    reason : str
    score : float or None
    score_name : str
    n_components, n_features : int
    effective_weight : float or None
    error : str
        Why the version can't be read; then only `version` and `published_ms` are known.
    """

    version: int
    model_id: int = 0
    published_ms: int | None = None
    time_ms: float | None = None
    points: int = 0
    reason: str = ""
    score: float | None = None
    score_name: str = ""
    n_components: int = 0
    n_features: int = 0
    effective_weight: float | None = None
    error: str = ""


def read_heads(
    client: redis.Redis, keys: Keys, most: int, *, after: int = 0, before: int | None = None
) -> list[VersionHead]:
    """Return the newest versions between two versions, oldest first.

    Parameters
    ----------
    client : redis.Redis
    keys : Keys
    most : int
        Maximum number of versions.
    after, before : int, optional
        The versions are larger than `after` and smaller than `before`.
    """
    end = "+" if before is None else f"({before}-0"
    start = f"({after}-18446744073709551615" if after else "-"
    found: list[VersionHead] = []
    try:
        while end and len(found) < most:
            words = end, start, most - len(found), _CALL_BYTES
            answer: Any = client.eval(_HEADS, 1, keys.models, *words)
            found += [_head(keys, *row) for row in answer[0]]
            end = answer[1].decode()
    except redis.ResponseError as error:
        if not is_forbidden(error):
            raise
        entries: Any = []
        while end and len(found) < min(most, _WITHOUT_SCRIPT):
            entries = client.xrevrange(keys.models, end, start, count=1)
            for entry_id, fields in entries:
                payload = fields.get(b"payload", b"")
                more = fields.get(b"time", b""), fields.get(b"model_id", b"")
                found.append(_head(keys, entry_id, payload, len(payload), *more))
            end = f"({entries[0][0].decode()}" if entries else ""
    found.reverse()
    return found


def _head(
    keys: Keys, entry_id: bytes, head: bytes, length: int, time: bytes, model_id: bytes
) -> VersionHead:
    version = int(entry_id.partition(b"-")[0])
    published = int(time) if time.isdigit() and len(time) < 19 else None
    where = f"{keys.models} entry {entry_id.decode()}"
    try:
        meta, _ = unpack_meta(head, length, (FORMAT,), where)
        check_id(entry_id, meta.get("version"), keys)
        return VersionHead(
            version=version,
            published_ms=published,
            model_id=model_id_of({b"model_id": model_id} if model_id else {}, where),
            **_facts(meta, where),
        )
    except FormatError as error:
        return VersionHead(version, published_ms=published, error=str(error))


def _facts(meta: dict[str, Any], where: str) -> dict[str, Any]:
    try:
        family = by_kind(FAMILIES, meta["family"]["kind"], "FAMILIES")
        loss = None if meta["loss"] is None else float(meta["loss"])
        weight = meta.get("effective_weight")
        return {
            "points": whole(meta, "points"),
            "reason": str(meta["reason"]),
            "time_ms": None if meta["time_ms"] is None else float(meta["time_ms"]),
            "score": loss if loss is None or family.objective == "inertia" else -loss,
            "score_name": family.objective,
            "n_components": whole(meta, "n_components", least=1),
            "n_features": whole(meta, "n_features", least=1),
            "effective_weight": None if weight is None else float(weight),
        }
    except (LookupError, TypeError, ValueError, ArithmeticError, StreamclustError) as error:
        raise FormatError(f"{where} holds a damaged model: {error!r}; move it away") from None
