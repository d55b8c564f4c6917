"""The plan of a search, and its reports: passes, runs and the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamclust.models.stats import Stats

LIVE = "live"
"""Name of the run that starts from the live model."""

MOVES = "moves"
"""Name of the last run: moves of several components, from the best of the other runs."""


@dataclass(frozen=True)
class Plan:
    """The limits of a search.

    Parameters
    ----------
    restarts : int
        Runs from new seeds, in addition to the run from the live model.
    tol : float
        A run has converged when a pass improves J by less than this fraction (K-means), or the
        log-likelihood per point by less than this many nats (mixture).
    max_iter : int
        Maximum passes of each run.
    seed : int
    """

    restarts: int = 4
    tol: float = 1e-6
    max_iter: int = 300
    seed: int = 0


@dataclass(frozen=True)
class Pass:
    """A report of one pass over the data, for a progress bar.

    Parameters
    ----------
    run : str
        'live', the number of the restart, or 'moves'.
    iteration : int
        Passes of this run so far.
    loss : float
        Per point.
    best : float
        The lowest loss of all runs so far.
    """

    run: str
    iteration: int
    loss: float
    best: float


@dataclass(frozen=True)
class Run:
    """The result of one run.

    Parameters
    ----------
    start : str
        'live', or the number of the restart.
    loss : float
        Per point.
    iterations : int
    converged : bool
    """

    start: str
    loss: float
    iterations: int
    converged: bool


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The result of all runs.

    Parameters
    ----------
    params : KMeansParams or MixtureParams
        The best parameters of all passes, or the result of moves from the best run.
    stats : Stats
        Statistics of all points under `params`.
    loss : float
        Loss per point under `params`.
    live_loss : float or None
        Loss per point of the live model on the same points; None if there is no live model.
    runs : tuple of Run
        The completed runs.
    stopped : bool
        Whether the user stopped the search.
    """

    params: Any
    stats: Stats
    loss: float
    live_loss: float | None
    runs: tuple[Run, ...]
    stopped: bool
