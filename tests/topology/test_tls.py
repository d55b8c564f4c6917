"""TLS: one server, sentinels and a cluster, with certificates that the test has made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from streamclust.client.ingest import ingest
from streamclust.errors import ServerUnreachableError
from streamclust.store.server.connect import Address, open_server
from streamclust.tables import Chunk
from tests.support.fleet import SERVICE
from tests.support.fleet_workspace import FleetWorkspace
from tests.support.model_settings import kmeans
from tests.support.papers import Papers
from tests.support.points import blobs
from tests.support.servers import debian_redis, free_port, running
from tests.support.waiting import LIMIT, wait_until

PASSWORD = "s3cr3t"


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    made = Papers(tmp_path_factory.mktemp("papers"))
    made.write()
    return made


@contextmanager
def server(
    folder: Path, papers: Papers, *options: str, config: Path | None = None
) -> Iterator[int]:
    """A Redis that speaks nothing but TLS, and only with clients that have a certificate."""
    port = free_port()
    ports = ["--bind", "127.0.0.1", "--port", "0", "--tls-port", str(port)]
    given = [] if config is None else [str(config), "--sentinel"]
    with running([debian_redis(), *given, *ports, *papers.options, *options], folder):
        wait_until(lambda: speaks(port, papers), LIMIT)
        yield port


def speaks(port: int, papers: Papers) -> bool:
    with redis.Redis.from_url(f"rediss://127.0.0.1:{port}{papers.query}") as client:
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False


def learn(workspace: FleetWorkspace) -> None:
    """Let a worker find 60 points there."""
    with open_server(Address(workspace.url, password=PASSWORD)) as found:
        points = Chunk(("x0", "x1"), blobs(60), None, 1)
        assert ingest(found.client(), workspace.stream(), [points]).points == 60
    login = {"url": workspace.url, "password": PASSWORD}
    workspace.write({"m": kmeans(workspace.stream())}, redis=login).learn()


def test_a_worker_learns_over_tls(tmp_path: Path, papers: Papers, namespace: str) -> None:
    with server(tmp_path, papers, "--requirepass", PASSWORD) as port:
        learn(FleetWorkspace(tmp_path, f"rediss://127.0.0.1:{port}/0{papers.query}", namespace))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("rediss://127.0.0.1:{port}", "certificate verify failed"),
        ("rediss://127.0.0.1:{port}?ssl_ca_certs={ca}", "can't speak TLS with|can't reach"),
        ("rediss+cluster://127.0.0.1:{port}", "certificate verify failed"),
        ("redis://127.0.0.1:{port}", "can't reach redis://"),
    ],
)
def test_what_fails_is_one_line(tmp_path: Path, papers: Papers, url: str, words: str) -> None:
    with server(tmp_path, papers) as port:
        with pytest.raises(ServerUnreachableError, match=words) as failure:
            open_server(Address(url.format(port=port, ca=papers.ca)))
        assert "\n" not in str(failure.value)


def test_sentinels_and_server_over_tls(tmp_path: Path, papers: Papers, namespace: str) -> None:
    with ExitStack() as stack:
        port = stack.enter_context(server(tmp_path, papers, "--requirepass", PASSWORD))
        config = tmp_path / "sentinel.conf"
        config.write_text(
            f"tls-replication yes\nsentinel monitor {SERVICE} 127.0.0.1 {port} 1\n"
            f"sentinel auth-pass {SERVICE} {PASSWORD}\n"
            "user guest on >guest-pw -@all +sentinel|masters +client|setname\n"
        )
        watcher = stack.enter_context(server(tmp_path, papers, config=config))
        url = f"rediss+sentinel://127.0.0.1:{watcher}/{SERVICE}{papers.query}"
        known = Address(
            url, password=PASSWORD, sentinel_username="guest", sentinel_password="guest-pw"
        )
        with open_server(known) as found:
            assert found.client().set(namespace, 1)
        # and without the papers the options are what to look at
        bare = f"rediss+sentinel://127.0.0.1:{watcher}/{SERVICE}"
        with pytest.raises(ServerUnreachableError, match=r"redis\.url and its options right"):
            open_server(replace(known, url=bare))


def test_a_cluster_over_tls(tmp_path: Path, papers: Papers, namespace: str) -> None:
    cluster = ["--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port"]
    options = [*cluster, str(free_port()), "--requirepass", PASSWORD]
    with server(tmp_path, papers, *options) as port:
        with redis.Redis.from_url(f"rediss://:{PASSWORD}@127.0.0.1:{port}{papers.query}") as node:
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_until(
                lambda: b"cluster_state:ok" in node.execute_command("CLUSTER", "INFO"), LIMIT
            )
        learn(
            FleetWorkspace(tmp_path, f"rediss+cluster://127.0.0.1:{port}{papers.query}", namespace)
        )
