"""PyTorch's defaults for the time of a call, whatever a notebook has set."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


class _Float32:
    """The default dtype, which is the process's: set by who comes first, put back by the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = torch.float32

    def enter(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = torch.get_default_dtype()
                torch.set_default_dtype(torch.float32)
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                torch.set_default_dtype(self._before)


_FLOAT32 = _Float32()


@contextmanager
def plain_torch() -> Iterator[None]:
    """Have PyTorch make float32 tensors on the CPU, and gradients, as it does by default.

    For the doors of the library, as a decorator or by ``with``. Nothing changes where a process has
    the defaults; what it had comes back.
    """
    with ExitStack() as stack:
        _FLOAT32.enter()
        stack.callback(_FLOAT32.leave)
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        # It would slow every call down where the device is the CPU anyway.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
