"""A CA and certificates that a test makes, for servers and clients that speak TLS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Papers:
    """A folder with a CA, and a certificate and key for servers and clients alike."""

    folder: Path

    def write(self) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(self.ca)
        issued.cert_chain_pems[0].write_to_path(self.cert)
        issued.private_key_pem.write_to_path(self.key)

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def cert(self) -> Path:
        return self.folder / "cert.pem"

    @property
    def key(self) -> Path:
        return self.folder / "key.pem"

    @property
    def options(self) -> list[str]:
        """What a server is told of them."""
        files = {"cert": self.cert, "key": self.key, "ca-cert": self.ca}
        pairs = ((f"--tls-{name}-file", str(file)) for name, file in files.items())
        return [word for pair in pairs for word in pair]

    @property
    def query(self) -> str:
        """What a client is told in the URL."""
        return f"?ssl_ca_certs={self.ca}&ssl_certfile={self.cert}&ssl_keyfile={self.key}"
