"""Checks an installed streamclust: its kernels, and a worker that learns the points of a file.

This script runs after each build of a wheel, in a fresh environment without the sources;
`--kernels numpy` is for an installation without a compiler.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

CONFIG = """\
models:
  machines:
    kind: kmeans
    n_clusters: 2
    streams: [points]
    init: {points: 100}
"""
SLOW = "NumPy computes, which is several times slower"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of streamclust, which must succeed; return its output."""
    command = [str(Path(sys.executable).with_name("streamclust")), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
    return done


def check(kernels: str, folder: Path) -> str:
    """Learn a model of two clusters; return the version of streamclust and its kernels."""
    version = run(folder, "--version").stdout.strip()
    if ("numpy" in version) != (kernels == "numpy"):
        sys.exit(f"expected {kernels} kernels, got: {version}")
    rows = [f"{x}.{i % 10},{x}.5" for i in range(200) for x in (10, 90)]
    (folder / "points.csv").write_text("\n".join(["temperature,load", *rows]))
    (folder / "config.yaml").write_text(CONFIG)
    run(folder, "server", "run", "--detach")
    try:
        run(folder, "ingest", "points.csv", "--stream", "points")
        learned = run(folder, "worker", "--until-idle")
        scored = run(folder, "score", "machines")
        listed = run(folder, "models", "list", "machines", "--json").stdout
    finally:
        run(folder, "server", "stop")
    newest = json.loads(listed.splitlines()[-1])
    if newest["points"] != 400:
        sys.exit(f"expected 400 learned points, got {newest}")
    for done in (learned, scored):
        if done.stderr.count(SLOW) != (kernels == "numpy"):
            sys.exit(f"expected one line about the kernels if they are NumPy's:\n{done.stderr}")
    return version


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernels", choices=["native", "numpy"], default="native")
    with tempfile.TemporaryDirectory() as name:
        print(check(parser.parse_args().kernels, Path(name)))  # noqa: T201
