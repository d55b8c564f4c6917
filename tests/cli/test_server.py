"""``streamclust server``: the embedded server is kept running, found by other programs, stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from streamclust.cli.exit_codes import EXIT_ERROR, EXIT_SERVER, EXIT_USAGE
from streamclust.cli.main import cli
from streamclust.store.server.embedded import EmbeddedServer
from streamclust.store.server.keeper import keeper_of, running_endpoint
from tests.support.forked import PipedCommand
from tests.support.waiting import wait_until
from tests.support.workspace import environment, run

FOLDER = Path(".streamclust")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / FOLDER


def server(*words: str, text: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["server", *words], input=text)


@pytest.fixture
def kept(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A running `streamclust server run`."""
    process = PipedCommand(
        ["server", "run"], cwd=folder.parent, env=environment(), stderr=subprocess.PIPE
    )
    wait_until(lambda: keeper_of(folder) == process.pid or process.poll() is not None)
    yield process
    process.terminate()
    process.communicate()
    wait_until(lambda: running_endpoint(folder) is None)


def test_the_server_stays_up_without_a_command_and_other_programs_find_it(
    kept: subprocess.Popen[str], folder: Path
) -> None:
    url = server("url").stdout.strip()
    assert re.fullmatch(r"redis://:[0-9a-f]{64}@127\.0\.0\.1:\d+/0", url)
    with redis.Redis.from_url(url) as client:
        client.xadd("points", {"x": "1"})
    with EmbeddedServer.acquire(FOLDER) as used:  # a command in the folder uses the same server
        assert f":{used.port}/" in url
    facts = json.loads(server("status", "--json").stdout)
    assert (facts["kept_by"], facts["keys"], facts["data_dir"]) == (kept.pid, 1, str(folder))
    lines = server("status").stdout
    assert f"process {kept.pid} (`server run`)" in lines
    assert all(len(line) <= 80 or str(folder) in line for line in lines.splitlines())

    stopped = server("stop")
    assert (stopped.exit_code, stopped.stdout) == (0, f"stopped the server in {folder}\n")
    assert kept.wait(30) == 0
    assert running_endpoint(folder) is None
    with EmbeddedServer.acquire(FOLDER) as again:
        assert redis.Redis(again.host, again.port, password=again.password).xlen("points") == 1


def test_a_command_is_sent_and_its_reply_printed(kept: subprocess.Popen[str]) -> None:
    assert server("cli", "PING").stdout == "PONG\n"
    server("cli", "XADD", "points", "7-0", "x", "a\tb")
    assert server("cli", "--formatted", "XRANGE", "points", "-", "+").stdout == (
        '1) 1) "7-0"\n   2) 1) "x"\n      2) "a\\tb"\n'
    )
    assert server("cli", "--", "XRANGE", "points", "-", "+").stdout == "7-0\nx\na\tb\n"
    lines = server("cli", "--formatted", text='ECHO "a b"\n# a comment\nGET points\nEXISTS no\n')
    assert lines.stdout == '"a b"\n(integer) 0\n'
    assert lines.stderr.startswith("(error) WRONGTYPE")
    refused = server("cli", "GET", "points")
    assert refused.exit_code == EXIT_SERVER
    assert refused.stderr.startswith("error: ")


def test_a_server_that_was_killed_with_its_supervisor_is_started_again(
    kept: subprocess.Popen[str], folder: Path
) -> None:
    before = running_endpoint(folder)
    assert before is not None
    process = json.loads(server("status", "--json").stdout)["process"]
    os.kill(before.supervisor, signal.SIGKILL)
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: (now := running_endpoint(folder)) and now.supervisor != before.supervisor)
    assert kept.poll() is None


def test_the_server_stops_after_a_kill_of_the_process_that_kept_it(
    kept: subprocess.Popen[str], folder: Path
) -> None:
    kept.kill()
    kept.wait()
    assert keeper_of(folder) is None
    wait_until(lambda: running_endpoint(folder) is None)


def test_a_second_process_is_refused_and_names_the_first(kept: subprocess.Popen[str]) -> None:
    for words in (["run"], ["run", "--detach"]):
        refused = server(*words)
        assert refused.exit_code == EXIT_SERVER
        assert f"process {kept.pid} already keeps the server" in refused.stderr


def test_run_in_the_background_returns_and_stop_waits_for_other_commands(folder: Path) -> None:
    started = run(folder.parent, "server", "run", "--detach")
    assert started.returncode == 0
    assert started.stdout == f"process {keeper_of(folder)} keeps the server in {folder} running\n"
    with EmbeddedServer.acquire(FOLDER):
        used = server("stop")
        assert used.exit_code == EXIT_ERROR
        assert "other commands use it" in used.stderr
        assert keeper_of(folder) is None
        assert running_endpoint(folder) is not None
    wait_until(lambda: running_endpoint(folder) is None)


@pytest.mark.parametrize("words", [["url"], ["status"], ["cli", "PING"]])
def test_commands_that_look_start_no_server_and_make_no_folder(
    words: list[str], folder: Path
) -> None:
    result = server(*words)
    assert result.exit_code == EXIT_SERVER
    assert result.stderr == (
        f"error: no server runs in {folder}; start it with: streamclust server run\n"
    )
    assert not folder.exists()
    assert server("stop").exit_code == 0
    assert not folder.exists()


def test_a_server_of_one_s_own_is_asked_but_not_run(valkey_url: str) -> None:
    own = ["--redis-url", valkey_url]
    assert server("cli", *own, "PING").stdout == "PONG\n"
    assert "Valkey 9" in server("status", *own).stdout
    for word in ("run", "stop", "url"):
        refused = server(word, *own)
        assert refused.exit_code == EXIT_USAGE
        assert "a server of your own" in refused.stderr
