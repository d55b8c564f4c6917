"""What a foreign page, a foreign host and a producer of strange names can't do."""

from __future__ import annotations

from urllib.parse import quote

import httpx
import pytest

from streamclust.dashboard.security import HEADERS, allowed_hosts, is_loopback
from streamclust.dashboard.serve import Listen
from tests.support.dashboard import ALLOWED, TOKEN, opened
from tests.support.workspace import Workspace


@pytest.mark.parametrize("path", ["/api/server", "/api/models/none", "/none", "/openapi.json"])
def test_each_reply_has_the_headers_that_limit_a_browser(api: httpx.Client, path: str) -> None:
    found = api.get(path, headers={"Origin": "https://evil.example"})
    assert {name: found.headers[name] for name in HEADERS} == HEADERS
    assert not [name for name in found.headers if name.startswith("access-control-")]


def test_the_policy_permits_nothing_inline_and_no_other_host() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "[::1", "localhost.evil"])
def test_a_request_that_names_another_host_is_refused(api: httpx.Client, host: str) -> None:
    found = api.get("/api/models", headers={"Host": host})
    assert found.status_code in (400, 403)
    assert '"models"' not in found.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:8642"])
def test_a_request_that_names_this_machine_is_accepted(api: httpx.Client, host: str) -> None:
    assert api.get("/api/models", headers={"Host": host}).status_code == 200


def test_a_client_that_sends_too_many_requests_is_refused(
    learned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamclust.dashboard.security.REQUESTS_PER_MINUTE", 5)
    with opened(learned) as client:
        replies = [client.get("/api/actions/none") for _ in range(6)]
        assert [found.status_code for found in replies] == [403] * 5 + [429]
        assert int(replies[-1].headers["retry-after"]) > 1
        assert client.get("/").status_code == 200  # the page itself has no limit


def test_the_host_of_a_proxy_can_be_allowed(learned: Workspace) -> None:
    with opened(learned, Listen(hosts=["models.example"])) as client:
        assert client.get("/api/models", headers={"Host": "Models.example"}).status_code == 200
        assert client.get("/api/models", headers={"Host": "other.example"}).status_code == 403


def test_a_server_for_other_machines_has_no_list_of_hosts_by_default() -> None:
    assert allowed_hosts("192.168.1.1", ()) == frozenset()
    assert is_loopback("127.8.8.8")
    assert is_loopback("::1")
    assert not is_loopback("192.168.1.1")


def test_a_foreign_page_can_not_send_json_without_asking(api: httpx.Client) -> None:
    body = b'{"points": []}'
    plain = api.post("/api/models/km/predict", content=body, headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415
    assert api.options("/api/models/km/predict").status_code == 405


@pytest.mark.parametrize("path", ["refit", "rollback", "pause", "resume", "requeue"])
def test_an_action_needs_the_token(api: httpx.Client, learned: Workspace, path: str) -> None:
    wrong: list[dict[str, str]] = [{}, {"X-Token": TOKEN}]
    wrong += [{"Authorization": text} for text in ("Bearer wrong", f"Basic {TOKEN}", TOKEN)]
    for headers in wrong:
        found = api.post(f"/api/models/km/{path}", json={}, headers=headers)
        assert (found.status_code, found.json()["error"]["code"]) == (401, "token_needed")
    with opened(learned) as without:
        found = without.post(f"/api/models/km/{path}", json={}, headers=ALLOWED)
        assert (found.status_code, found.json()["error"]["code"]) == (403, "actions_off")


def test_a_name_that_is_a_script_stays_text(workspace: Workspace) -> None:
    name = "</script><script>alert(1)</script>"
    workspace.write({})
    with workspace.client as client:
        client.set(f"{{{workspace.namespace}:{name}}}:health", '{"phase": "<b>\x1b[31m"}')
    with opened(workspace) as api:
        found = api.get("/api/models")
        assert found.headers["content-type"] == "application/json"
        [row] = found.json()["models"]
        assert row["name"] == row["label"] == name
        detail = api.get(f"/api/models/{quote(name, safe='')}")
        assert detail.status_code == 200
        assert detail.json()["row"]["name"] == name


def test_control_characters_of_a_name_are_shown_escaped(workspace: Workspace) -> None:
    workspace.write({})
    with workspace.client as client:
        client.set(f"{{{workspace.namespace}:a\u202eb}}:health", "{}")
    with opened(workspace) as api:
        [row] = api.get("/api/models").json()["models"]
    assert (row["name"], row["label"]) == ("a\u202eb", "a\\u202eb")


def test_a_file_outside_of_the_static_folder_is_not_served(api: httpx.Client) -> None:
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/app.py"):
        assert api.get(path).status_code == 404
