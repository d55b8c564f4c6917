"""One row per model: the figures of the overview, small enough for thousands of models."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from streamclust.store.model.ordering import sort_key
from streamclust.store.model.totals import PHASES
from streamclust.text import is_pattern, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamclust.store.model.overview import Overview

SCORES = 32
"""Number of the newest scores that a row has."""

_GROUPS = 100


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one model; None stands for a figure that doesn't exist or is unknown.

    Parameters
    ----------
    name, label, group : str
        `label` is the name made printable; `group` is the template, or else the name.
    phase : str
    failed : bool
    reason : str or None
    waiting : tuple of str
        Each thing that the model waits for, as a sentence.
    worker, kind, score_name : str or None
    n_components, n_features, version, model_id, published_ms, points, lag, dead, drifts : int, None
    event_time_ms, rate, score : float or None
    lost_entries, unknown_gaps : int or None
    alerts : int or None
    warm_up : tuple of (int, int) or None
        Points of the unfinished warm-up, and the number that ends the warm-up.
    paused : tuple of (int or None, str, str), or None
        Since when, by whom and why a user has paused the model.
    scores : tuple of float
        The newest scores, oldest first.
    """

    name: str
    label: str
    group: str
    phase: str
    failed: bool
    reason: str | None
    waiting: tuple[str, ...]
    worker: str | None
    kind: str | None
    n_components: int | None
    n_features: int | None
    version: int | None
    model_id: int | None
    published_ms: int | None
    event_time_ms: float | None
    points: int | None
    rate: float | None
    lag: int | None
    lost_entries: int | None
    unknown_gaps: int | None
    dead: int | None
    alerts: int | None
    drifts: int | None
    score: float | None
    score_name: str | None
    warm_up: tuple[int, int] | None
    paused: tuple[int | None, str, str] | None = None
    scores: tuple[float, ...] = ()

    @classmethod
    def of(cls, found: Overview, group: str, server: str) -> Row:
        """Return the row of an overview. `server` is the name of the server for sentences."""
        model, health, pause = found.model, found.health, found.pause
        K, D = (None, None) if model is None else model.shape
        since = None if pause is None else int(1000.0 * pause.since) or None
        return cls(
            name=found.name,
            label=printable(found.name),
            group=group,
            phase=found.phase,
            failed=found.failed,
            reason=printable(found.reason) or None,
            waiting=tuple(map(printable, found.waits(server))),
            worker=None if health is None else printable(f"{health.host}:{health.pid}"),
            kind=None if model is None else model.kind,
            n_components=K,
            n_features=D,
            version=None if model is None else model.version,
            model_id=None if model is None else model.model_id or None,
            published_ms=None if model is None else model.published_ms,
            event_time_ms=None if model is None else model.time_ms,
            points=found.points,
            rate=found.rate,
            lag=found.lag,
            lost_entries=found.lost_entries,
            unknown_gaps=None if found.lost is None else found.lost.unknown,
            dead=found.dead,
            alerts=found.alerts,
            drifts=None if health is None else health.drifts,
            score=None if model is None else model.score,
            score_name=None if model is None else model.score_name,
            warm_up=found.warm_up,
            paused=None if pause is None else (since, pause.by, pause.reason),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        values = {name: getattr(self, name) for name in _NAMES}
        lost, unknown = values.pop("lost_entries"), values.pop("unknown_gaps")
        values["lost"] = None if lost is None else {"entries": lost, "unknown": unknown}
        warm_up = self.warm_up
        values["warm_up"] = warm_up and {"points": warm_up[0], "of": warm_up[1]}
        paused = self.paused and dict(zip(("since_ms", "by", "reason"), self.paused, strict=True))
        values["paused"] = paused
        values["waiting"], values["scores"] = list(self.waiting), list(self.scores)
        return values

    def with_scores_of(self, before: Row | None) -> Row:
        """Return the row with the scores of an earlier row before its own score, if they fit."""
        same = before is not None and before.model_id == self.model_id
        scores = before.scores if before is not None and same else ()
        is_new = before is None or not same or before.version != self.version
        if self.score is not None and (is_new or not scores):
            scores = (*scores, self.score)[-SCORES:]
        return replace(self, scores=scores)


_NAMES = [each.name for each in fields(Row)]


def select(rows: Iterable[Row], text: str, group: str | None) -> list[Row]:
    """Return the rows of a group whose names match a pattern, or contain a text."""
    wanted = text.lower()
    if is_pattern(wanted):
        found = [row for row in rows if fnmatchcase(row.name.lower(), wanted)]
    else:
        found = [row for row in rows if wanted in row.name.lower()]
    return found if group is None else [row for row in found if row.group == group]


def in_order(rows: Iterable[Row], sort: str) -> list[Row]:
    """Return the rows in one of the orders of `streamclust.store.model.ordering`."""
    return sorted(rows, key=sort_key(sort))


def phases(rows: Iterable[Row]) -> dict[str, int]:
    """Return the number of models in each phase that occurs, problems first."""
    counts: dict[str, int] = dict.fromkeys(PHASES, 0)
    for row in rows:
        counts[row.phase] = counts.get(row.phase, 0) + 1
    return {printable(phase): n for phase, n in counts.items() if n}


def totals(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the sums of the known figures."""
    return {
        "models": len(rows),
        "failed": sum(row.failed for row in rows),
        "stopped": sum(row.phase == "stopped" for row in rows),
        "points": sum(row.points or 0 for row in rows),
        "rate": sum(row.rate or 0.0 for row in rows),
        "lag": sum(row.lag or 0 for row in rows),
        "lost": sum(row.lost_entries or 0 for row in rows),
        "dead": sum(row.dead or 0 for row in rows),
        "alerts": sum(row.alerts or 0 for row in rows),
    }


def groups(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the sums of the largest groups; nothing if each group has one model."""
    by_name: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_name[row.group].append(row)
    if all(len(group) == 1 for group in by_name.values()):
        return []
    largest = sorted(by_name.items(), key=lambda item: (-len(item[1]), item[0]))[:_GROUPS]
    return [{"name": name, "label": printable(name), **totals(found)} for name, found in largest]
