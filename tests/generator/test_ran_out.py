"""A try that may run out of memory, as PyTorch, the driver or a library of its says so."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from regl_app.generator.ran_out import tried


def failing(error: Exception) -> Callable[[], int]:
    def make() -> int:
        raise error

    return make


def test_what_ran_out_is_no_error() -> None:
    assert tried(lambda: 3) == 3
    assert tried(failing(torch.OutOfMemoryError("CUDA out of memory"))) is None
    said = "GET was unable to find an engine to execute this computation"
    assert tried(failing(RuntimeError(said))) is None


def test_what_is_something_else_is_one() -> None:
    with pytest.raises(RuntimeError, match="illegal memory access"):
        tried(failing(torch.AcceleratorError("CUDA error: an illegal memory access")))
