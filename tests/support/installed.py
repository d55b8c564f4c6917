"""Checks an installed streamclust: its kernels, and a worker that learns the points of a file.

This script runs after each build of a wheel, in a fresh environment without the sources;
`--kernels numpy` is for an installation without a compiler. The installed command is started once;
the other commands are forked from this process, because each start of Python takes half a second.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

from streamclust.cli import ingest, main, models, score, server, worker
from streamclust.worker import daemon

CONFIG = """\
models:
  machines:
    kind: kmeans
    n_clusters: 2
    streams: [points]
    init: {points: 100}
"""
SLOW = "NumPy computes, which is several times slower"


IMPORTED = (daemon, ingest, models, score, server, worker)
"""What the commands need, imported once for all of them."""


def start(*arguments: str) -> str:
    """Start the installed command, which must succeed; return its output."""
    command = [str(Path(sys.executable).with_name("streamclust")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def run(folder: Path, *arguments: str) -> tuple[str, str]:
    """Fork a command of streamclust, which must succeed; return what it wrote to both streams."""
    files = [folder / name for name in ("stdout", "stderr")]
    process = get_context("fork").Process(target=be_command, args=(folder, files, arguments))
    process.start()
    process.join()
    output, messages = (file.read_text() for file in files)
    if process.exitcode:
        sys.exit(f"{' '.join(arguments)} ended with {process.exitcode}:\n{messages}")
    return output, messages


def be_command(folder: Path, files: list[Path], arguments: Sequence[str]) -> None:
    """Be a command, in its folder, that writes to these files."""
    os.chdir(folder)
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
    sys.argv = ["streamclust", *arguments]
    main.main()


def check(kernels: str, folder: Path) -> str:
    """Learn a model of two clusters; return the version of streamclust and its kernels."""
    version = start("--version").strip()
    if ("numpy" in version) != (kernels == "numpy"):
        sys.exit(f"expected {kernels} kernels, got: {version}")
    rows = [f"{x}.{i % 10},{x}.5" for i in range(200) for x in (10, 90)]
    (folder / "points.csv").write_text("\n".join(["temperature,load", *rows]))
    (folder / "config.yaml").write_text(CONFIG)
    run(folder, "server", "run", "--detach")
    try:
        run(folder, "ingest", "points.csv", "--stream", "points")
        _, learned = run(folder, "worker", "--until-idle")
        _, scored = run(folder, "score", "machines")
        listed, _ = run(folder, "models", "list", "machines", "--json")
    finally:
        run(folder, "server", "stop")
    newest = json.loads(listed.splitlines()[-1])
    if newest["points"] != 400:
        sys.exit(f"expected 400 learned points, got {newest}")
    for messages in (learned, scored):
        if messages.count(SLOW) != (kernels == "numpy"):
            sys.exit(f"expected one line about the kernels if they are NumPy's:\n{messages}")
    return version


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernels", choices=["native", "numpy"], default="native")
    with tempfile.TemporaryDirectory() as name:
        print(check(parser.parse_args().kernels, Path(name)))  # noqa: T201
