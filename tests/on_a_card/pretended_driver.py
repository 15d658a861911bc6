"""What ``torch.cuda`` says of a card that is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

MEMORY = 80 * 2**30
RANDOM = torch.Generator()
"""The card's global random state."""


@contextmanager
def pretended_driver(*, bf16: bool) -> Iterator[None]:
    """Have ``torch.cuda`` know of one card, with bf16 or of those before."""
    about = SimpleNamespace(name="Tesla P", major=8 if bf16 else 7, minor=0, total_memory=MEMORY)
    answers: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "device": nullcontext,
        "empty_cache": lambda: None,
        "synchronize": lambda device=None: None,
        "mem_get_info": lambda device=None: (MEMORY, MEMORY),
        "max_memory_allocated": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0,
        "reset_peak_memory_stats": lambda device=None: None,
        "get_device_capability": lambda device=None: (about.major, about.minor),
        "get_device_name": lambda device=None: about.name,
        "get_device_properties": lambda device=None: about,
        "is_bf16_supported": lambda including_emulation=True: bf16 or including_emulation,
        "is_current_stream_capturing": lambda: False,
        "get_rng_state": lambda device=None: RANDOM.get_state(),
        "set_rng_state": lambda state, device=None: RANDOM.set_state(state),
        "manual_seed": RANDOM.manual_seed,
    }
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        stack.enter_context(mock.patch.object(torch.Tensor, "pin_memory", lambda self: self))
        # Optimizers ask for its stream, which no driver is here to have.
        none = mock.patch.object(torch.accelerator, "current_accelerator", lambda **_: None)
        stack.enter_context(none)
        yield
