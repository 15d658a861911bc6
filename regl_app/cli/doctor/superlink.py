"""What ``regl doctor`` finds out about the way to a SuperLink: name, port, TLS, clock, version."""

from __future__ import annotations

import email.utils
import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator

from cryptography import x509

from regl_app.cli.doctor.certificates import names, validity
from regl_app.cli.doctor.controls import examine_controls
from regl_app.cli.doctor.finding import Finding
from regl_app.cli.doctor.link import TIMEOUT, Link, ask
from regl_app.core.activity import Span
from regl_app.flower.deployment.gate import GREETING

_PLAIN, _TLS = "plain HTTP", "TLS"

# OpenSSL's codes of why a certificate is not accepted.
_NOT_YET, _EXPIRED, _WRONG_NAME, _WRONG_ADDRESS = 9, 10, 62, 64


def examine_link(link: Link) -> Iterator[Finding]:
    """Yield what was found on the way to the SuperLink, as far as it led."""
    reached = _reach(link)
    yield reached
    if reached.status == "fail":
        return
    context = None
    if not link.insecure:
        try:
            context = ssl.create_default_context(cafile=link.ca and str(link.ca))
        except (OSError, ssl.SSLError) as error:
            detail = f"{link.ca} cannot be read as certificates: {error}"
            yield Finding("certificate", "fail", detail, "the federation's ca.crt is needed")
            return
        verified = _verify(link, context)
        yield from verified
        if any(finding.status == "fail" for finding in verified):
            return
    yield from _ask(link, context)


