"""Which arithmetic is fast on a device: for generation, and for training a classifier.

The two ask a CPU for different things, on purpose. Both take bf16 only where it is native: it is
emulated on older GPUs (T4, V100) and processors, where it is slower than fp32.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from regl_app.core.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def trains_fast_in_bf16(device: torch.device | str) -> bool:
    """Return whether a classifier trains faster in bf16 on ``device`` (AMX, or a recent GPU).

    Measured on one core with AMX (benchmarks/local_training.py): 1.1 to 1.3 times fp32 for
    the small CNN, about twice for ResNet-18.
    """
    return _native_bf16(torch.device(device), ("_is_amx_tile_supported",))


def generates_fast_in_bf16(device: torch.device | str) -> bool:
    """Return whether a diffusion model samples faster in bf16 on ``device``.

    Its larger matrices gain from AVX512-BF16 already, without AMX.
    """
    return _native_bf16(
        torch.device(device), ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )


def _native_bf16(device: torch.device, processor: tuple[str, ...]) -> bool:
    if device.type == "cuda":
        if torch.version.hip:
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
        # PyTorch's own question is about the current card, which may be another one.
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    return any(bool(getattr(torch.cpu, name, bool)()) for name in processor)


def memory_format(device: torch.device | str) -> torch.memory_format:
    """Return the layout of a classifier's images and weights that trains fastest on ``device``.

    On a CPU, bf16 convolutions reorder to blocked layouts anyway: channels_last only adds work.
    """
    if torch.device(device).type == "cpu" and trains_fast_in_bf16(device):
        return torch.contiguous_format
    return torch.channels_last


def resolve_precision(wanted: str, device: torch.device) -> Precision:
    """Return the precision that ``generator.precision`` means on ``device``.

    Raises:
        ConfigError: fp16 on a processor, where most operations do not have it.
    """
    if wanted == "auto":
        return "bf16" if generates_fast_in_bf16(device) else "fp32"
    if wanted == "fp16" and device.type == "cpu":
        raise ConfigError(
            "generator.precision='fp16' needs a GPU, got device 'cpu' (use 'auto' or 'bf16')"
        )
    if wanted not in ("fp32", "bf16", "fp16"):
        raise ConfigError(
            f"generator.precision must be 'auto', 'fp32', 'bf16' or 'fp16', got {wanted!r}"
        )
    return wanted  # type: ignore[return-value]  # narrowed by the line above


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast context of ``precision``: trained weights stay fp32, updates survive."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, DTYPES[precision])
