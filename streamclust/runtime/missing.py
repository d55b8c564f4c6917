"""The error for streams that don't exist, for daemons that don't wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamclust.errors import UnknownStreamError
from streamclust.store.stream.names import missing_text, similar_streams

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from streamclust.runtime.job import Job


def missing_error(job: Job, client: redis.Redis, missing: Sequence[str]) -> UnknownStreamError:
    """Return the error for streams of a model that don't exist; it names a similar stream."""
    texts = "; ".join(missing_text(stream, job.server.label, end="") for stream in missing)
    near = similar_streams(client, missing[0])
    hint = (
        f"did you mean {near[0]!r}?"
        if near
        else f"write points to it first: streamclust ingest FILE --stream {missing[0]}"
    )
    return UnknownStreamError(f"models.{job.name}.streams: {texts}; {hint}")
