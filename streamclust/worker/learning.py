"""One model as it is learned: batches in, commits out. No loop, no clock of its own."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from streamclust.errors import DataError
from streamclust.failpoints import passing
from streamclust.runtime.assemble import first_state, load_checkpoint, make_learner
from streamclust.runtime.log import warn_of_less
from streamclust.store.checkpoint import Checkpoint, Covered, encode_checkpoint
from streamclust.store.commit import Commit, DeadLetters, commit
from streamclust.store.dead import DeadPoint
from streamclust.store.gaps import Gap, Lost, gap_words
from streamclust.store.position import begin, check_type, mirror
from streamclust.store.proposal import reason_of, under_way
from streamclust.store.published import LARGEST_ID, SWAPS, Model, Reason, encode_model
from streamclust.store.read_size import read_value
from streamclust.store.streams import entries_read, order, probe
from streamclust.store.subscription import read_model_id
from streamclust.store.trimming import trim
from streamclust.worker.due import Cadence
from streamclust.worker.lost_commits import Memory
from streamclust.worker.own_codes import OwnCodes
from streamclust.worker.solver import Solver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import redis
    from structlog.typing import FilteringBoundLogger

    from streamclust.online.learner import Info, LearnerState, StreamLearner
    from streamclust.runtime.activity import Activity
    from streamclust.runtime.assemble import Settings
    from streamclust.store.keys import Keys
    from streamclust.store.source import Batch

_NUMERICAL = (ArithmeticError, ValueError)  # DataError and LinAlgError are the latter
"""What a batch raises that can't be learned; anything else is no trouble of the batch."""

_SET_ASIDE = 10
"""Batches in a row that may be set aside. When more can't be learned, it is the model that can't go
on: it is parked, and its points stay where they are."""

_REASONS = 20
"""Kinds of reasons that are logged, for which batches were set aside."""


@dataclass(frozen=True)
class Progress:
    """What an operator wants to see between two looks."""

    phase: str
    points: int
    dead: int
    version: int
    loss: float | None
    lost: Lost
    drifts: int


