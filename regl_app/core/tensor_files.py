"""Tensors on disk, whole or absent: safetensors with a checksum, read in one open.

``safe_open`` opens the name twice, and another process may replace the file in between.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from regl_app.core.digests import digest_of_tensors
from regl_app.core.files import atomic_path
from regl_app.core.types import Tensors

_CHECKSUM = "sha256"


def save_tensors(path: Path, tensors: Tensors, *, note: str = "", durable: bool = False) -> None:
    """Write ``tensors`` to ``path`` atomically, on the CPU, with a checksum.

    Args:
        path: the file.
        tensors: by name; none may be called 'sha256'.
        note: a text for human readers, kept in the file's metadata.
        durable: as in ``atomic_path``.
    """
    plain = _plain(tensors)
    with atomic_path(path, durable=durable) as temporary:
        checksum = torch.tensor(list(_checksum(plain)), dtype=torch.uint8)
        save_file(plain | {_CHECKSUM: checksum}, temporary, metadata={"note": note})


def load_tensors(path: Path) -> dict[str, torch.Tensor] | None:
    """Return what ``save_tensors`` wrote, or None if a bit of it is damaged.

    Raises:
        FileNotFoundError: there is no such file.
    """
    try:
        tensors = load(path.read_bytes())
    except SafetensorError:
        return None
    checksum = tensors.pop(_CHECKSUM, None)
    if checksum is None or checksum.tolist() != list(_checksum(tensors)):
        return None
    return tensors


def save_weights(path: Path, weights: Tensors) -> None:
    """Write a model's state atomically, nothing added: the checksum is in the metadata.

    It is on the disk when this returns.
    """
    plain = _plain(weights)
    with atomic_path(path, durable=True) as temporary:
        save_file(plain, temporary, metadata={_CHECKSUM: _checksum(plain).hex()})


def load_weights(path: Path) -> dict[str, torch.Tensor] | None:
    """Return what ``save_weights`` wrote, or None if a bit of it is damaged.

    Raises:
        FileNotFoundError: there is no such file.
    """
    content = path.read_bytes()
    try:
        tensors = load(content)
    except SafetensorError:
        return None
    return tensors if is_intact(content, tensors) else None


def is_intact(content: bytes, tensors: Tensors) -> bool | None:
    """Return whether ``tensors`` are what ``save_weights`` wrote; None: other software did.

    Args:
        content: the file, which safetensors can read.
        tensors: what is in it.
    """
    # Eight bytes of length, then the header.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    told = (header.get("__metadata__") or {}).get(_CHECKSUM)  # null where others have none to say
    return None if told is None else told == _checksum(tensors).hex()


def _plain(tensors: Tensors) -> dict[str, torch.Tensor]:
    # clone: safetensors refuses tensors that share memory; contiguous: channels_last ones too.
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def _checksum(tensors: Tensors) -> bytes:
    return digest_of_tensors(sorted(tensors.items()))
