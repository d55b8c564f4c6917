"""Commits of one model: state, position, version, dead letters and codes in one transaction."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from streamclust.formats.checkpoint import encode_commit, stored_points
from streamclust.formats.dead import DeadLetters
from streamclust.formats.model import LARGEST_ID, encode_model
from streamclust.store.model.commit import Commit, PointsChangedError, commit
from streamclust.store.model.proposal import has_refit
from streamclust.store.stream.position import mirror
from streamclust.store.stream.trimming import trim
from streamclust.worker.own_codes import NO_OUTPUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamclust.formats.checkpoint import Checkpoint
    from streamclust.formats.model import Model
    from streamclust.formats.state_points import StatePoints
    from streamclust.models import Family
    from streamclust.worker.context import ModelContext
    from streamclust.worker.own_codes import OwnCodes


_LARGE_VERSIONS = 1 << 30
"""Bytes of all stored versions of a model, above which the worker logs a warning."""

_LARGE_RATE = 1 << 20
"""Bytes of states per second, above which the worker logs a warning."""


class Commits:
    """Commits one model under one fencing token.

    Parameters
    ----------
    context : ModelContext
    token : int
        Token of the lease.
    family : KMeans or GaussianMixture
        Family of the state.
    codes : OwnCodes or None
        None if the worker writes no codes.
    committed : Checkpoint
        The checkpoint that the server has.
    model_id : int
        The model ID (see `Keys.id`); 0 before the first version.

    Attributes
    ----------
    committed : Checkpoint
    model_id : int
    state_bytes : int
        Size of the newest state; 0 before the first commit.
    """

    def __init__(
        self,
        context: ModelContext,
        token: int,
        family: Family[Any],
        codes: OwnCodes | None,
        committed: Checkpoint,
        model_id: int,
    ) -> None:
        self._context = context
        self._token = token
        self._family = family
        self._codes = codes
        self._mirrored: Mapping[str, str] = {}
        self._points: StatePoints | None = None
        self._warned = False
        self.state_bytes = 0
        self.committed = committed
        self.model_id = model_id

    def write(
        self, after: Checkpoint, model: Model | None, dead: DeadLetters, refit: str = ""
    ) -> None:
        """Commit a checkpoint, and publish a version with it.

        Parameters
        ----------
        after : Checkpoint
        model : Model or None
            The version to publish.
        dead : DeadLetters
            The points that were rejected since the last commit.
        refit : str
            ID of the refit that this checkpoint adopts; empty without one.
        """
        log = self._context.log
        model_id = self.model_id or (0 if model is None else self._new_id())
        output = NO_OUTPUT if self._codes is None else self._codes.up_to(after.position)
        what = Commit(
            token=self._token,
            state=b"",  # `_send` encodes it
            model=model,
            payload=b"" if model is None else encode_model(model),
            dead=tuple(dead),
            first_dead=after.dead - len(dead) + 1,
            refit=refit,
            model_id=model_id,
            codes=output.codes,
            alerts=output.flagged.alerts,
            skipped_alerts=output.flagged.count - len(output.flagged.alerts),
        )
        self._send(after, what)
        rejected = after.dead - self.committed.dead
        self.committed, self.model_id = after, model_id
        self._context.lost_commits.record(after)
        if output.flagged.count:
            log.debug("anomalies_flagged", count=output.flagged.count)
        if rejected:
            log.warning("points_rejected", count=rejected, last_reason=dead[-1].reason)
        if self._codes is not None:
            self._codes.record_commit(after.position, model and replace(model, model_id=model_id))
        if model is not None:
            score = {model.score_name: None if model.score is None else round(model.score, 6)}
            log.info(
                "model_published",
                version=model.version,
                points=model.points,
                reason=model.reason,
                **score,
            )
        self.mirror()
        self._trim()

    def _send(self, after: Checkpoint, what: Commit) -> None:
        """Send a commit with the state, and with those of its points that the server doesn't have.

        All points are sent if the server has unexpected points: an earlier release wrote them, or
        the key was deleted.
        """
        context, settings = self._context, self._context.settings
        keep = settings.publish.versions_to_keep(len(what.payload))
        if self._points is None:
            self._points = stored_points(self.committed, self._family)
        known: StatePoints | None = self._points
        while True:
            encoded = encode_commit(after, self._family, known)
            try:
                commit(
                    context.client,
                    context.keys,
                    replace(what, state=encoded.state, points=encoded.change),
                    keep=keep,
                    keep_dead=settings.dead.keep,
                    keep_alerts=settings.anomaly.keep,
                )
                break
            except PointsChangedError:
                if known is None:
                    raise
                known = None
        self._points, self.state_bytes = encoded.points, len(encoded.state)
        self._warn_of_large_writes(len(what.payload), keep)

    def _warn_of_large_writes(self, version_bytes: int, keep: int) -> None:
        """Log once if the stored versions, or the bytes per second, are large for a server."""
        log, settings = self._context.log, self._context.settings
        if self._warned:
            return
        published = (self.state_bytes + version_bytes) / max(float(settings.publish.every), 1.0)
        every = settings.commit.every
        committed = self.state_bytes / every if isinstance(every, float) else 0.0
        rate = max(published, committed)
        if keep * version_bytes > _LARGE_VERSIONS:
            self._warned = True
            remedy = "set publish.keep_bytes, or a smaller publish.keep"
            log.warning("versions_large", bytes=keep * version_bytes, remedy=remedy)
        elif rate > _LARGE_RATE:
            self._warned = True
            setting = "publish.every" if published >= committed else "commit.every"
            remedy = f"set {setting} to more time"
            log.warning("states_large", bytes_per_second=round(rate), remedy=remedy)

    def mirror(self) -> None:
        """Show the committed position in the consumer group of each stream."""
        checkpoint, context = self.committed, self._context
        mirror(
            context.client, context.keys.group, checkpoint.position, checkpoint.read, self._mirrored
        )
        self._mirrored = checkpoint.position

    def _trim(self) -> None:
        """Remove learned entries as the setting `trim` says.

        While a refit runs, nothing is removed: the worker will read the entries since the refit
        started again.
        """
        context, policy = self._context, self._context.settings.trim
        if policy.kind == "none" or has_refit(context.client, context.keys):
            return
        limits = policy.model_dump(exclude={"kind"})
        for stream, last_id in self.committed.position.items():
            trim(context.client, stream, last_id, **limits)

    def _new_id(self) -> int:
        """Choose a model ID; see `Keys.id`. It is odd if keys may hold codes of an earlier model.

        The ID uses no random state of the learner and is no part of the state. So a model that
        learns the same points again has the same bytes as its state.
        """
        drawn = 2 + 2 * secrets.randbelow((LARGEST_ID - 1) // 2)
        if self.committed.version:
            return drawn
        context, client = self._context, self._context.client
        streams = {*context.settings.streams, *context.settings.encode.streams}
        for key in (context.keys.codes(), *map(context.keys.codes, sorted(streams))):
            kind: Any = client.type(key)
            info: Any = client.xinfo_stream(key) if kind == b"stream" else {"length": 0}
            if info["length"]:
                return drawn + 1
        return drawn
