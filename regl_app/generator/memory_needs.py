"""How much memory a generator needs to draw and to be tuned, before any of it is taken.

PyTorch's fake tensors have shapes and no values: denoiser and VAE are run on them as they will be
run, forward and backward, and what lives at one time is added up. Nothing is computed, so that it
takes seconds for any size. What a device holds beside tensors, its context and what its kernels and
its allocator set aside, is not in it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.errors import GeneratorError
from regl_app.generator.adaptation.layers import lora_layers, without_lora, wrapped_layers
from regl_app.generator.foundation import Foundation
from regl_app.generator.placement import Placement
from regl_app.generator.prompts import TextConditioning

_MOMENTS = 2
"""Of AdamW, for each weight that is tuned."""


@dataclass(frozen=True)
class Need:
    """Bytes beside the weights: of ``one`` image or pair at once, and of each ``more``."""

    one: int
    more: int

    def of(self, count: int) -> int:
        """Return what ``count`` at once need."""
        return self.one + (count - 1) * self.more


@dataclass(frozen=True)
class MemoryNeeds:
    """What a generator needs of a device.

    ``denoiser`` and ``vae`` are the bytes of their weights. ``drawing`` and ``decoding`` are of
    images, ``tuning`` is of images of a step of LoRA, ``preferring`` of pairs of a step of
    preference tuning, with gradients and the optimizer's state; ``least_tuning`` and
    ``least_preferring`` likewise, of one, with gradient checkpointing.
    """

    denoiser: int
    vae: int
    drawing: Need
    decoding: Need
    tuning: Need
    preferring: Need
    least_tuning: int
    least_preferring: int

    @property
    def weights(self) -> int:
        """Return the bytes of denoiser and VAE."""
        return self.denoiser + self.vae


def memory_needs(foundation: Foundation, config: GeneratorConfig, lora: LoraConfig) -> MemoryNeeds:
    """Return what ``foundation`` needs; it stays as it was, and may be on the meta device.

    Args:
        foundation: the generator.
        config: whether two passes are made at once for guidance.
        lora: rank and layers.

    Raises:
        GeneratorError: PyTorch cannot run it without values.
    """
    guided = 2 if config.guidance > 1 and not foundation.embeds_guidance else 1
    # Weights stay where they are, also where parts take turns.
    still = Placement(
        foundation.denoiser,
        foundation.vae,
        foundation.adapters,
        foundation.device,
        foundation.digest,
        foundation.held,
    )
    foundation = replace(foundation, placement=still)
    try:
        drawing = _linear(lambda n: _drawn(foundation, n * guided))
        decoding = _linear(lambda n: _decoded(foundation, n))
        with lora_layers(foundation, lora, 0):
            tuning = _linear(lambda n: _tuned(foundation, n))
            preferring = _linear(lambda n: _preferred(foundation, n))
            with _checkpointed(foundation.denoiser):
                least_tuning, least_preferring = _tuned(foundation, 1), _preferred(foundation, 1)
    except (RuntimeError, NotImplementedError, TypeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise GeneratorError(
            f"what memory {type(foundation.denoiser).__name__} needs cannot be counted: {error}"
        ) from error
    return MemoryNeeds(
        denoiser=_bytes(foundation.denoiser),
        vae=_bytes(foundation.vae),
        drawing=drawing,
        decoding=decoding,
        tuning=tuning,
        preferring=preferring,
        least_tuning=least_tuning,
        least_preferring=least_preferring,
    )


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
    held = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in held)


@torch.no_grad()
def _drawn(foundation: Foundation, passes: int) -> int:
    with _without_values(foundation) as (fake, alive):
        latents = torch.empty(passes, *foundation.latent_shape)
        fake.predict(latents, torch.zeros((), dtype=torch.int64), _rows(passes))
        return alive.most


@torch.no_grad()
def _decoded(foundation: Foundation, count: int) -> int:
    with _without_values(foundation) as (fake, alive):
        fake.decode(torch.empty(count, *foundation.latent_shape))
        return alive.most


def _tuned(foundation: Foundation, count: int) -> int:
    with _without_values(foundation) as (fake, alive):
        torch.autograd.backward(_errors(fake, count).mean())
        return alive.most + _optimizer(foundation)


def _preferred(foundation: Foundation, pairs: int) -> int:
    with _without_values(foundation) as (fake, alive):
        with torch.no_grad(), without_lora(wrapped_layers(foundation.denoiser)):
            reference = _errors(fake, 2 * pairs)
        torch.autograd.backward((_errors(fake, 2 * pairs) - reference).mean())
        return alive.most + _optimizer(foundation)


def _errors(fake: Foundation, count: int) -> torch.Tensor:
    latents = torch.empty(count, *fake.latent_shape)
    target = torch.empty_like(latents)
    times = torch.zeros(count, dtype=torch.int64)
    return (fake.predict(latents, times, _rows(count)) - target).square().mean((1, 2, 3))


def _rows(count: int) -> torch.Tensor:
    return torch.zeros(count, dtype=torch.int64)


def _optimizer(foundation: Foundation) -> int:
    tuned = (each for each in foundation.denoiser.parameters() if each.requires_grad)
    tuned_bytes: int = sum(each.numel() * each.element_size() for each in tuned)
    return _MOMENTS * tuned_bytes


@contextmanager
def _without_values(foundation: Foundation) -> Iterator[tuple[Foundation, _Alive]]:
    """Yield the foundation with tensors of shapes alone, and what counts those that come up."""
    device = torch.device("cpu") if foundation.device.type == "meta" else foundation.device
    with FakeTensorMode(allow_non_fake_inputs=True), device:
        alive = _Alive()
        told = {name: _shape_of(each) for name, each in foundation.text.tensors.items()}
        parts = (foundation.denoiser, foundation.vae)
        fake = replace(foundation, text=TextConditioning(told), device=device)
        with _shapes_in(parts[0], alive), _shapes_in(parts[1], alive), alive:
            yield fake, alive


@contextmanager
def _shapes_in(part: Any, alive: _Alive) -> Iterator[None]:
    """Put shapes in the place of a module's tensors, which ``alive`` leaves out; then these back.

    In the modules themselves, as gradient checkpointing calls them again on the way back.
    """
    own: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for module in part.modules():
            for held in (module._parameters, module._buffers):
                for name, tensor in held.items():
                    if tensor is not None:
                        own.append((held, name, tensor))
        for held, name, tensor in own:
            held[name] = _shape_of(tensor)
            alive.leave_out(held[name])
        yield
    finally:
        for held, name, tensor in own:
            held[name] = tensor


def _shape_of(tensor: torch.Tensor) -> torch.Tensor:
    shape = torch.empty(tensor.shape, dtype=tensor.dtype)
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(shape, requires_grad=tensor.requires_grad)
    return shape


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]  # no types there
    """Adds up the memory of the tensors that come up, as long as each lives; ``most`` at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._now = 0
        self._known: set[int] = set()

    def leave_out(self, tensor: torch.Tensor) -> None:
        """Do not count ``tensor``, which has to outlive this."""
        self._known.add(tensor.untyped_storage()._cdata)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func`` and count what it made."""
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, torch.Tensor):
                self._count(each.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self._now += size
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size
