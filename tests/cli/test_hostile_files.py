"""Files that are damaged, cut off, no files, or made to fill the memory: one line, and no harm."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from streamclust.cli.main import cli
from streamclust.formats.code_file import FORMAT, Header
from streamclust.formats.container import pack
from tests.support.encoder_fixture import model_of
from tests.support.forked import PipedCommand
from tests.support.points import blobs
from tests.support.waiting import wait_until
from tests.support.workspace import Workspace, environment, error_line, run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, points, their codes, and files that are not what they seem."""
    monkeypatch.chdir(tmp_path)
    model_of(4, features=("x", "y")).save("m.safetensors")
    np.save("points.npy", blobs(100))
    Path("points.csv").write_text("x,y\n1,2\n")
    encode("--file", "points.npy", "--out", "c.safetensors")
    header = asdict(Header(model="m", version=1, n=5_000_000_000, n_components=1))
    arrays: dict[str, Any] = {"codes": np.empty(0, np.uint8), "codebook": np.zeros((1, 1))}
    Path("bomb.safetensors").write_bytes(pack(FORMAT, arrays, header))
    for suffix in ("npy", "npz", "csv", "jsonl", "parquet", "safetensors", "png"):
        Path(f"empty.{suffix}").touch()
        os.mkfifo(f"fifo.{suffix}")
        Path(f"sparse.{suffix}").touch()
        os.truncate(f"sparse.{suffix}", 5 << 30)
        Path(f"secret.{suffix}").write_bytes(b"x")
        Path(f"secret.{suffix}").chmod(0)
    return tmp_path


