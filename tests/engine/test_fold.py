"""Sums over parts: the same bits by every way, whoever computes them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from streamclust import kernels
from streamclust.engine import (
    ArrayPart,
    Done,
    Engine,
    EStep,
    FilePart,
    Inline,
    Part,
    Reader,
    wire,
)
from streamclust.engine.cut import cut_array
from streamclust.engine.points import Points, block_rows, in_blocks
from streamclust.engine.remote import run_task
from streamclust.engine.threads import Threads
from streamclust.engine.wire import decode_result, encode_part, encode_task
from streamclust.errors import DataError, EngineError, FormatError, StoppedError
from streamclust.kernels import StoredPoints
from streamclust.models import KMeans, KMeansParams
from streamclust.models.directions import ZERO
from tests.support.engines import (
    ByBytes,
    bits,
    counted,
    parts_of_files,
    scaling_of,
    some_points,
    step_of,
    write_csv,
    write_parquet,
)
from tests.support.exhaustive import some
from tests.support.gaps import with_gaps
from tests.support.strategies import FAMILIES

POINTS = some_points()
TWO_BLOCKS = some_points(140_000)


def engines() -> Iterator[Engine]:
    yield Inline()
    yield from others()


def others() -> Iterator[Engine]:
    yield ByBytes()
    for workers in (1, 3):
        with Threads(workers) as engine:
            yield engine


@pytest.mark.parametrize("name", some(FAMILIES, "kmeans", "spherical", "full"))
def test_every_engine_returns_the_bits_of_inline(name: str, tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", TWO_BLOCKS)
    np.save(tmp_path / "b.npy", TWO_BLOCKS.X[:135_000])
    write_csv(tmp_path / "c.csv", POINTS.X[:1000])
    files = parts_of_files(tmp_path / "b.npy", tmp_path / "c.csv")
    weighted = parts_of_files(tmp_path / "a.parquet", weight_column="w")
    parts: list[Part] = [*cut_array(*TWO_BLOCKS), *files, *weighted]
    task, reader = step_of(name, POINTS), Reader(scaling_of(POINTS))
    expected = bits(Inline().fold(task, reader, parts))
    for engine in others():
        assert bits(engine.fold(task, reader, parts)) == expected


def test_files_of_float32_have_the_sums_of_their_values(tmp_path: Path) -> None:
    single = POINTS.X[:140_000].astype(np.float32)
    for dtype in (np.float32, np.float64):
        np.save(tmp_path / f"{dtype.__name__}.npy", single.astype(dtype))
    (block, *_) = Reader().blocks(parts_of_files(tmp_path / "float32.npy")[0], lambda _: None)
    assert block.X.dtype == np.float32
    for name in FAMILIES:
        task, reader = step_of(name, POINTS), Reader(scaling_of(POINTS) if name == "diag" else None)
        found, expected = (
            bits(Inline().fold(task, reader, parts_of_files(tmp_path / f"{dtype}.npy")))
            for dtype in ("float32", "float64")
        )
        assert found == expected


def test_the_kernel_of_kmeans_reads_checked_rows_by_itself(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", POINTS.X[:200_000])
    parts, task = parts_of_files(tmp_path / "a.npy"), step_of("kmeans", POINTS)
    expected = bits(Inline().fold(task, Reader(), cut_array(POINTS.X[:200_000], np.ones(200_000))))
    for is_stored in (False, True):
        (block,) = Reader().blocks(parts[0], lambda _: None, stored=True)
        assert isinstance(block.X, StoredPoints) == is_stored
        for engine in engines():
            assert bits(engine.fold(task, Reader(), parts)) == expected
    os.truncate(tmp_path / "a.npy", 100_000)
    with pytest.raises(DataError, match="was changed while it was read"):
        Inline().fold(task, Reader(), parts)


@pytest.mark.parametrize("name", ["kmeans", "full"])
def test_points_with_missing_values_are_in_the_sums_of_every_engine(
    name: str, tmp_path: Path
) -> None:
    gaps = Points(with_gaps(POINTS.X[:3000], 0.2), POINTS.w[:3000])
    write_parquet(tmp_path / "a.parquet", gaps, group=700)
    np.save(tmp_path / "b.npy", gaps.X[:1500])
    write_csv(tmp_path / "c.csv", gaps.X[1500:])
    files = parts_of_files(tmp_path / "b.npy", tmp_path / "c.csv", missing="learn")
    weighted = parts_of_files(tmp_path / "a.parquet", weight_column="w", missing="learn")
    plain = step_of(name, POINTS)
    family: Any = plain.family
    task = EStep(replace(family, missing="learn"), plain.params)
    parts: list[Part] = [*cut_array(*gaps), *files, *weighted]
    expected = Inline().fold(task, Reader(), parts)
    assert expected.weight.sum() == pytest.approx(2.0 * gaps.w.sum() + 3000)
    for engine in others():
        assert bits(engine.fold(task, Reader(), parts)) == bits(expected)
    with pytest.raises(DataError, match=r"points\.missing: learn accepts missing values"):
        list(Reader().blocks(parts_of_files(tmp_path / "c.csv")[0], lambda _: None))


def test_a_sum_is_that_of_the_points_without_parts() -> None:
    task = step_of("full", POINTS)
    found = Inline().fold(task, Reader(), cut_array(*POINTS))
    whole = task.family.e_step(task.params, *POINTS)
    np.testing.assert_allclose(found.weight, whole.weight, rtol=1e-12)
    assert found.objective == pytest.approx(whole.objective, rel=1e-12)
    few = Points(POINTS.X[:5000], POINTS.w[:5000])
    one = Inline().fold(task, Reader(), cut_array(*few))
    assert bits(one) == bits(task.family.e_step(task.params, *few))


def test_a_part_without_points_changes_nothing() -> None:
    task = step_of("kmeans", POINTS)
    empty = ArrayPart(np.empty((0, 3)), np.empty(0))
    part = ArrayPart(POINTS.X[:100], POINTS.w[:100])
    expected = bits(Inline().fold(task, Reader(), [part]))
    for parts in ([empty, part], [part, empty]):
        assert bits(Inline().fold(task, Reader(), parts)) == expected
        assert bits(ByBytes().fold(task, Reader(), parts)) == expected
    assert Inline().fold(task, Reader(), [empty]).mass == 0.0
    with pytest.raises(DataError, match="no part"):
        Inline().fold(task, Reader(), [])


def test_blocks_have_a_fixed_size_whatever_the_chunks_are() -> None:
    X, w = POINTS
    for size in (999, 8192, 300_000):
        chunks = (Points(X[s : s + size], w[s : s + size]) for s in range(0, len(X), size))
        blocks = list(in_blocks(chunks))
        assert [len(block.w) for block in blocks] == [131_072, 131_072, 37_856]
        assert_array_equal(np.concatenate([block.X for block in blocks]), X)
    assert block_rows(16) == 131_072
    assert block_rows(784) == 4096
    assert block_rows(1 << 20) == 256


class Recorder:
    """A task whose first part waits until it may end."""

    kind = "recorder"
    kernels = "kmeans"

    def __init__(self) -> None:
        self.go = threading.Event()

    def run(self, number: int, blocks: Any) -> int:
        list(blocks)
        assert number or self.go.wait(20)
        return number

    def merge(self, a: int, b: int) -> int:
        return max(a, b)


def test_results_come_in_order_and_few_of_them_wait() -> None:
    task, taken = Recorder(), list[int]()

    def parts() -> Iterator[tuple[int, Part]]:
        for number in range(40):
            taken.append(number)
            if number == 5:
                task.go.set()
            yield number, ArrayPart(POINTS.X[:10], POINTS.w[:10])

    with Threads(3) as engine:
        results: Any = engine.map(task, Reader(), parts())  # type: ignore[arg-type]
        assert next(results).value == 0
        assert len(taken) == 6
        assert [done.value for done in results] == list(range(1, 40))


@pytest.mark.parametrize("engine", [Inline(), Threads(2)], ids=lambda each: each.name)
def test_a_stop_ends_a_fold(engine: Engine) -> None:
    parts = cut_array(*POINTS)
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 1

    with engine, pytest.raises(StoppedError):
        engine.fold(step_of("kmeans", POINTS), Reader(), 50 * parts, stop)


def test_an_error_of_a_part_is_raised_by_all_engines(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("x,y,z\n1,2,3\n4,oops,6\n")
    parts = parts_of_files(path)
    for engine in engines():
        with pytest.raises(DataError, match=r"bad.csv line 3, column 'y': 'oops' is not a number"):
            engine.fold(step_of("kmeans", POINTS), Reader(), parts)


def test_a_file_that_changes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "points.npy"
    np.save(path, POINTS.X)
    parts, task = parts_of_files(path), step_of("kmeans", POINTS)
    for engine in (Inline(), ByBytes()):
        engine.fold(task, Reader(), parts)
    np.save(path, POINTS.X[:-1])
    for engine in (Inline(), ByBytes()):
        with pytest.raises(DataError, match=r"points.npy was changed while it was read: it had"):
            engine.fold(task, Reader(), parts)


def test_skipped_rows_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text("x,y,z\n1,2,3\n" + 7 * "4,oops,6\n" + "7,8,9\n")
    parts = parts_of_files(path, on_bad="skip")
    for engine in (Inline(), ByBytes()):
        (done,) = counted(engine, step_of("kmeans", POINTS), Reader(), parts)
        assert (done.notes.points, done.notes.bad, len(done.notes.reasons)) == (2, 7, 5)
        assert "line 3" in done.notes.reasons[0]


def test_parts_are_values_that_can_be_compared(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", POINTS.X)
    first, second = parts_of_files(tmp_path / "a.npy"), parts_of_files(tmp_path / "a.npy")
    assert first == second
    assert [isinstance(part, FilePart) and part.span.stop for part in first] == [
        131_072,
        262_144,
        300_000,
    ]
    assert isinstance(step_of("kmeans", POINTS), EStep)


def test_directions_are_unit_vectors_and_zero_vectors_are_skipped(tmp_path: Path) -> None:
    X = 1e6 * POINTS.X[:1000]
    X[[3, 500]] = 0.0
    np.save(tmp_path / "a.npy", X)
    files = parts_of_files(tmp_path / "a.npy")
    parts = [replace(part, directions=True) for part in files if isinstance(part, FilePart)]
    family = KMeans(3, metric="cosine")
    good = np.asarray(family.prepare(np.delete(X, [3, 500], axis=0)), np.float64)
    task = EStep(family, KMeansParams(good[:3]))
    whole = family.e_step(task.params, good, np.ones(998))
    for engine in (Inline(), ByBytes()):
        (done,) = counted(engine, task, Reader(), parts)
        assert done.value.count == 998.0
        assert np.isclose(done.value.objective, whole.objective)
        assert (done.notes.points, done.notes.bad) == (998, 2)
        assert done.notes.reasons == (ZERO, ZERO)


@pytest.mark.skipif(len(kernels.available()) < 2, reason="only NumPy's kernels can run")
def test_results_of_other_kernels_are_refused() -> None:
    part = encode_part(0, ArrayPart(POINTS.X[:100], POINTS.w[:100]))
    for name, refused in (("kmeans", False), ("diag", True)):
        task = step_of(name, POINTS)
        with kernels.using("numpy"):
            answer = run_task(encode_task(task, None), part)
        with kernels.using(kernels.available()[-1]):
            if refused:
                with pytest.raises(
                    EngineError, match=r"worker 7 computes with other kernels \(num"
                ):
                    decode_result(task, answer, "worker 7")
            else:
                own = Done(task.run(0, [Points(POINTS.X[:100], POINTS.w[:100])]))
                assert bits(decode_result(task, answer, "worker 7").value) == bits(own.value)


def test_bad_messages_are_errors_of_one_line() -> None:
    task = step_of("kmeans", POINTS)
    good, part = encode_task(task, None), encode_part(0, ArrayPart(POINTS.X[:9], POINTS.w[:9]))
    for message, words in (
        ((b"nonsense", part), "the task does not hold a streamclust.task/1 payload"),
        ((good[:-3], part), "the task does not hold"),
        ((good, part[:-1]), "the part does not hold"),
        ((part, part), "the task holds format 'streamclust.part/1'"),
    ):
        with pytest.raises(FormatError, match=words):
            decode_result(task, run_task(*message), "worker 7")
    with pytest.raises(EngineError, match="result of worker 7 does not hold"):
        decode_result(task, b"nonsense", "worker 7")


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    task = step_of("kmeans", POINTS)
    part = encode_part(0, ArrayPart(POINTS.X[:9], POINTS.w[:9]))
    monkeypatch.setattr(wire, "__version__", "0.0.1")
    message = encode_task(task, None)
    monkeypatch.undo()
    with pytest.raises(EngineError, match=r"the task is from streamclust 0\.0\.1, this is"):
        decode_result(task, run_task(message, part), "worker 7")


def test_the_background_of_a_mixture_has_the_same_bits_elsewhere(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", POINTS.X[:1000])
    parts = parts_of_files(tmp_path / "a.npy")
    step = step_of("full", POINTS)
    family: Any = step.family
    task = EStep(replace(family, outliers=0.02), step.params)
    here, there = (
        counted(engine, task, Reader(), parts)[0].value for engine in (Inline(), ByBytes())
    )
    assert bits(here) == bits(there)
