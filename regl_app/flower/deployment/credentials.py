"""Certificates and keys of a deployment, made by openssl and ssh-keygen.

One folder holds all of it: a certificate authority of the federation's own, the SuperLink's
certificate signed by it, the configuration of the gate that shows it, and a key pair per
SuperNode. What is there is never replaced, so that nodes can be added later.
"""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from regl_app.core.errors import ConfigError, ReglError
from regl_app.core.files import atomic_path, write_text
from regl_app.core.scratch import scratch_folder
from regl_app.flower.deployment.gate import Gate, gate_configuration

_CA_DAYS = 3650
_SERVER_DAYS = 825  # what common TLS clients accept at most
_SUBJECT = "/CN=regl federation"

_LOCAL = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Credentials:
    """Where everything of one federation is kept."""

    folder: Path

    @property
    def ca_key(self) -> Path:
        """What signs SuperLinks' certificates: stays where it was made, no party needs it."""
        return self.folder / "ca.key"

    @property
    def ca(self) -> Path:
        """What everybody checks the SuperLink by."""
        return self.folder / "ca.crt"

    @property
    def server_key(self) -> Path:
        """The SuperLink's private key."""
        return self.folder / "superlink.key"

    @property
    def server(self) -> Path:
        """The SuperLink's certificate."""
        return self.folder / "superlink.crt"

    @property
    def gate(self) -> Path:
        """The gate's configuration, for nginx."""
        return self.folder / "gate.conf"

    def node_key(self, name: str) -> Path:
        """Return the private key of the SuperNode ``name``; the public one ends in ``.pub``."""
        return self.folder / "nodes" / f"{name}.key"


def make_credentials(
    folder: Path, hosts: Sequence[str], nodes: Sequence[str]
) -> tuple[Credentials, list[Path]]:
    """Make what ``folder`` lacks; return where everything is, and the files that are new.

    Private keys can be read by their owner alone, and git is told to ignore the folder.

    Args:
        folder: made if absent.
        hosts: names and addresses under which the SuperLink is reached; needed the first time,
            empty later.
        nodes: names of SuperNodes.

    Raises:
        ConfigError: a name is unfit, half of a pair of files is gone, or hosts are absent or given
            for an existing certificate.
        ReglError: openssl or ssh-keygen is not installed or fails.
    """
    made, new = Credentials(folder), []
    for name in nodes:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise ConfigError(
                f"--node {name!r}: a name is 1 to 64 letters, digits, '.', '_' or '-', and begins "
                "with a letter or digit"
            )
    # The SuperLink's own processes for a run connect to it on its machine.
    alternative = _alternative_names(dict.fromkeys([*hosts, *_LOCAL]))
    if made.server.exists() and hosts:
        raise ConfigError(
            f"{made.server} is there already: remove it and {made.server_key.name} to make one "
            "for other hosts, or leave --host out"
        )
    if not made.server.exists() and not hosts:
        raise ConfigError(
            "--host is needed for the SuperLink's certificate: the names or addresses under which "
            "nodes reach it"
        )
    for name in nodes:
        _refuse_half(folder, made.node_key(name), public_half(made.node_key(name)))
    _refuse_half(folder, made.ca_key, made.ca)
    _refuse_half(folder, made.server_key, made.server)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / ".gitignore", "*\n")
    if not made.ca.exists():
        new += _make_authority(made)
    if not made.server.exists():
        new += _make_server(made, alternative)
    if not made.gate.exists():
        write_text(made.gate, gate_configuration(Gate()))
        new.append(made.gate)
    for name in dict.fromkeys(nodes):
        if not made.node_key(name).exists():
            new += _make_node(made.node_key(name))
    return made, new


def public_half(key: Path) -> Path:
    """Return where the public half of a node's private ``key`` is."""
    return key.with_name(f"{key.name}.pub")


def _refuse_half(folder: Path, *pair: Path) -> None:
    """Raise ``ConfigError`` if one of two files that belong together is there without the other."""
    there = [path.relative_to(folder) for path in pair if path.exists()]
    if len(there) == 1:
        absent = next(path.relative_to(folder) for path in pair if not path.exists())
        raise ConfigError(
            f"{folder / there[0]} is there, but not {absent}, which belongs to it: bring it back, "
            "or remove both to have them made anew"
        )


def _alternative_names(hosts: Iterable[str]) -> str:
    names = []
    for host in hosts:
        try:
            names.append(f"IP:{ipaddress.ip_address(host)}")
        except ValueError:
            if not re.fullmatch(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]{0,252})", host):
                raise ConfigError(
                    f"--host {host!r} is neither a host name nor an IP address (without port)"
                ) from None
            names.append(f"DNS:{host}")
    return ",".join(names)


def _make_authority(made: Credentials) -> list[Path]:
    with atomic_path(made.ca_key) as key, atomic_path(made.ca) as certificate:
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-noenc"),
            *("-keyout", str(key), "-out", str(certificate), "-days", str(_CA_DAYS)),
            *("-subj", f"{_SUBJECT} CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
        key.chmod(0o600)
    return [made.ca_key, made.ca]


def _make_server(made: Credentials, alternative: str) -> list[Path]:
    with (
        scratch_folder("regl-keys-") as scratch,
        atomic_path(made.server_key) as key,
        atomic_path(made.server) as certificate,
    ):
        request, extensions = scratch / "request", scratch / "extensions"
        write_text(
            extensions,
            f"subjectAltName={alternative}\nbasicConstraints=critical,CA:FALSE\n"
            "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n",
        )
        _openssl(
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-noenc"),
            *("-keyout", str(key), "-out", str(request), "-subj", f"{_SUBJECT} SuperLink"),
        )
        _openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(made.ca)),
            *("-CAkey", str(made.ca_key), "-CAcreateserial", "-CAserial", f"{scratch}/serial"),
            *("-out", str(certificate), "-days", str(_SERVER_DAYS), "-extfile", str(extensions)),
        )
        key.chmod(0o600)
    return [made.server_key, made.server]


def _make_node(key: Path) -> list[Path]:
    public = public_half(key)
    with scratch_folder("regl-keys-") as scratch:
        drawn = scratch / "key"
        _call(
            "ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-C", key.stem,
            "-f", str(drawn),
        )  # fmt: skip
        # The public half first: a private key without it could not be registered.
        write_text(public, drawn.with_suffix(".pub").read_text(encoding="ascii"))
        with atomic_path(key) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_bytes(drawn.read_bytes())
    return [key, public]


def _openssl(*arguments: str) -> None:
    _call("openssl", *arguments)


def _call(program: str, *arguments: str) -> None:
    if shutil.which(program) is None:
        raise ReglError(
            f"the program {program!r} is not installed (Debian: openssl, openssh-client)"
        )
    done = subprocess.run(
        [program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ReglError(f"{program} {arguments[0]} failed: {done.stderr.strip()[-1000:]}")
