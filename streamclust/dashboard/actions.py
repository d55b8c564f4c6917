"""Actions that change a model: refit, rollback, pause, and requeue of dead letters."""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import redis

from streamclust.client.pausing import new_pause, pause_all
from streamclust.dashboard.errors import ApiError
from streamclust.dashboard.source import now_ms
from streamclust.errors import BusyError, StreamclustError, unexpected
from streamclust.runtime.job import Job
from streamclust.runtime.log import command_log
from streamclust.store.model.dead_letters import (
    newest_letter,
    other_readers,
    plan_requeue,
    requeue_all,
)
from streamclust.store.model.pause import resume_models
from streamclust.store.server.connect import translated

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.dashboard.source import Source
    from streamclust.store.model.dead_letters import StoredLetter

KINDS = ("refit", "rollback", "pause", "resume", "requeue")

_WAIT = 60.0
"""Seconds to wait for the worker to apply a refit."""

_PAUSE_WAIT = 10.0
"""Seconds to wait for the worker to confirm a pause."""

_WAITS = "the model is paused, and applies it when it is resumed"

_REMEMBERED = 100
"""Maximum number of actions that have ended and can still be looked up."""


@dataclass(frozen=True)
class Action:
    """An action that runs or has ended.

    Parameters
    ----------
    id, kind, model : str
    state : {'running', 'done', 'failed'}
    message : str
        What was done, or why it failed.
    started_ms : int
    ended_ms : int or None
    """

    id: str
    kind: str
    model: str
    state: str
    message: str
    started_ms: int
    ended_ms: int | None = None


class Actions:
    """Runs actions in a thread, one after another.

    Parameters
    ----------
    source : Source
    on_change : callable
        Called in the event loop with each action that has ended.
    """

    def __init__(self, source: Source, on_change: Callable[[Action], None]) -> None:
        self._source = source
        self._on_change = on_change
        self._actions: dict[str, Action] = {}
        self._thread = ThreadPoolExecutor(1, "dashboard-actions")
        self._stop = threading.Event()

    def start(self, kind: str, model: str, work: Callable[[Job], str]) -> Action:
        """Start an action, and return it.

        Raises
        ------
        ApiError
            If an action of the model is running, or the settings don't have the model.
        """
        running = [each for each in self._actions.values() if each.state == "running"]
        for other in running:
            if other.model == model:
                text = f"a {other.kind} of {model!r} is running; wait until it has ended"
                raise ApiError(409, "busy", text)
        if model not in self._source.settings.models:
            text = (
                f"model {model!r} isn't in the settings of the dashboard; start the dashboard with "
                "the settings of the worker"
            )
            raise ApiError(409, "not_configured", text)
        action = Action(secrets.token_hex(8), kind, model, "running", f"{kind} runs", now_ms())
        self._remember(action)
        loop = asyncio.get_running_loop()

        def run() -> None:
            ended = self._run(action, work)
            loop.call_soon_threadsafe(self._end, ended)

        self._thread.submit(run)
        return action

    def _run(self, action: Action, work: Callable[[Job], str]) -> Action:
        source, log = self._source, command_log().bind(model=action.model)
        try:
            server = source.server()
            job = Job(action.model, source.settings, server, self._stop, until_idle=False, log=log)
            state, message = "done", work(job)
        except StreamclustError as error:
            state, message = "failed", str(error)
        except redis.RedisError as error:
            state, message = "failed", str(translated(error, source.state.label))
        except Exception as error:
            state, message = "failed", unexpected(error)
        return replace(action, state=state, message=message, ended_ms=now_ms())

    def _end(self, action: Action) -> None:
        self._remember(action)
        self._on_change(action)

    def _remember(self, action: Action) -> None:
        self._actions[action.id] = action
        for other in list(self._actions.values()):
            if len(self._actions) > _REMEMBERED and other.state != "running":
                del self._actions[other.id]

    def get(self, action_id: str) -> Action:
        """Return an action.

        Raises
        ------
        ApiError
            If it isn't remembered.
        """
        if action_id not in self._actions:
            raise ApiError(404, "not_found", f"no action has the ID {action_id[:40]!r}")
        return self._actions[action_id]

    def close(self) -> None:
        """Stop the running action at its next step."""
        self._stop.set()
        self._thread.shutdown(wait=False, cancel_futures=True)


