"""How much memory a generator needs to draw and to be tuned, before any of it is taken.

Denoiser and VAE are run without values as they will be run, forward and backward, and what lives at
one time is added up: seconds of one core, whatever the size. What a device holds beside tensors is
``ASIDE``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.generator.adaptation.layers import lora_layers, without_lora, wrapped_layers
from regl_app.generator.foundation import Foundation
from regl_app.generator.placement import Placement
from regl_app.generator.portions import decoded_at_once
from regl_app.generator.sampling import runs_twice
from regl_app.generator.without_values import without_values

ASIDE = 1_500_000_000
"""Bytes that a card holds for no tensor: its context, kernels' workspaces, what is cut up."""
_STATE = 3
"""Of each weight that is tuned: itself and the two moments of AdamW; its gradient is seen."""
_FAILS = (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError, AssertionError)
"""What PyTorch, PEFT and diffusers raise where something asks for a value or is not there."""


@dataclass(frozen=True)
class Need:
    """Bytes beside the weights: of ``one`` image or pair at once, and of each ``more``."""

    one: int
    more: int

    def of(self, count: int) -> int:
        """Return what ``count`` at once need."""
        return self.one + (count - 1) * self.more


@dataclass(frozen=True)
class DrawingNeeds:
    """What drawing needs, in bytes.

    ``denoiser`` and ``vae`` are their weights. ``images`` is of images in the denoiser,
    ``decoding`` of images in the VAE, ``decoded_at_once`` of them at most. ``merged`` is what an
    adapter in effect adds: a second copy of the weights that it changes, so that it can be taken
    out again to the bit. ``text`` is what all prompts are encoded as, where that stays there.
    """

    denoiser: int
    vae: int
    images: Need
    decoding: Need
    decoded_at_once: int
    merged: int
    text: int = 0

    @property
    def weights(self) -> int:
        """Return the bytes of denoiser and VAE."""
        return self.denoiser + self.vae

    def of(self, count: int) -> int:
        """Return what ``count`` images at once need beside the weights, without an adapter."""
        decoded = min(count, self.decoded_at_once)
        return max(self.images.of(count), self.decoding.of(decoded))


@dataclass(frozen=True)
class TuningNeeds:
    """What tuning needs beside the weights of denoiser and VAE, in bytes.

    ``step`` is of the images of a step of LoRA, or of the pairs of one of preference tuning,
    low-rank weights, gradients and the optimizer's state with them; ``least`` likewise, of one of
    them, with gradient checkpointing.
    """

    step: Need
    least: int


def drawing_needs(
    foundation: Foundation, config: GeneratorConfig, lora: LoraConfig
) -> DrawingNeeds:
    """Return what ``foundation`` needs to draw; it stays as it was, and may be on the meta device.

    Not counted: image tokens, an IP-Adapter, discrepancy guidance.

    Args:
        foundation: the generator.
        config: whether two passes are made at once for guidance.
        lora: which layers an adapter changes.

    Raises:
        GeneratorError: PyTorch cannot run it without values, or its layers come one by one.
    """
    passes = 2 if runs_twice(foundation, config) else 1
    names = foundation.family.adapted_layers(foundation.denoiser, lora.layers)
    with _countable(foundation) as still:
        return DrawingNeeds(
            denoiser=_bytes(foundation.denoiser),
            vae=_bytes(foundation.vae),
            images=_linear(lambda n: _drawn(still, n * passes)),
            decoding=_linear(lambda n: _decoded(still, n)),
            decoded_at_once=decoded_at_once(foundation),
            text=foundation.text.on_device,
            merged=sum(_size(foundation.denoiser.get_submodule(name).weight) for name in names),
        )


