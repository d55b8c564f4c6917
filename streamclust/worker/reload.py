"""What changes between two readings of the settings, and which of it a worker can apply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamclust.errors import StreamclustError
from streamclust.worker.positions import read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from streamclust.config import ModelSettings, Settings
    from streamclust.config.templates import Models
    from streamclust.runtime.job import Job


@dataclass(frozen=True)
class Changes:
    """The models that differ between the jobs of a worker and new settings, by name.

    Parameters
    ----------
    added, removed, changed : list of str
        Of templates, only models that run can be changed or removed; a search adds others.
    """

    added: list[str]
    removed: list[str]
    changed: list[str]

    @classmethod
    def between(cls, jobs: Mapping[str, Job], models: Models) -> Changes:
        """Return the differences between jobs and the models of new settings."""
        return cls(
            added=[name for name in models.keys() if name not in jobs],  # noqa: SIM118
            removed=[name for name in jobs if name not in models],
            changed=[
                name for name, job in jobs.items() if name in models and models[name] != job.model
            ],
        )


def fixed_settings(old: Settings, new: Settings) -> list[str]:
    """Return the settings that differ, but that a worker can't apply while it runs."""
    found = ["namespace"] if old.namespace != new.namespace else []
    for section in ("redis", "worker", "log"):
        before, after = getattr(old, section), getattr(new, section)
        for key in type(before).model_fields:
            if getattr(before, key) != getattr(after, key):
                found.append(f"{section}.{key}")
    return found


def refusal(job: Job, settings: ModelSettings, client: redis.Redis) -> str:
    """Return why a model can't continue with these settings; "" if it can."""
    try:
        read_checkpoint(job.name, settings, client, job.keys)
    except StreamclustError as error:
        return str(error)
    return ""
