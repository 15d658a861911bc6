"""The arithmetic and memory layout in which a classifier trains fastest on a device."""

from __future__ import annotations

import torch


def fast_bf16(device: torch.device | str) -> bool:
    """Return whether ``device`` multiplies bf16 matrices natively (AMX, or a recent GPU).

    Measured on one core with AMX (benchmarks/local_training.py): 1.1 to 1.3 times fp32 for
    the small CNN, about twice for ResNet-18. Emulated bf16 would be slower than fp32.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return kind == "cpu" and bool(torch.cpu._is_amx_tile_supported())


def memory_format(device: torch.device | str) -> torch.memory_format:
    """Return the layout of images and weights that suits ``fast_bf16`` on ``device``.

    On a CPU, bf16 convolutions reorder to blocked layouts anyway: channels_last only adds work.
    """
    if torch.device(device).type == "cpu" and fast_bf16(device):
        return torch.contiguous_format
    return torch.channels_last
