"""What deploy/ ships: it parses, keeps to the rules of its kind, and names commands that exist."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shlex
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from streamclust.cli.main import cli
from streamclust.config import load_settings
from streamclust.engine.dask import CHEAPER

DEPLOY = Path(__file__).parent.parent / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
KUBERNETES = DEPLOY / "kubernetes"
ENGINE = ("engine-scheduler", "engine-worker")
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
    assert all(services[name]["image"] == services["worker"]["image"] for name in ENGINE)
    build = services["worker"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
    mounts = [m.split(":")[0] for s in services.values() for m in s["volumes"]]
    assert {m for m in mounts if not m.startswith(".")} == set(compose()["volumes"])
    made = {"./certificates"}  # by make-certificates.sh
    assert all((DEPLOY / m).is_file() for m in mounts if m.startswith(".") and m not in made)


def test_docker_compose_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or ran([docker, "compose", "version"]).returncode:
        pytest.skip("docker compose is not installed")
    done = ran([docker, "compose", "-f", str(COMPOSE), "config"])
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == {"valkey", "worker"}
    done = ran([docker, "compose", "-f", str(COMPOSE), "--profile", "engine", "config"])
    assert {"engine-scheduler", "engine-worker"} < set(yaml.safe_load(done.stdout)["services"])


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
    named = set(re.findall(r"deploy/([\w./-]*\w)", text))
    named |= set(
        re.findall(r"`((?:kubernetes/)?[\w-]+\.\w+|Dockerfile)`", text.partition("\nOn SIGTERM")[0])
    )
    assert {"compose.yaml", "streamclust.service", "Dockerfile", "kubernetes/engine.yaml"} <= named
    assert all((DEPLOY / name).exists() for name in named)


# ---- the engine


def manifests() -> dict[tuple[str, str], dict[str, Any]]:
    """Return all objects of the manifests by kind and name."""
    texts = (path.read_text(encoding="utf-8") for path in sorted(KUBERNETES.glob("*.yaml")))
    objects = [each for text in texts for each in yaml.safe_load_all(text)]
    return {(each["kind"], each["metadata"]["name"]): each for each in objects}


def pod(name: str) -> dict[str, Any]:
    found: dict[str, Any] = manifests()["Deployment", name]["spec"]["template"]["spec"]
    return found


def engine_commands() -> list[list[str]]:
    """Return the commands of the engine, of compose and of the manifests."""
    composed = [compose()["services"][name]["entrypoint"] for name in ENGINE]
    return composed + [pod(name)["containers"][0]["command"] for name in ENGINE]


def test_each_command_of_the_engine_is_one_that_dask_has_with_tls(tmp_path: Path) -> None:
    dask = pytest.importorskip("distributed.cli", reason="the extra dask isn't installed")
    for program, name, *words in engine_commands():
        assert program == "dask"
        for word in words:
            if word.startswith("--tls"):
                (tmp_path / Path(word).name).touch()
        given = [word.replace("/certificates", str(tmp_path)) for word in words]
        module = importlib.import_module(f"{dask.__name__}.dask_{name}")
        parameters = module.main.make_context(name, given).params
        assert all(parameters[f"tls_{file}"] for file in ("ca_file", "cert", "key"))
        assert ("--no-nanny" in words) == (name == "worker")


def test_the_engine_has_the_settings_of_dask_that_cost_less() -> None:
    dask = pytest.importorskip("dask", reason="the extra dask isn't installed")
    pytest.importorskip("distributed", reason="the extra dask isn't installed")
    for name in ENGINE:
        composed: dict[str, str] = compose()["services"][name]["environment"]
        variables = pod(name)["containers"][0]["env"]
        kubernetes = {each["name"]: each.get("value", "") for each in variables}
        for environment in (composed, kubernetes):
            given = {key: value for key, value in environment.items() if key.startswith("DASK_")}
            collected = dask.config.collect_env(given)
            for key, value in CHEAPER.items():
                assert dask.config.get(key, config=collected) == value
                assert dask.config.get(key) is not None  # Dask has this setting


def test_settings_and_certificates_of_the_manifests_fit_together(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(manifests()["ConfigMap", "streamclust"]["data"]["config.yaml"])
    settings = load_settings(file, (), {})
    assert settings.models
    address = re.fullmatch(r"tls://([\w-]+):(\d+)", settings.engine.address or "")
    assert address is not None
    service = manifests()["Service", address[1]]
    assert service["spec"]["ports"][0]["port"] == int(address[2])
    assert service["spec"]["selector"] == {"app": "engine-scheduler"}
    (container,) = pod("streamclust-worker")["containers"]
    assert parsed(container["args"]).info_name == "worker"
    assert parsed(container["livenessProbe"]["exec"]["command"][1:]).params["alive"] is True
    assert str(settings.engine.key_file) == "/certificates/tls.key"
    secrets = [
        v["secret"]
        for name in ("streamclust-worker", *ENGINE)
        for v in pod(name)["volumes"]
        if v["name"] == "certificates"
    ]
    assert {each["secretName"] for each in secrets} == {"engine-tls"}


@pytest.mark.parametrize("name", ["streamclust-worker", *ENGINE])
def test_each_pod_keeps_to_the_rules_of_its_kind(name: str) -> None:
    deployment, (container,) = manifests()["Deployment", name], pod(name)["containers"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert pod(name)["securityContext"]["runAsUser"] == int(last("USER").split(":")[0])
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {"requests", "limits"} == set(container["resources"])
    assert {m["name"] for m in container["volumeMounts"]} == {
        v["name"] for v in pod(name)["volumes"]
    }
    assert "PASSWORD" not in str([e for e in container.get("env", []) if "value" in e])
    policy = manifests()["NetworkPolicy", "engine"]["spec"]
    assert policy["ingress"][0]["from"][0]["podSelector"]["matchLabels"].items() <= labels.items()


def test_compose_with_the_engine_has_valid_settings() -> None:
    environment = {
        name: re.sub(r"\$\{STREAMCLUST_ENGINE:-(\w+)\}", r"\1", value)
        for name, value in compose()["services"]["worker"]["environment"].items()
    }
    assert load_settings(DEPLOY / "config.yaml", (), environment).engine.kind == "auto"
    chosen = {**environment, "STREAMCLUST_ENGINE__KIND": "dask"}
    address = load_settings(DEPLOY / "config.yaml", (), chosen).engine.address
    assert address == "tls://engine-scheduler:8786"


def test_the_certificates_that_the_script_makes_are_accepted(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    script, folder = str(DEPLOY / "make-certificates.sh"), tmp_path / "certificates"
    environment = {**os.environ, "CERTIFICATES": str(folder)}
    done = subprocess.run(
        [script, "engine-scheduler", "127.0.0.1"], check=False, capture_output=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.iterdir()} == {"ca.pem", "cert.pem", "key.pem"}
    assert folder.joinpath("key.pem").stat().st_mode & 0o077 == 0
    again = subprocess.run([script, "x"], check=False, capture_output=True, env=environment)
    assert again.returncode == 1
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "ca.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=folder / "ca.pem")
    for side in (server, client):
        side.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    talking = [
        client.wrap_bio(to_client, to_server, server_hostname="engine-scheduler"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(3):
        for side_of_talk in talking:
            with contextlib.suppress(ssl.SSLWantReadError):
                side_of_talk.do_handshake()
    assert all(side_of_talk.getpeercert() for side_of_talk in talking)
