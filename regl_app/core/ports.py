"""Ports of this machine that a server will bind in a while."""

from __future__ import annotations

import contextlib
import secrets
import socket
from pathlib import Path

from regl_app.core.errors import RunError

_GIVEN_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST, _LAST, _TRIES = 10_000, 65_535, 200


def free_port() -> int:
    """Return a port that is free on all addresses, and that no outgoing connection is given.

    The system gives those any port above its lowest one, so that one found by binding port 0 may be
    taken again before a server that takes seconds to start has bound it.

    Raises:
        RunError: there is none.
    """
    lowest = int(_GIVEN_OUT.read_text().split()[0]) if _GIVEN_OUT.exists() else 32_768
    # Where the system gives out nearly all of them, any has to do.
    ports = range(_FIRST, lowest) or range(_FIRST, _LAST + 1)
    for port in secrets.SystemRandom().sample(ports, min(_TRIES, len(ports))):
        with contextlib.suppress(OSError):
            return _bound(port)
    try:
        return _bound(0)
    except OSError as error:
        raise RunError(f"no port of this machine can be bound: {error}") from error


def _bound(port: int) -> int:
    with socket.socket() as probe:
        probe.bind(("", port))
        found: int = probe.getsockname()[1]
        return found