def _reach(link: Link) -> Finding:
    topic = "SuperLink"
    try:
        found = socket.getaddrinfo(link.host, link.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        detail = f"the name {link.host!r} is not known here: {why}"
        return Finding(topic, "fail", detail, "check the name and this machine's DNS or /etc/hosts")
    addresses = ", ".join(sorted({str(entry[4][0]) for entry in found}))
    connecting = Span()
    try:
        with socket.create_connection((link.host, link.port), timeout=TIMEOUT):
            connecting.stop()
    except ConnectionRefusedError:
        detail = f"{link} ({addresses}) refuses: nothing listens on port {link.port} there"
        return Finding(topic, "fail", detail, "start its gate: nginx")
    except TimeoutError:
        detail = f"{link} ({addresses}) does not answer within {TIMEOUT:g} s"
        return Finding(topic, "fail", detail, "a firewall drops it, or the machine is off")
    except OSError as error:
        detail = f"{link} ({addresses}) cannot be reached: {error.strerror or error}"
        return Finding(topic, "fail", detail, "check route and firewall")
    return Finding(
        topic, "ok", f"{link} ({addresses}) is reachable in {connecting.seconds * 1000:.0f} ms"
    )


def _verify(link: Link, context: ssl.SSLContext) -> list[Finding]:
    """Return whether the SuperLink's certificate is accepted, and until when."""
    shown = f"by {link.ca}" if link.ca else "by this system's authorities"
    try:
        certificate = _certificate(link, context)
    except ssl.SSLCertVerificationError as error:
        return [_refused(link, error, shown)]
    except (ssl.SSLError, OSError) as error:
        if _speaks_plain(link):
            remedy = "give it its certificate; --insecure only where all is on one machine"
            return [Finding("certificate", "fail", f"{link} speaks {_PLAIN}, not {_TLS}", remedy)]
        return [Finding("certificate", "fail", f"no TLS with {link}: {error}")]
    detail = f"accepted {shown}; {validity('', certificate).detail}"
    return [Finding("certificate", validity("", certificate).status, detail)]


def _refused(link: Link, error: ssl.SSLCertVerificationError, shown: str) -> Finding:
    topic = "certificate"
    try:
        unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        seen = _certificate(link, unverified)
    except (ssl.SSLError, OSError, ValueError):
        return Finding(topic, "fail", f"refused: {error.verify_message}")
    if error.verify_code in (_NOT_YET, _EXPIRED):
        found = validity(topic, seen)
        if found.status == "fail":
            return found
        detail = f"{error.verify_message}, which is not the SuperLink's own: {link.ca}?"
        return Finding(topic, "fail", detail, "see Renewal in docs/operate.md")
    if error.verify_code in (_WRONG_NAME, _WRONG_ADDRESS):
        hosts = ", ".join(names(seen)) or "no name at all"
        detail = f"it is for {hosts}, not for {link.host!r}"
        remedy = f"use one of its names, or make another: regl keys ... --host {link.host}"
        return Finding(topic, "fail", detail, remedy)
    detail = f"refused {shown}: {error.verify_message}"
    remedy = "--root-certificates must be the ca.crt that the SuperLink's was signed with"
    return Finding(topic, "fail", detail, remedy)


def _certificate(link: Link, context: ssl.SSLContext) -> x509.Certificate:
    with (
        socket.create_connection((link.host, link.port), timeout=TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname=link.host) as secured,
    ):
        content = secured.getpeercert(binary_form=True)
    if content is None:
        raise ValueError("no certificate")
    return x509.load_der_x509_certificate(content)


def _speaks_plain(link: Link) -> bool:
    try:
        return ask(link, None, "/health").status > 0
    except (OSError, http.client.HTTPException):
        return False


def _ask(link: Link, context: ssl.SSLContext | None) -> Iterator[Finding]:
    """Yield what the SuperLink itself says: that it is one, its clock, its version."""
    try:
        before = time.time()
        answer = ask(link, context, "/health")
        middle = (before + time.time()) / 2
    except (OSError, http.client.HTTPException) as error:
        if link.insecure and _speaks_tls(link):
            yield Finding(
                "health",
                "fail",
                f"{link} speaks {_TLS}, not {_PLAIN}",
                "--root-certificates ca.crt",
            )
        else:
            yield Finding("health", "fail", f"{link} does not speak HTTP: {error}")
        return
    if answer.status != http.client.OK:
        refused = f"{link}/health answers {answer.status}: no SuperLink listens"
        yield Finding("health", "fail", refused)
        return
    gate = answer.body.decode(errors="replace").strip() == GREETING
    yield _behind(link, context) if gate else Finding("health", "ok", "it says that it is well")
    yield _clock(answer.date, middle)
    yield _version(link, context)
    yield from examine_controls(link, context)


def _behind(link: Link, context: ssl.SSLContext | None) -> Finding:
    """Ask the SuperLink behind a gate for what it refuses to whoever has no node's key."""
    try:
        status = ask(link, context, "/v1/fleet/get-run", b"").status
    except (OSError, http.client.HTTPException) as error:
        return Finding(
            "health", "fail", f"the gate at {link} is well, then did not answer: {error}"
        )
    if status in (http.client.BAD_GATEWAY, http.client.GATEWAY_TIMEOUT):
        detail = (
            f"the gate at {link} is well, but the SuperLink behind it does not answer ({status})"
        )
        remedy = "start flower-superlink on the address that gate.conf names, with its certificate"
        return Finding("health", "fail", detail, remedy)
    return Finding("health", "ok", "a gate, and a SuperLink answers behind it")


def _clock(date: str | None, now: float) -> Finding:
    """Compare clocks; a node whose signed requests look too new or too old is refused."""
    from flwr.supercore.constant import MAX_TIMESTAMP_DIFF_SECONDS, MIN_TIMESTAMP_DIFF_SECONDS

    try:
        theirs = email.utils.parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return Finding("clock", "note", "the SuperLink tells no time: cannot be compared")
    ahead = now - theirs - 0.5  # its seconds are cut off: half a second on average
    most, least = -float(MIN_TIMESTAMP_DIFF_SECONDS), float(MAX_TIMESTAMP_DIFF_SECONDS)
    word = "ahead of" if ahead > 0 else "behind"
    detail = (
        f"this machine's is {abs(ahead):.0f} s {word} the SuperLink's; "
        f"nodes are refused from {most:g} s ahead and {least:g} s behind"
    )
    remedy = "synchronize both clocks (NTP)"
    if ahead > most or -ahead > least:
        return Finding("clock", "fail", detail, remedy)
    # The Date header is good to a second; a few more drift away unnoticed.
    if ahead > most / 2 or -ahead > least / 2:
        return Finding("clock", "note", detail, remedy)
    return Finding("clock", "ok", detail)


def _version(link: Link, context: ssl.SSLContext | None) -> Finding:
    """Compare Flower's versions: major.minor must be the same."""
    from importlib.metadata import version

    own = version("flwr")
    try:
        answer = ask(link, context, "/openapi.json")
        info = json.loads(answer.body)["info"] if answer.status == http.client.OK else {}
        theirs = str(info["version"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return Finding(
            "versions",
            "note",
            f"flwr {own} here; the SuperLink does not tell its own",
            "compare with `flwr --version` there: major.minor must be the same",
        )
    if theirs.split(".")[:2] == own.split(".")[:2]:
        return Finding("versions", "ok", f"flwr {own} here, {theirs} at the SuperLink")
    return Finding(
        "versions",
        "fail",
        f"flwr {own} here, {theirs} at the SuperLink: major.minor must be the same",
        f"pip install 'flwr=={theirs}'",
    )


def _speaks_tls(link: Link) -> bool:
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    try:
        _certificate(link, unverified)
    except (OSError, ValueError):
        return False
    return True
