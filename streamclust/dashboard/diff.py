"""The difference of two versions: the distance that each component moved, and new components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.arrays import square_unit
from streamclust.dashboard.errors import ApiError
from streamclust.dashboard.payload import short
from streamclust.kernels import squared_distances
from streamclust.models.matching import assign

if TYPE_CHECKING:
    from streamclust.arrays import Labels
    from streamclust.formats.model import Model


def difference(old: Model, new: Model) -> dict[str, Any]:
    """Return the difference of two versions, for JSON.

    Components are paired by their IDs, or by their places if the number of components is fixed.
    Otherwise (two different models), the pairs with the smallest sum of distances are used.

    Raises
    ------
    ApiError
        If the versions have different numbers of features.
    """
    if old.shape[1] != new.shape[1]:
        raise ApiError(
            409,
            "other_size",
            f"versions {old.version} and {new.version} have {old.shape[1]} and {new.shape[1]} "
            "features; there is no difference to show",
        )
    matching, rows, columns = _pairs(old, new)
    distance = np.linalg.norm(new.means[columns] - old.means[rows], axis=1)
    shares = [model.mass / (float(model.mass.sum()) or 1.0) for model in (old, new)]
    seconds = None
    if old.published_ms is not None and new.published_ms is not None:
        seconds = (new.published_ms - old.published_ms) / 1000.0
    return {
        "from": old.version,
        "to": new.version,
        "points_between": new.points - old.points,
        "seconds_between": seconds,
        "score": [old.score, new.score],
        "score_name": new.score_name,
        "pairs": {
            "from": old.numbers[rows].tolist(),
            "to": new.numbers[columns].tolist(),
            "distance": short(distance),
            "weight_from": short(shares[0][rows]),
            "weight_to": short(shares[1][columns]),
        },
        "born": np.delete(new.numbers, columns).tolist(),
        "died": np.delete(old.numbers, rows).tolist(),
        "matching": matching,
    }


def _pairs(old: Model, new: Model) -> tuple[str, Labels, Labels]:
    """Return how components are paired, and the rows of the pairs in both versions."""
    same = not (old.model_id and new.model_id) or old.model_id == new.model_id
    if same and len(old.ids) and len(new.ids):
        _, rows, columns = np.intersect1d(old.ids, new.ids, return_indices=True)
        return "ids", rows, columns
    if same and old.shape == new.shape:
        places = np.arange(len(old.means))
        return "places", places, places
    unit = square_unit(old.means, new.means)
    rows, columns = assign(np.sqrt(squared_distances(old.means / unit, new.means / unit)))
    return "assignment", rows, columns
