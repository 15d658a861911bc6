"""LoRA on a denoiser while it is tuned: PEFT's layers, their start, their weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from regl_app.config.supplement_sections import LoraConfig
from regl_app.core.making_modules import MAKING_MODULES
from regl_app.core.seeding import torch_generator
from regl_app.core.types import Tensors
from regl_app.generator.foundation import Foundation

_NAME = "client"


@contextmanager
def lora_layers(
    foundation: Foundation, config: LoraConfig, seed: int, *, up: Tensors | None = None
) -> Iterator[list[torch.nn.Parameter]]:
    """Wrap the denoiser's layers in PEFT's LoRA layers and yield what is trained; then unwrap them.

    PEFT itself is called: some denoisers, such as PixArt's, have no ``add_adapter``.

    Args:
        foundation: whose denoiser is frozen, as it shall be again afterwards; what is merged into
            it counts as frozen.
        config: rank, scale and which layers.
        seed: of the initial weights; the update itself starts at zero.
        up: B to go on from, as :func:`lora_state` names it, all layers' or none's. A then stays as
            the seed makes it, and only B is trained. None: both are.

    Raises:
        GeneratorError: the denoiser's weights do not fit into the device's memory.
    """
    from peft import LoraConfig as PeftConfig

    foundation.placement.ready_to_tune()
    denoiser = foundation.denoiser
    peft_config = PeftConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=foundation.family.adapted_layers(denoiser, config.layers),
        lora_dropout=0.0,
    )
    with _plain_attention_on_processors(denoiser, foundation.device):
        try:
            # PEFT initializes from the global generator.
            with MAKING_MODULES, torch.random.fork_rng(devices=[]):
                _wrap(denoiser, peft_config)
            # PEFT makes them of the base weights' type, in which small steps are lost.
            for parameter in denoiser.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.float()
            parameters = _started(denoiser, torch_generator(seed, "lora", "init"))
            yield parameters if up is None else _going_on(foundation, config, up)
        finally:
            _unwrap(denoiser)


@contextmanager
def _plain_attention_on_processors(denoiser: Any, device: torch.device) -> Iterator[None]:
    """Tune without the fused kernel on CPUs: its bf16 backward took a fifth of a step."""
    from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

    processors = denoiser.attn_processors
    if device.type == "cpu":
        denoiser.set_attn_processor(
            {
                name: AttnProcessor() if type(each) is AttnProcessor2_0 else each
                for name, each in processors.items()
            }
        )
    try:
        yield
    finally:
        denoiser.set_attn_processor(processors)


def _wrap(denoiser: Any, config: Any) -> None:
    """Put LoRA layers of PEFT's ``config`` around the denoiser's own."""
    from peft import inject_adapter_in_model

    inject_adapter_in_model(config, denoiser, _NAME)
    for layer in wrapped_layers(denoiser):
        # It would bring what comes in to the type of its weights, only for autocast to undo it.
        layer.cast_input_dtype_enabled = False


def wrapped_layers(denoiser: Any) -> list[Any]:
    """Return the LoRA layers around the denoiser's own."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in denoiser.modules() if isinstance(module, BaseTunerLayer)]


def _started(denoiser: Any, generator: torch.Generator) -> list[torch.nn.Parameter]:
    """Return what is trained, with initial weights drawn from ``generator``."""
    parameters = []
    for name, parameter in denoiser.named_parameters():
        if not parameter.requires_grad:
            continue
        parameters.append(parameter)
        if ".lora_A." in name:  # as PEFT does it: uniform up to 1/sqrt(fan in), B zero
            bound = parameter[0].numel() ** -0.5
            start = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
            parameter.data.copy_(start)
    return parameters


def _going_on(foundation: Foundation, config: LoraConfig, up: Tensors) -> list[torch.nn.Parameter]:
    """Return the matrices B, alone to be trained, at the values ``up``, zero where it is empty."""
    parameters, scale = [], config.alpha / config.rank
    for name, parameter in foundation.denoiser.named_parameters():
        if ".lora_A." in name:
            parameter.requires_grad_(False)
        elif ".lora_B." in name:
            parameters.append(parameter)
            if up:
                key = f"{foundation.family.part}.{name.replace(f'.{_NAME}.', '.')}"
                parameter.data.copy_(up[key] / scale)
    return parameters


def _unwrap(denoiser: Any) -> None:
    """Put the layers back that ``inject_adapter_in_model`` has wrapped, be it some of them."""
    from diffusers.utils import recurse_remove_peft_layers

    recurse_remove_peft_layers(denoiser)
    denoiser.__dict__.pop("peft_config", None)
    denoiser.requires_grad_(False)


@contextmanager
def without_lora(layers: Sequence[Any]) -> Iterator[None]:
    """Leave the update of LoRA ``layers`` out for a while: the reference model, without a copy.

    Their weights stay those that are trained, so nothing may go backward from what is computed.
    """
    # PEFT's own switch also visits every weight of every layer, which has an XL's GPU wait in each
    # step. It sets this too, and nothing else that matters without gradients.
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def lora_state(foundation: Foundation, config: LoraConfig) -> dict[str, torch.Tensor]:
    """Return the trained weights as an adapter's file names them, on the CPU, scale included."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(foundation.denoiser, adapter_name=_NAME)
    # The scale goes into B: readers then need no alpha, and none can assume another one.
    scale = config.alpha / config.rank
    return {
        f"{foundation.family.part}.{key}": (value * scale if ".lora_B." in key else value)
        .detach()
        .cpu()
        .contiguous()
        .clone()
        for key, value in state.items()
    }
