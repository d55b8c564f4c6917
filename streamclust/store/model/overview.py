"""The figures of a model that users see: its newest version, its worker, its backlog."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from streamclust.store.model.health import PAUSED
from streamclust.store.model.pause import pause_dict
from streamclust.store.stream.names import missing_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamclust.formats.lost import Lost
    from streamclust.formats.model import Model
    from streamclust.formats.model_head import ModelHead
    from streamclust.models.codebook import CodebookHealth
    from streamclust.store.model.health import Health
    from streamclust.store.model.pause import Pause

WARMING_UP = "warming up"


@dataclass(frozen=True)
class Overview:
    """The figures of one model. None stands for a figure that doesn't exist or can't be read.

    Parameters
    ----------
    name : str
        Name of the model.
    model : ModelHead, Model or None
        Newest version.
    health : Health or None
        Report of the live worker.
    lag : int or None
        Stream entries that are not learned yet.
    lost : Lost or None
        Entries that were removed before the worker read them.
    dead : int or None
        Points in the dead-letter stream.
    troubles : tuple of str
        A line for each key that can't be read.
    missing : dict of str to bool
        Streams that don't exist, or never had an entry -> whether the model has read them before.
    warm_up : tuple of (int, int) or None
        Points of an unfinished warm-up, and the number that ends the warm-up (0 if unknown).
    alerts : int or None
        Points that were flagged as anomalies.
    pause : Pause or None
        Since when a user has paused the model, and why.
    """

    name: str
    model: ModelHead | Model | None
    health: Health | None
    lag: int | None
    lost: Lost | None
    dead: int | None
    troubles: tuple[str, ...] = ()
    missing: Mapping[str, bool] = field(default_factory=dict)
    warm_up: tuple[int, int] | None = None
    alerts: int | None = 0
    pause: Pause | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        health = self.health
        return {
            "model": self.name,
            "worker": None if health is None else f"{health.host}:{health.pid}",
            "phase": self.phase,
            "reason": self.reason or None,
            "paused": None if self.pause is None else pause_dict(self.pause),
            "points_seen": self.points,
            "waiting": list(self.waits()),
            "missing_streams": list(self.missing),
            "warm_up": self.warm_up and dict(zip(("points", "of"), self.warm_up, strict=True)),
            "progress_age": None if health is None else health.progress_age,
            "kernels": None if health is None else health.kernels,
            "drifts": None if health is None else health.drifts,
            "missing_values": None if health is None else health.missing,
            "missing_share": self.missing_share,
            "rate": None if health is None else health.rate,
            "dead": self.dead,
            "alerts": self.alerts,
            "lag": self.lag,
            "lost": None if self.lost is None else asdict(self.lost),
            "published": None if self.model is None else self.model.summary(),
            "codebook": None if self.codebook is None else asdict(self.codebook),
            "weight_per_cluster": None if self.model is None else self.model.mass.tolist(),
        }

    @property
    def points(self) -> int | None:
        """Points learned, by the live worker's report or else the newest version's."""
        if self.health is not None and (self.health.alive or self.model is None):
            return self.health.points
        return None if self.model is None else self.model.points

    @property
    def missing_share(self) -> float | None:
        """Share of missing values in all points learned; None if it isn't known."""
        health, model = self.health, self.model
        if health is None or model is None or not health.points:
            return None
        return min(health.missing / (health.points * model.shape[1]), 1.0)

    @cached_property
    def codebook(self) -> CodebookHealth | None:
        """How evenly the components of the newest version are used."""
        return None if self.model is None else self.model.codebook_health

    @property
    def published_ms(self) -> int | None:
        """Time of the newest version, in milliseconds since 1970."""
        return None if self.model is None else self.model.published_ms or 0

    @property
    def rate(self) -> float | None:
        """Points per second, by the live worker's report."""
        return None if self.health is None else self.health.rate

    @property
    def lost_entries(self) -> int | None:
        """Entries that were removed before the worker read them, in gaps of known size."""
        return None if self.lost is None else self.lost.entries

    @property
    def alive(self) -> bool:
        """Whether a live worker has the model and makes progress."""
        return self.health is not None and self.health.alive

    @property
    def failed(self) -> bool:
        """Whether the model is failed, stalled or damaged."""
        return bool(self.troubles) or not (self.health is None or self.health.alive)

    @property
    def phase(self) -> str:
        """The worker's phase; without a worker 'paused' or 'stopped', or 'damaged'.

        A model is damaged if one of its keys can't be read.
        """
        if self.health is not None:
            return self.health.phase
        return "damaged" if self.troubles else "stopped" if self.pause is None else PAUSED

    @property
    def reason(self) -> str:
        """Why the model doesn't learn; empty if it does, or if a user has paused it."""
        health, reasons = self.health, list[str]()
        if health is None and self.model is None and self.pause is None and not self.troubles:
            return "never published"
        if health is not None and health.reason and health.phase != PAUSED:
            reasons.append(health.reason)
        for trouble in self.troubles:
            if not any(trouble in reason for reason in reasons):
                reasons.append(trouble)
        return "; ".join(reasons)

    def waits(self, server: str = "the server") -> tuple[str, ...]:
        """Return a line for each thing that the model waits for.

        Parameters
        ----------
        server : str
            Name of the server.
        """
        lines = [] if self.pause is None else [self._waits_for_resume(self.pause)]
        lines += [
            missing_text(stream, server, end=" any more" if was_read else " yet")
            for stream, was_read in self.missing.items()
        ]
        gathered, wanted = self.warm_up or (0, 0)
        if gathered or (self.warm_up and self.alive and not self.missing):
            of = f" of {wanted:,}" if wanted else ""
            lines.append(f"{WARMING_UP}: {gathered:,}{of} points")
        return tuple(lines)

    def _waits_for_resume(self, pause: Pause) -> str:
        """Return a line about a paused model: time, person, and whether it still learns."""
        resume = f"`streamclust models resume {self.name}` continues"
        if self.phase != PAUSED and self.alive:
            return f"{PAUSED}: {pause.text_with_age}; the worker pauses after its current batch"
        entries = "1 entry waits" if self.lag == 1 else f"{self.lag or 0:,} entries wait"
        worker = "; no worker has the model" if self.health is None else ""
        return f"{PAUSED}: {pause.text_with_age}; {entries}{worker}; {resume}"
