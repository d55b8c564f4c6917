"""``streamclust demo`` as a person runs it: a process of its own, and what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from streamclust.cli.main import cli
from streamclust.demo import plan
from streamclust.demo.view import PlainView
from tests.support.exhaustive import is_exhaustive

LIMIT = 300.0
QUICK = plan.quick_plan
SMALL = {"pixels": 15_000, "rows": 6_000}
PICTURES = ("pictures.png", "palette.png", "mixture.png", "score.png")


def environment(folder: Path) -> dict[str, str]:
    """The environment of a demonstration that keeps temporary files in `folder`."""
    folder.mkdir(exist_ok=True)
    return {**os.environ, "TMPDIR": str(folder)}


def processes(folder: Path) -> list[tuple[int, str]]:
    """Number and command of each process that works in the folder."""
    listing = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,command="], capture_output=True, text=True, check=True
    )
    lines = [line.strip() for line in listing.stdout.splitlines() if str(folder) in line]
    return [(int(pid), command) for pid, _, command in (line.partition(" ") for line in lines)]


@contextmanager
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A quick demonstration that is under way."""
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-m", "streamclust", "demo", "--quick", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path / "tmp"),
    ) as process:
        watchdog = threading.Timer(LIMIT, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
            process.kill()


def wait_for_line(process: subprocess.Popen[str], beginning: str) -> None:
    """Read the output up to a line that begins so."""
    if process.stdout is None:
        raise AssertionError("the output isn't read")
    for line in process.stdout:
        if line.startswith(beginning):
            return
    raise AssertionError(f"the output ended without {beginning!r}")


@contextmanager
def keeping_temporary_files(folder: Path) -> Iterator[None]:
    """Let this process, and those that it starts, keep temporary files in `folder`."""
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield


@contextmanager
def small_plan() -> Iterator[None]:
    """Let the quick demonstration have fewer points: it needs a third of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "quick_plan", lambda seed: replace(QUICK(seed), **SMALL))
        yield


def planned() -> plan.Plan:
    """Return the plan of `finished`."""
    return QUICK() if is_exhaustive() else replace(QUICK(), **SMALL)


def demonstrated(tmp_path: Path, *words: str) -> Result:
    """Run a small demonstration within the test's process, to its end.

    The server and the worker are processes. The test's process has imported scikit-learn and
    matplotlib already, which otherwise takes longer than the demonstration.
    """
    with keeping_temporary_files(tmp_path / "tmp"), small_plan():
        out = str(tmp_path / "out")
        return CliRunner().invoke(cli, ["demo", "--quick", "--out", out, *words])


@dataclass(frozen=True)
class Finished:
    """A demonstration that has ended."""

    folder: Path
    code: int
    output: str
    messages: str

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.output)
        return report


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One quick demonstration for all tests that only look at what it left.

    It is a small one in the test's process; in `make test-all`, it is that of a user.
    """
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STREAMCLUST_LOG__LEVEL", "error")
        if not is_exhaustive():
            result = demonstrated(folder, "--json")
            return Finished(folder, result.exit_code, result.stdout, result.stderr)
        done = subprocess.run(
            [sys.executable, "-m", "streamclust", "demo", "--quick", "--json", "--out", "out"],
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment(folder / "tmp"),
            timeout=LIMIT,
            check=False,
        )
        return Finished(folder, done.returncode, done.stdout, done.stderr)


def test_it_ends_well(finished: Finished) -> None:
    assert finished.code == 0, finished.messages
    assert "Traceback" not in finished.messages


def test_report_is_printed_and_saved(finished: Finished) -> None:
    assert finished.report == json.loads((finished.out / "report.json").read_text())


def test_every_file_that_is_listed_was_written(finished: Finished) -> None:
    _, _, listed = finished.messages.partition("Written:\n")
    names = [Path(line.strip()) for line in listed.splitlines()]
    assert {name.name for name in names} >= {*PICTURES, "report.json", "config.yaml", "worker.log"}
    assert all((finished.folder / name).stat().st_size > 0 for name in names)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_can_be_looked_at(finished: Finished, name: str) -> None:
    with Image.open(finished.out / name) as image:
        image.load()
        assert image.width >= 900
        assert image.height >= 600
        assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 60


def test_palettes_come_close_to_full_batch_fits(finished: Finished) -> None:
    china, flower = finished.report["palettes"]
    assert (china["picture"], flower["picture"]) == ("china.jpg", "flower.jpg")
    assert 0.9 < china["inertia_ratio"] < 1.15
    assert 0.9 < flower["inertia_ratio"] < 1.35
    for palette in (china, flower):
        assert palette["inertia_ratio"] == palette["inertia"] / palette["batch_inertia"]
        assert abs(palette["psnr_db"] - palette["batch_psnr_db"]) < 1.5
        assert 30.0 < palette["psnr_db"] < 40.0
        assert palette["batch_passes"] > 1


def test_mixture_is_about_as_good_as_a_full_batch_fit_or_better(finished: Finished) -> None:
    mixture = finished.report["mixture"]
    assert mixture["points"] == planned().rows
    assert mixture["gap"] > -3.0  # nats per point; one pass may end in a better optimum
    assert mixture["gap"] == mixture["log_likelihood"] - mixture["batch_log_likelihood"]


def test_worker_learned_everything_and_left(finished: Finished) -> None:
    worker = finished.report["worker"]
    assert worker["points"] == 2 * planned().pixels + planned().rows
    assert worker["exit_code"] == 0
    assert worker["cpu_seconds"] > 0.0
    assert min(worker["versions"].values()) >= 5


def test_log_of_the_worker_is_json_and_has_its_farewell(finished: Finished) -> None:
    lines = [json.loads(line) for line in (finished.out / "worker.log").read_text().splitlines()]
    assert lines[-1]["event"] == "worker_stopped"
    others = [line for line in lines if line["event"] != "stream_awaited"]  # it starts first
    assert {line["level"] for line in others} == {"info"}, "a setting of the user's came through"


def test_settings_of_the_worker_are_left_to_be_used_again(finished: Finished) -> None:
    settings = yaml.safe_load((finished.out / "config.yaml").read_text())
    assert set(settings["models"]) == {"palette", "shuttle"}


def test_server_and_data_are_gone(finished: Finished) -> None:
    assert_nothing_is_left(finished.folder)


STOPPED = "stopped; the worker and the server have ended, and their data is deleted\n"


def assert_nothing_is_left(folder: Path) -> None:
    assert list((folder / "tmp").iterdir()) == []
    assert processes(folder) == []


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("Starting", signal.SIGINT),
        pytest.param("Sending", signal.SIGINT, marks=pytest.mark.exhaustive),
        pytest.param("KMeans", signal.SIGTERM, marks=pytest.mark.exhaustive),
    ],
)
def test_an_interrupt_leaves_nothing_behind(
    tmp_path: Path, moment: str, number: signal.Signals
) -> None:
    with running(tmp_path) as process:
        wait_for_line(process, moment)
        process.send_signal(number)
        _, messages = process.communicate(timeout=LIMIT)
    assert (process.returncode, messages) == (130, STOPPED)
    assert_nothing_is_left(tmp_path)


