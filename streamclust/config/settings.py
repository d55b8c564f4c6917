"""All settings, declared once: file, environment, flags and docs are derived from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    SerializationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from streamclust.config.defaults import with_defaults
from streamclust.config.engine import EngineSettings
from streamclust.config.placeholders import has_placeholder
from streamclust.config.section import Section
from streamclust.config.templates import ONLY_TEMPLATES, Models
from streamclust.config.values import Allowed, FilePath, Name, UpToADay
from streamclust.errors import ConfigError
from streamclust.store.server.url import EMBEDDED, URL_WORDS, fault, without_login
from streamclust.text import decode_text


class RedisSettings(Section):
    """The server that streams are read from and models are published to."""

    url: Annotated[str, Allowed(URL_WORDS)] = Field(
        default="embedded",
        description="The server. embedded starts a server that all commands with the same data_dir "
        "share. redis+sentinel://host:26379,host:26379/service/0 asks sentinels for the primary. "
        "redis+cluster://host:6379,host:6379 is a cluster. rediss+sentinel and rediss+cluster use "
        "TLS.",
    )
    data_dir: FilePath = Field(
        default=Path(".streamclust"),
        description="Data directory of the embedded server, relative to the current directory.",
    )
    username: str | None = Field(default=None, description="User name for the server.")
    password: SecretStr | None = Field(
        default=None,
        description="Password for the server. Better: use STREAMCLUST_REDIS__PASSWORD or "
        "password_file.",
    )
    password_file: FilePath | None = Field(
        default=None,
        description="File that holds only the password; the path is relative to the current "
        "directory.",
    )

    sentinel_username: str | None = Field(default=None, description="User name for the sentinels.")
    sentinel_password: SecretStr | None = Field(
        default=None,
        description="Password for the sentinels. Better: use "
        "STREAMCLUST_REDIS__SENTINEL_PASSWORD or sentinel_password_file.",
    )
    sentinel_password_file: FilePath | None = Field(
        default=None,
        description="File that holds only the sentinels' password; the path is relative to the "
        "current directory.",
    )

    @model_validator(mode="before")
    @classmethod
    def _take_credentials(cls, data: object) -> object:
        """Move the user and the password out of the URL, so that it can be shown and logged."""
        if not isinstance(data, dict) or not isinstance(data.get("url"), str):
            return data
        url, user, password = without_login(data["url"])
        if not user and not password:
            return data
        if any(data.get(key) is not None for key in ("username", "password", "password_file")):
            raise ValueError(
                "url has a user or password, and so has another key; set them only once, "
                "as username and password"
            )
        return data | {"url": url, "username": user or None, "password": password or None}

    @field_validator("url")
    @classmethod
    def _url_usable(cls, url: str) -> str:
        if url != EMBEDDED and (problem := fault(url)):
            raise ValueError(problem)
        return url

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file are both set; remove one")
        if self.sentinel_password is not None and self.sentinel_password_file is not None:
            raise ValueError(
                "sentinel_password and sentinel_password_file are both set; remove one"
            )
        return self

    @model_validator(mode="after")
    def _sentinels_to_log_in_at(self) -> Self:
        scheme = self.url.partition("://")[0]
        for key in ("sentinel_username", "sentinel_password", "sentinel_password_file"):
            if getattr(self, key) is not None and not scheme.endswith("+sentinel"):
                raise ValueError(f"{key} is set, but url doesn't begin with redis+sentinel://")
        return self

    def read_password(self) -> str | None:
        """Return the password, from `password_file` if that is set; None without one."""
        return _read_secret("password_file", self.password_file, self.password)

    def read_sentinel_password(self) -> str | None:
        """Return the sentinels' password, from its file if that is set; None without one."""
        file = self.sentinel_password_file
        return _read_secret("sentinel_password_file", file, self.sentinel_password)


_SECRET_BYTES = 1 << 16


def _read_secret(key: str, file: Path | None, secret: SecretStr | None) -> str | None:
    """Return the text of `file` (which the setting `key` names) or else the secret."""
    if file is None:
        return None if secret is None else secret.get_secret_value()
    try:
        with file.open("rb") as opened:  # it may be a pipe
            data = opened.read(_SECRET_BYTES + 1)
        text = decode_text(data).strip("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(
            f"redis.{key}: can't read {file}: {reason}; name a file with the password"
        ) from None
    if len(data) > _SECRET_BYTES:
        raise ConfigError(
            f"redis.{key}: {file} has more than {_SECRET_BYTES:,} bytes; store only the password"
        )
    if not text:
        raise ConfigError(f"redis.{key}: {file} is empty; write the password to this file")
    return text


