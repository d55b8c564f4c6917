"""``streamclust dashboard`` and ``streamclust worker --ui``, as processes."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

pytest.importorskip("uvicorn", reason="the extra `ui` isn't installed")

from streamclust.cli._dashboard import TOKEN_VARIABLE, read_place
from streamclust.cli.dashboard import _opened_page
from streamclust.errors import ConfigError
from tests.support.commands import invoke
from tests.support.model_settings import kmeans
from tests.support.points import add_points, blobs
from tests.support.waiting import LIMIT, wait_until
from tests.support.workers import CommandProcess, WorkerProcess
from tests.support.workspace import Workspace, environment, error_line, run


class Running(CommandProcess):
    """A `streamclust dashboard` in the background."""

    command = "dashboard"

    def url(self) -> str:
        """Return the printed address."""

        def printed() -> list[str]:
            return [line for line in self.log.splitlines() if line.startswith("http")]

        self.wait(printed)
        return printed()[0]


@contextmanager
def started(workspace: Workspace, *words: str, **env: str) -> Iterator[tuple[str, Running]]:
    """Run `streamclust dashboard`; give the printed address."""
    with Running(workspace, "--port", "0", *words, **env) as process:
        yield process.url(), process


@contextmanager
def run_server(folder: Path) -> Iterator[None]:
    """Keep the embedded server of a folder running."""
    assert run(folder, "server", "run", "--detach").returncode == 0
    try:
        yield
    finally:
        run(folder, "server", "stop")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal(learned: Workspace, number: signal.Signals) -> None:
    with started(learned) as (url, process):
        with httpx.stream("GET", f"{url}api/updates", trust_env=False) as visitor:
            assert next(visitor.iter_lines()) == "retry: 2000"
            models = httpx.get(f"{url}api/models", trust_env=False).json()["models"]
            assert {row["name"] for row in models} == {"km", "gm"}
            assert process.leave(number) == 0
        assert process.log.splitlines()[-1] == url


def test_a_new_token_is_in_the_printed_url(learned: Workspace) -> None:
    with started(learned, "--allow-actions") as (url, _):
        page, _, fragment = url.partition("#token=")
        assert re.fullmatch(r"[\w-]{43}", fragment)
        found = httpx.post(f"{page}api/models/km/rollback", json={}, trust_env=False)
        assert found.status_code == 401
        allowed = {"Authorization": f"Bearer {fragment}"}
        action = httpx.post(
            f"{page}api/models/km/rollback", json={}, headers=allowed, trust_env=False
        )
        assert action.json()["error"]["field"] == "version"


def test_the_browser_gets_a_token_through_a_file_of_this_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[tuple[str, str, int]] = []

    def open_url(url: str) -> None:
        file = Path(url.removeprefix("file://"))
        is_file = url.startswith("file:")
        text, mode = (file.read_text(), file.stat().st_mode & 0o777) if is_file else ("", 0)
        opened.append((url, text, mode))

    monkeypatch.setattr("webbrowser.open", open_url)
    with _opened_page("http://127.0.0.1:1/#token=secret"):
        [(url, text, mode)] = opened
        assert "secret" not in url
        assert 'content="0; url=http://127.0.0.1:1/#token=secret"' in text
        assert mode == 0o600
    assert not Path(url.removeprefix("file://")).exists()
    with _opened_page("http://127.0.0.1:1/"):
        assert opened[1][0] == "http://127.0.0.1:1/"


def test_the_token_of_a_file_or_of_the_environment_is_not_printed(
    learned: Workspace, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("token-of-a-file-0001\n")
    variable = {TOKEN_VARIABLE: "token-of-the-environment"}
    for words, env, token in (
        (("--token-file", str(file)), {}, "token-of-a-file-0001"),
        ((), variable, variable[TOKEN_VARIABLE]),
    ):
        with started(learned, "--allow-actions", *words, **env) as (url, _):
            assert "#" not in url
            allowed = {"Authorization": f"Bearer {token}"}
            found = httpx.post(
                f"{url}api/models/km/rollback", json={}, headers=allowed, trust_env=False
            )
            assert found.status_code == 422


def test_a_port_in_use_is_one_clear_line(learned: Workspace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = error_line(run(learned.folder, "dashboard", "--port", str(port)), 2)
        ui = error_line(run(learned.folder, "worker", "--ui", f"127.0.0.1:{port}"), 2)
    wanted = f"error: can't listen on 127.0.0.1:{port}: address already in use; "
    assert line.startswith(wanted)
    assert ui.startswith(wanted)


def test_a_worker_that_cannot_serve_its_page_starts_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = "models: {m: {kind: kmeans, n_clusters: 2, streams: s}}"
    (tmp_path / "config.yaml").write_text(model)
    with socket.create_server(("127.0.0.1", 0)) as other:
        used = invoke("worker", "--ui", f"127.0.0.1:{other.getsockname()[1]}")
    monkeypatch.setitem(sys.modules, "streamclust.dashboard.serve", None)
    missing = invoke("worker", "--ui")
    assert [used.exit_code, missing.exit_code] == [2, 1]
    assert "the dashboard needs" in missing.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_wrong_options_are_errors(learned: Workspace, tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_text("abc\n")
    cases = {
        ("--token-file", str(short)): "--token-file needs --allow-actions",
        ("--allow-actions", "--token-file", str(short)): "at least 16 ASCII characters",
        ("--allow-actions", "--token-file", str(tmp_path / "none")): "No such file",
        ("--host", "256.1.1.1"): "can't listen on 256.1.1.1",
    }
    for words, part in cases.items():
        done = run(learned.folder, "dashboard", "--port", "0", *words)
        assert (done.returncode, part in done.stderr) == (2, True), done.stderr


def test_a_refused_login_is_an_error_at_the_start(tmp_path: Path, valkey_url: str) -> None:
    workspace = Workspace(tmp_path, valkey_url, "x").write({"m": kmeans("points")})
    url = valkey_url.replace("redis://", "redis://nobody:wrong@")
    done = run(workspace.folder, "dashboard", "--port", "0", "--redis-url", url)
    assert "refused the login" in error_line(done, 3)


def test_sighup_reads_the_settings_again(workspace: Workspace) -> None:
    workspace.write({"m": kmeans("none")})

    def names(url: str) -> list[str]:
        found = httpx.get(f"{url}api/models?sort=name", trust_env=False).json()
        return [row["name"] for row in found["models"]]

    with started(workspace) as (url, process):
        assert names(url) == ["m"]
        workspace.write({"m": kmeans("none"), "n": kmeans("none")})
        process.send(signal.SIGHUP)
        wait_until(lambda: names(url) == ["m", "n"])
        workspace.write({"m": {"kind": "odd"}})
        process.send(signal.SIGHUP)
        process.wait(lambda: "the settings stay as they are" in process.log)


def test_it_waits_for_an_embedded_server_and_creates_no_folder(tmp_path: Path) -> None:
    with started(Workspace(tmp_path, "embedded", "streamclust")) as (url, _):
        found = httpx.get(f"{url}api/models", trust_env=False).json()["server"]
        assert found["state"] == "retrying"
        assert found["error"].startswith(f"no server runs in {tmp_path}")
        assert not (tmp_path / ".streamclust").exists()
        with run_server(tmp_path):
            wait_until(
                lambda: (
                    httpx.get(f"{url}api/models", trust_env=False).json()["server"]["state"] == "ok"
                )
            )


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path) -> None:
    libraries = ("starlette", "uvicorn")
    code = f"""
