"""The parts of all commands that pass over all points: job, engine, progress, and Ctrl-C."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamclust.cli._progress import PassProgress, pass_progress
from streamclust.cli._render import say
from streamclust.cli._server import opened_job
from streamclust.cli._signals import CtrlC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.config import Settings
    from streamclust.engine import Engine
    from streamclust.refit.command import Callbacks
    from streamclust.refit.runs import Pass
    from streamclust.runtime.job import Job


@dataclass(frozen=True)
class Passes:
    """A command that passes over all points.

    Parameters
    ----------
    job : Job
    engine : Engine
        Computes the sums.
    progress : PassProgress
    stop : callable
        Returns whether Ctrl-C was pressed.
    """

    job: Job
    engine: Engine
    progress: PassProgress
    stop: Callable[[], bool]

    def callbacks(self, words: Callable[[Pass], str] = lambda _: "") -> Callbacks:
        """Return the functions that a refit calls; `words` describes a pass."""
        from streamclust.refit.command import Callbacks

        progress = self.progress
        return Callbacks(
            progress.on_points, lambda step: progress.show(words(step)), self.stop, progress.on_part
        )


@contextmanager
def opened_passes(settings: Settings, model: str, **how: Any) -> Iterator[Passes]:
    """Open the job of a model, with the keywords of `opened_job`, and the engine of the settings.

    The first Ctrl-C asks the work to stop; then the command ends with its exit code.
    """
    from streamclust.engine.opening import open_engine
    from streamclust.runtime.threads import prepared_for_threads

    with (
        opened_job(settings, model, **how) as job,
        prepared_for_threads(),
        open_engine(settings.engine, say) as engine,
        CtrlC() as ctrl_c,
        pass_progress("reading") as progress,
    ):
        yield Passes(job, engine, progress, ctrl_c.is_set)
