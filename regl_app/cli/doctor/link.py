"""The way to a SuperLink, and a question asked there."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from regl_app.core.errors import ConfigError

TIMEOUT = 10.0
PROTOBUF = "application/protobuf"
"""The media type of Flower's requests and answers."""


@dataclass(frozen=True)
class Link:
    """A SuperLink's address, and by what it is known: ``ca``, the system's, or not at all."""

    host: str
    port: int
    ca: Path | None = None
    insecure: bool = False

    @classmethod
    def parse(cls, address: str, ca: Path | None, insecure: bool) -> Link:
        """Return the link to ``HOST:PORT``.

        Raises:
            ConfigError: it is none, or certificates are given for plain HTTP.
        """
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(f"--superlink must be HOST:PORT, got {address!r}")
        if ca is not None and insecure:
            raise ConfigError("--root-certificates and --insecure exclude each other")
        return cls(host.strip("[]"), int(port), ca, insecure)

    @property
    def on_this_machine(self) -> bool:
        """Whether the name leads to this machine's loopback, where no other machine arrives."""
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError):
            return False
        return all(ipaddress.ip_address(str(entry[4][0])).is_loopback for entry in found)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    date: str | None
    kind: str
    """Its media type."""
    body: bytes


def ask(
    link: Link,
    context: ssl.SSLContext | None,
    path: str,
    body: bytes | None = None,
    timeout: float = TIMEOUT,
) -> Answer:
    """Return the answer to a GET, or with a body to a POST as Flower's; without any proxy.

    Raises:
        OSError: nobody answers, or not by TLS where there is a ``context``.
        HTTPException: it is not HTTP.
    """
    connection = (
        http.client.HTTPConnection(link.host, link.port, timeout=timeout)
        if context is None
        else http.client.HTTPSConnection(link.host, link.port, timeout=timeout, context=context)
    )
    headers = {} if body is None else dict.fromkeys(("Content-Type", "Accept"), PROTOBUF)
    try:
        connection.request("GET" if body is None else "POST", path, body, headers)
        answer = connection.getresponse()
        kind = answer.getheader("Content-Type") or ""
        return Answer(answer.status, answer.getheader("Date"), kind, answer.read(10_000_000))
    finally:
        connection.close()
