"""Parts that other processes compute: the bits of inline, whatever happens to the processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest

from streamclust.engine import EStep, Inline, Part, Reader
from streamclust.engine import processes as engine_module
from streamclust.engine.cut import cut_array
from streamclust.engine.opening import Auto
from streamclust.engine.processes import Processes
from streamclust.errors import DataError, EngineError, StoppedError
from tests.support.engines import (
    bits,
    parts_of_files,
    scaling_of,
    some_points,
    step_of,
    write_csv,
    write_parquet,
)
from tests.support.forked import ForkedProgram
from tests.support.strategies import FAMILIES
from tests.support.waiting import wait_until
from tests.support.workspace import environment

POINTS = some_points(140_000)
TASKS = {name: step_of(name, POINTS) for name in FAMILIES}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Part, ...]:
    """Parts of an .npy file, a CSV and a Parquet file."""
    folder = tmp_path_factory.mktemp("files")
    np.save(folder / "a.npy", POINTS.X)
    write_csv(folder / "b.csv", POINTS.X[:1000])
    files = parts_of_files(folder / "a.npy", folder / "b.csv")
    weighted = write_parquet(folder / "c.parquet", POINTS)
    return (*files, *parts_of_files(weighted, weight_column="w"))


@pytest.fixture(scope="module")
def engine() -> Iterator[Processes]:
    """Two processes, for several tests."""
    with Processes(2) as found:
        yield found


@pytest.mark.parametrize(
    "workers",
    [
        pytest.param(1, marks=pytest.mark.exhaustive),
        2,
        *(pytest.param(many, marks=pytest.mark.exhaustive) for many in (3, 4)),
    ],
)
def test_the_bits_are_those_of_inline(
    workers: int, parts: tuple[Part, ...], engine: Processes
) -> None:
    reader = Reader(scaling_of(POINTS))
    with nullcontext(engine) if workers == engine.workers else Processes(workers) as used:
        before = used.by_processes
        for task in TASKS.values():
            expected = bits(Inline().fold(task, reader, parts))
            assert bits(used.fold(task, reader, parts)) == expected
        assert used.by_processes - before == len(parts) * len(TASKS)
        assert 1 <= len(used.pids) <= workers


def test_short_parts_are_sent_in_bundles_that_become_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", POINTS.X[:100])
    task, parts = TASKS["kmeans"], 40 * parts_of_files(tmp_path / "a.npy")
    sizes: list[int] = []
    ask = Processes._ask

    def counted(self: Processes, task: bytes, bundle: list[object], *others: object) -> object:
        sizes.append(len(bundle))
        return ask(self, task, bundle, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(Processes, "_ask", counted)
    monkeypatch.setattr(engine_module, "_BUNDLE_SECONDS", 1e9)
    with Processes(2) as engine:
        for _ in range(2):
            sizes.clear()
            found = engine.fold(task, Reader(), parts)
            assert bits(found) == bits(Inline().fold(task, Reader(), parts))
    assert sum(sizes) == len(parts)
    assert max(sizes) == 10
    assert min(sizes) == 1


def test_points_in_memory_are_computed_here(engine: Processes) -> None:
    task, before = TASKS["kmeans"], engine.by_processes
    expected = bits(Inline().fold(task, Reader(), cut_array(*POINTS)))
    assert bits(engine.fold(task, Reader(), cut_array(*POINTS))) == expected
    assert engine.by_processes == before


def test_processes_that_are_killed_are_replaced(parts: tuple[Part, ...], engine: Processes) -> None:
    task, many = TASKS["full"], 10 * parts
    expected = bits(Inline().fold(task, Reader(), many))
    engine.fold(task, Reader(), parts)
    killed: set[int] = set()

    def kill_one(_: object) -> None:
        if len(killed) < 2 and (fresh := set(engine.pids) - killed):
            pid = fresh.pop()
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)

    assert bits(engine.fold(task, Reader(), many, on_done=kill_one)) == expected
    assert len(killed) == 2
    assert not killed & set(engine.pids)


def test_a_part_that_ends_every_process_is_an_error(parts: tuple[Part, ...]) -> None:
    with Processes(1) as engine:
        over = threading.Event()

        def kill_all() -> None:
            while not over.wait(0.01):
                for pid in engine.pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill_all)
        killer.start()
        try:
            with pytest.raises(EngineError, match=r"^3 processes of the engine have ended"):
                engine.fold(TASKS["full"], Reader(), parts)
        finally:
            over.set()
            killer.join()


def test_a_process_that_does_not_answer_is_not_waited_for(
    parts: tuple[Part, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = TASKS["kmeans"]
    with Processes(1) as engine:
        expected = bits(engine.fold(task, Reader(), parts))
        (pid,) = engine.pids
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(engine_module, "_SHORTEST", 0.3)
        monkeypatch.setattr(engine_module, "_LONGEST_TIMES", 0.0)
        assert bits(engine.fold(task, Reader(), parts)) == expected
        assert engine.here >= 1
        assert pid not in engine.pids


def test_a_large_message_to_a_stopped_process_is_not_waited_for(
    parts: tuple[Part, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = TASKS["kmeans"]
    large = EStep(task.family.with_components(20_000), _centroids(20_000))
    with Processes(1) as engine:
        engine.fold(task, Reader(), parts[:1])
        os.kill(engine.pids[0], signal.SIGSTOP)
        monkeypatch.setattr(engine_module, "_SHORTEST", 0.3)
        monkeypatch.setattr(engine_module, "_LONGEST_TIMES", 0.0)
        found = engine.fold(large, Reader(), parts[2:3])
        assert engine.here == 1
    assert bits(found) == bits(Inline().fold(large, Reader(), parts[2:3]))


def _centroids(K: int) -> object:
    from streamclust import KMeansParams

    return KMeansParams(np.random.default_rng(0).normal(size=(K, 3)))


def test_errors_and_stops_leave_the_engine_usable(
    parts: tuple[Part, ...], engine: Processes, tmp_path: Path
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("x,y,z\n1,2,3\n4,oops,6\n")
    with pytest.raises(DataError, match=r"bad.csv line 3, column 'y': 'oops' is not a number"):
        engine.fold(TASKS["kmeans"], Reader(), parts_of_files(path))
    with pytest.raises(StoppedError):
        engine.fold(TASKS["kmeans"], Reader(), parts, lambda: True)
    expected = bits(Inline().fold(TASKS["diag"], Reader(), parts))
    assert bits(engine.fold(TASKS["diag"], Reader(), parts)) == expected


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", POINTS.X)
    code = (
        "import sys, time; from pathlib import Path\n"
        "from streamclust.engine.processes import Processes\n"
        "from streamclust.engine import Reader\n"
        "from tests.support.engines import parts_of_files, some_points, step_of\n"
        f"parts = parts_of_files(Path({str(tmp_path / 'a.npy')!r}))\n"
        "engine = Processes(2)\n"
        "engine.fold(step_of('kmeans', some_points(2000)), Reader(), parts)\n"
        "print(*engine.pids, flush=True); time.sleep(60)\n"
    )
    (tmp_path / "coordinator.py").write_text(code)
    output, log = tmp_path / "output", tmp_path / "log"
    words = [str(tmp_path / "coordinator.py")]
    coordinator = ForkedProgram(words, tmp_path, environment(), output, log)
    try:
        wait_until(lambda: "\n" in output.read_text())
    finally:
        coordinator.kill()
    pids = list(map(int, output.read_text().split()))
    assert pids
    wait_until(lambda: not any(_runs(pid) for pid in pids))


def _runs(pid: int) -> bool:
    """Return whether a process runs; one that has ended but wasn't waited for doesn't."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
    except OSError:
        return False


def test_auto_chooses_by_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamclust.engine import opening

    write_csv(tmp_path / "a.csv", POINTS.X[:500])
    write_csv(tmp_path / "b.csv", POINTS.X[:500])
    text = list(enumerate(parts_of_files(tmp_path / "a.csv", tmp_path / "b.csv")))
    memory = list(enumerate(cut_array(*POINTS)))
    with Auto(2) as engine, Auto(1) as single:
        assert engine.choose(text).name == "threads"
        assert engine.choose(memory).name == "threads"
        assert engine.choose(memory[:1]).name == "inline"
        assert single.choose(memory).name == "inline"
        monkeypatch.setattr(opening, "WORTH_A_PROCESS", 1000)
        assert engine.choose(text).name == "processes"
        assert engine.choose(memory).name == "threads"


def test_a_process_that_cannot_be_started_is_one_clear_line(
    parts: tuple[Part, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with (
        Processes(1) as engine,
        pytest.raises(EngineError, match="can't start a process of the engine: no such file"),
    ):
        engine.fold(TASKS["kmeans"], Reader(), parts)
