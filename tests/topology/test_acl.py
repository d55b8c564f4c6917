"""deploy/redis-acl.conf: each user can do his work, and each right of his is needed for it."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch
from zlib import crc32

import httpx
import numpy as np
import pytest
import redis
import structlog
import yaml
from click.testing import CliRunner
from structlog.testing import LogCapture

from streamclust import KMeans, KMeansParams
from streamclust.cli.main import cli
from streamclust.client.client import Client
from streamclust.client.ingest import ingest
from streamclust.client.progress import Progress
from streamclust.config import Settings, load_settings
from streamclust.dashboard.serve import Dashboard, Listen
from streamclust.encoder import loop as encoder
from streamclust.encoder.job import Job as EncoderJob
from streamclust.encoder.many import run_encoders
from streamclust.engine import EStep, StreamPart, dask_worker
from streamclust.engine.wire import decode_result, encode_part, encode_task
from streamclust.errors import ServerError, StreamclustError
from streamclust.formats.layout import Layout
from streamclust.refit.command import Callbacks, Request, Selection, refit
from streamclust.refit.runs import Plan
from streamclust.refit.span import Span
from streamclust.runtime.job import Job
from streamclust.runtime.log import command_log
from streamclust.store.model.keys import Keys
from streamclust.store.server.connect import Address, Server, open_server, translate
from streamclust.store.stream.keys import dead_key
from streamclust.tables import Chunk
from streamclust.worker import run_models as worker
from tests.support.acl import FILE, RULES
from tests.support.dashboard import PLAIN
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, blobs
from tests.support.waiting import LIMIT, wait_until
from tests.support.workspace import error_line, run

KEYS = Keys("streamclust", "m")
PASSWORD = "s3cr3t"
BATCH = {"size": 30, "max_entry_bytes": 1 << 20}


def marks(user: str, grant: str) -> tuple[pytest.MarkDecorator, ...]:
    """Leave half of the commands of each user to `make test-all`, and no key and no channel."""
    is_rare = grant.startswith("+") and crc32(f"{user} {grant}".encode()) % 2
    return (pytest.mark.exhaustive,) if is_rare else ()


GRANTS = [
    pytest.param(user, match, id=f"{user}-{match[0]}-{match.start()}", marks=marks(user, match[0]))
    for user, rules in RULES.items()
    for match in re.finditer(r"(?<![^\s(])[+~%&][^\s)]+", rules)
]


@dataclass(frozen=True)
class Place:
    """A server with the users of the file, and a folder to work in."""

    url: str
    folder: Path

    @property
    def admin(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def permit(self, user: str, rules: str) -> None:
        """Make a user who has these rules, and PASSWORD."""
        selectors = re.findall(r"\([^)]*\)", rules)
        plain = re.sub(r"\([^)]*\)", "", rules).split()
        words = ["reset", "on", f">{PASSWORD}", *plain, *selectors]
        with self.admin as client:
            client.execute_command("ACL", "SETUSER", user, *words)

    def login(self, user: str) -> Address:
        return Address(self.url, username=user, password=PASSWORD)

    def settings(self, user: str) -> Settings:
        """Write a config.yaml for this user, and return its settings."""
        file, text = self.folder / "config.yaml", settings_text(self.url, user)
        file.write_text(text)
        if text not in SETTINGS:
            SETTINGS[text] = load_settings(file, (), {})
        return SETTINGS[text]


@cache
def settings_text(url: str, user: str) -> str:
    trim = {"kind": "learned" if user == "trimmer" else "none"}
    encode = {"takeover": "100ms", "worker": user == "coder"}
    start = "1-0" if user == "coder" else "earliest"
    model = kmeans("points", batch=BATCH, encode=encode, trim=trim, start=start)
    login = {"url": url, "username": user, "password": PASSWORD}
    return yaml.safe_dump({"redis": login, "models": {"m": model}})


SETTINGS: dict[str, Settings] = {}
"""Those of each text, read once."""

PREPARED: dict[tuple[str, Callable[[Place], None]], dict[bytes, bytes]] = {}
"""All keys of a server after a preparation, as DUMP returns them."""


@pytest.fixture
def place(server_url: str, tmp_path: Path) -> Place:
    return Place(server_url, tmp_path)


@pytest.fixture(autouse=True)
def _emptied(place: Place) -> Iterator[None]:
    with place.admin as client:
        client.delete("points", dead_key("points"), *client.scan_iter(match="{streamclust:*"))
        add_blocks(client, "points", blobs(60), 30)
        yield
        for user in (*RULES, "trimmer", "coder"):
            client.execute_command("ACL", "DELUSER", user)


# ---- what each user does


def job(kind: Any, place: Place, user: str, server: Server, **more: Any) -> Any:
    log = more.pop("log", None) or structlog.wrap_logger(structlog.ReturnLogger())
    settings, stop = place.settings(user), threading.Event()
    return kind(
        name="m", settings=settings, server=server, stop=stop, until_idle=True, log=log, **more
    )


def learn(place: Place, user: str, times: int = 2) -> None:
    """Begin a model, and go on with it."""
    logged = LogCapture()
    log = structlog.wrap_logger(structlog.PrintLogger(), [logged], structlog.BoundLogger)
    for version in range(1, times + 1):
        with open_server(place.login(user)) as server:
            worker.run_model(job(Job, place, user, server, log=log))
        assert "workers_unknown" not in [entry["event"] for entry in logged.entries]
        with place.admin as client:
            groups: Any = client.xinfo_groups("points")
            stream: Any = client.xinfo_stream("points")
            assert groups[0]["last-delivered-id"] == stream["last-generated-id"]
            assert client.xlen(KEYS.models) == version
            assert not client.exists(KEYS.lease, KEYS.health)  # given back
            add_blocks(client, "points", blobs(60), 30)


def prepare(place: Place, work: Callable[[Place], None]) -> None:
    """Let a user with all rights work; later tests on the same server copy the keys."""
    place.permit("boss", "~* &* +@all")
    with place.admin as client:
        if (place.url, work) not in PREPARED:
            work(place)
            keys = [b"points", *client.scan_iter(match="{points}*")]
            keys += client.scan_iter(match="{streamclust:*")
            PREPARED[place.url, work] = {key: client.dump(key) for key in keys}
        else:
            with client.pipeline() as pipe:
                for key, value in PREPARED[place.url, work].items():
                    pipe.restore(key, 0, value, replace=True)
                pipe.execute()


def learned(place: Place) -> None:
    """Prepare a model of the points."""
    prepare(place, learn_once)


def learn_once(place: Place) -> None:
    learn(place, "boss", times=1)


def encode(place: Place, user: str) -> None:
    learned(place)
    with place.admin as client:
        client.xgroup_create("points", KEYS.encoders, "0")
        for count in (2, 1):  # what another encoder has left is taken over, twice
            client.xreadgroup(KEYS.encoders, "gone", {"points": ">"}, count=count)
            encode_once(place, user)
            assert client.xlen(KEYS.codes()) == client.xlen("points")
            consumers: Any = client.xinfo_consumers("points", KEYS.encoders)
            assert [each["name"] for each in consumers] == [b"gone"]
            add_blocks(client, "points", blobs(60), 30)
        client.xtrim("points", 1, approximate=False)  # of two that no encoder has seen
        encode_once(place, user)
        assert client.xlen(KEYS.codes()) == 7


def encode_once(place: Place, user: str) -> None:
    with open_server(place.login(user)) as server:
        what = {"stream": "points", "key": KEYS.codes()}
        encoder.run_encoder(job(EncoderJob, place, user, server, **what))


def subscribe(place: Place, user: str) -> None:
    learned(place)
    with Client(place.url, username=user, password=PASSWORD) as client:
        assert client.names() == ["m"]
        assert client.model("m").version == client.model("m", 1).version == 1
        assert len(list(client.updates("m", since=0, timeout=0))) == 1
        with pytest.raises(LookupError):
            client.model("m", 3)
    with open_server(place.login(user)) as server, translate("the server"):
        channel: Any = server.client().pubsub()  # type: ignore[no-untyped-call]
        for ask in (channel.subscribe, channel.unsubscribe):
            ask(KEYS.models)
            assert channel.get_message(timeout=LIMIT)
        channel.close()


def look(place: Place, user: str) -> None:
    learned(place)
    place.settings(user)
    with place.admin as client:
        oldest: Any = client.xrange("points", count=1)
        client.xdel("points", oldest[0][0])  # so that the lag has to be counted
    arguments = ["status", "--config", str(place.folder / "config.yaml")]
    done = CliRunner().invoke(cli, arguments)
    assert "kmeans 3x2" in done.output, done.output


def show_page(place: Place, user: str) -> None:
    """Ask a dashboard for all that its page shows."""
    learned(place)
    with place.admin as client, open_server(place.login("boss")) as server:
        client.xadd("points", {"x": "1"})
        worker.run_model(job(Job, place, "boss", server))
        oldest: Any = client.xrange("points", count=1)
        client.xdel("points", oldest[0][0])  # so that the lag has to be counted
    settings = place.settings(user)
    with (
        open_server(place.login(user)) as server,
        Dashboard(settings, lambda: server, "it", Listen(), command_log()) as dashboard,
        httpx.Client(base_url=dashboard.url, **PLAIN) as api,
    ):

        def shown(path: str) -> Any:
            reply = api.get(path)
            assert reply.status_code == 200, reply.text
            return reply.json()

        report = shown("/api/server")
        assert report["product"] is not None
        assert report["workers"] is not None
        rows = shown("/api/models")["models"]
        assert [(row["n_components"], row["dead"]) for row in rows] == [(3, 1)]
        found = shown("/api/models/m")
        assert found["points_error"] is None
        assert len(found["points"]["x"]) == 30 * client.xlen("points") - 30  # one is bad
        assert found["dead"]["stored"] == 1
        newest = rows[0]["version"]
        assert len(shown("/api/models/m/versions")["versions"]) == newest
        shown(f"/api/models/m/diff?from=1&to={newest}")


def learn_past_a_large_entry(place: Place) -> None:
    learn(place, "boss", times=1)
    with place.admin as client, open_server(place.login("boss")) as server:
        client.xadd("points", {"f8": bytes(BATCH["max_entry_bytes"])})
        add_blocks(client, "points", blobs(60), 30)
        worker.run_model(job(Job, place, "boss", server))


def refit_anew(place: Place, user: str) -> None:
    """Propose a refit of the last points, of which one is too large, and swap it in."""
    prepare(place, learn_past_a_large_entry)
    with place.admin as client:
        client.script_flush()
    with open_server(place.login(user)) as server, translate("the server"):
        request = Request(Selection(Span(latest="90")), Plan(1), force=True)
        report = refit(job(Job, place, user, server), request, Callbacks())
    assert report.points == 90
    with place.admin as client:
        assert client.xlen(KEYS.models) == 3
        assert not client.exists(KEYS.lease, KEYS.health, KEYS.refitting, KEYS.proposal)


def send(place: Place, user: str) -> None:
    with open_server(place.login(user)) as server:
        client, chunk = server.client(), Chunk(("x0", "x1"), blobs(9), None, 1)
        timed = replace(chunk, times=np.full(9, 1 << 45))
        for sent in (18, 9):  # the second run continues the first one
            progress = Progress(client, "points")
            chunks = progress.unsent_chunks("a.npy", "a.npy", [chunk] * 3)
            report = ingest(client, "points", islice(chunks, 2), progress=progress)
            assert report.points == sent
        progress.finish()
        assert progress.enabled
        assert ingest(client, "points", [timed]).points == 9


def learn_bad_entries_and_encode(place: Place) -> None:
    learn(place, "boss", times=1)
    with place.admin as client, open_server(place.login("boss")) as server:
        client.xadd("points", {"f8": bytes(BATCH["max_entry_bytes"])})
        client.xadd("points", {"x": "1"})
        for reason in ("bad", "odd"):
            row = {"file": "a.csv", "line": "2", "reason": reason, "data": ""}
            client.xadd(dead_key("points"), row)
        worker.run_model(job(Job, place, "boss", server))
        client.xgroup_create("points", KEYS.encoders, "0")
        encode_once(place, "boss")
        client.set(KEYS.lease, "1:dead:asleep")  # of a worker that has ended


def administrate(place: Place, user: str) -> None:
    """Look at everything, requeue and purge dead letters, and rename, reset and delete a model."""
    prepare(place, learn_bad_entries_and_encode)
    place.settings(user)
    for words in (
        "peek points",
        "codes m --last 2",
        "codes m --follow --since 0 --count 2",
        "alerts m",
        "dead m",
        "dead m --ingest",
        "dead requeue m --reason max_entry_bytes --yes",
        "dead purge m --yes",
        "dead purge m --ingest --reason odd --yes",
        "dead purge m --ingest --yes",
        "models pause m",
        "models resume m",
        "models rename m n --yes",
        "models rename n m --yes",
        "models reset m --yes",
        "models delete m --yes",
    ):
        arguments = [*words.split(), "--config", str(place.folder / "config.yaml")]
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == 0, (words, done.output)
        if words.startswith(("dead requeue", "dead purge")):
            assert re.search("(requeued|removed) [1-9]", done.output), (words, done.output)
        if words.startswith("models rename"):
            with place.admin as client:
                names = [each["name"] for each in client.xinfo_groups("points")]
                assert names == [Keys("streamclust", words.split()[3]).encoders.encode()]
    with place.admin as client:
        assert not list(client.scan_iter(match="{streamclust:*"))
        assert not client.xinfo_groups("points")


def read_a_part(place: Place, user: str) -> None:
    """Compute a part of the stream as a worker of Dask does, by the settings of that worker."""
    place.settings(user)
    with place.admin as client:
        last: Any = client.xrevrange("points", count=1)
    layout = Layout("float64", "f8", None, (), 2, strict=False)
    part = StreamPart("points", "0-0", last[0][0].decode(), 60, layout)
    task = EStep(KMeans(2), KMeansParams(np.zeros((2, 2))))
    dask_worker.use_own_server.cache_clear()
    with patch.dict(os.environ, {"STREAMCLUST_CONFIG": str(place.folder / "config.yaml")}):
        answer = dask_worker.compute(encode_task(task, None), [encode_part(0, part)])
    done = decode_result(task, dask_worker.unbundle(answer)[1][0], "the test")
    assert (done.notes.points, done.notes.lost) == (60, 0)
    assert done.value.count == 60.0


WORK: dict[str, Callable[[Place, str], None]] = {
    "streamclust-worker": learn,
    "streamclust-refit": refit_anew,
    "streamclust-encoder": encode,
    "streamclust-subscriber": subscribe,
    "streamclust-operator": look,
    "streamclust-dashboard": show_page,
    "streamclust-ingest": send,
    "streamclust-admin": administrate,
    "streamclust-engine": read_a_part,
}


@pytest.mark.every_server
@pytest.mark.parametrize("user", RULES)
def test_each_user_can_do_his_work(place: Place, server_name: str, user: str) -> None:
    rules = RULES[user]
    if server_name == "redis6.2":  # as the file says
        rules = re.sub(r"[()]|%[RW](?=~)", "", rules)
    place.permit(user, rules)
    WORK[user](place, user)


@pytest.mark.parametrize("server_name", ["valkey9"])
def test_a_trim_policy_needs_what_the_file_says(place: Place) -> None:
    extra = re.findall(r"^# (\+xpending .*)\.$", FILE.read_text(), re.MULTILINE)[0]
    rules = RULES["streamclust-worker"].replace("(~points", f"(~points {extra}")
    place.permit("trimmer", rules)
    learn(place, "trimmer")
    place.permit("trimmer", RULES["streamclust-worker"])
    with pytest.raises(ServerError, match="doesn't permit this"):
        learn(place, "trimmer")


@pytest.mark.parametrize("server_name", ["valkey9"])
def test_a_worker_that_encodes_needs_what_the_file_says(place: Place) -> None:
    told = re.search(r"^# (\+xrevrange), and .*? (\+xgroup.*)\.$", FILE.read_text(), re.MULTILINE)
    assert told is not None
    extra = " ".join(told.groups())
    place.permit("coder", RULES["streamclust-worker"].replace(" (~points", f" {extra} (~points"))
    learn(place, "coder")
    with place.admin as client:
        assert client.xlen(KEYS.codes()) == client.xlen("points") - 2  # those that were added since
    place.permit("coder", RULES["streamclust-worker"])
    with pytest.raises(ServerError, match="doesn't permit this"):
        learn(place, "coder")


@pytest.mark.parametrize("server_name", ["valkey9"])
@pytest.mark.parametrize("is_reported", [True, False])
def test_encoders_that_share_threads_use_reports_of_the_server_if_they_may(
    place: Place, is_reported: bool
) -> None:
    user = "streamclust-encoder"
    extra = re.search(r"^# (\+client\|id .*\+exists .*)$", FILE.read_text(), re.MULTILINE)
    assert extra is not None
    rights = f" {extra.group(1)} (~points" if is_reported else " (~points"
    learned(place)
    place.permit(user, RULES[user].replace(" (~points", rights, 1))
    stop = threading.Event()
    with open_server(place.login(user)) as server, place.admin as client:
        what = {"stream": "points", "key": KEYS.codes()}
        found = replace(job(EncoderJob, place, user, server, **what), stop=stop, until_idle=False)
        options = {"discover": 60.0, "stall": 60.0, "until_idle": False}
        arguments = (server, lambda _: [found], stop)
        thread = threading.Thread(target=run_encoders, args=arguments, kwargs=options)
        thread.start()
        try:
            for _ in range(3):
                add_blocks(client, "points", blobs(60), 30)
                wait_until(lambda: client.xlen(KEYS.codes()) == client.xlen("points"))
            tracking = [each for each in client.client_list() if "t" in each["flags"]]
            assert bool(tracking) == is_reported
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize("server_name", ["valkey9"])
@pytest.mark.parametrize(("user", "rule"), GRANTS)
def test_each_right_is_needed(place: Place, user: str, rule: re.Match[str]) -> None:
    # Given a user who lacks one
    place.permit(user, rule.string[: rule.start()] + rule.string[rule.end() :])
    # When he works Then he fails, or something isn't as it should be
    with pytest.raises((StreamclustError, AssertionError)) as failure:
        WORK[user](place, user)
    # and what was refused is said in one line
    if isinstance(failure.value, StreamclustError):
        assert re.search("doesn't permit this: .*no permissions", str(failure.value), re.IGNORECASE)


@pytest.mark.parametrize("server_name", ["valkey9"])
def test_a_worker_without_a_right_ends_with_one_line(place: Place) -> None:
    user = "streamclust-worker"
    place.permit(user, RULES[user].replace(" +ping", ""))
    place.settings(user)
    assert "has no permissions to run the 'ping' command" in error_line(
        run(place.folder, "worker"), 3
    )
