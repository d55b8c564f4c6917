"""Parts of data for engines, and the comparison of results to the last bit."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from streamclust.arrays import Array
from streamclust.engine import Done, EStep, Part, Reader
from streamclust.engine.base import Engine, Numbered
from streamclust.engine.cut import cut_files
from streamclust.engine.points import Points
from streamclust.engine.remote import run_task
from streamclust.engine.wire import decode_result, encode_part, encode_task
from streamclust.fitting.search import search_of
from streamclust.models.scaling import Scaling, learn_scaling
from streamclust.models.stats import Stats
from streamclust.tables import ModelColumns, TableOptions
from tests.support.strategies import family_of

NAMES = ("x", "y", "z")


class ByBytes(Engine):
    """Sends each part through bytes, as an engine in another process does."""

    name = "bytes"

    def map(self, task: Any, reader: Reader, parts: Any, stop: Any = lambda: False) -> Any:
        message = encode_task(task, reader.scaling)
        for number, part in parts:
            yield decode_result(task, run_task(message, encode_part(number, part)), "the test")


@cache
def some_points(n: int = 300_000, seed: int = 0) -> Points:
    """Return weighted points of three clusters in three dimensions."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)) * (1.0, 2.0, 0.5) + 8.0 * rng.integers(0, 3, size=(n, 1))
    return Points(X, rng.uniform(0.5, 2.0, size=n))


def step_of(name: str, points: Points, K: int = 3) -> EStep:
    """Return an e-step of a family, from a start on some of the points."""
    family = family_of(name, K)
    params = search_of(family).init(points.X[:500], points.w[:500], np.random.default_rng(1))
    return EStep(family, params)


def scaling_of(points: Points) -> Scaling | None:
    """Return the standard scaling of points."""
    return learn_scaling("standard", points.X, points.w)


def parts_of_files(*paths: Path, **options: Any) -> tuple[Part, ...]:
    """Return the parts of files whose columns are x, y and z, and perhaps w."""
    model = ModelColumns("the test", NAMES, 3)
    return cut_files(paths, TableOptions(**options), model).parts


def write_parquet(path: Path, points: Points, group: int = 100_000) -> Path:
    """Write points and their weights with row groups of a size."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = dict(zip(NAMES, points.X.T, strict=True)) | {"w": points.w}
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return path


def write_csv(path: Path, X: Array) -> Path:
    """Write points with a header."""
    lines = (",".join(map(repr, row)) for row in X.tolist())
    path.write_text("\n".join([",".join(NAMES), *lines]) + "\n", encoding="utf-8")
    return path


def bits(stats: Stats) -> tuple[bytes, ...]:
    """Return all numbers of statistics as bytes."""
    arrays = (stats.weight, stats.first, stats.second, stats.reference)
    found = [b"" if array is None else array.tobytes() for array in arrays]
    return (*found, np.array([stats.objective, stats.count]).tobytes())


def counted(engine: Engine, task: Any, reader: Reader, parts: Any) -> list[Done[Any]]:
    """Return the results of all parts."""
    numbered: list[Numbered] = list(enumerate(parts))
    return list(engine.map(task, reader, numbered))