def command(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def encode(*arguments: str) -> Result:
    return command("encode", "m.safetensors", *arguments)


def refusal(done: Result, code: int = 1) -> str:
    """The one line that says why a command refused."""
    assert done.exit_code == code, done.output
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize("name", ["empty", "fifo", "sparse"])
@pytest.mark.parametrize("suffix", ["npy", "npz", "parquet"])
def test_tables_to_encode(folder: Path, name: str, suffix: str) -> None:
    assert f"{name}.{suffix}" in refusal(encode("--file", f"{name}.{suffix}"))


@pytest.mark.parametrize("name", ["empty", "fifo", "sparse"])
def test_pictures_models_and_codes(folder: Path, name: str) -> None:
    out = ("--out", "out.safetensors")
    model_of(1, np.zeros((2, 3))).save("rgb.safetensors")
    done = command("encode", "rgb.safetensors", "--image", f"{name}.png", *out)
    assert f"{name}.png" in refusal(done)
    done = command("encode", f"{name}.safetensors", "--file", "points.npy", *out)
    assert f"{name}.safetensors" in refusal(done)
    done = command("decode", f"{name}.safetensors", "--out", "out.npy")
    assert f"{name}.safetensors" in refusal(done)
    assert not list(folder.glob("*out.*"))


def test_codes_that_ask_for_the_memory(folder: Path) -> None:
    for out in ("out.npy", "out.csv", "out.png"):
        line = refusal(command("decode", "bomb.safetensors", "--out", out))
        assert "bomb.safetensors would unpack to 40,000,000,000 bytes" in line
    assert not list(folder.glob("*out.*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(folder: Path) -> None:
    for suffix in ("npy", "npz", "csv", "jsonl", "parquet"):
        done = encode("--file", f"secret.{suffix}")
        assert done.exit_code == 2
        assert f"secret.{suffix}' is not readable" in done.stderr
    done = command("encode", "secret.safetensors", "--file", "points.npy")
    assert "can't read secret.safetensors: Permission denied" in refusal(done)


def test_no_symbolic_link_is_written_through(folder: Path) -> None:
    Path("victim").write_bytes(b"precious")
    Path("link.safetensors").symlink_to("victim")
    Path("link.npy").symlink_to("victim")
    done = encode("--file", "points.npy", "--out", "link.safetensors")
    assert "link.safetensors: it is a symbolic link" in refusal(done)
    done = command("decode", "c.safetensors", "--out", "link.npy")
    assert "link.npy: it is a symbolic link" in refusal(done)
    assert Path("victim").read_bytes() == b"precious"
    assert Path("link.npy").is_symlink()


def test_the_demonstration_writes_through_no_link(folder: Path) -> None:
    for name in ("report.json", "score.png", "config.yaml", "worker.log"):
        out = folder / f"out-{name}"
        out.mkdir()
        (out / name).symlink_to(folder / "victim")
        done = command("demo", "--out", str(out))
        assert done.exit_code in (1, 2)
        assert name in done.stderr or "can't write" in done.stderr
        assert not (folder / "victim").exists()


def test_an_output_takes_the_place_of_the_old_one_and_leaves_nothing_else(folder: Path) -> None:
    before = {path.name for path in folder.iterdir()}
    Path("out.npy").write_bytes(b"old")
    Path("out.npy").chmod(0o600)
    assert command("decode", "c.safetensors", "--out", "out.npy").exit_code == 0
    assert np.load("out.npy").shape == (100, 2)
    assert Path("out.npy").stat().st_mode & 0o777 == 0o600
    Path("bad.csv").write_text("x,y\n1,2\n3,nan\n")
    refusal(encode("--file", "bad.csv", "--out", "new.safetensors"))
    done = command("decode", "c.safetensors", "--out", "nowhere/x.npy")
    assert "nowhere doesn't exist" in refusal(done)
    assert {path.name for path in folder.iterdir()} == before | {"out.npy", "bad.csv"}


def test_json_has_no_infinity(folder: Path) -> None:
    from tests.support.pictures import write_picture

    model_of(1, np.full((1, 3), 7.0)).save("one.safetensors")
    write_picture("one.png", np.full((4, 3), 7.0), (2, 2, 3), 255.0)
    arguments = ("--image", "one.png", "--out", "one.codes", "--json")
    done = command("encode", "one.safetensors", *arguments)
    assert '"psnr": null' in done.stdout


def test_ctrl_c_leaves_no_file(folder: Path) -> None:
    """A FIFO that feeds points without an end stands for a long file."""
    before = {path.name for path in folder.iterdir()}
    words = ["encode", "m.safetensors", "--file", "fifo.csv", "--out", "o.safetensors"]
    with PipedCommand(words, env=environment(), stderr=subprocess.PIPE) as process:
        try:
            feeds: list[int] = []
            wait_until(lambda: feeds or opened_to_feed("fifo.csv", feeds))
            os.write(feeds[0], b"x,y\n" + b"1,2\n" * 10_000)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        finally:
            process.kill()
    os.close(feeds[0])
    assert {path.name for path in folder.iterdir()} == before


def opened_to_feed(fifo: str, feeds: list[int]) -> bool:
    """Open a FIFO if somebody reads it."""
    with suppress(OSError):
        feeds.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    return bool(feeds)


@pytest.mark.parametrize("name", ["refit", "score", "select"])
def test_data_of_a_model_on_the_server(
    name: str, folder: Path, learned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(learned.folder)
    more = ("--no-png",) if name == "select" else ()
    before = sorted(learned.folder.iterdir())
    for file in ("empty.npy", "sparse.npz", "fifo.csv", "empty.parquet"):
        assert file in refusal(command(name, "km", "--data", str(folder / file), *more))
    if name == "select":
        Path(folder / "link.png").symlink_to(folder / "victim")
        done = command(name, "km", "--k", "2", "--png", str(folder / "link.png"))
        assert "a symbolic link" in refusal(done)
        assert not (folder / "victim").exists()
    assert sorted(learned.folder.iterdir()) == before


def test_exports_and_ingest(
    folder: Path, learned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(learned.folder)
    victim, link = folder / "victim", folder / "link.npz"
    link.symlink_to(victim)
    assert "a symbolic link" in refusal(command("models", "export", "km", str(link)))
    assert not victim.exists()
    out = folder / "km.npz"
    for _ in range(2):
        assert command("models", "export", "km", str(out)).exit_code == 0
    assert not [path for path in folder.iterdir() if path.suffix == ".part"]
    stream = ("--stream", learned.stream("files"))
    for file in ("empty.npy", "sparse.csv", "fifo.npz", "sparse.parquet"):
        assert file in refusal(command("ingest", str(folder / file), *stream))


def test_a_start_from_such_a_file(folder: Path, valkey_url: str, namespace: str) -> None:
    workspace = Workspace(folder, valkey_url, namespace)
    with workspace.client as client:
        client.xadd(workspace.stream(), {"x": 1})
    for name, why in (("fifo", "a FIFO"), ("sparse", "expected at most"), ("empty", "damaged")):
        init: dict[str, Any] = {"kind": "file", "path": f"{name}.safetensors"}
        model = {"kind": "kmeans", "n_clusters": 3, "streams": workspace.stream(), "init": init}
        workspace.write({"m": model})
        line = error_line(run(folder, "worker", "--until-idle"), 2)
        assert f"{name}.safetensors" in line
        assert why in line


def test_memory_that_runs_out_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("streamclust.encoder.files.decode_parts", no_memory)
    done = command("decode", "c.safetensors", "--out", "x.npy")
    assert "out of memory" in refusal(done)
