"""The arithmetic of generation: bf16 where the processor is built for it, else fp32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from regl_app.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(wanted: str, device: torch.device) -> Precision:
    """Return the precision that ``generator.precision`` means on ``device``.

    Raises:
        ConfigError: fp16 on a processor, where most operations do not have it.
    """
    if wanted == "auto":
        return "bf16" if _has_fast_bf16(device) else "fp32"
    if wanted == "fp16" and device.type == "cpu":
        raise ConfigError(
            "generator.precision='fp16' needs a GPU, got device 'cpu' (use 'auto' or 'bf16')"
        )
    if wanted not in ("fp32", "bf16", "fp16"):
        raise ConfigError(
            f"generator.precision must be 'auto', 'fp32', 'bf16' or 'fp16', got {wanted!r}"
        )
    return wanted  # type: ignore[return-value]  # narrowed by the line above


def _has_fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu":
        return False
    # Emulated bf16 is slower than fp32, so only the native instructions count.
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in probes)


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast context of ``precision``: weights stay fp32, so LoRA updates survive."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, _DTYPES[precision])
