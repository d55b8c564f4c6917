"""What deploy/ ships: it parses, keeps to the rules of its kind, and names commands that exist."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from streamclust.cli.main import cli
from streamclust.config import load_settings

DEPLOY = Path(__file__).parent.parent / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
UNIT = DEPLOY / "streamclust.service"


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return loaded


def dockerfile() -> list[tuple[str, str]]:
    """Return the instructions as (name, arguments), continued lines joined."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def last(instruction: str) -> str:
    return [arguments for name, arguments in dockerfile() if name == instruction][-1]


def unit() -> dict[str, list[str]]:
    """Return the keys of the unit, each with all its values."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def ran(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True)


def parsed(words: list[str]) -> click.Context:
    """Parse a command line as the program would, without running it."""
    name, *arguments = words
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, f"there is no command {name}"
    return command.make_context(name, arguments)


def test_the_settings_for_compose_are_valid() -> None:
    settings = load_settings(DEPLOY / "config.yaml", (), {})
    assert settings.models
    assert settings.redis.password is None


def test_the_settings_for_compose_name_its_server() -> None:
    services = compose()["services"]
    host = load_settings(DEPLOY / "config.yaml", (), {}).redis.url
    assert host.removeprefix("redis://").partition(":")[0] in services


def test_compose_waits_for_a_server_that_keeps_its_data() -> None:
    services = compose()["services"]
    assert services["worker"]["depends_on"] == {"valkey": {"condition": "service_healthy"}}
    assert "healthcheck" in services["valkey"]
    assert "--appendonly yes" in " ".join(services["valkey"]["command"])


def test_compose_gives_every_service_time_to_stop_and_a_way_back() -> None:
    for service in compose()["services"].values():
        assert service["restart"] == "unless-stopped"
        assert service["stop_grace_period"] == "30s"


def test_compose_opens_the_server_to_this_machine_alone() -> None:
    ports = compose()["services"]["valkey"]["ports"]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_pins_its_images_and_mounts_what_exists() -> None:
    services = compose()["services"]
    assert re.fullmatch(r"valkey/valkey:\d[\w.-]*", services["valkey"]["image"])
    build = services["worker"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
    mounts = [m.split(":")[0] for s in services.values() for m in s["volumes"]]
    assert {m for m in mounts if not m.startswith(".")} == set(compose()["volumes"])
    assert all((DEPLOY / m).is_file() for m in mounts if m.startswith("."))


def test_docker_compose_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or ran([docker, "compose", "version"]).returncode:
        pytest.skip("docker compose is not installed")
    done = ran([docker, "compose", "-f", str(COMPOSE), "config"])
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == {"valkey", "worker"}


def test_every_image_has_a_pinned_base() -> None:
    bases = [arguments.split()[0] for name, arguments in dockerfile() if name == "FROM"]
    assert len(bases) > 1
    assert all(re.fullmatch(r"python:3\.\d+-slim", base) for base in bases)


def test_the_image_runs_as_a_plain_user() -> None:
    names = [name for name, _ in dockerfile()]
    assert int(last("USER").split(":")[0]) >= 1000
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")


def test_the_image_is_built_by_the_book() -> None:
    names = {name for name, _ in dockerfile()}
    assert "ADD" not in names
    assert last("STOPSIGNAL") == "SIGTERM"
    assert json.loads(last("ENTRYPOINT")) == ["streamclust"]
    for name, arguments in dockerfile():
        assert name not in ("ENV", "ARG") or not re.search("PASSWORD|SECRET|TOKEN", arguments)
        assert "pip install" not in arguments or "--no-cache-dir" in arguments


def test_the_image_copies_only_what_the_ignore_file_lets_in() -> None:
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copied = [
        word.removeprefix("./")
        for name, arguments in dockerfile()
        if name == "COPY" and "--from" not in arguments
        for word in arguments.split()[:-1]
    ]
    assert ignore[0] == "*"
    assert set(copied) == let_in
    assert all((DEPLOY.parent / path).exists() for path in copied)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DynamicUser", "yes"),
        ("StateDirectory", "streamclust"),
        ("WorkingDirectory", "%S/streamclust"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("EnvironmentFile", "-/etc/streamclust/environment"),
        ("KillSignal", "SIGTERM"),
        ("TimeoutStopSec", "30s"),
        ("Restart", "on-failure"),
        ("RestartPreventExitStatus", "2"),
        ("WantedBy", "multi-user.target"),
    ],
)
def test_the_unit_says(key: str, value: str) -> None:
    assert unit()[key] == [value]


def test_the_unit_holds_no_password() -> None:
    assert not any("PASSWORD" in value for values in unit().values() for value in values)


def test_systemd_accepts_the_unit() -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    done = ran([analyze, "verify", str(UNIT)])
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_runs_a_command_that_exists() -> None:
    (start,) = unit()["ExecStart"]
    program, name, *words = shlex.split(start)
    assert (program, name) == ("/usr/bin/env", "streamclust")
    assert parsed(words).params["config"] == Path("/etc/streamclust/config.yaml")


def test_the_image_runs_commands_that_exist() -> None:
    name, *check = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    assert name == "streamclust"
    assert parsed(check).params["check"] is True
    assert parsed(json.loads(last("CMD"))).info_name == "worker"


def test_compose_runs_a_command_that_exists() -> None:
    assert parsed(compose()["services"]["worker"]["command"]).info_name == "worker"


def test_the_read_me_names_files_that_exist() -> None:
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"deploy/([\w.]+)", text)) | set(
        re.findall(r"^\| `([\w.]+)`", text, re.M)
    )
    assert {"compose.yaml", "streamclust.service", "Dockerfile"} <= named
    assert all((DEPLOY / name).is_file() for name in named)
