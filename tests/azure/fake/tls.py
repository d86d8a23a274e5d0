"""A private certificate authority, and one TLS context per host name."""

from __future__ import annotations

import ssl
from pathlib import Path
from threading import Lock

import trustme


class Certificates:
    """Mints a certificate for every host that is asked for, signed by one authority."""

    def __init__(self) -> None:
        self._authority = trustme.CA()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._lock = Lock()

    def context(self, host: str) -> ssl.SSLContext:
        """The server side of a TLS connection to ``host``."""
        with self._lock:
            if host not in self._contexts:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                self._authority.issue_cert(host).configure_cert(context)
                self._contexts[host] = context
            return self._contexts[host]

    def write_bundle(self, path: Path) -> None:
        """Write what clients trust: our authority alone, as nothing public can be reached."""
        path.write_bytes(self._authority.cert_pem.bytes())
