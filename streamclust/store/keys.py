"""Every key that streamclust keeps in Redis: its type, who writes it, who reads it, how long.

All keys of a model share the hash tag ``{namespace:model}``: they sit in one slot of a cluster and
commit in one transaction. The points' streams are the user's own, under any name.
"""

from __future__ import annotations

from dataclasses import dataclass

VALUE_BYTES = 512 << 20
"""What one value of a server holds at most: its `proto-max-bulk-len`, unless that was changed."""

CODE_FIELDS = (
    "n",
    "code",
    "distance",
    "version",
    "m",
    "top",
    "top_distance",
    "top_responsibility",
    "reason",
    "model_id",
)
"""Fields of `:codes` that have a meaning of their own; see `streamclust.store.codes`."""


_OWN = (
    "state",
    "models",
    "dead",
    "proposal",
    "refitting",
    "lease",
    "token",
    "health",
    "codes",
    "id",
)


def is_own(key: str, namespace: str) -> bool:
    """Return whether a key is one of those that `Keys` names, of any model of a namespace.

    Examples
    --------
    >>> is_own("{shop:palette}:codes", "shop"), is_own("{shop:palette}:points", "shop")
    (True, False)
    """
    tag, separator, name = key.partition("}:")
    return bool(separator) and tag.startswith(f"{{{namespace}:") and name.split(":")[0] in _OWN


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

        Written by the worker in the commit; read by it when it starts. Kept for ever.
        """
        return self._key("state")

    @property
    def models(self) -> str:
        """Stream. One entry a published version; the entry ID is the version (``42-0``).

        Fields: ``payload`` (safetensors), ``time`` (wall clock, ms) and ``model_id`` (see `id`).
        Written in the commit; read by subscribers. Trimmed to `publish.keep` versions. The channel
        of the same name announces each version as a line of JSON.
        """
        return self._key("models")

    @property
    def id(self) -> str:
        """Integer. The model ID: a random number from 1 to 2^31 - 1, as text.

        It is drawn for the first version of a new state, and stays until the state is deleted. So
        it tells apart two models that had the same name one after the other, whose versions have
        the same numbers. Written in the commit that publishes; read by the worker when it starts.
        Each version repeats it. It is odd where `:codes` had codes of another model before: then
        the codes repeat it too.
        """
        return self._key("id")

    @property
    def dead(self) -> str:
        """Stream. One entry a point that could not be learned; IDs count up (``7-0``).

        Fields: ``stream``, ``id``, ``index``, ``reason``, ``data``. Written in the commit; read by
        people. Trimmed to `dead.keep` entries.
        """
        return self._key("dead")

    @property
    def proposal(self) -> str:
        """Hash ``id``, ``state``, ``model_id``. A refit that waits to be taken over: a checkpoint.

        Written by ``refit``; read by the worker, which removes it in the commit that takes it over
        (or when it can't be used). Kept until then.
        """
        return self._key("proposal")

    @property
    def refitting(self) -> str:
        """String with a time to live. ``host:pid`` of the refit that is at work: one at a time.

        Written by ``refit``; read by others that would begin.
        """
        return self._key("refitting")

    @property
    def lease(self) -> str:
        """String with a time to live. ``token:owner`` of the worker that may write.

        Written by the worker that holds it; read by its standbys.
        """
        return self._key("lease")

    @property
    def token(self) -> str:
        """Integer. The newest fencing token; a commit under an older one is refused.

        Raised by each worker that takes the lease; read in the commit. Kept for ever.
        """
        return self._key("token")

    @property
    def health(self) -> str:
        """String with a time to live. JSON: what the worker is doing; see `store.health`.

        Written by the worker every few seconds, also by one that can't go on with the model, as
        long as no other has the lease; read by ``status`` and ``worker --check``. Readers leave out
        fields that they don't know, and have a default for those that are missing.
        """
        return self._key("health")

    def codes(self, stream: str | None = None) -> str:
        """Stream. One entry an entry of the points' stream, under the same ID; its code.

        Fields: see `streamclust.store.codes`. Written by encoders (or the worker), read by
        anyone. Trimmed to about `encode.keep` entries. A model that encodes several streams has
        a key for each, with the `stream`'s name at the end: their IDs would not go together.
        """
        return self._key("codes" if stream is None else f"codes:{stream}")

    @property
    def encoders(self) -> str:
        """Name of the consumer group, on the points' streams, that the encoders share.

        Entries are acknowledged after their codes are written.
        """
        return f"{self.namespace}:{self.model}:encode"

    @property
    def group(self) -> str:
        """Name of the consumer group, on the points' streams, that mirrors the position.

        Moved by the worker after each commit, so that ``XINFO GROUPS`` shows its lag.
        """
        return f"{self.namespace}:{self.model}"
