"""What identifies tensors: SHA-256 over their bytes. What lies in caches is named by the values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """Return the elements in row-major order as bytes, whatever layout and device they have."""
    plain = tensor.detach().cpu().contiguous()
    return plain.flatten().view(torch.uint8).numpy().data


def digest_of_tensors(named: Iterable[tuple[str, torch.Tensor]]) -> bytes:
    """Return the SHA-256 of names, types, shapes and elements, in the order given (32 bytes)."""
    digest = hashlib.sha256()
    for name, tensor in named:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor_bytes(tensor))
    return digest.digest()
