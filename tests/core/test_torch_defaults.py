"""How cuDNN computes within a call: what fp32 says, the same every time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from regl_app.core.torch_defaults import plain_torch

CUDNN = torch.backends.cudnn


def state() -> tuple[Any, ...]:
    """Return all that can be read of it: PyTorch tells the old name's only if it was not mixed."""
    try:
        old = CUDNN.allow_tf32
    except RuntimeError:
        old = None
    return (CUDNN.conv.fp32_precision, CUDNN.rnn.fp32_precision, CUDNN.deterministic, old)


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    every, before = torch.backends.fp32_precision, state()
    yield
    torch.backends.fp32_precision = every
    CUDNN.allow_tf32, CUDNN.deterministic = True, False
    assert state() == before == ("tf32", "tf32", False, True)


@pytest.mark.parametrize("notebook", ["untouched", "all-tf32", "no-tf32", "split"])
def test_no_tf32_within_and_what_was_set_after(notebook: str) -> None:
    if notebook == "all-tf32":
        torch.backends.fp32_precision = "tf32"
    elif notebook == "no-tf32":
        CUDNN.allow_tf32, CUDNN.deterministic = False, True
    elif notebook == "split":  # which PyTorch cannot tell by its older switch
        CUDNN.conv.fp32_precision, CUDNN.rnn.fp32_precision = "ieee", "tf32"
    before = state()
    with plain_torch():
        assert CUDNN.conv.fp32_precision in ("none", "ieee")
        assert CUDNN.deterministic
        if notebook != "all-tf32":
            assert CUDNN.allow_tf32 is False, "others may read it"
    assert state() == before


def test_the_last_to_leave_puts_back() -> None:
    before, inside, leave = state(), threading.Event(), threading.Event()

    def other() -> None:
        with plain_torch():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(30)
    with plain_torch():
        pass
    assert CUDNN.deterministic and CUDNN.conv.fp32_precision != "tf32"
    leave.set()
    thread.join()
    assert state() == before
