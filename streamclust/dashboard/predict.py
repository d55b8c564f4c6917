"""The endpoint that returns the components and the scores of points."""

from __future__ import annotations

import asyncio
import json
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.dashboard.body import read_body, read_json
from streamclust.dashboard.errors import ApiError, Json
from streamclust.dashboard.payload import feature_names
from streamclust.dashboard.query import model_name
from streamclust.dashboard.stored import read_version
from streamclust.errors import DataError
from streamclust.models.directions import ZERO, have_direction

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from streamclust.arrays import Array
    from streamclust.dashboard.context import Context
    from streamclust.formats.model import Model

BODY_BYTES = 1 << 20
POINTS = 10_000
"""Limits of a request: bytes of the body, and points."""

_TOP, _MAX_TOP = 3, 20
"""Default and maximum number of features in the attribution of a point."""


async def post_predict(request: Request) -> Response:
    """Return the component and the score of each point."""
    context: Context = request.app.state.context
    name = model_name(request)
    client = request.client.host if request.client else ""
    context.predictions.check(client, time.monotonic())
    data = await read_body(request, BODY_BYTES)
    loop = asyncio.get_running_loop()
    return Json(await context.source.run(loop, _predict, context, name, data))


def _predict(context: Context, name: str, data: bytes) -> dict[str, Any]:
    body, source = read_json(data), context.source
    for key in body.keys() - {"points", "version", "top"}:
        raise ApiError(422, "bad_field", f"unknown field {key[:60]!r}; expected points", key[:60])
    version = body.get("version")
    if version is None:
        model = context.newest.get(source, name)
    elif type(version) is int and version > 0:
        model = read_version(source, name, version)
    else:
        text = f"version is {json.dumps(version)[:60]}; expected a whole number above 0"
        raise ApiError(422, "bad_field", text, "version")
    top = body.get("top", _TOP)
    if type(top) is not int or not 0 <= top <= _MAX_TOP:
        text = f"top is {json.dumps(top)[:60]}; expected a whole number from 0 to {_MAX_TOP}"
        raise ApiError(422, "bad_field", text, "top")
    X = read_points(body.get("points"), model)
    try:
        is_tail = model.anomaly_score == "tail_score"
        codes, scores = model.predict(X), (model.tail_scores if is_tail else model.score_samples)(X)
        known = model.scores is not None and not model.scores.is_empty
        quantiles = model.quantiles(X).tolist() if known else None
        shares = _attribution(model, X, top) if top else None
    except DataError as error:
        raise ApiError(422, "bad_point", str(error), "points") from None
    return {
        "model": name,
        "version": model.version,
        "model_id": model.model_id or None,
        "codes": codes.tolist(),
        "scores": scores.tolist(),
        "score_name": _score_name(model),
        "attribution": shares,
        "quantiles": quantiles,
    }


def _attribution(model: Model, X: Array, top: int) -> list[list[dict[str, Any]]]:
    """Return the features with the largest shares of each score, largest first."""
    found, names = model.attribution(X), feature_names(model)
    shares, best = found.share, found.top(top)
    return [
        [
            {
                "feature": names[d],
                "share": float(shares[n, d]),
                "value": float(X[n, d]),
                "expected": float(found.expected[n, d]),
            }
            for d in row
        ]
        for n, row in enumerate(best.tolist())
    ]


def _score_name(model: Model) -> str:
    if model.anomaly_score == "tail_score":
        return "tail_score"
    if model.score_name == "log_likelihood":
        return "log_density"
    return "one_minus_cosine" if model.metric == "cosine" else "squared_distance"


def read_points(points: Any, model: Model) -> Array:
    """Return the points of a request, (N, D).

    Parameters
    ----------
    points : object
        A list of lists of numbers, or of objects by the names of the features.
    model : Model

    Raises
    ------
    ApiError
        If a value is wrong; the error names it, as in ``points[3][1]``.
    """
    D = model.shape[1]
    if not isinstance(points, list):
        text = (
            f"points is {_format_value(points)}; expected a list of points, each with {D} numbers"
        )
        raise ApiError(422, "bad_field", text, "points")
    if len(points) > POINTS:
        text = f"points has {len(points):,} points; at most {POINTS:,} per request"
        raise ApiError(413, "too_large", text, "points")
    names = list(model.features) or feature_names(model)
    gaps = model.family.missing == "learn"
    rows = [_row(point, f"points[{n}]", names, gaps) for n, point in enumerate(points)]
    limit = model.family.max_magnitude
    X = np.array(rows, np.float64).reshape(-1, D)
    bad = np.argwhere(np.abs(X) > limit)
    if len(bad):
        n, d = bad[0].tolist()
        where = f"points[{n}][{d}]"
        raise ApiError(422, "bad_point", f"{where} is {X[n, d]:g}; the limit is {limit:g}", where)
    empty = np.flatnonzero(np.isnan(X).all(axis=1))
    if len(empty):
        where = f"points[{empty[0]}]"
        raise ApiError(422, "bad_point", f"{where} has only missing values", where)
    if model.metric == "cosine" and not (has := have_direction(X)).all():
        where = f"points[{int(has.argmin())}]"
        raise ApiError(422, "bad_point", f"{where} is a {ZERO}", where)
    return X


def _row(point: Any, where: str, names: list[str], gaps: bool) -> list[float]:
    """Return the numbers of a point; with `gaps`, null and absent features become NaN."""
    if isinstance(point, dict):
        unknown = next((name for name in point if name not in names), None)
        if unknown is not None:
            text = f"{where} has the unknown feature {unknown[:60]!r}; expected {_listed(names)}"
            raise ApiError(422, "bad_point", text, f"{where}.{unknown[:60]}")
        missing = next((name for name in names if name not in point), None)
        if missing is not None and not gaps:
            text = f"{where} has no feature {missing!r}; expected {_listed(names)}"
            raise ApiError(422, "bad_point", text, f"{where}.{missing}")
        return [_number(point.get(name), f"{where}.{name}", gaps) for name in names]
    if not isinstance(point, list) or len(point) != len(names):
        found = (
            f"has {len(point)} values" if isinstance(point, list) else f"is {_format_value(point)}"
        )
        text = f"{where} {found}; expected {len(names)} numbers: {_listed(names)}"
        raise ApiError(422, "bad_point", text, where)
    if all(type(value) is float for value in point):
        return point
    return [_number(value, f"{where}[{d}]", gaps) for d, value in enumerate(point)]


def _number(value: Any, where: str, gaps: bool) -> float:
    if gaps and value is None:
        return math.nan
    if type(value) in (int, float):
        try:
            return float(value)
        except OverflowError:
            pass
    text = f"{where} is {_format_value(value)}; expected a finite number"
    raise ApiError(422, "bad_point", text, where)


def _format_value(value: Any) -> str:
    return "missing or null" if value is None else json.dumps(value)[:60]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:10]) + ", ..." * (len(names) > 10)
