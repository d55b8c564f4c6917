"""The server of the page, beside a worker in the same process."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import uvicorn

from tests.support.dashboard import opened
from tests.support.waiting import LIMIT
from tests.support.workspace import Workspace


def test_a_fault_of_the_page_is_logged_and_ends_only_the_page(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = threading.Event()

    async def fail(*_: Any, **__: Any) -> None:
        failed.set()
        raise OSError("too many open files")

    monkeypatch.setattr(uvicorn.Server, "serve", fail)
    workspace.write({})
    with opened(workspace):
        assert failed.wait(LIMIT)
    [line] = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["event"], line["level"]) == ("dashboard_failed", "error")
    assert line["exception"].endswith("too many open files")
