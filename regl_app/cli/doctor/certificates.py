"""What ``regl doctor`` finds out about a federation's certificates and keys (it prints no key)."""

from __future__ import annotations

import datetime
import stat
from collections.abc import Generator, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from regl_app.cli.doctor.finding import Finding
from regl_app.flower.deployment.credentials import Credentials, public_half

WARN_DAYS = 60


def examine_keys(folder: Path) -> Iterator[Finding]:
    """Yield what was found in a folder that ``regl keys`` made."""
    keys = Credentials(folder)
    if not folder.is_dir():
        yield Finding("keys", "fail", f"{folder} is no folder", "regl keys FOLDER --host ...")
        return
    authority = server = None
    if keys.ca.exists():
        authority = yield from examine_certificate("ca.crt", keys.ca)
    else:
        yield Finding("ca.crt", "fail", f"{keys.ca} is absent", "everybody needs it: bring it back")
    if keys.server.exists():
        server = yield from examine_certificate("superlink.crt", keys.server)
    if authority is not None and server is not None:
        yield _signed(server, authority)
    if keys.ca_key.exists():
        yield examine_private_key("ca.key", keys.ca_key, certificate=keys.ca)
    if keys.server_key.exists():
        yield examine_private_key("superlink.key", keys.server_key, certificate=keys.server)
    for path in sorted((folder / "nodes").glob("*.key")):
        yield examine_private_key(f"nodes/{path.name}", path, public=public_half(path))


def examine_certificate(
    topic: str, path: Path
) -> Generator[Finding, None, x509.Certificate | None]:
    """Yield how long a certificate is valid and for whom; return it, None if it is unreadable."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        yield Finding(topic, "fail", f"{path} is no certificate: {error}")
        return None
    yield validity(topic, certificate)
    return certificate


def validity(topic: str, certificate: x509.Certificate) -> Finding:
    """Return how long a certificate is valid from now, by this machine's clock."""
    now = datetime.datetime.now(datetime.UTC)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    days = (end - now).days
    hosts = ", ".join(names(certificate))
    what = f"valid until {end:%Y-%m-%d}, {days} days" + (f"; for {hosts}" if hosts else "")
    remedy = "see Renewal in docs/operate.md"
    if now < begin:
        detail = f"not valid before {begin:%Y-%m-%d %H:%M} UTC; here it is {now:%Y-%m-%d %H:%M}"
        return Finding(topic, "fail", detail, "set this machine's clock, or wait")
    if now > end:
        return Finding(
            topic, "fail", f"expired on {end:%Y-%m-%d}, {(now - end).days} days ago", remedy
        )
    if days < WARN_DAYS:
        return Finding(topic, "note", what, remedy)
    return Finding(topic, "ok", what)


def names(certificate: x509.Certificate) -> list[str]:
    """Return the host names and addresses a certificate is for."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    hosts = extension.value.get_values_for_type(x509.DNSName)
    return [*hosts, *map(str, extension.value.get_values_for_type(x509.IPAddress))]


def _group(number: int) -> str:
    import grp

    try:
        return repr(grp.getgrgid(number).gr_name)
    except KeyError:
        return str(number)


def examine_private_key(
    topic: str, path: Path, *, certificate: Path | None = None, public: Path | None = None
) -> Finding:
    """Return whether a private key can be read by its owner alone and fits its public half.

    By its group as well is a note: a service's user reads root's file so, and nobody else should.
    """
    try:
        content, found = path.read_bytes(), path.stat()
    except OSError as error:
        return Finding(topic, "fail", f"{path} cannot be read: {error.strerror}")
    mode = stat.S_IMODE(found.st_mode)
    try:
        if content.startswith(b"-----BEGIN OPENSSH"):
            key = serialization.load_ssh_private_key(content, None)
        else:
            key = serialization.load_pem_private_key(content, None)  # type: ignore[assignment]
    except (ValueError, TypeError, UnsupportedAlgorithm):  # its text might hold what it read
        return Finding(topic, "fail", f"{path} is no private key without passphrase")
    if mode & 0o037:
        detail = f"{path} can be read by others (mode {mode:04o})"
        return Finding(topic, "fail", detail, f"chmod 600 {path}; if it was seen, make a new one")
    own = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    other = public or certificate
    try:
        theirs = _public(public, certificate)
    except (OSError, ValueError, UnsupportedAlgorithm):
        return Finding(topic, "note", f"{other} is absent or damaged: cannot be compared")
    if theirs is not None and own != theirs:
        return Finding(topic, "fail", f"{path} does not belong to {other}", "bring back the pair")
    fits = f", fits {other.name}" if other is not None else ""
    if mode & 0o040:
        detail = f"{path} can be read by all of the group {_group(found.st_gid)}{fits}"
        return Finding(topic, "note", detail, "a service's own group, or chmod 600")
    return Finding(topic, "ok", f"read by its owner alone{fits}")


def _public(public: Path | None, certificate: Path | None) -> bytes | None:
    if public is not None:
        key = serialization.load_ssh_public_key(public.read_bytes())
    elif certificate is not None:
        key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()  # type: ignore[assignment]
    else:
        return None
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _signed(server: x509.Certificate, authority: x509.Certificate) -> Finding:
    try:
        server.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return Finding(
            "superlink.crt",
            "fail",
            "was not signed by ca.crt: nodes will refuse the SuperLink",
            "bring back the ca.crt it was made with, or make both anew",
        )
    return Finding("superlink.crt", "ok", "signed by ca.crt")
