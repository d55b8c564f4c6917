"""The moves of the components over the stored versions, and the births and deaths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from streamclust.dashboard.payload import event, with_distinct_digits
from streamclust.errors import DamagedVersionError, UnknownModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from streamclust.arrays import Labels
    from streamclust.dashboard.plane import Plane
    from streamclust.formats.model import Model
    from streamclust.store.model.version_heads import VersionHead

_VERSIONS, _FEWEST = 60, 6
_BYTES = 8 << 20
"""Number of versions: at most `_VERSIONS` and `_BYTES` in memory, but at least `_FEWEST`."""

_COMPONENTS = 256
"""Maximum number of components that are followed: those with the largest weights."""


class _Step(NamedTuple):
    """The followed components of one version."""

    version: int
    published_ms: int | None
    points: int
    ids: Labels
    means: NDArray[np.float32]
    """Relative to the mean of the newest version at the start, so that large values stay exact."""


class Trail:
    """The means of the followed components in some of the stored versions.

    Parameters
    ----------
    newest : Model
    """

    def __init__(self, newest: Model) -> None:
        K, D = newest.shape
        heaviest = np.argsort(-newest.mass, kind="stable")[:_COMPONENTS]
        self._origin = newest.means.mean(axis=0)
        self._ids = np.sort(newest.numbers[heaviest])
        self._is_adaptive = bool(len(newest.ids))
        self._model_and_size = newest.model_id, D
        self._most = max(_FEWEST, min(_VERSIONS, _BYTES // (4 * D * min(K, _COMPONENTS))))
        self._steps: list[_Step] = []
        self._all_ids: set[int] = set()
        self._is_complete = True
        self.events: list[dict[str, Any]] = []

    def fill(
        self, heads: Sequence[VersionHead], read: Callable[[int], Model], newest: Model
    ) -> None:
        """Read some of the stored versions, at equal distances, up to the newest."""
        older = [head.version for head in heads if not head.error][:-1]
        places = np.linspace(0, len(older) - 1, min(len(older), self._most - 1)).round()
        chosen = [older[place] for place in np.unique(places.astype(int))] if older else []
        self._is_complete = len(chosen) == len(heads) - 1
        for version in chosen:
            try:
                self.add(read(version))
            except (DamagedVersionError, UnknownModelError):  # it may be trimmed by now
                self._is_complete = False
        self.add(newest)

    def add(self, model: Model) -> None:
        """Add a version after the others."""
        if (model.model_id, model.shape[1]) != self._model_and_size or (
            self._steps and model.version <= self._steps[-1].version
        ):
            return
        numbers = model.numbers
        followed = np.flatnonzero(np.isin(numbers, self._ids))
        if len(self._ids) < _COMPONENTS and self._is_adaptive:
            followed = np.arange(len(numbers))[:_COMPONENTS]  # also those born later
        means = (model.means[followed] - self._origin).astype(np.float32)
        step = _Step(model.version, model.published_ms, model.points, numbers, means)
        self._note_births(step)
        self._steps.append(step._replace(ids=numbers[followed]))
        if len(self._steps) > self._most:
            del self._steps[0]
            self._is_complete = False

    def _note_births(self, step: _Step) -> None:
        """Record the components that are new in this version, and those that ended before it."""
        before, self._all_ids = self._all_ids, set(step.ids.tolist())
        if not before or not self._is_adaptive:
            return
        when = step.version, step.published_ms, step.points
        for kind, ids in (("birth", self._all_ids - before), ("death", before - self._all_ids)):
            if ids:
                verb = "added" if kind == "birth" else "removed"
                one = f"component {min(ids)} was {verb}"
                text = one if len(ids) == 1 else f"{len(ids)} components were {verb}"
                self.events.append(event(kind, text, *when, ids=sorted(ids)))

    def as_dict(self, plane: Plane) -> dict[str, Any]:
        """Return the trails in a plane, for JSON."""
        places = [plane.points(step.means + self._origin) for step in self._steps]
        is_plain = (
            all(np.array_equal(step.ids, np.arange(len(step.ids))) for step in self._steps)
            and len({len(step.ids) for step in self._steps}) <= 1
        )
        return {
            "version": [step.version for step in self._steps],
            "published_ms": [step.published_ms for step in self._steps],
            "id": None if is_plain else [step.ids.tolist() for step in self._steps],
            "x": [with_distinct_digits(each[:, 0]) for each in places],
            "y": [with_distinct_digits(each[:, 1]) for each in places],
            "complete": self._is_complete,
        }
