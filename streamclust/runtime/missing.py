"""Refuses streams that don't exist, for daemons that don't wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamclust.errors import UnknownStreamError
from streamclust.store.stream.names import missing_streams, missing_text, similar_streams

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from streamclust.runtime.job import Job


def refuse_missing(
    job: Job, client: redis.Redis, streams: Sequence[str], *, every: bool = True
) -> None:
    """Raise an error if streams of a model don't exist.

    Parameters
    ----------
    job : Job
    client : redis.Redis
    streams : sequence of str
    every : bool, default=True
        Whether every stream must exist; otherwise one is enough.

    Raises
    ------
    UnknownStreamError
        The message names the streams, and a stream with a similar name.
    """
    missing = missing_streams(client, streams)
    if not missing or (len(missing) < len(streams) and not every):
        return
    texts = "; ".join(missing_text(stream, job.server.label, end="") for stream in missing)
    near = similar_streams(client, missing[0])
    hint = (
        f"did you mean {near[0]!r}?"
        if near
        else f"write points to it first: streamclust ingest FILE --stream {missing[0]}"
    )
    raise UnknownStreamError(f"models.{job.name}.streams: {texts}; {hint}")
