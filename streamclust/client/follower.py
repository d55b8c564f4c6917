"""Reads the versions of a model in order, also after lost connections."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from streamclust.client.reconnects import Reconnects
from streamclust.errors import DamagedVersionError, FormatError
from streamclust.store.model.versions import VERSIONS, follow, model_id_of, newest_entry
from streamclust.store.stream.read_size import ReadSize

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from streamclust.formats.model import Model
    from streamclust.store.model.keys import Keys

    OnGap = Callable[[int, int], object]

_LOOK_SECONDS = 1.0
"""Without new versions: time between checks that the server still has the last version.

The model may have been deleted and started again, with lower versions. A client may also reconnect
to a server that lost its data, without noticing the reconnection."""

_LOOK_BYTES = 1 << 18
"""A check reads the whole latest version. Each part of this size delays the check by a second."""

_LONGEST_LOOK = 10.0
"""Longest time between checks, in seconds."""

_LOG = logging.getLogger("streamclust")


class Follower(Reconnects):
    """Reads each version once, in order.

    Parameters
    ----------
    client : redis.Redis
    keys : Keys
    label : str
        Name of the server in messages.
    since : int or None
        The version before the first one to read; None starts with the latest.
    on_gap : callable or None
        Called with the first and the last version of a gap: versions that were trimmed before
        they could be read. By default, the follower logs a warning.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        label: str,
        since: int | None,
        on_gap: OnGap | None,
    ) -> None:
        super().__init__(label)
        self._client = client
        self._keys = keys
        self._last = since
        self._model_id = 0
        self._on_gap = on_gap or self._warn
        self._from_first = False  # then missing versions before the next one are a gap
        self._looked = time.monotonic()
        self._size = ReadSize(most=VERSIONS, on_less=_LOG.warning)
        self._look_seconds = _LOOK_SECONDS

    def poll(self, block_ms: int | None) -> list[Model]:
        """Return the new versions since the last call; wait for the first of them.

        Raises
        ------
        DamagedVersionError
            If the first one can't be read.
        """
        looks = time.monotonic() - self._looked > self._look_seconds
        if self._last is None or self._faults or looks:
            self._look()
        models = self._next(self._last or 0, block_ms)
        if models and self._replaced(models[0]):
            models = self._next(0)
        for model in models:
            first = 1 if self._from_first else self._last and self._last + 1
            if first and model.version > first:
                self._on_gap(first, model.version - 1)
            self._last, self._from_first = model.version, False
            self._model_id = model.model_id or self._model_id
            self._looked = time.monotonic()
        return models

    def _replaced(self, model: Model) -> bool:
        """Return whether a version belongs to another model than the versions read so far.

        Then another model has the name, and has published more versions than were read of the
        earlier model. The follower reads all versions of the new model.
        """
        if not (self._last and self._model_id and model.model_id):
            return False
        if model.model_id == self._model_id:
            return False
        known = self._next(self._last - 1, most=1)
        if known and (known[0].version, known[0].model_id) == (self._last, self._model_id):
            return False  # both are in the stream, so no version was missed
        self._begin_again(model.version, after=0)
        return True

    def _look(self) -> None:
        """Check that the last version read still exists; only this read may need a large reply."""
        newest, model_id = self._newest()
        self._looked = time.monotonic()
        same = bool(model_id) and model_id == self._model_id
        other = bool(model_id and self._model_id) and not same
        if self._last is None:
            self._last = max(newest - 1, 0)
        elif newest < self._last or (newest == self._last and other):
            self._begin_again(newest, after=max(newest - 1, 0) if same else 0)
        self._connected()

    def _begin_again(self, newest: int, after: int) -> None:
        """Continue after another version than the last one read; 0 for all stored versions."""
        _LOG.warning(
            "%s went back from version %d to %d: the server lost data, or the model was "
            "deleted and started again; continuing from there",
            self._keys.models,
            self._last,
            newest,
        )
        self._last, self._model_id, self._from_first = after, 0, not after

    def _next(self, after: int, block_ms: int | None = None, most: int = VERSIONS) -> list[Model]:
        """Return up to `most` versions after `after`."""
        found: list[Model] = []
        try:
            for model in follow(
                self._client, self._keys, after, block_ms=block_ms, size=self._size, most=most
            ):
                found.append(model)
        except DamagedVersionError:
            if not found:
                raise  # else the next call raises the error
        return found

    def _newest(self) -> tuple[int, int]:
        """Return the latest version and its model ID; 0 for a missing one."""
        entries = newest_entry(self._client, self._keys)
        if not entries:
            return 0, 0
        entry_id, fields = entries[0]
        size = len(fields.get(b"payload", b""))
        self._look_seconds = min(_LOOK_SECONDS + size / _LOOK_BYTES, _LONGEST_LOOK)
        try:
            model_id = model_id_of(fields, self._keys.models)
        except FormatError:
            model_id = 0  # the read of this version reports it
        return int(entry_id.partition(b"-")[0]), model_id

    def _warn(self, first: int, last: int) -> None:
        _LOG.warning(
            "versions %d to %d of %r were trimmed before they could be read; "
            "raise publish.keep to keep more",
            first,
            last,
            self._keys.model,
        )
