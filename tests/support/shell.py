"""A `streamclust` for the shells of tests, whose commands are forked.

The shell finds a small program of this name. It sends its words, folder, variables and standard
streams to the test's process, which forks the command, and ends as the command does. A start of the
script itself takes ten times as long, for the imports.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path

from tests.support.forked import fork_command

_PROGRAM = """\
#!{python} -IS
import json, os, socket, sys

with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({address!r})
    asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(connection, [len(asked).to_bytes(8, "big")], [0, 1, 2])
    connection.sendall(asked)
    code = int(connection.makefile().readline())
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@contextmanager
def forked_streamclust() -> Iterator[Path]:
    """A folder with the program, whose commands are forked for as long as the block lasts."""
    with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_UNIX) as server:
        address = str(Path(name, "socket"))
        server.bind(address)
        server.listen()
        program = Path(name, "streamclust")
        program.write_text(_PROGRAM.format(python=sys.executable, address=address))
        program.chmod(0o755)
        threading.Thread(target=_accept, args=(server,), daemon=True).start()
        try:
            yield Path(name)
        finally:
            server.shutdown(socket.SHUT_RDWR)


def _accept(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return  # the block has ended
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    """Fork the command, and send its exit code; kill it if its program is gone."""
    with connection:
        size, streams, *_ = socket.recv_fds(connection, 8, 3)
        with connection.makefile("rb") as file:
            words, folder, environment = json.loads(file.read(int.from_bytes(size, "big")))
        process = fork_command(words, Path(folder), environment, streams)
        for stream in streams:
            os.close(stream)
        if process.sentinel not in wait([process.sentinel, connection]):
            process.kill()
        process.join()
        connection.sendall(f"{process.exitcode}\n".encode())
