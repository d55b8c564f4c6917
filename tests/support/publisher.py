"""Versions of a model without a worker."""

from __future__ import annotations

from streamclust.formats.model import Model, encode_model
from streamclust.store.model.commit import Commit, commit
from streamclust.store.model.keys import Keys
from streamclust.store.model.lease import Lease
from streamclust.store.server.connect import Address, Server, open_server
from tests.support.commits import of_version, take
from tests.support.servers import OwnServer


class Publisher:
    """Publishes versions of a model, as a worker does."""

    def __init__(self, server: Server, namespace: str) -> None:
        self._client = server.client()
        self.keys = Keys(namespace, "m")
        lease = Lease(self._client, self.keys, 3600.0)
        assert lease.take()
        self._token = lease.token

    def publish(self, *versions: int, model_id: int = 0) -> None:
        for version in versions:
            what = of_version(self._token, version, model_id=model_id)
            commit(self._client, self.keys, what, keep=50)

    def publish_model(self, model: Model) -> None:
        contents = Commit(self._token, b"state", model, encode_model(model))
        commit(self._client, self.keys, contents, keep=50)

    def forget(self) -> None:
        """Delete the model."""
        self._client.delete(self.keys.state, self.keys.models)

    def waits(self) -> bool:
        """Whether somebody waits for a version."""
        return int(self._client.info("clients")["blocked_clients"]) > 0


class Restarting:
    """A server of one's own, which is killed and started again, and a model on it."""

    def __init__(self, server: OwnServer) -> None:
        self._server = server
        self.url = server.url
        self.keys = Keys("ns", "m")
        self._opened = open_server(Address(self.url))
        self._token = take(self._opened.client(), self.keys)

    def publish(self, *versions: int, keep: int = 50) -> None:
        for version in versions:
            commit(self._opened.client(), self.keys, of_version(self._token, version), keep=keep)

    def restart(self, *versions: int, keep: int = 50) -> None:
        """Kill it, start it, and publish before the subscriber is back."""
        self._server.kill()
        self._opened.close()
        self._server.start()
        self._opened = open_server(Address(self.url))
        self.publish(*versions, keep=keep)

    def forget(self) -> None:
        self._opened.client().flushall()
        self._token = take(self._opened.client(), self.keys)
