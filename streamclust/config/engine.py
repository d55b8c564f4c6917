"""The settings of the engine, which computes the sums over many points."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from streamclust.config.section import Section
from streamclust.config.size import AUTO, Size
from streamclust.config.values import Allowed, FilePath

EngineKind = Literal["auto", "inline", "threads", "processes", "dask"]

_MAX_WORKERS = 1024
ADDRESS_WORDS = "tls://host:port or tcp://host:port"
_ADDRESS = re.compile(r"(tls|tcp)://([\w.-]+|\[[\da-fA-F:.]+\]):\d{1,5}")


class EngineSettings(Section):
    """How sums over many points are computed. All kinds return the same bits."""

    kind: EngineKind = Field(
        default="auto",
        description="inline uses one thread. threads uses several threads of the command. "
        "processes uses several processes, for large texts (CSV, JSON lines), which threads can't "
        "read faster. dask uses the workers of a Dask cluster (see scaling.md). auto uses "
        "processes for texts above 64 MiB, else threads. Scheduled refits of a worker are inline "
        "with auto.",
    )
    workers: Size = Field(
        default=AUTO,
        description="Number of threads or processes. auto: the number of processor cores that the "
        "command may use. At most 1,024.",
    )
    address: Annotated[str, Allowed(ADDRESS_WORDS)] | None = Field(
        default=None,
        description="Address of the Dask scheduler, for dask: tls://host:8786, or tcp://host:8786 "
        "in a network that only trusted programs can reach. null: a cluster on this machine, which "
        "ends with the command; not for a worker.",
    )
    ca_file: FilePath | None = Field(
        default=None, description="File with the CA of the certificates, for tls."
    )
    cert_file: FilePath | None = Field(
        default=None, description="File with this side's certificate, for tls."
    )
    key_file: FilePath | None = Field(
        default=None, description="File with the key of the certificate, for tls."
    )
    required: bool = Field(
        default=False,
        description="What dask does if no worker can be used. false: this process computes. true: "
        "the command stops with an error.",
    )

    @field_validator("workers")
    @classmethod
    def _workers_usable(cls, workers: object) -> object:
        if isinstance(workers, int) and workers > _MAX_WORKERS:
            raise ValueError(f"expected an integer from 1 to {_MAX_WORKERS:,}, or auto")
        return workers

    @field_validator("address")
    @classmethod
    def _address_usable(cls, address: str | None) -> str | None:
        if address is not None and not _ADDRESS.fullmatch(address):
            raise ValueError(f"expected {ADDRESS_WORDS}")
        return address

    @model_validator(mode="after")
    def _files_fit(self) -> Self:
        files = {name: getattr(self, name) for name in ("ca_file", "cert_file", "key_file")}
        missing = [name for name, file in files.items() if file is None]
        if (self.address or "").startswith("tls://"):
            if missing:
                raise ValueError(f"address begins with tls://, but {missing[0]} is not set")
        elif len(missing) < len(files):
            given = next(name for name, file in files.items() if file is not None)
            raise ValueError(f"{given} is set, but address doesn't begin with tls://")
        return self
