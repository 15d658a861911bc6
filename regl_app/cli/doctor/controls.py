"""Whether a SuperLink's controls can be reached: who reaches them can run code on every site."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from dataclasses import replace

from regl_app.cli.doctor.finding import Finding
from regl_app.cli.doctor.link import PROTOBUF, Link, ask
from regl_app.flower.deployment.gate import CONTROL_PORT

_HARMLESS = "/v1/control/list-runs"
_TIMEOUT = 3.0  # seconds; a port that a firewall drops is not open
_CLOSED = (
    http.client.UNAUTHORIZED,
    http.client.FORBIDDEN,
    http.client.NOT_FOUND,
    http.client.METHOD_NOT_ALLOWED,
    http.client.NOT_IMPLEMENTED,
    http.client.BAD_GATEWAY,
    http.client.SERVICE_UNAVAILABLE,
    http.client.GATEWAY_TIMEOUT,
)


def examine_controls(link: Link, context: ssl.SSLContext | None) -> Iterator[Finding]:
    """Yield whether they answer: at this port, and at the one that a gate keeps them behind.

    It asks for the list of runs, as anybody could.
    """
    local = link.on_this_machine
    open_ports = [
        port
        for port in dict.fromkeys((link.port, CONTROL_PORT))
        if _answers(replace(link, port=port), context, known=port == link.port)
    ]
    for port in open_ports:
        where = f"{link.host}:{port}"
        if local:
            yield Finding("controls", "note", f"open at {where}, as for whoever operates it")
        else:
            yield Finding(
                "controls",
                "fail",
                f"OPEN at {where}: Flower asks nobody there who he is. Whoever reaches this port "
                "can register nodes and run code of his own on the server and on every site",
                "let the SuperLink listen on 127.0.0.1 and put its gate before it: docs/deploy.md",
            )
    if not open_ports:
        yield Finding("controls", "ok", "closed: refused or out of reach from here")


def _answers(link: Link, context: ssl.SSLContext | None, *, known: bool) -> bool:
    """Return whether a control's request is taken; the certificate does not matter here.

    At a port that is not ``known`` to be a SuperLink's only an answer that is Flower's counts.
    """
    if context is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        answer = ask(link, context, _HARMLESS, b"", _TIMEOUT)
    except (OSError, http.client.HTTPException):
        return False
    return answer.status not in _CLOSED and (known or answer.kind.startswith(PROTOBUF))