class Learning:
    """Learns one model and commits what it learned, under one fencing token.

    Parameters
    ----------
    name : str
    settings : KMeansSettings or GaussianMixtureSettings
    client : redis.Redis
    keys : Keys
    token : int
        The lease's.
    log : structlog logger
    clock : callable, optional
        For the cadences; seconds.
    memory : Memory, optional
        Of the worker's earlier sessions.
    reader : redis.Redis, optional
        For the points that are encoded; else `client`.
    activity : Activity, optional
        Where progress is recorded.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        client: redis.Redis,
        keys: Keys,
        token: int,
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.monotonic,
        memory: Memory | None = None,
        reader: redis.Redis | None = None,
        activity: Activity | None = None,
    ) -> None:
        self._name = name
        self._settings = settings
        self._client = client
        self._keys = keys
        self._token = token
        self._log = log
        self._learner = make_learner(settings)
        self._commits = Cadence(settings.commit.points, float(settings.commit.every), clock)
        self._dead = DeadLetters()
        self._shown: Mapping[str, str] = {}
        self._said = ""
        self._model_id = 0
        self._memory = memory or Memory()
        found = read_checkpoint(name, settings, client, keys)
        if found is not None:
            if found.version:
                self._model_id = read_model_id(client, keys)
            log.info("continuing", points=found.learner.points, version=found.version)
        self._memory.compare(found, log)
        self._codes = (
            OwnCodes(client, keys, settings, reader or client, warn_of_less(log))
            if settings.encode.worker
            else None
        )
        self._checkpoint = self._committed = found or self._new()
        self._solver = Solver(self._learner, activity)
        self._solver.begin(self._checkpoint.learner)
        self._publishes = Cadence(
            settings.publish.points,
            float(settings.publish.every),
            clock,
            counted=self._checkpoint.unpublished,
        )
        if found is None or self._add_streams():  # where a stream begins is committed too
            self._commit(publish=self._first)
        else:  # the worker before may have died between a commit and its mirror
            self._mirror(self._checkpoint)
        if self._codes is not None:
            self._codes.catch_up(self._committed.position)

    @property
    def checkpoint(self) -> Checkpoint:
        """Where learning is now; ahead of what is committed."""
        return self._checkpoint

    @property
    def model_id(self) -> int:
        """The model ID (see `Keys.id`); 0 before the first version."""
        return self._model_id

    @property
    def committed(self) -> Checkpoint:
        """What the server has."""
        return self._committed

    @property
    def settled(self) -> bool:
        """Whether all that was learned is committed."""
        return self._checkpoint is self._committed

    @property
    def learner(self) -> StreamLearner[Any]:
        """What learns the batches."""
        return self._learner

    @property
    def progress(self) -> Progress:
        """What to show of it."""
        state = self._checkpoint.learner
        loss = self._learner.loss(state)
        phase = "learning" if state.params is not None else "warming"
        at = self._checkpoint
        lost = sum(at.lost.values(), Lost())
        drifts = state.drift.drifts
        return Progress(phase, state.points, at.dead, at.version, loss, lost, drifts)

    def learn(self, batch: Batch) -> None:
        """Score and learn a batch; commit and publish if that is due.

        A batch that the numerics can't learn is set aside: its points count as refused, and
        `:dead` has the reason.

        Raises
        ------
        DataError
            If the last ones before it could not be learned either.
        """
        passing("computing")
        state, dead = self._checkpoint.learner, batch.refused
        set_aside = False
        if len(batch.X):
            try:
                state = self._learned(state, batch)
                self._memory.set_aside = 0
            except _NUMERICAL as error:
                dead += len(batch.X)
                batch, set_aside = self._set_aside(batch, error), True
        self._checkpoint = replace(
            self._checkpoint,
            learner=state,
            position=batch.position,
            read=batch.entries_added,
            lost=_more_lost(self._checkpoint.lost, batch.gaps),
            layout=batch.layout,
            dead=self._checkpoint.dead + dead,
        )
        letters = DeadLetters([*self._dead.parts, *batch.dead.parts])
        self._dead = letters.newest(self._settings.dead.keep)
        for gap in batch.gaps:
            self._tell_gap(gap)
        taken = len(batch.X) + dead
        self._commits.count(max(taken, 1))
        self._publishes.count(max(taken, 1))
        if set_aside:
            self._commit(publish=False)
        self.tick()

    def _learned(self, state: LearnerState[Any], batch: Batch) -> LearnerState[Any]:
        try:
            state = self._solver.answered(state, len(batch.X))
            after, info = self._learner.learn(state, batch.X, batch.w, time_ms=batch.time_ms)
        except _NUMERICAL as error:
            if state.pending is None:
                raise
            # It may be the fit of the coreset that fails, which can be done without.
            state = replace(state, pending=None)
            after, info = self._learner.learn(state, batch.X, batch.w, time_ms=batch.time_ms)
            self._log.warning(
                "a fit of the coreset failed; learning goes on without it", error=str(error)
            )
        self._solver.begin(after)
        self._tell(info, after.points)
        return after

    def _set_aside(self, batch: Batch, error: Exception) -> Batch:
        """Return a batch without points: in their place, one dead letter per stream with the range.

        What came before is committed first, so that the numbers of dead letters depend on no
        cadence.
        """
        self._memory.set_aside += 1
        if self._memory.set_aside > _SET_ASIDE:
            raise DataError(
                f"{_SET_ASIDE} batches in a row could not be learned, and the next can't either: "
                f"{error}; the points from here on are left in the streams"
            ) from error
        if not self.settled:
            self._commit(publish=False)
        before, n = self._checkpoint.position, len(batch.X)
        letters = [
            DeadPoint(
                (stream, end),
                -1,
                f"batch of {n} points, the entries after {before.get(stream, '0-0')} up to {end}: "
                f"can't be learned: {str(error)[:300]}",
                b"",
            )
            for stream, end in batch.position.items()
            if end != before.get(stream)
        ]
        kind = f"{type(error).__name__}: {re.sub('[0-9]+', '#', str(error))}"
        if kind not in self._memory.reasons and len(self._memory.reasons) < _REASONS:
            self._memory.reasons.add(kind)
            self._log.warning("a batch can't be learned", points=n, reason=str(error))
        dead = DeadLetters([*batch.dead.parts, *letters[-n:]])
        return replace(batch, X=batch.X[:0], w=None, dead=dead)

    def tick(self) -> None:
        """Commit, and publish, if that is due."""
        if self._publishes.due or self._first or self._drifted or self._resized:
            self._commit(publish=True)
        elif self._commits.due:
            self._commit(publish=False)

    def begin_now(self) -> None:
        """Leave the warm-up with what there is, because no more will come."""
        state = self._checkpoint.learner
        if state.params is None and len(state.sample):
            state, info = self._learner.start(state)
            self._checkpoint = replace(self._checkpoint, learner=state)
            self._tell(info, state.points)

    def adopt(self, state: LearnerState[Any], refit: str) -> None:
        """Go on from a refit, which covers all that was learned so far: commit and publish it."""
        self._checkpoint = replace(self._checkpoint, learner=state, refit=refit)
        self._commit(publish=True, reason=reason_of(refit))

    def leave(self) -> None:
        """Commit and publish what isn't yet."""
        if self._checkpoint is not self._committed or self._news:
            self._commit(publish=self._news, reason="leave")

    @property
    def _first(self) -> bool:
        return self._checkpoint.version == 0 and self._checkpoint.learner.params is not None

    @property
    def _drifted(self) -> bool:
        return self._checkpoint.learner.drift.drifts > self._checkpoint.published_drifts

    @property
    def _resized(self) -> bool:
        return self._checkpoint.learner.resizes > self._checkpoint.published_resizes

    @property
    def _news(self) -> bool:
        """Whether there is a model that differs from the newest version."""
        learned = self._checkpoint.learner.points > self._checkpoint.published
        return self._checkpoint.learner.params is not None and (learned or self._first)

    def _commit(self, *, publish: bool, reason: Reason = "step") -> None:
        after, model, model_id = self._checkpoint, None, self._model_id
        refit = after.refit if reason in SWAPS else ""
        if publish and (self._news or refit):
            model = self._model(reason)
            model_id = model_id or self._new_id()
            after = replace(
                after,
                version=model.version,
                published=after.learner.points,
                published_revivals=after.learner.revivals,
                published_resolves=after.learner.resolves,
                published_resizes=after.learner.resizes,
                published_drifts=after.learner.drift.drifts,
            )
        if publish:  # also where there was nothing to publish: it was looked at
            self._publishes.reset()
        after = replace(after, unpublished=self._publishes.counted)
        what = Commit(
            token=self._token,
            state=encode_checkpoint(after, self._learner.family),
            model=model,
            payload=b"" if model is None else encode_model(model),
            dead=tuple(self._dead),
            first_dead=after.dead - len(self._dead) + 1,
            refit=refit,
            model_id=model_id,
            codes=() if self._codes is None else self._codes.up_to(after.position),
        )
        keep, keep_dead = self._settings.publish.keep, self._settings.dead.keep
        commit(self._client, self._keys, what, keep=keep, keep_dead=keep_dead)
        self._model_id = model_id
        self._landed(after, model and replace(model, model_id=model_id))

    def _landed(self, after: Checkpoint, model: Model | None) -> None:
        refused = after.dead - self._committed.dead
        if refused:
            self._log.warning("points refused", count=refused, last_reason=self._dead[-1].reason)
        self._checkpoint = self._committed = after
        self._memory.landed(after)
        if self._codes is not None:
            self._codes.landed(after.position, model)
        self._dead = DeadLetters()
        self._commits.reset()
        if model is not None:
            score = {model.score_name: None if model.score is None else round(model.score, 6)}
            self._log.info(
                "published",
                version=model.version,
                points=model.points,
                reason=model.reason,
                **score,
            )
        self._mirror(after)
        self._trim(after.position)

    def _mirror(self, at: Checkpoint) -> None:
        mirror(self._client, self._keys.group, at.position, at.read, self._shown)
        self._shown = at.position

    def _trim(self, position: Mapping[str, str]) -> None:
        """Remove entries that the settings want removed."""
        policy = self._settings.trim
        if policy.kind == "none" or under_way(self._client, self._keys):
            return  # what was learned since a refit began is read again
        limits = policy.model_dump(exclude={"kind"})
        for stream, last_id in position.items():
            trim(self._client, stream, last_id, **limits)

    def _model(self, reason: Reason) -> Model:
        state, family = self._checkpoint.learner, self._learner.family
        if state.stats is None:
            raise AssertionError("a model that has parameters has statistics")
        if reason not in SWAPS and self._checkpoint.version == 0:
            reason = "start"
        elif reason not in SWAPS and self._drifted:
            reason = "drift"
        elif reason not in SWAPS and state.revivals > self._checkpoint.published_revivals:
            reason = "reseed"
        elif reason not in SWAPS and self._resized:
            reason = "resize"
        elif reason not in SWAPS and state.resolves > self._checkpoint.published_resolves:
            reason = "resolve"
        if family.fewest is not None:
            family = family.with_components(len(state.stats.weight))
        layout = self._checkpoint.layout
        return Model(
            name=self._name,
            version=self._checkpoint.version + 1,
            reason=reason,
            family=family,
            params=self._learner.in_units(state),
            mass=state.stats.weight,
            position=self._checkpoint.position,
            points=state.points,
            loss=self._learner.loss(state),
            time_ms=state.time_ms,
            features=() if layout is None else layout.features,
            ids=state.ids,
            layout=layout,
            scale=self._settings.scale,
        )

    def _new_id(self) -> int:
        """Draw a model ID; see `Keys.id`.

        No random state of the learner is used, and the ID is no part of the state: so the state of
        a model that learns the same points again has the same bytes.
        """
        drawn = 2 + 2 * secrets.randbelow((LARGEST_ID - 1) // 2)
        if self._checkpoint.version == 0 and any(map(self._has_entries, self._code_keys)):
            return drawn + 1
        return drawn

    @property
    def _code_keys(self) -> Iterable[str]:
        """Every key that may hold codes by this model."""
        streams = {*self._settings.streams, *self._settings.encode.streams}
        return self._keys.codes(), *map(self._keys.codes, sorted(streams))

    def _has_entries(self, key: str) -> bool:
        found: Any = self._client.type(key)
        if found != b"stream":
            return False
        info: Any = self._client.xinfo_stream(key)
        return bool(info["length"])

    def _new(self) -> Checkpoint:
        state = first_state(self._name, self._settings, self._learner)
        position = begin(self._client, self._settings.streams, self._settings.start)
        self._log.info("new model", position=position)
        if self._codes is not None:
            self._codes.begin(position)
        read = entries_read(self._client, position)
        return Checkpoint(learner=state, position=position, read=dict(read))

    def _add_streams(self) -> bool:
        """Take the streams from the settings; say whether there are new ones."""
        at, streams = self._checkpoint, self._settings.streams
        position = {**at.left.position, **at.position}
        begun = begin(self._client, [s for s in streams if s not in position], self._settings.start)
        if self._codes is not None:
            self._codes.begin(begun)
        position |= begun
        self._tell_begun(begun, {s: end for s, end in position.items() if s not in streams})
        read = {**at.left.read, **at.read, **entries_read(self._client, begun)}
        self._checkpoint = self._committed = replace(
            at,
            position={stream: position[stream] for stream in streams},
            read={stream: read[stream] for stream in streams if stream in read},
            left=Covered(
                position={s: end for s, end in position.items() if s not in streams},
                read={s: count for s, count in read.items() if s not in streams},
            ),
        )
        return bool(begun)

    def _tell_begun(self, begun: Mapping[str, str], retired: Mapping[str, str]) -> None:
        """Say where new streams begin, and which could be old ones under another name.

        RENAME keeps the IDs: such a stream has the entry at which the old one was left.
        """
        setting = f"models.{self._name}.start"
        for stream, first in begun.items():
            left = {s: end for s, end in retired.items() if order(first) < order(end)}
            same = [s for s, end in left.items() if probe(self._client, stream, end) is True]
            where = {"stream": stream, "position": first}
            if same:
                self._log.warning(
                    "this stream looks like one that the config no longer names: points that were "
                    "learned under the old name are learned again",
                    **where,
                    no_longer_configured={s: left[s] for s in same},
                    mend=f"stop the worker and go back (streamclust models rollback); for a stream "
                    f"that is renamed, set {setting} to its last position before the first start "
                    f"under the new name, here {left[same[0]]}",
                )
            elif left:
                self._log.warning(
                    "a stream that the model has not read before is read from the configured start",
                    **where,
                    no_longer_configured=dict(left),
                    mend=f"to begin elsewhere, set {setting} (earliest, latest or an ID) before "
                    "the first start with a stream",
                )
            else:
                self._log.info("new stream", **where)

    def _tell_gap(self, gap: Gap) -> None:
        event, told = gap_words(gap)
        self._log.warning(event, stream=gap.stream, after=gap.after, **told)

    def _tell(self, info: Info, points: int) -> None:
        if info.phase == "started":
            self._log.info("warm-up done", points=info.points)
        if info.drifted:
            self._log.warning("drift", points=points)
        if info.born or info.died:
            born, died = list(info.born), list(info.died)
            K = len(self._checkpoint.learner.ids) + len(born) - len(died)
            self._log.info("components changed", born=born, died=died, n_components=K)
        if info.resolved:
            self._log.info("clustered anew", points=points)
        if info.revived:
            self._log.info("components revived", components=list(info.revived))
        if info.phase == "warming" and info.reason != self._said and "distinct" in info.reason:
            self._said = info.reason
            self._log.warning("warming up", reason=info.reason)


def read_checkpoint(
    name: str, settings: Settings, client: redis.Redis, keys: Keys
) -> Checkpoint | None:
    """Return the committed state of a model; None if there is none.

    Raises
    ------
    ServerError
        If a stream or the state is a key of another type.
    FormatError
        If the state is damaged, or doesn't fit the settings.
    """
    for stream in settings.streams:
        check_type(client, stream, "stream", f"models.{name}.streams")
    check_type(client, keys.state, "string", "namespace")
    data: Any = read_value(client, keys.state, lambda: client.get(keys.state))
    return None if data is None else load_checkpoint(data, settings, f"key {keys.state}")


def _more_lost(lost: Mapping[str, Lost], gaps: Iterable[Gap]) -> dict[str, Lost]:
    more = dict(lost)
    for gap in gaps:
        more[gap.stream] = more.get(gap.stream, Lost()).plus(gap)
    return {stream: each for stream, each in more.items() if each != Lost()}
