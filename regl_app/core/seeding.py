"""Independent random streams from one run seed, without any global random state.

Every consumer names its stream: ``torch_generator(seed, "sample", class_id)``. Streams with
different names are independent, so adding a consumer never changes the others' results.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """Return the 63-bit seed of the stream called ``names`` under ``seed``."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(seed: int, *names: str | int, device: str = "cpu") -> torch.Generator:
    """Return a ``torch.Generator`` for the stream called ``names``."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *names))


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return a ``numpy.random.Generator`` for the stream called ``names``."""
    return np.random.default_rng(derive_seed(seed, *names))
