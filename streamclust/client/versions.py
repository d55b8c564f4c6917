"""Reads the versions of a model in order."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING

from streamclust.client.follower import Follower
from streamclust.errors import DamagedVersionError, FormatError
from streamclust.formats.model import Model
from streamclust.store.model.versions import VERSIONS, follow, model_id_of, newest_entry
from streamclust.store.stream.read_size import ReadSize

if TYPE_CHECKING:
    pass

_LOOK_BYTES = 1 << 18
"""A check reads the whole latest version. Each part of this size delays the check by a second."""

_LONGEST_DELAY = 9.0
"""Longest delay of a check, in seconds."""

_LOG = logging.getLogger("streamclust")


class VersionFollower(Follower[Model]):
    """Reads each version of a model once, in order."""

    noun = "version"
    setting = "publish.keep"

    _model_id = 0

    @cached_property
    def _size(self) -> ReadSize:
        return ReadSize(most=VERSIONS, on_less=_LOG.warning)

    def _read(self, block_ms: int | None) -> list[Model]:
        models = self._next(self._last or 0, block_ms)
        if models and self._replaced(models[0]):
            models = self._next(0)
        for model in models:
            self._advance(model.version)
            self._model_id = model.model_id or self._model_id
        return models

    def _replaced(self, model: Model) -> bool:
        """Return whether a version belongs to another model than the versions read so far.

        This happens if the model was created again and has published more versions than were read
        of the earlier model. Then the follower reads all versions of the new model.
        """
        if not (self._last and self._model_id and model.model_id):
            return False
        if model.model_id == self._model_id:
            return False
        known = self._next(self._last - 1, most=1)
        if known and (known[0].version, known[0].model_id) == (self._last, self._model_id):
            return False  # both are in the stream, so no version was missed
        self._begin_again(model.version)
        return True

    def _look(self) -> None:
        """Check that the last version read still exists; this check may need a large reply."""
        newest, model_id = self._newest()
        same = bool(model_id) and model_id == self._model_id
        other = bool(model_id and self._model_id) and not same
        if self._last is None:
            self._last = max(newest - 1, 0)
        elif newest < self._last or (newest == self._last and other):
            self._begin_again(newest, after=max(newest - 1, 0) if same else 0)

    def _begin_again(self, newest: int, after: int = 0) -> None:
        super()._begin_again(newest, after)
        self._model_id = 0

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
        self._delay = min(size / _LOOK_BYTES, _LONGEST_DELAY)
        try:
            model_id = model_id_of(fields, self._keys.models)
        except FormatError:
            model_id = 0  # the read of this version reports it
        return int(entry_id.partition(b"-")[0]), model_id
