"""A learner's state as named arrays and JSON values.

Each field of the nested parts is stored under its name: an array as an array, a number in the JSON
object of its section. `_NAMES` has the fields that are stored under another name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from streamclust.errors import FormatError
from streamclust.formats.container import Fields, whole
from streamclust.models import Family
from streamclust.models.coreset import Coreset
from streamclust.models.feature_distribution import FeatureDistribution
from streamclust.models.scaling import Scaling
from streamclust.models.score_distribution import ScoreDistribution
from streamclust.models.scores import AnomalyScore
from streamclust.models.spread import Spread
from streamclust.models.stats import Stats
from streamclust.online.averaging import Averaging
from streamclust.online.components import Components, numbered_components
from streamclust.online.coreset_fit import Pending, Problem, ReclusterState
from streamclust.online.forgetting import Fall, ForgettingState
from streamclust.online.learner import LearnerState
from streamclust.online.scores import ScoreMemory

T = TypeVar("T")

_SECTIONS = ("averaging", "drift")
"""Parts whose numbers are in a separate section; those of all other parts are in 'learner'."""

_NAMES = {
    "averaging.averaged": "learner.averaged",
    "counts.drifts": "drift.drifts",
    "counts.revived": "learner.revivals",
    "counts.reclustered": "learner.resolves",
    "counts.resized": "learner.resizes",
    "warm_up.X": "learner.sample",
    "warm_up.w": "learner.sample_weight",
    "coreset.core.X": "learner.core",
    "coreset.core.w": "learner.core_weight",
    "coreset.fresh.X": "learner.fresh",
    "coreset.fresh.w": "learner.fresh_weight",
    "coreset.unit": "learner.coreset_unit",
    "recluster.learned": "learner.unsolved",
    "recluster.interval": "learner.patience",
    "recluster.excess_loss": "learner.surprise",
    "components.peak": "learner.best",
    "components.peak_total": "learner.best_total",
    "forgetting.weight": "learner.forgotten",
}
"""Path of a field -> its section and name in stored states, if they differ from the path."""

_OWN_FORM = {
    *("params", "stats", "averaging.average", "averaging.tail"),
    *("recluster.pending", "scaling", "spread", "scores", "feature_distribution"),
}
"""Paths of the parts that may be None. Each part is stored in its own way."""

_MEMORIES = ("usual", "recent")
"""The distributions of `ScoreMemory`. Each is stored as an array of masses and four numbers."""


def to_stored(state: LearnerState[Any], family: Family[Any]) -> Fields:
    """Return the arrays and values of a state, as a checkpoint stores them."""
    averaging = state.averaging
    optional = {"stats": state.stats, "average": averaging.average, "tail": averaging.tail}
    sums = {name: stats for name, stats in optional.items() if stats is not None}
    scaling, pending = state.scaling, state.recluster.pending
    stored = Fields(
        values={
            "learner": {},
            "drift": {},
            "averaging": {"tail": None},  # as the first releases wrote it; the tail is in "sums"
            "scaling": "none" if scaling is None else scaling.kind,
            "pending": None,
            "sums": {name: [stats.objective, stats.count] for name, stats in sums.items()},
        }
    )
    for path, value in _leaves(state):
        section, name = _place(path)
        if isinstance(value, np.ndarray | bytes):
            array = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value
            stored.arrays[_array_name(section, name)] = array
        else:
            stored.values[section][name] = value
    if state.params is not None:
        stored.add_part("params", _params_arrays(state.params, family))
    for name, stats in sums.items():
        moments = {"weight": stats.weight, "first": stats.first, "reference": stats.reference}
        second = {} if stats.second is None else {"second": stats.second}
        stored.add_part(name, moments | second)
    if scaling is not None:
        stored.add_part("scaling", {"center": scaling.center, "scale": scaling.scale})
    if state.spread is not None:
        stored.add_part("spread", vars(state.spread))
    if state.scores is not None:
        stored.add_part("scores", {name: getattr(state.scores, name).mass for name in _MEMORIES})
        numbers = {name: getattr(state.scores, name).numbers for name in _MEMORIES}
        defaults = ScoreMemory()
        plain_fields = {name: getattr(state.scores, name) for name in ("outdated", "score")}
        stored.values["scores"] = numbers | {
            name: value for name, value in plain_fields.items() if value != getattr(defaults, name)
        }
    if state.feature_distribution is not None:
        stored.add_part("feature_distribution", state.feature_distribution.arrays)
    if pending is not None:
        problem = pending.problem
        stored.values["pending"] = {"due": pending.due, "seed": problem.seed}
        stored.add_part("pending.live", _params_arrays(problem.live, family))
        core = {"core": problem.coreset.X, "core_weight": problem.coreset.w}
        stored.add_part("pending", core)
    return stored


def from_stored(stored: Fields, family: Family[Any]) -> LearnerState[Any]:
    """Return the state that `to_stored` has stored; an absent field has its default.

    The defaults of masses and of the forgotten weight follow from the statistics.

    Raises
    ------
    FormatError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError
        If the state is damaged.
    """
    stats = _stats(stored, "stats", family)
    components = Components()
    if stats is not None and family.min_components is not None:
        components = numbered_components(len(stats.weight))
        ids = stored.arrays.get("ids", components.ids)
        components = replace(components, next_id=1 + int(max(ids, default=-1)))
    if stats is not None:
        components = replace(components, peak=stats.weight, peak_total=stats.mass)
    defaults = LearnerState[Any](
        params=_params(stored, "params", family) if stored.values["sums"] else None,
        stats=stats,
        averaging=Averaging(_stats(stored, "average", family), tail=_stats(stored, "tail", family)),
        recluster=ReclusterState(pending=_pending(stored, family)),
        components=components,
        # Default for older states without this weight: the parameters represent all points.
        forgetting=ForgettingState(float(stored.values["learner"]["points"])),
        scaling=_scaling(stored),
        spread=_spread(stored),
        scores=_scores(stored),
        feature_distribution=_feature_distribution(stored, stats),
    )
    return _filled(defaults, stored)


def _leaves(part: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield path and value of each field of nested parts, except parts in `_OWN_FORM`."""
    for spec in fields(part):
        path, value = prefix + spec.name, getattr(part, spec.name)
        if path in _OWN_FORM:
            continue
        if is_dataclass(value):
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _place(path: str) -> tuple[str, str]:
    """Return the section and the name of the field with this path."""
    if path in _NAMES:
        section, _, name = _NAMES[path].partition(".")
        return section, name
    names = path.split(".")
    return names[0] if names[0] in _SECTIONS else "learner", names[-1]


