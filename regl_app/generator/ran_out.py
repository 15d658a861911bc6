"""A try that may run out of memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from regl_app.core.out_of_memory import is_out_of_memory

Made = TypeVar("Made")


def tried(make: Callable[[], Made]) -> Made | None:
    """Return what ``make`` makes; None if the memory of a device, or the processor's, ran out.

    What the failed try held is free then.
    """
    try:
        return make()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    # The error held on to what was made so far: that is gone only here. Without CUDA, nothing.
    torch.cuda.empty_cache()
    return None
