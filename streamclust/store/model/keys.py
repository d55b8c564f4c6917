"""All keys of streamclust in Redis: the type, writer, readers and lifetime of each key.

All keys of a model have the hash tag ``{namespace:model}``. So they are in one slot of a cluster,
and one transaction can write them. The points' streams belong to the user and can have any name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

VALUE_BYTES = 512 << 20
"""Maximum size of a value on the server: the default of `proto-max-bulk-len`."""

_OWN = (
    "state",
    "coreset",
    "models",
    "dead",
    "proposal",
    "refitting",
    "lease",
    "token",
    "health",
    "paused",
    "codes",
    "alerts",
    "id",
)

_TAG = re.compile(r"\{[A-Za-z0-9_.-]+:[A-Za-z0-9_.-]+")


def is_own(key: str, namespace: str = "") -> bool:
    """Return whether a key belongs to streamclust in a namespace, for example to one of its models.

    Without `namespace`, keys of all namespaces count.

    Examples
    --------
    >>> is_own("{shop:palette}:codes", "shop"), is_own("{shop:palette}:points", "shop")
    (True, False)
    """
    tag, separator, name = key.partition("}:")
    if name == "workers:reloaded":
        return tag == f"{{{namespace}" if namespace else tag.startswith("{")
    is_model = tag.startswith(f"{{{namespace}:") if namespace else _TAG.fullmatch(tag) is not None
    return bool(separator) and is_model and name.split(":")[0] in _OWN


def raw_key(key: str) -> bytes:
    """Return the bytes of a key; a name from the server may have any bytes."""
    return key.encode(errors="surrogateescape")


@dataclass(frozen=True)
class WorkerKeys:
    """The keys of the workers of a namespace; all are in one slot of a cluster.

    Parameters
    ----------
    namespace : str
    """

    namespace: str

    @property
    def workers(self) -> str:
        """String. The IDs of the workers, separated by spaces; some may have ended.

        Written by workers, which add themselves and remove those that have ended; read by workers,
        ``status``, ``metrics`` and ``worker --check``. Deleted by the last worker that leaves.
        """
        return f"{{{self.namespace}}}:workers"

    def worker(self, worker_id: str) -> str:
        """Return the key of a worker: a string with a time to live; see `store.model.workers`.

        JSON. Written by this worker, for `worker.lease`; read like `workers`. While the key exists,
        the worker holds its sleeping models, whose leases it renews rarely.
        """
        return f"{{{self.namespace}}}:worker:{worker_id}"

    @property
    def reload(self) -> str:
        """Integer. The number of requests to reload; a change is a request. Never expires.

        Increased by ``reload``; read by workers, which watch it.
        """
        return f"{{{self.namespace}}}:workers:reload"

    @property
    def reloaded(self) -> str:
        """Stream. One entry per worker and request; its field ``answer`` is JSON.

        Written by workers; read by ``reload``. Trimmed to 1,000 entries. Never expires.
        """
        return f"{{{self.namespace}}}:workers:reloaded"


@dataclass(frozen=True)
class Keys:
    """The keys of one model.

    Parameters
    ----------
    namespace, model : str
        Letters, digits, ``_``, ``.`` and ``-`` only.
    """

    namespace: str
    model: str

    def _key(self, name: str) -> str:
        return f"{{{self.namespace}:{self.model}}}:{name}"

    @property
    def state(self) -> str:
        """String. The checkpoint: statistics and the stream position that they cover.

        Written by the worker in the commit; read by the worker at its start. Never expires.
        """
        return self._key("state")

    @property
    def coreset(self) -> str:
        """String. The points of the state: coreset, or sample of the warm-up.

        Format: see `streamclust.formats.state_points`. Written by the worker in the commit, which
        appends to it where it can; read together with `state`. Never expires.
        """
        return self._key("coreset")

    @property
    def models(self) -> str:
        """Stream. One entry per published version; the entry ID is the version (``42-0``).

        Fields: ``payload`` (safetensors), ``time`` (wall clock, ms) and ``model_id`` (see `id`).
        Written in the commit; read by subscribers. Trimmed to `publish.keep` versions. The channel
        of the same name announces each version as a line of JSON.
        """
        return self._key("models")

    @property
    def id(self) -> str:
        """Integer. The model ID: a random number from 1 to 2^31 - 1, as text.

        The ID is chosen for the first version of a new state, and stays until the state is deleted.
        So two successive models of the same name, whose versions have the same numbers, have
        different IDs. Written in the commit that publishes; read by the worker at its start. Each
        version contains the ID. The ID is odd if `:codes` had codes of an earlier model: then the
        codes contain it too.
        """
        return self._key("id")

    @property
    def dead(self) -> str:
        """Stream. One entry per point that can't be learned; IDs count up (``7-0``).

        Fields: ``stream``, ``id``, ``index``, ``reason``, ``data``. Written in the commit; read by
        users. Trimmed to `dead.keep` entries.
        """
        return self._key("dead")

    @property
    def alerts(self) -> str:
        """Stream. One entry per point that was flagged as an anomaly; IDs count up (``7-0``).

        Fields: see `streamclust.formats.alerts`. Written by the worker in the commit, or by
        encoders together with the codes; read by users. Trimmed to `anomaly.keep` entries.
        """
        return self._key("alerts")

    @property
    def proposal(self) -> str:
        """Hash ``id``, ``state``, ``model_id``. A proposed refit, as a checkpoint.

        Written by ``refit``; read by the worker, which removes it in the commit that accepts the
        refit, or when the refit can't be used. Kept until then.
        """
        return self._key("proposal")

    @property
    def refitting(self) -> str:
        """String with a time to live. ``host:pid`` of the running refit; there is at most one.

        Written by ``refit``; read by other refits before they start.
        """
        return self._key("refitting")

    @property
    def lease(self) -> str:
        """String with a time to live. ``token:owner`` of the worker that may write.

        While the model sleeps, the value is ``token:owner:asleep``, and the time to live is long:
        the key `WorkerKeys.worker` of the owner shows whether the model is held. Written by the
        worker that holds the lease; read by its standbys.
        """
        return self._key("lease")

    @property
    def token(self) -> str:
        """Integer. The newest fencing token; a commit under an older token is refused.

        Increased by each worker that takes the lease; read in the commit. Never expires.
        """
        return self._key("token")

    @property
    def health(self) -> str:
        """String with a time to live. JSON: the worker's report; see `store.health`.

        Written by the worker every few seconds, also by a worker that can't continue the model, as
        long as no other worker has the lease. Read by ``status`` and ``worker --check``. Readers
        ignore unknown fields, and use a default for missing fields.
        """
        return self._key("health")

    @property
    def paused(self) -> str:
        """String. JSON: since when the model is paused, and by whom; see `store.model.pause`.

        Written by ``models pause`` and removed by ``models resume``, or by the same actions of the
        client and the dashboard; read by the worker that has the lease, and by ``status``. While
        the key exists, no worker learns or publishes the model. Never expires.
        """
        return self._key("paused")

    @property
    def fixed(self) -> tuple[str, ...]:
        """All keys of the model except the codes of several streams; the lease is the first."""
        return (
            self.lease,
            self.token,
            self.refitting,
            self.health,
            self.paused,
            self.state,
            self.coreset,
            self.models,
            self.id,
            self.dead,
            self.alerts,
            self.proposal,
            self.codes(),
        )

    @property
    def learned(self) -> tuple[str, ...]:
        """The keys with what the model has learned; without them it starts from nothing."""
        return (
            *(self.state, self.coreset, self.models, self.id),
            *(self.dead, self.alerts, self.proposal),
        )

    def codes(self, stream: str | None = None) -> str:
        """Stream. The codes of each entry of the points' stream, under the same ID.

        Fields: see `streamclust.formats.codes`. Written by encoders, or by the worker; read by
        users. Trimmed to approximately `encode.keep` entries. A model that encodes several streams
        has one key per stream, with the name of the `stream` at the end, because the IDs of several
        streams can't be in one order.
        """
        return self._key("codes" if stream is None else f"codes:{stream}")

    @property
    def encoders(self) -> str:
        """Name of the encoders' consumer group on the points' streams.

        Encoders acknowledge an entry after they have written its codes.
        """
        return f"{self.namespace}:{self.model}:encode"

    @property
    def group(self) -> str:
        """Name of the worker's consumer group on the points' streams.

        The worker moves the group to its position after each commit, so that ``XINFO GROUPS`` shows
        the lag.
        """
        return f"{self.namespace}:{self.model}"
