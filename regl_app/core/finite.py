"""Numbers that are none: where training has diverged."""

from __future__ import annotations

import torch

from regl_app.core.types import Tensors


def not_finite(tensors: Tensors) -> str | None:
    """Return the name of the first tensor with NaN or infinity, None if there is none."""
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            return name
    return None
