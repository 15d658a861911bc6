"""Rounding to bf16 by chance that falls alike on every device."""

from __future__ import annotations

import torch

from regl_app.core.seeding import derive_seed

_AT_ONCE = 2**18
"""Values whose chance is in memory at one time, a few MB."""
_WORD = 2**32 - 1


def rounded(exact: torch.Tensor, dtype: torch.dtype, name: str) -> torch.Tensor:
    """Return ``exact``, float32, in ``dtype``: in bf16 up or down by chance, unbiased.

    ``exact`` has a dimension or more and is not empty; it may be overwritten.

    To the nearest, all that is less than half a step of bf16 would be lost, which is most of a
    small update; so each weight takes its share of it on average (stochastic rounding, as in
    training in bf16: Zamirai et al. 2020), at no more noise in what the denoiser predicts
    (benchmarks/half_adapters.py). The chance is that of ``name``, the layer's: an adapter always
    gives the same, wherever its weights are as it is merged.
    """
    if dtype != torch.bfloat16:
        return exact.to(dtype)
    # A bf16 is a float32's upper half: what is added to the lower one carries, or is cut off.
    bits, row = exact.view(torch.int32), exact[0].numel()
    rows = max(_AT_ONCE // row, 1)
    for first in range(0, len(bits), rows):
        # By rows, so that places count alike in every layout in memory.
        part = bits[first : first + rows]
        part += chance(name, first * row, part.numel(), exact.device).view(part.shape)
    bits &= -(2**16)
    return exact.to(dtype)


def chance(name: str, first: int, count: int, device: torch.device) -> torch.Tensor:
    """Return 16 random bits for each of ``count`` places from ``first`` on, int32 ``(count,)``.

    A hash of name and place: PyTorch's own generators differ from device to device.
    """
    seed = derive_seed(0, "merge", name)
    values = torch.arange(first, first + count, device=device)
    for word in (seed & _WORD, seed >> 32):
        values += word
        values &= _WORD
        _mix(values)
    return (values & 0xFFFF).int()


def _mix(values: torch.Tensor) -> None:
    """Hash 32 bits of each of ``values``, int64, in place (xorshift and multiply).

    Both factors have 30 bits, so that no product leaves int64.
    """
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
        values ^= values >> shift
        values *= factor
        values &= _WORD
    values ^= values >> 15
