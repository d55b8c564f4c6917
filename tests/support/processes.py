"""Tests in several processes, forked from the one that has collected them.

To import and collect all tests takes several seconds of CPU time, so it is done once. Then each
process takes the next file of tests from a queue, until the queue is empty. It sends its reports to
the first process, which shows them. `pytest --processes 1` runs all tests in the first process.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, groupby, pairwise
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--processes", type=int, default=1, help="number of processes for the tests")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> object:
    """Run the files of tests in processes; for one process or one file, pytest runs them here."""
    option = session.config.option
    files = [list(items) for _, items in groupby(session.items, key=lambda item: item.path)]
    count = min(option.processes, len(files))
    if count < 2 or option.collectonly or option.usepdb or session.testsfailed:
        return None
    queue = _Queue(len(files))
    terminal = session.config.pluginmanager.getplugin("terminalreporter")
    capture = session.config.pluginmanager.getplugin("capturemanager")
    # Each process needs a file of its own for what tests print, and this one runs none.
    capture.stop_global_capturing()
    terminal.showfspath = False
    terminal.write_line(f"{count} processes, {len(files)} files")
    processes = []
    for _ in range(count):
        here, there = Pipe(duplex=False)
        number = os.fork()
        if not number:
            here.close()
            session.config.pluginmanager.unregister(terminal)
            # Plugins take this for a sign that another process reports.
            session.config.workerinput = {}  # type: ignore[attr-defined]
            capture.start_global_capturing()
            return _run(session, files, queue, there)
        there.close()
        processes.append(_Process(number, here))
    _report(session, processes, queue)
    return True


class _Queue:
    """The numbers of files that no process has taken yet, in a pipe that all processes read."""

    def __init__(self, count: int) -> None:
        self._reader, writer = os.pipe()
        os.write(writer, b"".join(number.to_bytes(2, "big") for number in range(count)))
        os.close(writer)

    def __iter__(self) -> Iterator[int]:
        while taken := os.read(self._reader, 2):
            yield int.from_bytes(taken, "big")


class _Sender:
    """Sends the reports of a test, and the name of the test that runs next."""

    def __init__(self, config: pytest.Config, connection: Connection) -> None:
        self._config = config
        self._connection = connection
        self._reports: list[dict[str, Any] | None] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._reports.append(data)

    def send(self, following: str | None) -> None:
        self._connection.send((self._reports, following))
        self._reports.clear()


def _run(
    session: pytest.Session, files: list[list[pytest.Item]], queue: _Queue, connection: Connection
) -> bool:
    """Run files of the queue, in a process of their own."""
    sender = _Sender(session.config, connection)
    session.config.pluginmanager.register(sender)
    items = chain.from_iterable(files[number] for number in queue)
    for item, following in pairwise(chain([None], items, [None])):
        if item is not None:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        sender.send(following.nodeid if following else None)
    return True


@dataclass
class _Process:
    """A process that runs tests: its number, its reports, and the test that it runs now."""

    number: int
    connection: Connection
    running: str | None = "its start"


def _report(session: pytest.Session, processes: list[_Process], queue: _Queue) -> None:
    """Show what the processes report, until all have ended."""
    hook = session.config.hook
    from_sent = hook.pytest_report_from_serializable
    live: dict[Any, _Process] = {process.connection: process for process in processes}
    unreported = dict.fromkeys(item.nodeid for item in session.items)
    while live:
        for ready in wait(list(live)):
            process = live[ready]
            try:
                sent, process.running = process.connection.recv()
                reports = [from_sent(config=session.config, data=data) for data in sent]
            except EOFError:
                del live[ready]
                reports = _reports_of_end(process)
            for report in reports:
                unreported.pop(report.nodeid, None)
                hook.pytest_runtest_logreport(report=report)
        if session.shouldfail or session.shouldstop:
            deque(queue, maxlen=0)  # no process takes another file
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)
    for test in unreported:
        hook.pytest_runtest_logreport(report=_failure(test, "its process ended before it ran"))


def _reports_of_end(process: _Process) -> list[pytest.TestReport]:
    """Return a failure if the process ended while it ran a test."""
    _, status = os.waitpid(process.number, 0)
    code = os.waitstatus_to_exitcode(status)
    if process.running is None and code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return []
    text = f"process {process.number} ended with code {code} while it ran {process.running}"
    return [_failure(process.running or "the end of the tests", text)]


def _failure(test: str, text: str) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=test,
        location=(test, None, test),
        keywords={},
        outcome="failed",
        longrepr=text,
        when="call",
    )
