"""Which precision the weights of a generator are held in: the one it is run in.

Half the memory, and no cast of every weight in every step, on processors too. Low-rank weights that
are tuned on top stay float32, as in diffusers' ``train_text_to_image_lora``. What is small stays
float32: it gains nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from regl_app.core.errors import GeneratorError
from regl_app.core.out_of_memory import is_out_of_memory
from regl_app.core.precision import DTYPES, Precision
from regl_app.generator.weights_size import weights_in_memory

SMALL = 2**28
"""Bytes in float32 below which weights stay so: the bundled generator's, and others of its kind."""
_GIGABYTE = 10**9


class WeightsTooLargeError(GeneratorError):
    """A part's weights do not fit into the device's memory."""


def held_precision(checkpoint: Path, precision: Precision) -> Precision:
    """Return what the weights of denoiser and VAE are held in.

    Args:
        checkpoint: what ``resolve_generator`` returned.
        precision: that is run.

    Raises:
        GeneratorError: the heads of its files cannot be read.
    """
    if precision == "fp32" or weights_in_memory(checkpoint) < SMALL:
        return "fp32"
    return precision


def text_precision(held: Precision) -> Precision:
    """Return what the text encoders are held in and run in: T5 and Gemma overflow in fp16."""
    return held if held == "bf16" else "fp32"


def types_to_load(held: Precision) -> dict[str, torch.dtype]:
    """Return the type of each part of a pipeline, as ``from_pretrained`` takes them; {}: its own.

    So that no float32 copy of a large part is made on the way. The VAE, small, is cast later.
    """
    if held == "fp32":
        return {}
    return {
        "unet": DTYPES[held],
        "transformer": DTYPES[held],
        "vae": torch.float32,
        "default": DTYPES[text_precision(held)],
    }


def move(module: Any, device: torch.device, held: Precision) -> None:
    """Bring a frozen part of a pipeline to ``device``, its weights in ``held``.

    Raises:
        WeightsTooLargeError: the device's memory does not hold them; some of them are there.
    """
    module.requires_grad_(False)
    module.eval()
    try:
        _move(module, device, held)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        size = sum(weight.numel() for weight in module.parameters()) * DTYPES[held].itemsize
        lower = ", set generator.precision=bf16 or fp16" if held == "fp32" else ""
        raise WeightsTooLargeError(
            f"the {size / 1e9:.1f} GB of weights of the generator's {type(module).__name__} do not "
            f"fit into {device} with {memory_of(device)} (let fewer clients run on it at once"
            f"{lower}, take a smaller checkpoint, a device with more memory, or device=cpu)"
        ) from error


def memory_of(device: torch.device) -> str:
    """Return how much memory a device has, in words."""
    if device.type != "cuda":
        return "its memory"
    free, total = torch.cuda.mem_get_info(device)
    return f"{total / _GIGABYTE:.1f} GB of memory, {free / _GIGABYTE:.1f} of them free"


def _move(module: Any, device: torch.device, held: Precision) -> None:
    # nn.Module's own method: the library's override warns about modules kept in fp32.
    if held == "fp32":
        torch.nn.Module.to(module, device, torch.float32)
    else:
        # Buffers, such as places of a sequence, keep what they were made in, as in diffusers.
        for parameter in module.parameters():
            parameter.data = parameter.data.to(DTYPES[held])
        torch.nn.Module.to(module, device)
    torch.nn.Module.to(module, memory_format=torch.channels_last)