def run_refit(job: Job) -> str:
    """Refit a model to the points that its streams still hold, and return a sentence about it."""
    from streamclust.refit.command import Callbacks, Selection, refit
    from streamclust.refit.command import Request as RefitRequest
    from streamclust.refit.runs import Plan
    from streamclust.refit.span import Span

    plan = Plan(job.model.refit.restarts, 1e-6, 300, job.model.seed)
    selection = Selection(Span(None, None, None))
    report = refit(
        job, RefitRequest(selection, plan, timeout=_WAIT), Callbacks(stop=job.stop.is_set)
    )
    if report.delivered is None:
        return f"no better fit was found to {report.points:,} points; the model is unchanged"
    if report.delivered.waits:
        return f"a better fit to {report.points:,} points was found; {_WAITS}"
    return (
        f"a better fit to {report.points:,} points was published as version "
        f"{report.delivered.version:,}"
    )


def run_rollback(job: Job, version: int) -> str:
    """Publish an older version again, and return a sentence about it."""
    from streamclust.refit.rollback import rollback

    done = rollback(job, version, _WAIT, job.stop.is_set)
    if done.waits:
        return f"the rollback to version {version} was stored; {_WAITS}"
    return f"version {version} was published again as version {done.version}"


def run_pause(job: Job, reason: str) -> str:
    """Pause a model, and return a sentence about it."""
    pause = new_pause(reason, f"the dashboard on {socket.gethostname()}")
    found = pause_all(job.server.client(), [job.keys], pause, _PAUSE_WAIT, job.stop.is_set)
    effect = found.get(job.keys)
    if effect is None:
        return "the model was resumed meanwhile"
    if not effect.is_new:
        return f"the model is already paused: {effect.pause.text_with_age}"
    if not effect.is_held:
        return "the model is paused; no worker has it"
    if effect.is_confirmed:
        return "the model is paused; the worker has confirmed it"
    return "the pause is stored; the worker pauses after its current batch"


def run_resume(job: Job) -> str:
    """End the pause of a model, and return a sentence about it."""
    [resumed] = resume_models(job.server.client(), [job.keys])
    if resumed is None:
        return "the model isn't paused"
    worker = "" if resumed.is_held else "; no worker has it"
    return f"the model was paused {resumed.pause.text_with_age}; it continues{worker}"


def run_requeue(job: Job, reason: str) -> str:
    """Add the entries of dead letters whose reason has a text to their streams again.

    Raises
    ------
    BusyError
        If a stream has other readers.
    """
    client, keys = job.server.client(), job.keys

    def is_wanted(letter: StoredLetter) -> bool:
        return reason in letter.reason

    parts = plan_requeue(client, keys, newest_letter(client, keys)[1], is_wanted)
    for stream in sorted({part.stream for part in parts}):
        if others := other_readers(client, keys, stream):
            raise BusyError(
                f"stream {stream.decode(errors='backslashreplace')!r} has other readers, which "
                f"would read the entries twice (consumer groups {', '.join(others)}); "
                "`streamclust dead requeue --force` requeues them anyway"
            )
    done = requeue_all(client, job.server.raw_client(), keys, parts)
    kept = done.skipped.most_common()
    rest = "; ".join(f"{count:,} letters stay: {text}" for text, count in kept)
    added = "1 entry was" if done.entries == 1 else f"{done.entries:,} entries were"
    text = f"{added} added to their streams again"
    return f"{text}; {rest}" if rest else text
