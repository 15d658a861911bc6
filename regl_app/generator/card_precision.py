"""What ``generator.precision=auto`` means for a checkpoint on a device."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from regl_app.config import RunConfig
from regl_app.core.devices import resolve_device
from regl_app.core.errors import GeneratorError, ReglError
from regl_app.core.precision import Precision, resolve_precision
from regl_app.generator.checkpoint import configs_of, resolve_generator
from regl_app.generator.denoiser_shapes import denoiser_class
from regl_app.generator.held_weights import held_precision
from regl_app.generator.pipeline_config import part_config

_TENSOR_CORES = re.compile(r"\b(V100S?|GV100|T4G?|T10|T40|RTX|TITAN)\b")
"""In names of cards of Volta and Turing. Those without (GTX 16, MX, T400 to T1200) are of the same
generation, and some draw black images in fp16."""


def precision_on(wanted: str, device: torch.device, checkpoint: Path) -> Precision:
    """Return what ``generator.precision=wanted`` means for a checkpoint on ``device``.

    For 'auto' that is bf16 where the device is built for it; else fp16 on a GPU that is built for
    that, where weights are large and the denoiser is known not to overflow in it, a UNet of Stable
    Diffusion; else fp32.

    Args:
        wanted: the key's value.
        device: where the checkpoint is run.
        checkpoint: what ``resolve_generator`` returned.

    Raises:
        ConfigError: ``wanted`` is none, or fp16 on a processor.
    """
    precision = resolve_precision(wanted, device)
    if wanted != "auto" or precision != "fp32" or not _has_fast_fp16(device):
        return precision
    try:
        large = held_precision(checkpoint, "fp16") == "fp16"
        return "fp16" if large and _bears_fp16(checkpoint) else "fp32"
    except GeneratorError:
        return "fp32"  # what is wrong with the files is told by what loads them


def precision_words(config: RunConfig) -> str:
    """Return what the generator of a run is run in and held in, for log, configuration and report.

    What 'auto' means is told for this machine, the server's. '' where no generator is used.
    """
    if not config.needs_generator:
        return ""
    wanted = config.generator.precision
    try:
        device = resolve_device(config.device)
        # A server fetches nothing to talk about it.
        folder = resolve_generator(config.generator.path, fetch=False)
        precision = precision_on(wanted, device, folder)
        words = f"{precision}, weights held in {held_precision(folder, precision)}"
    except ReglError:  # no such checkpoint or device here: those who draw may have it
        return "as fits each client's device, told in its log" if wanted == "auto" else wanted
    if wanted != "auto":
        return words
    return f"{words} on the server's {device.type} (of a client elsewhere its log says it)"


def _has_fast_fp16(device: torch.device) -> bool:
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (7, 0):
        return False
    return bool(_TENSOR_CORES.search(torch.cuda.get_device_name(device)))


def _bears_fp16(checkpoint: Path) -> bool:
    """Return whether a denoiser stays finite in fp16, as Stable Diffusion 1 and XL are published.

    Not where its attention overflows (Stable Diffusion 2's ``upcast_attention``), nor transformers,
    some of which do. The VAE's ``force_upcast`` is looked at where that is run.
    """
    part, _ = denoiser_class(checkpoint)
    return part == "unet" and not part_config(configs_of(checkpoint), part).get("upcast_attention")
