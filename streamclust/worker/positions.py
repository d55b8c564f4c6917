"""The position at which a model continues: its state, and positions of new and removed streams."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.arrays import has_gaps
from streamclust.formats.checkpoint import Checkpoint, Covered
from streamclust.formats.lost import Lost
from streamclust.runtime.assemble import first_state, load_checkpoint
from streamclust.store.ids import order
from streamclust.store.model.state import read_state
from streamclust.store.stream.info import entries_read, probe
from streamclust.store.stream.position import begin, check_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from streamclust.config.model import ModelSettings
    from streamclust.online.learner import LearnerState, StreamLearner
    from streamclust.store.model.keys import Keys
    from streamclust.store.stream.batches import Batch
    from streamclust.worker.context import ModelContext


def read_checkpoint(
    name: str, settings: ModelSettings, client: redis.Redis, keys: Keys
) -> Checkpoint | None:
    """Return the committed state of a model; None if the server has none.

    Raises
    ------
    ServerError
        If a stream or the state is a key of another type.
    FormatError
        If the state is damaged, or doesn't fit the settings.
    """
    for stream in settings.streams:
        check_type(client, stream, "stream", f"models.{name}.streams")
    for key in (keys.state, keys.coreset):
        check_type(client, key, "string", "namespace")
    found = read_state(client, keys)
    if found is None:
        return None
    return load_checkpoint(found.state, settings, f"key {keys.state}", found.coreset)


def new_checkpoint(context: ModelContext, learner: StreamLearner[Any]) -> Checkpoint:
    """Return the checkpoint of a model that has learned nothing yet."""
    settings, client = context.settings, context.client
    state = first_state(context.name, settings, learner)
    position = begin(client, settings.streams, settings.start)
    context.log.info("model_created", position=position)
    return Checkpoint(learner=state, position=position, read=dict(entries_read(client, position)))


def with_streams_of_settings(
    context: ModelContext, checkpoint: Checkpoint
) -> tuple[Checkpoint, dict[str, str]]:
    """Return a checkpoint with the streams of the settings, and the positions of the new streams.

    A stream that the settings no longer name keeps its position in `Checkpoint.former_streams`: the
    model continues there when the settings name this stream again.
    """
    client, settings = context.client, context.settings
    streams = settings.streams
    position = {**checkpoint.former_streams.position, **checkpoint.position}
    new = begin(client, [stream for stream in streams if stream not in position], settings.start)
    position |= new
    retired = {stream: end for stream, end in position.items() if stream not in streams}
    _log_new_streams(context, new, retired)
    read = {**checkpoint.former_streams.read, **checkpoint.read, **entries_read(client, new)}
    former = Covered(
        position=retired,
        read={stream: count for stream, count in read.items() if stream not in streams},
    )
    checkpoint = replace(
        checkpoint,
        position={stream: position[stream] for stream in streams},
        read={stream: read[stream] for stream in streams if stream in read},
        former_streams=former,
    )
    return checkpoint, new


def after_batch(checkpoint: Checkpoint, batch: Batch, state: LearnerState[Any]) -> Checkpoint:
    """Return the checkpoint after a batch; `state` is the state of the learner after it."""
    lost, missing = dict(checkpoint.lost), checkpoint.missing
    for gap in batch.gaps:
        lost[gap.stream] = lost.get(gap.stream, Lost()).plus(gap)
    if batch.layout is not None and batch.layout.learns_missing and has_gaps(batch.X):
        missing += int(np.isnan(batch.X).sum())
    return replace(
        checkpoint,
        learner=state,
        position=batch.position,
        read=batch.entries_added,
        lost={stream: each for stream, each in lost.items() if each != Lost()},
        layout=batch.layout,
        dead=checkpoint.dead + batch.refused,
        missing=missing,
    )


def _log_new_streams(
    context: ModelContext, new: Mapping[str, str], retired: Mapping[str, str]
) -> None:
    """Log the start positions of new streams, and which of them may be renamed streams.

    RENAME keeps the IDs: a renamed stream has the last entry that was learned under the old name.
    """
    setting = f"models.{context.name}.start"
    for stream, start in new.items():
        left = {name: end for name, end in retired.items() if order(start) < order(end)}
        same = [name for name, end in left.items() if probe(context.client, stream, end) is True]
        where = {"stream": stream, "position": start}
        if same:
            context.log.warning(
                "stream_rename_suspected",
                **where,
                no_longer_configured={name: left[name] for name in same},
                remedy="points that were learned under the old name are learned again; to undo "
                "this, stop the worker and go back (streamclust models rollback); for a renamed "
                f"stream, set {setting} to its last position before the first start under the new "
                f"name, here {left[same[0]]}",
            )
        elif left:
            context.log.warning(
                "stream_added",
                **where,
                no_longer_configured=dict(left),
                remedy=f"to start elsewhere, set {setting} (earliest, latest or an ID) before the "
                "first start with a stream",
            )
        else:
            context.log.info("stream_added", **where)