def tuning_needs(foundation: Foundation, lora: LoraConfig) -> TuningNeeds:
    """Return what ``foundation`` needs to be tuned by LoRA; it stays as it was, maybe on ``meta``.

    On the meta device it stands for a card's: norms are computed in float32 as by CUDA's autocast.
    Not counted: image tokens, an adapter that preference tuning starts from. The latents that are
    tuned on wait in the processor's memory, but for a step's, or are of small pictures.

    Args:
        foundation: the generator.
        lora: rank and layers.

    Raises:
        GeneratorError: PyTorch cannot run it without values, or its layers come one by one.
    """
    return _needs_of(_tuned, foundation, lora)


def preference_needs(foundation: Foundation, lora: LoraConfig) -> TuningNeeds:
    """Return what ``foundation`` needs to be tuned by pairs; as of ``tuning_needs``."""
    return _needs_of(_preferred, foundation, lora)


def _needs_of(
    tuned: Callable[[Foundation, int], int], foundation: Foundation, lora: LoraConfig
) -> TuningNeeds:
    with _countable(foundation) as still, lora_layers(still, lora, 0):
        step = _linear(lambda count: tuned(still, count))
        if not getattr(foundation.denoiser, "_supports_gradient_checkpointing", False):
            return TuningNeeds(step, step.one)
        with _checkpointed(foundation.denoiser):
            return TuningNeeds(step, tuned(still, 1))


@contextmanager
def _countable(foundation: Foundation) -> Iterator[Foundation]:
    """Yield the foundation with weights that stay where they are, also where parts take turns."""
    kind = type(foundation.denoiser).__name__
    if foundation.placement.mode == "layer by layer":
        raise GeneratorError(
            f"what memory {kind} needs is not counted: {foundation.device} does not hold it, its "
            "layers come one by one"
        )
    still = Placement(
        foundation.denoiser,
        foundation.vae,
        foundation.adapters,
        foundation.device,
        foundation.digest,
        foundation.held,
    )
    try:
        yield replace(foundation, placement=still)
    except _FAILS as error:
        raise GeneratorError(f"what memory {kind} needs cannot be counted: {error}") from error


@contextmanager
def _checkpointed(denoiser: Any) -> Iterator[None]:
    denoiser.enable_gradient_checkpointing()
    try:
        yield
    finally:
        denoiser.disable_gradient_checkpointing()


def _linear(of: Callable[[int], int]) -> Need:
    one = of(1)
    return Need(one, of(2) - one)


def _bytes(module: Any) -> int:
    return sum(_size(tensor) for tensor in (*module.parameters(), *module.buffers()))


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


@torch.no_grad()
def _drawn(foundation: Foundation, passes: int) -> int:
    with without_values(foundation) as (fake, alive):
        latents = torch.empty(passes, *foundation.latent_shape)
        fake.predict(latents, torch.zeros((), dtype=torch.int64), _rows(passes))
        return alive.most


@torch.no_grad()
def _decoded(foundation: Foundation, count: int) -> int:
    with without_values(foundation) as (fake, alive):
        fake.decode(torch.empty(count, *foundation.latent_shape))
        return alive.most


def _tuned(foundation: Foundation, count: int) -> int:
    with without_values(foundation) as (fake, alive):
        torch.autograd.backward(_errors(fake, count).mean())
        return alive.most + _state(foundation)


def _preferred(foundation: Foundation, pairs: int) -> int:
    with without_values(foundation) as (fake, alive):
        with torch.no_grad(), without_lora(wrapped_layers(foundation.denoiser)):
            reference = _errors(fake, 2 * pairs)
        torch.autograd.backward((_errors(fake, 2 * pairs) - reference).mean())
        return alive.most + _state(foundation)


def _errors(fake: Foundation, count: int) -> torch.Tensor:
    latents = torch.empty(count, *fake.latent_shape)
    target = torch.empty_like(latents)
    times = torch.zeros(count, dtype=torch.int64)
    return (fake.predict(latents, times, _rows(count)) - target).square().mean((1, 2, 3))


def _rows(count: int) -> torch.Tensor:
    return torch.zeros(count, dtype=torch.int64)


def _state(foundation: Foundation) -> int:
    tuned = (each for each in foundation.denoiser.parameters() if each.requires_grad)
    return _STATE * sum(_size(each) for each in tuned)
