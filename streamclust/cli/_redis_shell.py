"""Commands of Redis from arguments or standard input, with replies as redis-cli prints them."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._render import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import redis

_ENDLESS = ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR")


def run_commands(client: redis.Redis, words: Sequence[str], *, formatted: bool) -> None:
    """Run one command, or without `words` each line of standard input.

    Parameters
    ----------
    client : redis.Redis
    words : sequence of str
    formatted : bool
        Whether to print types, quotes and numbers of items; False prints the values only.
    """
    if words:
        _run(client, words, formatted)
        return
    import redis

    for line in _lines():
        try:
            parts = shlex.split(line, comments=True)
        except ValueError as error:
            say(f"(error) {error}: close the quotes")
            continue
        if not parts:
            continue
        if parts[0].lower() in ("quit", "exit"):
            return
        try:
            _run(client, parts, formatted)
        except redis.ResponseError as error:
            say(f"(error) {error}")


def _lines() -> Iterator[str]:
    """Yield the lines of standard input; on a terminal, with a prompt and a history."""
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    import readline  # noqa: F401 -- gives `input` a history

    while True:
        try:
            yield input("redis> ")
        except EOFError:
            return


def _run(client: redis.Redis, words: Sequence[str], formatted: bool) -> None:
    pool = getattr(client, "connection_pool", None)
    if pool is None:  # a cluster: its client finds the node of the keys
        _print(client.execute_command(*words), formatted)  # type: ignore[no-untyped-call]
        return
    connection = pool.get_connection()
    try:
        connection.send_command(*words)
        _print(connection.read_response(), formatted)
        while words[0].upper() in _ENDLESS:
            _print(connection.read_response(), formatted)
    finally:
        connection.disconnect()


def _print(reply: Any, formatted: bool) -> None:
    if formatted:
        click.echo("\n".join(as_text(reply)))
    else:
        for value in _values(reply):
            click.echo(value)


def as_text(reply: Any) -> list[str]:
    r"""Return the lines of a reply with types, quotes and numbers of items.

    Examples
    --------
    >>> as_text([b"a\n", 1, None, []])
    ['1) "a\\n"', '2) (integer) 1', '3) (nil)', '4) (empty array)']
    """
    if isinstance(reply, list | tuple):
        return _items(reply)
    if reply is None:
        return ["(nil)"]
    if isinstance(reply, int):
        return [f"(integer) {reply}"]
    if isinstance(reply, Exception):
        return [f"(error) {reply}"]
    return [quoted(reply if isinstance(reply, bytes) else str(reply).encode())]


def _items(reply: Sequence[Any]) -> list[str]:
    if not reply:
        return ["(empty array)"]
    width = len(str(len(reply)))
    lines = []
    for number, item in enumerate(reply, 1):
        first, *rest = as_text(item)
        lines.append(f"{number:>{width}}) {first}")
        lines += [f"{'':{width + 2}}{line}" for line in rest]
    return lines


def quoted(value: bytes) -> str:
    r"""Return bytes in double quotes; bytes that can't be printed are escaped.

    Examples
    --------
    >>> print(quoted(b'a"\x00\xff'))
    "a\"\x00\xff"
    """
    escapes = {0x22: '\\"', 0x5C: "\\\\", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}
    text = "".join(
        escapes.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}")
        for byte in value
    )
    return f'"{text}"'


def _values(reply: Any) -> Iterator[bytes]:
    """Yield the values of a reply, without quotes, as `redis-cli --raw` prints them."""
    if isinstance(reply, list | tuple):
        for item in reply:
            yield from _values(item)
    else:
        yield b"" if reply is None else reply if isinstance(reply, bytes) else str(reply).encode()