import sys
from click.testing import CliRunner
from streamclust.cli.main import cli

for library in {libraries}:
    sys.modules[library] = None
    done = CliRunner().invoke(cli, ["dashboard"])
    print(done.exit_code, done.output, end="")
    del sys.modules[library]
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"1 error: the dashboard needs {library}: pip install starlette uvicorn"
        for library in libraries
    ]


def test_an_address_for_other_machines_is_a_warning(learned: Workspace) -> None:
    with started(learned, "--host", "0.0.0.0") as (_, process):  # noqa: S104
        first = process.log.splitlines()[0]
    assert first.startswith("warning: the dashboard listens on 0.0.0.0, without TLS")


def test_a_worker_serves_the_page_of_its_models(workspace: Workspace) -> None:
    stream = workspace.stream()
    workspace.write({"m": kmeans(stream, publish={"points": 60})})
    with workspace.client as client:
        add_points(client, stream, blobs(120))
    with WorkerProcess(workspace, "--ui", "127.0.0.1:0") as worker:
        url = worker.wait_for("dashboard_started")["url"]

        def row() -> dict[str, object]:
            found: list[dict[str, object]]
            found = httpx.get(f"{url}api/models", trust_env=False).json()["models"]
            return found[0]

        # A report lives for a second, so on a busy machine there may be none for a moment.
        wait_until(lambda: [row()[name] for name in ("points", "phase")] == [120, "learning"])
        assert worker.leave() == 0


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("9000", ("127.0.0.1", 9000)),
        ("example.org", ("example.org", 8642)),
        ("[::1]:80", ("::1", 80)),
        ("[::1]", ("::1", 8642)),
    ],
)
def test_a_place_is_a_host_a_port_or_both(text: str, place: tuple[str, int]) -> None:
    assert read_place(text) == place


@pytest.mark.parametrize("text", ["", ":", "a:b", "localhost:70000", "::1", "a:1:2"])
def test_another_place_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="expected HOST:PORT"):
        read_place(text)
