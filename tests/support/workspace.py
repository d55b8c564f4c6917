"""A folder with a config.yaml, as a user has one, and the commands in it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import redis
import yaml

from streamclust.formats.checkpoint import FORMAT
from streamclust.formats.container import unpack
from streamclust.formats.model import Model
from streamclust.store.model.keys import Keys
from streamclust.store.model.versions import follow, read_model
from tests.support.forked import ForkedCommand, ForkedProgram
from tests.support.waiting import LIMIT

STREAMCLUST = str(Path(sys.executable).with_name("streamclust"))

DUMPER: type = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""The one in C needs a quarter of the time; a PyYAML without libyaml doesn't have it."""


def environment(**more: str) -> dict[str, str]:
    """The test's own, without settings that a developer may have there."""
    kept = {name: value for name, value in os.environ.items() if "STREAMCLUST" not in name}
    return {**kept, **more}


def run(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return _run(ForkedCommand, folder, list(arguments), environment(**env), LIMIT)


def run_command(
    folder: Path, words: list[str], environment: Mapping[str, str], limit: float
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with these variables only."""
    return _run(ForkedCommand, folder, words, environment, limit)


def run_program(
    folder: Path, file: Path, environment: Mapping[str, str], limit: float, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run a Python program to its end."""
    return _run(ForkedProgram, folder, [str(file), *arguments], environment, limit)


def _run(
    kind: type[ForkedCommand | ForkedProgram],
    folder: Path,
    words: list[str],
    environment: Mapping[str, str],
    limit: float,
) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as output:
        stdout, stderr = Path(output, "stdout"), Path(output, "stderr")
        process = kind(words, folder, environment, stdout, stderr)
        try:
            code = process.wait(limit)
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


@dataclass(frozen=True)
class Workspace:
    """A folder with a config.yaml, and the server that it names."""

    folder: Path
    url: str
    namespace: str

    @property
    def client(self) -> redis.Redis:
        """A new connection, to be closed by a `with`."""
        return redis.Redis.from_url(self.url, protocol=2, socket_timeout=LIMIT)

    @cached_property
    def _kept(self) -> redis.Redis:
        return self.client

    def _polling(self) -> AbstractContextManager[redis.Redis]:
        """One connection for all polls of a test: a new one takes ten times as long as a poll."""
        return nullcontext(self._kept)

    def write(self, models: Mapping[str, Any], **sections: Any) -> Self:
        """Write the config.yaml: these models, one-second leases, and what `sections` add."""
        config = {
            "namespace": self.namespace,
            "redis": {"url": self.url},
            "worker": {"lease": "1s", "health_ttl": "1s"},
            "models": dict(models),
        }
        text = yaml.dump({**config, **sections}, Dumper=DUMPER)
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
        with self._polling() as client:
            return read_model(client, self.keys(model))

    def versions(self, model: str) -> list[Model]:
        found: list[Model] = []
        with self.client as client:  # a read brings some at a time
            while more := list(follow(client, self.keys(model), found[-1].version if found else 0)):
                found += more
        return found

    def committed(self, model: str) -> int:
        """Points in the committed state."""
        meta = self._meta(model)
        return int(meta["learner"]["points"]) if meta else 0

    def position(self, model: str) -> dict[str, str]:
        return dict(self._meta(model)["position"])

    def _meta(self, model: str) -> dict[str, Any]:
        """What is in the committed state besides arrays; empty if there is none.

        Without the coreset, which is large: tests wait for points, and so ask again and again.
        """
        with self._polling() as client:
            data: Any = client.get(self.keys(model).state)
        return unpack(data, FORMAT, "state")[1] if data is not None else {}

    def state(self, model: str) -> tuple[dict[str, Any], dict[str, bytes]]:
        """What was learned and up to where, bit for bit; empty if there is nothing.

        Without the version's number: that counts publications, and so workers that left.
        """
        with self._polling() as client:
            values: Any = client.mget(self.keys(model).state, self.keys(model).coreset)
        data, coreset = values
        if data is None:
            return {}, {}
        arrays, meta = unpack(data, FORMAT, "state")
        plain = {k: v for k, v in meta.items() if k not in ("version", "published")}
        found = {name: array.tobytes() for name, array in arrays.items()}
        return plain, {**found, "coreset": coreset or b""}

    def dead(self, model: str) -> list[dict[bytes, bytes]]:
        with self.client as client:
            entries: Any = client.xrange(self.keys(model).dead)
        return [fields for _, fields in entries]
