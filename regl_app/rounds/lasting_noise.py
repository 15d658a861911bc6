"""Noise that is drawn once: a client that is asked for the same again says the same.

Fresh noise in every answer could be averaged out. It comes from a secret of the client's, made when
first needed, in its state folder; whoever deletes that lets the client draw a second time. A
deployed node without a state folder of its own refuses runs that need it (``client_app.node``).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from pathlib import Path

import numpy as np

from regl_app.core.files import atomic_path, exclusive
from regl_app.rounds.client import Client

_FILE, _BYTES = "noise-secret", 32


def lasting_noise(client: Client, *what: object) -> np.random.Generator:
    """Return the stream of ``client`` for ``what``, as JSON can write it: another for any other.

    ``what`` has to name all that the answer is made of. Were the same noise added to two answers,
    their difference would be exact.
    """
    text = json.dumps([client.name, *what]).encode()
    digest = hmac.digest(_secret(client.state_dir), text, hashlib.sha256)
    return np.random.default_rng(int.from_bytes(digest, "big"))


def _secret(folder: Path) -> bytes:
    path = folder / _FILE
    with exclusive(path):
        if path.is_file() and len(found := path.read_bytes()) == _BYTES:
            return found
        made = secrets.token_bytes(_BYTES)
        with atomic_path(path, durable=True) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_bytes(made)
        return made