_SHORTEST = 0.1
"""Minimum seconds of a lease or a health report, which are renewed over the network."""


class WorkerSettings(Section):
    """How workers share models and report their health."""

    lease: UpToADay = Field(
        default=10.0,
        description="How long a lease lasts without renewal. Then another worker takes over the "
        "model. 100ms to 1d.",
    )
    health_ttl: UpToADay = Field(
        default=15.0,
        description="How long a health report is valid. Then `streamclust worker --check` finds no "
        "live worker. 100ms to 1d.",
    )
    stall: UpToADay = Field(
        default=600.0,
        description="If a model makes no progress for this long while entries wait, it loses its "
        "lease and another worker takes over. Set it longer than the longest single step, such as "
        "the fit at the end of a large warm-up. 100ms to 1d.",
    )
    idle_after: UpToADay = Field(
        default=300.0,
        description="A model without new entries for this long leaves the worker's memory. Its "
        "first new entry loads it again, from the state on the server. Up to 1d.",
    )
    fail_fast: bool = Field(
        default=False,
        description="Whether the worker exits when one model fails. Otherwise the worker retries "
        "that model after 0.5 s to 60 s, and the other models continue.",
    )

    @field_validator("lease", "health_ttl", "stall")
    @classmethod
    def _renewable(cls, seconds: float) -> float:
        if seconds < _SHORTEST:
            raise ValueError("expected at least 100ms, since it is renewed over the network")
        return seconds


class LogSettings(Section):
    """Level and format of the log."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Minimum log level."
    )
    format: Literal["auto", "human", "json"] = Field(
        default="auto",
        description="Format of the log. auto: human on a terminal, json elsewhere.",
    )


def _none_is_empty(value: object) -> object:
    return {} if value is None else value


class Settings(Section):
    """All settings; `load_settings` makes them from the file, the environment and the flags."""

    namespace: Name = Field(
        default="streamclust",
        description="First part of all keys, such as {namespace:model}:state.",
    )
    redis: RedisSettings = Field(default=RedisSettings(), description="The server.")
    worker: WorkerSettings = Field(
        default=WorkerSettings(), description="How workers share models and report their health."
    )
    log: LogSettings = Field(default=LogSettings(), description="Level and format of the log.")
    engine: EngineSettings = Field(
        default=EngineSettings(), description="How sums over many points are computed."
    )
    defaults: Annotated[
        Mapping[str, Any], BeforeValidator(_none_is_empty), Allowed("keys with settings of a model")
    ] = Field(
        default={},
        description="Settings for all models; a model's own settings override them. A setting that "
        "a model's kind doesn't have is ignored for this model.",
    )
    models: Annotated[Models, BeforeValidator(_none_is_empty)] = Field(
        default=Models({}),
        description="The models, by name. A name such as clicks-{tenant} is a template, which "
        "stands for one model per stream that matches (see tenants.md).",
    )

    _file: Path | None = PrivateAttr(default=None)
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @property
    def file(self) -> Path | None:
        """Return the file that was read, or None."""
        return self._file

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return a line for each setting that was given under an old name."""
        return self._warnings

    @model_validator(mode="before")
    @classmethod
    def _take_defaults(cls, data: object) -> object:
        return with_defaults(data) if isinstance(data, dict) else data

    @field_serializer("models")
    def _entries(self, models: Models, info: SerializationInfo) -> dict[str, Any]:
        """Return the entries as a file has them: only a template has the settings of templates."""
        found = {}
        for name, model in models.entries.items():
            entry = model.model_dump(mode=info.mode, exclude={"overrides"})
            overrides = {
                value: model.model_dump(mode=info.mode, exclude={"overrides"})
                for value, model in model.overrides.items()
            }
            if has_placeholder(name):
                entry["overrides"] = {
                    value: {key: part[key] for key in part if part[key] != entry.get(key)}
                    for value, part in overrides.items()
                }
            found[name] = {
                key: entry[key]
                for key in entry
                if has_placeholder(name) or key not in ONLY_TEMPLATES
            }
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain values as a file would hold them; durations as text, secrets masked."""
        return self.model_dump(mode="json")
