"""Memory that ran out is known by whatever says so."""

from __future__ import annotations

import pytest
import torch

from regl_app.core.out_of_memory import is_out_of_memory

SAID = [
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "GET was unable to find an engine to execute this computation",
]


@pytest.mark.parametrize("said", SAID)
def test_it_is_known_by_what_libraries_say(said: str) -> None:
    assert is_out_of_memory(RuntimeError(said))
    assert is_out_of_memory(torch.AcceleratorError(said))


def test_by_its_type_and_nothing_else() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("whatever"))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))
    assert not is_out_of_memory(ValueError(SAID[1]))
