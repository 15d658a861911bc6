"""Which errors say that a memory ran out."""

from __future__ import annotations

import torch

_SAYINGS = (
    # The processor's allocator.
    "DefaultCPUAllocator",
    # The driver, for what PyTorch's allocator has no part in, and libraries that ask it themselves.
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",  # as cuDNN 8 says it
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    # cuDNN, where the workspace of no way to compute a convolution had room.
    "unable to find an engine to execute this computation",
)
"""PyTorch tells of these by a plain RuntimeError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` says that a device's or the processor's memory ran out."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(each in str(error) for each in _SAYINGS)
