"""``streamclust server``: run, stop and inspect the embedded server, and send commands to it."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._options import server_options
from streamclust.cli._render import say, size_text
from streamclust.cli.exit_codes import EXIT_ERROR
from streamclust.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis

    from streamclust.config import Settings
    from streamclust.store.server.supervisor import Endpoint


@click.group()
def server() -> None:
    """Run the embedded server, and connect other programs to it.

    With `redis.url: embedded` (the default) all commands in one folder share a Valkey server, which
    starts with the first command and stops with the last one. `server run` keeps it running.
    The data are in .streamclust/ (`redis.data_dir`). docs/server.md describes the files.

    \b
    Examples:
      streamclust server run                         until Ctrl-C or SIGTERM
      streamclust server run --detach                in the background
      streamclust server url                         for redis-cli and other programs
      streamclust server cli XINFO STREAM points     one command of Redis
      streamclust server stop
    """


@server.command()
@server_options
@click.option("--detach", "-d", is_flag=True, help="Run in the background.")
def run(settings: Settings, detach: bool) -> None:
    """Start the embedded server if it doesn't run, and keep it running.

    The command runs until Ctrl-C or SIGTERM, or until `streamclust server stop`. The server
    continues while other commands use it. Its data stay in the data folder.

    \b
    Examples:
      streamclust server run
      streamclust server run --detach
    """
    from streamclust.runtime.signals import stop_on_signals
    from streamclust.store.server.keeper import keep_up, watch

    _check_embedded(settings)
    if detach:
        _detach(settings.redis.data_dir)
        return
    stop = threading.Event()
    with stop_on_signals(stop), keep_up(settings.redis.data_dir) as kept:
        say(f"server: {kept.host}:{kept.port}, data in {printable(str(kept.data_dir))}")
        say("URL for other programs: streamclust server url")
        say("Ctrl-C stops it.")
        watch(kept, stop)


@server.command()
@server_options
def stop(settings: Settings) -> None:
    """End `server run`, and wait until the server has stopped.

    If other commands use the server, it continues until the last of them ends. Then the exit code
    is 1. If no server runs, the exit code is 0.

    \b
    Example:
      streamclust server stop
    """
    from streamclust.store.server.keeper import release

    _check_embedded(settings)
    folder = settings.redis.data_dir.expanduser().resolve()
    outcome = release(folder)
    if outcome == "in use":
        say(
            f"the server in {printable(str(folder))} still runs: other commands use it, and it "
            "stops when the last of them ends"
        )
        raise SystemExit(EXIT_ERROR)
    words = "no server runs" if outcome == "not running" else "stopped the server"
    click.echo(f"{words} in {printable(str(folder))}")


@server.command()
@server_options
def url(settings: Settings) -> None:
    """Print the URL of the running embedded server, for other programs.

    The URL contains the password of the server. The server accepts connections from this machine
    only. `redis-cli` reads the password from REDISCLI_AUTH; `streamclust server cli` needs no
    password.

    \b
    Examples:
      streamclust server url
      REDIS_URL=$(streamclust server url) python producer.py
      streamclust worker --redis-url "$(streamclust server url)"    from another folder
    """
    _check_embedded(settings)
    click.echo(_running(settings).url)


@server.command(short_help="Show whether the server runs, its address and its memory.")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
def status(settings: Settings, as_json: bool) -> None:
    """Show whether the server runs, its address, its memory, and what keeps it running.

    The exit code is 3 if it doesn't run.

    \b
    Examples:
      streamclust server status
      streamclust server status --json
    """
    with _client(settings) as (label, client):
        facts = {"server": label, **_facts(client)}
    if settings.redis.url == "embedded":
        facts |= _embedded_facts(settings)
    if as_json:
        click.echo(json.dumps(facts))
        return
    for line in _lines(facts):
        click.echo(printable(line))


@server.command(
    short_help="Send a Redis command to the server, and print the reply.",
    context_settings={"ignore_unknown_options": True},
)
@server_options
@click.option(
    "--raw/--formatted",
    default=None,
    help="Print values only, or with their types.  [default: formatted on a terminal]",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND [ARGUMENT...]]")
def cli(settings: Settings, raw: bool | None, words: tuple[str, ...]) -> None:
    """Send a Redis command to the server, and print the reply as redis-cli does.

    Without a COMMAND, the commands are read from standard input, one per line. SUBSCRIBE and
    MONITOR run until Ctrl-C. Write -- before a command whose arguments begin with a dash.

    \b
    Examples:
      streamclust server cli PING
      streamclust server cli XRANGE points - + COUNT 2
      streamclust server cli < commands.txt
    """
    from streamclust.cli._redis_shell import run_commands

    formatted = sys.stdout.isatty() if raw is None else not raw
    with _client(settings) as (_, client):
        run_commands(client, words, formatted=formatted)


def _check_embedded(settings: Settings) -> None:
    from streamclust.errors import ConfigError

    if settings.redis.url != "embedded":
        raise ConfigError(
            f"redis.url is {settings.redis.url}, a server of your own, which streamclust neither "
            "starts nor stops; for the embedded server add --redis-url embedded"
        )


def _running(settings: Settings) -> Endpoint:
    """Return the address of the running embedded server; never start it.

    Raises
    ------
    ServerUnreachableError
        If it doesn't run.
    """
    from streamclust.errors import ServerUnreachableError
    from streamclust.store.server.keeper import running_endpoint

    endpoint = running_endpoint(settings.redis.data_dir)
    if endpoint is None:
        raise ServerUnreachableError(
            f"no server runs in {settings.redis.data_dir.expanduser().resolve()}; start it with: "
            "streamclust server run"
        )
    return endpoint


@contextmanager
def _client(settings: Settings) -> Iterator[tuple[str, redis.Redis]]:
    """Connect to the server of the settings, but never start the embedded server."""
    from streamclust.cli._server import opened_server

    if settings.redis.url == "embedded":
        _running(settings)
    with opened_server(settings, start=False) as opened:
        yield opened.label, opened.client(timeout=_LONGEST_COMMAND)


_LONGEST_COMMAND = 86_400.0
"""Seconds: a blocking read or a subscription may wait for a long time."""


def _detach(data_dir: Path) -> None:
    import subprocess

    from streamclust.errors import ServerError
    from streamclust.store.server.embedded import EmbeddedServer
    from streamclust.store.server.keeper import keeper_of
    from streamclust.store.server.supervisor import LIMIT, within

    with EmbeddedServer.acquire(data_dir) as used:  # so that an error of the start is shown here
        folder = used.data_dir
        earlier = keeper_of(folder)
        if earlier is not None:
            raise ServerError(f"process {earlier} already keeps the server in {folder} running")
        command = [sys.executable, "-m", "streamclust", "server", "run", "--redis-url=embedded"]
        child = subprocess.Popen(  # noqa: S603 -- our own module and a path
            [*command, f"--set=redis.data_dir={folder}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in this terminal doesn't reach it
        )
        if not within(LIMIT, lambda: bool(keeper_of(folder)) or child.poll() is not None):
            child.kill()
        if keeper_of(folder) is None:
            raise ServerError(f"can't keep the server in {folder} running in the background")
    click.echo(f"process {child.pid} keeps the server in {printable(str(folder))} running")


def _facts(client: redis.Redis) -> dict[str, Any]:
    """Return figures of the server as numbers and texts."""
    info: Any = client.info()
    name = "Valkey" if "valkey_version" in info else "Redis"
    return {
        "version": f"{name} {info[f'{name.lower()}_version']}",
        "process": info["process_id"],
        "uptime_seconds": info["uptime_in_seconds"],
        "connections": info["connected_clients"],
        "memory_bytes": info["used_memory"],
        "memory_limit_bytes": info["maxmemory"] or None,
        "memory_policy": info["maxmemory_policy"],
        "keys": sum(each["keys"] for key, each in info.items() if key.startswith("db")),
    }


def _embedded_facts(settings: Settings) -> dict[str, Any]:
    from streamclust.store.server.keeper import keeper_of

    folder = settings.redis.data_dir.expanduser().resolve()
    endpoint = _running(settings)
    files = (file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {
        "host": endpoint.host,
        "port": endpoint.port,
        "data_dir": str(folder),
        "disk_bytes": sum(files),
        "kept_by": keeper_of(folder),
    }


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    yield f"server       {facts['server']}"
    yield (
        f"version      {facts['version']}, process {facts['process']}, "
        f"up for {_duration(facts['uptime_seconds'])}"
    )
    if "port" in facts:
        yield f"address      {facts['host']}:{facts['port']}  (with password: `server url`)"
        yield f"on disk      {size_text(facts['disk_bytes'])}"
        keeper = facts["kept_by"]
        yield (
            "kept by      the commands that use it; it stops with the last of them"
            if keeper is None
            else f"kept by      process {keeper} (`server run`), until `server stop`"
        )
    limit = facts["memory_limit_bytes"]
    yield (
        f"memory       {size_text(facts['memory_bytes'])} of "
        f"{'unlimited' if limit is None else size_text(limit)}, policy {facts['memory_policy']}"
    )
    yield f"connections  {facts['connections']:,}, one of them from this command"
    yield f"keys         {facts['keys']:,}"


def _duration(seconds: int) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
