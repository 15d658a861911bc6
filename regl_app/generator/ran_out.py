"""Which errors say that the memory ran out."""

from __future__ import annotations

import torch


def ran_out(error: RuntimeError) -> bool:
    """Return whether ``error`` says that a device's, or the processor's, memory ran out.

    Of the processor's torch tells by a plain RuntimeError.
    """
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
