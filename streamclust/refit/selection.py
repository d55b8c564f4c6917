"""Selection of the number of components: several numbers are fitted, and the fits compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.errors import ConfigError
from streamclust.refit.runs import search
from streamclust.refit.scoring import Sample, score

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from streamclust.models.family import Family
    from streamclust.refit.data import Dataset
    from streamclust.refit.runs import Pass, Plan
    from streamclust.refit.scoring import Score

MAX_NUMBERS = 1000
"""Largest number of values of K in a range."""


@dataclass(frozen=True)
class Choice:
    """The number of components that each criterion selects.

    Parameters
    ----------
    bic, silhouette : int or None
        K of the lowest BIC, and K of the highest silhouette; None without this criterion.
    elbow : int or None
        K at which the curve of J is farthest below its chord; None for fewer than three numbers.
    """

    bic: int | None
    silhouette: int | None
    elbow: int | None


def parse_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of components in a text such as ``2..20`` or ``2,4,8``, ascending.

    Examples
    --------
    >>> parse_numbers("2..5"), parse_numbers("8,2,4")
    ((2, 3, 4, 5), (2, 4, 8))
    """
    try:
        numbers: set[int] = set()
        for part in text.split(","):
            first, dots, last = part.partition("..")
            end = int(last if dots else first)
            numbers.update(range(int(first), min(end, int(first) + MAX_NUMBERS) + 1))
    except ValueError:
        numbers = set()
    if not numbers or min(numbers) < 1 or len(numbers) > MAX_NUMBERS:
        raise ConfigError(f"--k {text!r}: expected a range such as 2..20, or a list such as 2,4,8")
    return tuple(sorted(numbers))


def select(
    family: Family[Any],
    points: Dataset,
    numbers: Sequence[int],
    plan: Plan,
    *,
    on_pass: Callable[[int, Pass], None] = lambda _K, _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Score]:
    """Yield the score of the best fit for each number of components.

    Parameters
    ----------
    family : KMeans or GaussianMixture
        The number of components of this object is ignored.
    points : Dataset
    numbers : sequence of int
    plan : Plan
        The plan of each fit.
    on_pass : callable, optional
        Called with the number of components and the pass.
    stop : callable, optional
        Returns whether to raise `StoppedError`.
    """
    sample: Sample | None = None
    for K in numbers:
        candidate = family.with_components(K)

        def on_pass_of_fit(step: Pass, K: int = K) -> None:
            on_pass(K, step)

        result = search(candidate, points, None, plan, on_pass=on_pass_of_fit, stop=stop)
        sample = sample or Sample(points, family.metric, plan.seed)
        yield score(candidate, result.params, points, stop=stop, sample=sample)


def choose(scores: Sequence[Score]) -> Choice:
    """Return the number of components that each criterion selects."""
    bics = [(score.bic, score.n_components) for score in scores if score.bic is not None]
    shapes = [(-score.silhouette, score.n_components) for score in scores if score.silhouette]
    return Choice(
        bic=min(bics)[1] if bics else None,
        silhouette=min(shapes)[1] if shapes else None,
        elbow=_elbow(scores),
    )


def _elbow(scores: Sequence[Score]) -> int | None:
    """Return the K farthest below the chord of J over K, both from 0 to 1 (Satopaa et al. 2011)."""
    K = np.array([score.n_components for score in scores], float)
    J = np.array([score.inertia for score in scores])
    if len(K) < 3 or not J[0] > J[-1]:
        return None
    x, y = (K - K[0]) / (K[-1] - K[0]), (J - J[-1]) / (J[0] - J[-1])
    return int(K[(1.0 - x - y).argmax()])
