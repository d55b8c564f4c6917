"""The settings of the engine, which computes the sums over many points."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from streamclust.config.section import Section
from streamclust.config.size import AUTO, Size

EngineKind = Literal["auto", "inline", "threads", "processes"]


class EngineSettings(Section):
    """How refit, score and select compute sums over many points. All kinds return the same bits."""

    kind: EngineKind = Field(
        default="auto",
        description="inline uses one thread. threads uses several threads of the command. "
        "processes uses several processes, for large texts (CSV, JSON lines), which threads can't "
        "read faster. auto uses processes for texts above 64 MiB, else threads. Scheduled refits "
        "of a worker are inline with auto.",
    )
    workers: Size = Field(
        default=AUTO,
        description="Number of threads or processes. auto: the number of processor cores that the "
        "command may use.",
    )
