"""LoRA on a UNet while it is tuned: PEFT's layers, their start, their weights, their rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from regl_app.config.supplement_sections import LoraConfig
from regl_app.core.seeding import torch_generator

_NAME = "client"


@contextmanager
def lora_layers(unet: Any, config: LoraConfig, seed: int) -> Iterator[list[torch.nn.Parameter]]:
    """Wrap the UNet's layers in PEFT's LoRA layers and yield what is trained; then unwrap them.

    Args:
        unet: frozen, as it shall be again afterwards; what is merged into it counts as frozen.
        config: rank, scale and which layers.
        seed: of the initial weights; the update itself starts at zero.
    """
    from peft import LoraConfig as PeftConfig

    attention = unet.attn_processors
    if next(unet.parameters()).device.type == "cpu":
        from diffusers.models.attention_processor import AttnProcessor

        # The fused kernel's bf16 backward took a fifth of a step on processors.
        unet.set_attn_processor(AttnProcessor())
    with torch.random.fork_rng(devices=[]):  # PEFT initializes from the global generator
        unet.add_adapter(
            PeftConfig(
                r=config.rank,
                lora_alpha=config.alpha,
                target_modules=adapted_layers(unet, config.layers),
                lora_dropout=0.0,
            ),
            adapter_name=_NAME,
        )
    try:
        generator = torch_generator(seed, "lora", "init")
        parameters = []
        for name, parameter in unet.named_parameters():
            if not parameter.requires_grad:
                continue
            parameters.append(parameter)
            if ".lora_A." in name:  # as PEFT does it: uniform up to 1/sqrt(fan in), B zero
                bound = parameter[0].numel() ** -0.5
                start = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
                parameter.data.copy_(start)
        yield parameters
    finally:
        unet.unload_lora()
        unet.set_attn_processor(attention)
        unet.requires_grad_(False)


def adapted_layers(unet: Any, layers: str) -> list[str]:
    """Return the names of the UNet's layers that ``lora.layers`` means."""
    attention = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
    convolutions = ("conv1", "conv2", "conv_shortcut", "conv_in", "conv_out")
    chosen = {"attention": (attention, ()), "convolution": ((), convolutions)}
    linear, spatial = chosen.get(layers, (attention, convolutions))
    return [
        name
        for name, module in unet.named_modules()
        if (isinstance(module, torch.nn.Linear) and name.endswith(linear))
        or (isinstance(module, torch.nn.Conv2d) and name.endswith(spatial))
    ]


@contextmanager
def without_lora(unet: Any) -> Iterator[None]:
    """Leave the LoRA layers' update out for a while: the reference model, without a copy."""
    unet.disable_adapters()
    try:
        yield
    finally:
        unet.enable_adapters()


def lora_state(unet: Any, config: LoraConfig) -> dict[str, torch.Tensor]:
    """Return the trained weights in PEFT's naming, on the CPU, scale included."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(unet, adapter_name=_NAME)
    # The scale goes into B: readers then need no alpha, and none can assume another one.
    scale = config.alpha / config.rank
    return {
        key: (value * scale if ".lora_B." in key else value).detach().cpu().contiguous().clone()
        for key, value in state.items()
    }


def warm_cosine(steps: int) -> Callable[[int], float]:
    """Return the learning rate over its peak: a tenth of warm-up, then cosine to zero."""
    warm = max(steps // 10, 1)

    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))

    return rate
