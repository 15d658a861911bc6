"""One adapter for all clients: everywhere the same A, frozen, and the average of their B.

FFA-LoRA (Sun et al., ICLR 2024). The mean of products is no product of means; with one A it is:
``sum_k n_k B_k A / n = (sum_k n_k B_k / n) A``, so that averaging loses nothing. Only B travels: A
is drawn by everybody from the run's seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from regl_app.config.supplement_sections import LoraConfig
from regl_app.core.digests import digest_of_tensors
from regl_app.core.types import Tensors
from regl_app.generator.adaptation.layers import lora_layers, lora_state
from regl_app.generator.denoiser_shapes import denoiser_class, denoiser_shapes
from regl_app.generator.families.registry import FAMILIES
from regl_app.generator.foundation import Foundation

_UP = ".lora_B."


@dataclass(frozen=True)
class SharedStart:
    """What all clients tune from: A by its ``seed``, and ``up``, B by name; empty: zero."""

    seed: int
    up: Tensors


@dataclass(frozen=True)
class SharedAdapter:
    """The adapter of all clients: the digest of its B, and B itself but for who keeps it."""

    digest: str
    up: Tensors = field(default_factory=dict)

    @classmethod
    def of(cls, up: Tensors) -> SharedAdapter:
        """Return the adapter of the matrices ``up``, B by name."""
        return cls(digest_of_tensors(sorted(up.items())).hex(), up)


def up_of(state: Tensors) -> dict[str, torch.Tensor]:
    """Return the matrices B of an adapter, by name, scale included."""
    return {name: value for name, value in state.items() if _UP in name}


def whole_adapter(
    foundation: Foundation, config: LoraConfig, start: SharedStart
) -> dict[str, torch.Tensor]:
    """Return A and B as ``save_adapter`` takes them; the foundation stays as it is."""
    with lora_layers(foundation, config, start.seed, up={}):
        state = lora_state(foundation, config)
    return {**state, **start.up}


def average_up(parts: Iterable[tuple[int, Tensors]]) -> dict[str, torch.Tensor]:
    """Return ``sum_k n_k B_k / sum_k n_k``, added up in double precision.

    Args:
        parts: images and B of each client, at least one; the same names and shapes.
    """
    uploads = [(float(count), up) for count, up in parts]
    images = sum(count for count, _ in uploads)
    return {
        name: (
            torch.stack([count * up[name].double() for count, up in uploads]).sum(0) / images
        ).to(like.dtype)
        for name, like in uploads[0][1].items()
    }


def up_template(generator: Path, config: LoraConfig) -> dict[str, torch.Tensor]:
    """Return zeros with the names, shapes and type that B has for a generator's denoiser.

    Nothing is loaded.

    Args:
        generator: what ``resolve_generator`` returned.
        config: rank, and which layers are adapted.

    Raises:
        GeneratorError: its denoiser has no readable safetensors, or is of no known family.
    """
    part, name = denoiser_class(generator)
    family = FAMILIES[name]
    ends = tuple(f"{end}.weight" for end in family.layer_ends(config.layers))
    template = {}
    for name, shape in denoiser_shapes(generator).items():
        if name.endswith(ends) and len(shape) in (2, 4):
            key = f"{part}.{name.removesuffix('.weight')}{_UP}weight"
            template[key] = torch.zeros((shape[0], config.rank, *(1 for _ in shape[2:])))
    return template