def _array_name(section: str, name: str) -> str:
    return name if section == "learner" else f"{section}.{name}"


def _filled(part: T, stored: Fields, prefix: str = "") -> T:
    """Return nested parts with stored values in place of the defaults.

    If one of the points and the weights of a coreset is absent, both keep their defaults.
    """
    values_of_fields: dict[str, Any] = {}
    for spec in fields(part):  # type: ignore[arg-type]
        path, default = prefix + spec.name, getattr(part, spec.name)
        section, name = _place(path)
        if path in _OWN_FORM:
            continue
        if is_dataclass(default):
            values_of_fields[spec.name] = _filled(default, stored, f"{path}.")
        elif not isinstance(default, np.ndarray | bytes):
            values = stored.values.get(section, {})
            if name in values:
                values_of_fields[spec.name] = _plain(path, values[name], default)
        elif (array := stored.arrays.get(_array_name(section, name))) is not None:
            values_of_fields[spec.name] = array.tobytes() if isinstance(default, bytes) else array
    if isinstance(part, Coreset) and len(values_of_fields) < len(fields(part)):
        return part
    return replace(part, **values_of_fields)  # type: ignore[type-var]


_KINDS: dict[type, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (int, float),
    type(None): (int, float, type(None)),
}
"""Type of a default -> types of the values that may replace it."""


def _plain(path: str, value: Any, default: Any) -> Any:
    """Return a value from JSON; refuse another type than that of the default."""
    if isinstance(default, tuple):
        return tuple(Fall(*each) for each in value)
    if type(value) not in _KINDS[type(default)]:
        expected = type(default).__name__
        raise FormatError(f"{path} is a {type(value).__name__}; expected {expected}")
    return value


def _params_arrays(params: Any, family: Family[Any]) -> dict[str, NDArray[Any]]:
    """Return the published arrays, and the spread if the parameters have one."""
    spread = getattr(params, "spread", None)
    return family.to_arrays(params) | ({} if spread is None else {"spread": spread})


def _params(stored: Fields, name: str, family: Family[Any]) -> Any:
    """Return the stored parameters, bit for bit: `from_arrays` alone would normalise weights."""
    arrays = stored.part(name)
    return replace(family.from_arrays(arrays), **arrays)


def _stats(stored: Fields, name: str, family: Family[Any]) -> Stats | None:
    arrays, covariance_type = stored.part(name), family.covariance_type
    if name not in stored.values["sums"]:
        if arrays:
            raise FormatError(f"there are arrays of {name}, but sums has no entry {name}")
        return None
    if (covariance_type is None) != ("second" not in arrays):
        raise FormatError(f"{name}.second is for another kind of model than {family.kind}")
    objective, count = stored.values["sums"][name]
    return Stats(
        weight=arrays["weight"],
        first=arrays["first"],
        second=arrays.get("second"),
        reference=arrays["reference"],
        covariance_type=covariance_type,
        objective=objective,
        count=count,
    )


def _pending(stored: Fields, family: Family[Any]) -> Pending[Any] | None:
    plain, arrays = stored.values.get("pending"), stored.part("pending")
    if plain is None:
        return None
    coreset = Coreset(arrays["core"], arrays["core_weight"])
    live = _params(stored, "pending.live", family)
    return Pending(plain["due"], Problem(live, coreset, tuple(plain["seed"])))


def _scaling(stored: Fields) -> Scaling | None:
    arrays = stored.part("scaling")
    if "scale" not in arrays:
        return None
    return Scaling(stored.values.get("scaling", "none"), arrays["center"], arrays["scale"])


def _scores(stored: Fields) -> ScoreMemory | None:
    numbers, masses = stored.values.get("scores"), stored.part("scores")
    if numbers is None:
        return None
    usual, recent = (ScoreDistribution.of(masses[name], numbers[name]) for name in _MEMORIES)
    outdated = whole(numbers, "outdated") if "outdated" in numbers else 0
    score = numbers.get("score", "model")
    if score not in get_args(AnomalyScore):
        raise FormatError(f"scores.score is {score!r}")
    return ScoreMemory(usual, recent, outdated, score)


def _feature_distribution(stored: Fields, stats: Stats | None) -> FeatureDistribution | None:
    arrays = stored.part("feature_distribution")
    if not arrays or stats is None:
        return None
    return FeatureDistribution.of(arrays, stats.reference.shape[1])


def _spread(stored: Fields) -> Spread | None:
    arrays = stored.part("spread")
    if "variance" not in arrays:
        return None  # the learner then starts from the variance of its mixture
    has_block = {"X", "w"} <= arrays.keys()
    return Spread(**arrays) if has_block else Spread(arrays["variance"])
