"""The server's URL and password: where they come from, and that no message shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from streamclust.config import RedisSettings, load_settings
from streamclust.errors import ConfigError

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def told(text: str, environ: dict[str, str] | None = None, *flags: str) -> str:
    """Return the error that this text, environment and flags give."""
    Path("c.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(Path("c.yaml"), flags, environ or {})
    return str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "embedded",
        "redis://localhost",
        "redis://localhost:6379/0",
        "rediss://cache.example.org:6380/2?ssl_cert_reqs=required",
        "redis://[::1]:6379",
        "unix:///run/valkey.sock",
        "redis+sentinel://localhost/primary",
        "redis+sentinel://a:26379,b:26380,[::1]:26381/my-primary/2",
        "rediss+sentinel://a,b/primary?ssl_ca_certs=ca.pem",
        "redis+cluster://localhost",
        "rediss+cluster://a:7000,b:7001/0",
    ],
)
def test_usable_urls(url: str) -> None:
    assert RedisSettings(url=url).url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "localhost:6379",
        "http://localhost",
        "redis://",
        "redis://localhost:port",
        "redis://localhost:99999",
        "redis://localhost/first",
        "unix://",
        "redis+sentinel://localhost",
        "redis+sentinel://localhost/",
        "redis+sentinel:///primary",
        "redis+sentinel://a,,b/primary",
        "redis+sentinel://a:port,b/primary",
        "redis+sentinel://a,b:99999/primary",
        "redis+sentinel://a/primary/first",
        "redis+cluster://",
        "redis+cluster://a,b/1",
        "redis+sentry://a/primary",
        "unix+sentinel://a/primary",
    ],
)
def test_unusable_urls(url: str) -> None:
    with pytest.raises(ValidationError, match=r"expected|write"):
        RedisSettings(url=url)


def test_the_password_leaves_the_url() -> None:
    redis = RedisSettings(url="rediss://ann:hunter%402@cache:6380/1")
    assert redis.url == "rediss://cache:6380/1"
    assert redis.username == "ann"
    assert redis.read_password() == "hunter@2"
    assert "hunter" not in repr(redis)


def test_the_password_leaves_the_url_of_several_hosts() -> None:
    redis = RedisSettings(url="redis+sentinel://ann:hunter%402@a:1,b:2/primary/3?max_connections=9")
    assert redis.url == "redis+sentinel://a:1,b:2/primary/3?max_connections=9"
    assert redis.username == "ann"
    assert redis.read_password() == "hunter@2"


@pytest.mark.parametrize("scheme", ["redis://cache:6380/1", "redis+sentinel://a:1,b:2/primary/3"])
def test_the_password_may_be_an_option_of_the_url(scheme: str) -> None:
    redis = RedisSettings(url=f"{scheme}?username=ann&max_connections=9&password=hunter%402")
    assert redis.url == f"{scheme}?max_connections=9"
    assert redis.username == "ann"
    assert redis.read_password() == "hunter@2"


def test_sentinels_have_a_login_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    url = "redis+sentinel://a/primary"
    redis = RedisSettings(url=url, sentinel_username="ann", sentinel_password_file=file)
    assert redis.read_sentinel_password() == SECRET
    assert redis.read_password() is None
    given = RedisSettings.model_validate({"url": url, "sentinel_password": SECRET})
    assert given.read_sentinel_password() == SECRET
    assert SECRET not in repr(given)
    with pytest.raises(ConfigError, match=r"redis\.sentinel_password_file: can't read"):
        RedisSettings(url=url, sentinel_password_file=tmp_path / "none").read_sentinel_password()
    with pytest.raises(ValidationError, match="remove one"):
        RedisSettings.model_validate(
            {"url": url, "sentinel_password": SECRET, "sentinel_password_file": file}
        )


@pytest.mark.parametrize("url", ["embedded", "redis://a", "redis+cluster://a"])
def test_a_login_for_sentinels_needs_sentinels(url: str) -> None:
    with pytest.raises(ValidationError, match="sentinel_username is set, but url doesn't begin"):
        RedisSettings(url=url, sentinel_username="ann")


def test_credentials_are_given_once() -> None:
    with pytest.raises(ValidationError, match="set them only once"):
        RedisSettings.model_validate({"url": "redis://:a@host", "password": "b"})
    with pytest.raises(ValidationError, match="remove one"):
        RedisSettings.model_validate({"password": "a", "password_file": "b"})


def test_a_password_file_is_read_without_its_line_end(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(" hunter2 \n")
    assert RedisSettings(password_file=file).read_password() == " hunter2 "
    assert RedisSettings().read_password() is None


@pytest.mark.parametrize(("content", "told"), [(b"\n", "is empty"), (b"\xff", "not UTF-8 text")])
def test_a_bad_password_file_is_named(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"redis\.password_file: .*password.*{told}"):
        RedisSettings(password_file=file).read_password()


def test_a_missing_password_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"redis\.password_file: .*: No such file"):
        RedisSettings(password_file=tmp_path / "none").read_password()


@pytest.mark.parametrize(
    "text",
    [
        f"redis: {SECRET}",
        f"redis: {{pasword: {SECRET}}}",
        f"redis: {{password: [{SECRET}]}}",
        f"redis: {{password: {SECRET}, password_file: x}}",
        f"redis: {{password: {SECRET}, urll: x}}",
        f"redis: {{url: 'redis://:{SECRET}@host:port'}}",
        f"redis: {{url: 'redis:/:{SECRET}@host'}}",
        f"redis: {{url: 'redis://:{SECRET}@host', username: x}}",
        f"redis: {{url: 'redis://host?password={SECRET}&{SECRET}'}}",
        f"redis: {{url: 'redis://host?password={SECRET}', username: ann}}",
        *(f"redis: {{url: 'redis://ann:a{char}{SECRET}@host:1/0'}}" for char in "/?#["),
        f"redis: {{url: 'redis://:{SECRET}@host', lease: 3}}",
        f"redis: {{url: 'redis+sentinel://:{SECRET}@a:1,b:port/x'}}",
        f"redis: {{url: 'redis+sentinel://:{SECRET}@a:1,b:2'}}",
        f"redis: {{url: 'redis+cluster://:{SECRET}@a,b', sentinel_password: {SECRET}}}",
        f"redis: {{sentinel_password: {SECRET}, sentinel_password_file: x}}",
        f"redis: [url, {SECRET}]",
        f"redis: {{password: *{SECRET}}}",
        f"redis: {{password: !{SECRET} x}}",
        f"redis: {{password: !{SECRET}!x y}}",
        f"redis: {{password: &{SECRET}, x: &{SECRET} y}}",
        f"redis: {{password: {SECRET}: x}}",
        f"redis: {{password: '{SECRET}",
        f"redis:\n  password: {SECRET}\n  password: {SECRET}",
        f"redis:\n  password: {SECRET}\n x: y",
        f"redis:\n  password: @{SECRET}",
        f"redis:\n  password: %{SECRET}\n  z",
    ],
)
def test_no_message_has_the_password_in_it(text: str) -> None:
    assert SECRET not in told(text)


@pytest.mark.parametrize("key", ["redis.password.x", "redis.pasword", "redis", "redis.url"])
def test_no_message_has_the_password_of_a_flag_or_variable_in_it(key: str) -> None:
    value = f"http://:{SECRET}@host"
    variable = "STREAMCLUST_" + key.upper().replace(".", "__")
    assert SECRET not in told("log: {}", {variable: value})
    assert SECRET not in told("log: {}", {}, f"{key}={value}")


def test_the_error_drags_no_values_along_in_its_causes() -> None:
    Path("c.yaml").write_text(f"redis: {{password: {SECRET}, password_file: x}}")
    with pytest.raises(ConfigError) as caught:
        load_settings(Path("c.yaml"), (), {})
    assert caught.value.__cause__ is None
    assert SECRET not in str(caught.value.__context__)
