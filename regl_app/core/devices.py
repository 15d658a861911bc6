"""The device a run uses."""

from __future__ import annotations

import functools

import torch

from regl_app.core.cards import own_card
from regl_app.core.errors import ConfigError
from regl_app.core.log import logger

APPLE_GPU = "the processor is used, not the Apple GPU, on which nothing here was ever tried"


def has_apple_gpu() -> bool:
    """Return whether there is a GPU that PyTorch calls 'mps'."""
    return bool(torch.backends.mps.is_available())


@functools.cache
def _tell_once(what: str) -> None:
    logger.warning("%s", what)


def unusable_cards() -> str:
    """Return which GPUs are here and cannot be used, and why; '' if there are none of these.

    Before CUDA has started PyTorch counts by NVML, which also answers where the driver is too old
    for the CUDA that PyTorch was built for, or where the device files are not to be had.
    """
    found = torch.cuda.device_count()
    if found == 0 or torch.cuda.is_available():
        return ""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        why = "CUDA does not say why"
    except (RuntimeError, AssertionError) as error:
        why = str(error).strip().partition("\n")[0]
    return f"{found} GPU{'s are' if found > 1 else ' is'} here and cannot be used: {why}"


def usable_cards() -> int:
    """Return how many CUDA devices this process can compute on; the log says once why not."""
    if trouble := unusable_cards():
        _tell_once(trouble)
        return 0
    return torch.cuda.device_count()


def resolve_device(wanted: str) -> torch.device:
    """Return the device that the key ``device`` means; 'auto' is the GPU where there is one.

    Where there are several, 'auto' and 'cuda' are this worker's own.

    Raises:
        ConfigError: a GPU is asked for that is not there.
    """
    found = usable_cards()
    if wanted == "auto":
        wanted = "cuda" if found else "cpu"
        if not found and has_apple_gpu():
            _tell_once(f"device='auto': {APPLE_GPU}")
    if wanted == "cuda" and found > 1 and (card := own_card(found)) is not None:
        return torch.device("cuda", card)
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= found:
        raise ConfigError(
            f"device must be one of this machine's {found} usable CUDA devices or 'cpu', "
            f"got {wanted!r} (try 'auto')"
        )
    return device
