"""PyTorch's defaults for the time of a call, whatever a notebook has set.

On a GPU cuDNN is asked for more: by its defaults convolutions sum in any order, and fp32 is TF32 on
recent cards, which has ten bits of a number.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch


def _tf32() -> tuple[Any, ...]:
    """Return what cuDNN has: one switch, or two by the newer names, where these differ."""
    cudnn: Any = torch.backends.cudnn
    try:
        return (cudnn.allow_tf32,)
    except RuntimeError:
        return (cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision)


def _no_tf32() -> None:
    cudnn: Any = torch.backends.cudnn
    cudnn.allow_tf32 = False
    # What is not said of convolutions follows torch.backends.fp32_precision.
    if hasattr(cudnn, "conv") and cudnn.conv.fp32_precision == "tf32":
        cudnn.conv.fp32_precision = "ieee"


def _put_back(tf32: tuple[Any, ...]) -> None:
    cudnn: Any = torch.backends.cudnn
    if len(tf32) == 2:
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = tf32
    else:  # by the name that it was read by: PyTorch refuses to tell it after a mix
        (cudnn.allow_tf32,) = tf32


class _Exact:
    """What is the process's, not a thread's: set by who comes first, put back by the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: tuple[torch.dtype, tuple[Any, ...], bool] = (torch.float32, (), False)

    def enter(self) -> None:
        with self._lock:
            if not self._inside:
                cudnn = torch.backends.cudnn
                self._before = (torch.get_default_dtype(), _tf32(), cudnn.deterministic)
                torch.set_default_dtype(torch.float32)
                _no_tf32()
                cudnn.deterministic = True
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                dtype, tf32, torch.backends.cudnn.deterministic = self._before
                torch.set_default_dtype(dtype)
                _put_back(tf32)


_EXACT = _Exact()


@contextmanager
def plain_torch() -> Iterator[None]:
    """Have PyTorch make float32 tensors on the CPU, and gradients, as it does by default.

    For the doors of the library and the apps, as a decorator or by ``with``. On a processor nothing
    changes where a process has the defaults; what it had comes back.
    """
    with ExitStack() as stack:
        _EXACT.enter()
        stack.callback(_EXACT.leave)
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        # It would slow every call down where the device is the CPU anyway.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
