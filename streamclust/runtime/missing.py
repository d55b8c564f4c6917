"""The error for streams that don't exist, for daemons that don't wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamclust.errors import UnknownStreamError
from streamclust.store.stream.names import missing_hint, missing_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from streamclust.runtime.job import Job


def missing_error(job: Job, client: redis.Redis, missing: Sequence[str]) -> UnknownStreamError:
    """Return the error for streams of a model that don't exist; it names a similar stream."""
    texts = "; ".join(missing_text(stream, job.server.label, end="") for stream in missing)
    hint = missing_hint(client, missing[0])
    return UnknownStreamError(f"models.{job.name}.streams: {texts}; {hint}")
