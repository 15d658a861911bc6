"""Adapters that others made: their names and their scale brought to ours, or refused by name.

Our own files have ``lora_A`` and ``lora_B`` alone, with the scale in B. Diffusers' and PEFT's also
say alpha, in the header or as tensors: left out, an adapter works at a fraction of its strength.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import torch

from regl_app.core.errors import GeneratorError
from regl_app.core.types import Tensors

HEADER = "lora_adapter_metadata"
"""Key of a safetensors header under which diffusers' ``save_lora_weights`` keeps PEFT's config."""
_ALPHA, _UP = ".alpha", ".lora_B.weight"
_CONVERT = (
    "convert it with diffusers: pipeline.load_lora_weights, then pipeline.save_lora_weights with "
    "the denoiser's layers and metadata"
)
_FUSE = (
    "fuse it into the checkpoint with diffusers: pipeline.load_lora_weights, pipeline.fuse_lora, "
    "pipeline.save_pretrained(FOLDER); then generator.path=FOLDER"
)
_REFUSED = (
    (r"^lora_(unet|te\d?|transformer|prior)_", "has kohya's names", _CONVERT),
    (r"^text_encoder", "also adapts a text encoder", _FUSE),
    (r"\.(lora_magnitude_vector|dora_scale)(\.|$)", "is a DoRA", _FUSE),
    (r"\.lora_B\.bias$", "has biases", _FUSE),
    (r"\.(lokr|hada|lora_mid|oft|boft|vera)_?", "is none of LoRA", _FUSE),
)
"""(pattern of a tensor's name, what such an adapter is, what to do)."""
_OLD_NAMES = (
    (".processor.", "."),
    (".to_out_lora.", ".to_out.0.lora."),
    ("_lora.down.", ".lora.down."),
    ("_lora.up.", ".lora.up."),
    (".lora.down.", ".lora_A."),
    (".lora.up.", ".lora_B."),
)
"""How diffusers named layers before PEFT, as its ``UNET_TO_DIFFUSERS`` has it."""
_CHANGES = (
    "use_dora",
    "lora_bias",
    "use_qalora",
    "modules_to_save",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
)
"""What in PEFT's config makes more of an adapter than ``B A``."""
_STARTS = (True, False, "gaussian", "eva", "orthogonal")
"""Initial weights that leave the base as it is; PiSSA, OLoRA and CorDA do not."""


def plain_lora(state: Tensors, header: Mapping[str, str], where: str) -> dict[str, torch.Tensor]:
    """Return ``<part>.<layer>.lora_A.weight`` and ``.lora_B.weight``, each scale in its B.

    The scale is alpha / rank, alpha / sqrt(rank) for rank-stabilized LoRA (rsLoRA), 1 where no
    alpha is told, as diffusers has it. Our own adapters come back as they are.

    Args:
        state: a file's tensors.
        header: its safetensors metadata.
        where: its path, for messages.

    Raises:
        GeneratorError: it is no LoRA of layers' weights alone, or its header is damaged.
    """
    for pattern, what, remedy in _REFUSED:
        name = next((key for key in state if re.search(pattern, key)), None)
        if name is not None:
            raise GeneratorError(
                f"the adapter {where!r} {what} ({name!r}), which is not supported ({remedy})"
            )
    named = {_renamed(key): value for key, value in state.items()}
    alphas = {
        key.removesuffix(_ALPHA).removesuffix(".lora"): _number(value, key, where)
        for key, value in named.items()
        if key.endswith(_ALPHA)
    }
    config = _peft_config(header, where)
    plain = {key: value for key, value in named.items() if not key.endswith(_ALPHA)}
    layers = [key.removesuffix(_UP) for key in plain if key.endswith(_UP)]
    lost = next((layer for layer in alphas if layer not in layers), None)
    if lost is not None:
        raise GeneratorError(f"the adapter {where!r} has an alpha but no lora_B for {lost!r}")
    for layer in layers:
        key, up = f"{layer}{_UP}", plain[f"{layer}{_UP}"]
        if up.ndim < 2 or not up.shape[1]:
            continue  # its shape is looked at later
        part = layer.partition(".")[0]
        own = {
            name.removeprefix(f"{part}."): value
            for name, value in config.items()
            if name.startswith(f"{part}.")
        }
        if own:
            scale = _scale(own, layer.partition(".")[2], up.shape[1], where)
        else:
            scale = alphas.get(layer, up.shape[1]) / up.shape[1]
        if scale != 1:
            plain[key] = up.float() * scale
    return plain


def _renamed(key: str) -> str:
    for old, new in _OLD_NAMES:
        key = key.replace(old, new)
    return key


def _peft_config(header: Mapping[str, str], where: str) -> dict[str, Any]:
    if HEADER not in header:
        return {}
    try:
        config = json.loads(header[HEADER])
    except (ValueError, RecursionError) as error:
        raise GeneratorError(f"the adapter {where!r}: {HEADER} is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise GeneratorError(f"the adapter {where!r}: {HEADER} must be an object, got {config!r}")
    return config


def _scale(config: Mapping[str, Any], layer: str, rank: int, where: str) -> float:
    """Return what PEFT multiplies ``B A`` of ``layer`` by, from its ``LoraConfig``."""
    changes = [name for name in _CHANGES if config.get(name)]
    if config.get("bias") not in (None, "none"):
        changes.append("bias")
    if config.get("init_lora_weights", True) not in _STARTS:
        changes.append("init_lora_weights")
    if changes:
        raise GeneratorError(
            f"the adapter {where!r} has {changes[0]}={config[changes[0]]!r} in its {HEADER}, which "
            f"is not supported ({_FUSE})"
        )
    told = _of_layer(config, "rank_pattern", layer, config.get("r", rank), where)
    if told != rank:
        raise GeneratorError(
            f"the adapter {where!r} is damaged: layer {layer!r} must have rank {told!r} by its "
            f"{HEADER}, got {rank}"
        )
    peft_default = 8
    alpha = _of_layer(config, "alpha_pattern", layer, config.get("lora_alpha", peft_default), where)
    return _number(alpha, "lora_alpha", where) / (
        math.sqrt(rank) if config.get("use_rslora") else rank
    )


def _of_layer(
    config: Mapping[str, Any], name: str, layer: str, otherwise: object, where: str
) -> object:
    """Return the first value whose name in a pattern is the end of the layer's name."""
    pattern = config.get(name) or {}
    if not isinstance(pattern, dict):
        raise GeneratorError(f"the adapter {where!r}: {name} must be an object, got {pattern!r}")
    for key, value in pattern.items():
        # A file may come from anybody: its regular expressions are not run.
        if not re.fullmatch(r"\^?[\w.]+", key):
            raise GeneratorError(
                f"the adapter {where!r} has the regular expression {key!r} in its {name}, which is "
                f"not supported ({_CONVERT})"
            )
        if f".{layer}".endswith(f".{key}") or layer == key.removeprefix("^"):
            return value
    return otherwise


def _number(value: object, name: str, where: str) -> float:
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise GeneratorError(
            f"the adapter {where!r}: {name} must be a finite number, got {value!r}"
        )
    return float(value)