def when_points_are_sent(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Act as soon as the demonstration says that it sends points."""
    say = PlainView.say

    def say_and_act(view: PlainView, text: str) -> None:
        say(view, text)
        if text.startswith("Sending"):
            act()

    monkeypatch.setattr(PlainView, "say", say_and_act)


def test_an_interrupt_while_points_are_sent_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    when_points_are_sent(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGINT))
    result = demonstrated(tmp_path)
    assert (result.exit_code, result.stderr) == (130, STOPPED)
    assert_nothing_is_left(tmp_path)


def test_a_worker_that_dies_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill_the_worker() -> None:
        (worker,) = [pid for pid, command in processes(tmp_path) if " worker " in command]
        os.kill(worker, signal.SIGKILL)

    when_points_are_sent(monkeypatch, kill_the_worker)
    result = demonstrated(tmp_path)
    log = tmp_path / "out" / "worker.log"
    expected = f"error: the worker ended with exit code -9; see {log}\n"
    assert (result.exit_code, result.stderr) == (1, expected)
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (["sklearn"], "scikit-learn"),
        (["matplotlib"], "matplotlib"),
        (["sklearn", "matplotlib"], "scikit-learn and matplotlib"),
    ],
)
def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: list[str], named: str
) -> None:
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    result = CliRunner().invoke(cli, ["demo", "--out", str(tmp_path / "out")])
    expected = f"error: the demo needs {named}: pip install {named.replace(' and ', ' ')}\n"
    assert (result.exit_code, result.stderr) == (1, expected)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    result = CliRunner().invoke(cli, ["demo", "--out", str(out)])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: --out: can't write to {out} (")
