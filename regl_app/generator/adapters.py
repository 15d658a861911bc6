"""LoRA adapters on disk (the format ``load_lora_weights`` reads) and merged into a denoiser."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from regl_app.core.errors import GeneratorError
from regl_app.core.files import atomic_path, sha256_file
from regl_app.core.types import Tensors
from regl_app.core.unread_weights import UNREAD, why_unread
from regl_app.generator.chance_rounding import rounded
from regl_app.generator.denoiser_shapes import denoiser_shapes
from regl_app.generator.families.registry import PARTS
from regl_app.generator.foreign_adapters import plain_lora
from regl_app.generator.held_weights import memory_of
from regl_app.generator.image_tokens import FILE as IMAGE_TOKENS
from regl_app.generator.image_tokens import PREFIX, ImageTokens
from regl_app.generator.ran_out import tried

WEIGHTS = "pytorch_lora_weights.safetensors"


def save_adapter(folder: Path, state: Tensors) -> None:
    """Write LoRA weights of a denoiser so that ``pipeline.load_lora_weights(folder)`` reads them.

    Args:
        folder: becomes the adapter's folder, whole or not at all.
        state: ``<part>.<layer>.lora_A.weight`` and ``.lora_B.weight``, scale included in B; part
            is the denoiser's name in its pipeline, 'unet' or 'transformer'. And the image tokens'
            tensors, if it has any.
    """
    tokens = {name: value for name, value in state.items() if name.startswith(PREFIX)}
    lora = {name: value for name, value in state.items() if name not in tokens}
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        # What save_lora_weights writes; not every pipeline has it.
        save_file(lora, temporary / WEIGHTS, metadata={"format": "pt"})
        if tokens:
            save_file(tokens, temporary / IMAGE_TOKENS)


def adapter_digest(folder: Path) -> str:
    """Return the SHA-256 of what ``save_adapter`` wrote."""
    weights, tokens = folder / WEIGHTS, folder / IMAGE_TOKENS
    if not tokens.exists():
        return sha256_file(weights)
    both = sha256_file(weights) + sha256_file(tokens)
    return hashlib.sha256(both.encode()).hexdigest()


def load_adapter(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights that ``save_adapter`` wrote, or what another's adapter is in their form.

    Args:
        folder: that has the file ``WEIGHTS``, and perhaps image tokens beside it, or a safetensors
            file of any name.

    Raises:
        GeneratorError: the file is absent, damaged, not finite, or adapts something else than one
            denoiser.
    """
    path = folder if folder.is_file() else folder / WEIGHTS
    try:
        state = load_file(path)
        with safe_open(path, "pt") as content:
            header = content.metadata() or {}
    except UNREAD as error:
        raise GeneratorError(
            f"the adapter {str(path)!r} cannot be read: {why_unread(path, error)}"
        ) from error
    state = plain_lora(state, header, str(path))
    parts = {key.partition(".")[0] for key in state}
    if len(parts) != 1 or not parts <= set(PARTS):
        raise GeneratorError(
            f"the adapter {str(path)!r} must adapt one of {', '.join(PARTS)} alone, not "
            f"{', '.join(sorted(parts)) or 'nothing'}"
        )
    odd = [key for key in state if not key.endswith((".lora_A.weight", ".lora_B.weight"))]
    if odd:
        raise GeneratorError(
            f"the adapter {str(path)!r} has {odd[0]!r}, which is neither lora_A nor lora_B of a "
            "layer"
        )
    for name in {key.rsplit(".lora_", 1)[0] for key in state}:
        pair = state.get(f"{name}.lora_A.weight"), state.get(f"{name}.lora_B.weight")
        if not _fits(*pair):
            shapes = [None if part is None else tuple(part.shape) for part in pair]
            raise GeneratorError(
                f"the adapter {str(path)!r} is damaged: layer {name.partition('.')[2]!r} must have "
                f"finite lora_A and lora_B of one rank, got shapes {shapes}"
            )
    if path == folder / WEIGHTS and (folder / IMAGE_TOKENS).exists():
        state = {**state, **_load_tokens(folder / IMAGE_TOKENS)}
    return state


def _load_tokens(path: Path) -> dict[str, torch.Tensor]:
    try:
        state = load_file(path)
        ImageTokens.of(state)
    except (*UNREAD, KeyError) as error:
        raise GeneratorError(
            f"the image tokens {str(path)!r} cannot be read: {why_unread(path, error)}"
        ) from error
    return state


def most_adapter_bytes(generator: Path, rank: int) -> int:
    """Return the most bytes that an adapter of ``rank`` for a generator's denoiser can have.

    Every matrix and every kernel counts as adapted, whatever ``lora.layers`` says, in float32 and
    with a quarter on top for names.

    Args:
        generator: what ``resolve_generator`` returned.
        rank: of the update.

    Raises:
        GeneratorError: its denoiser has no readable safetensors, or is of no known family.
    """
    shapes = denoiser_shapes(generator).values()
    sides = sum(shape[0] + math.prod(shape[1:]) for shape in shapes if len(shape) in (2, 4))
    return 5 * rank * sides + 2**20


def _fits(down: torch.Tensor | None, up: torch.Tensor | None) -> bool:
    """Return whether ``B A`` can be formed and is finite."""
    return (
        down is not None
        and up is not None
        and down.ndim == up.ndim
        and down.ndim in (2, 4)
        and down.shape[0] == up.shape[1]
        and all(side == 1 for side in up.shape[2:])  # B of a convolution is 1 x 1
        and all(part.is_floating_point() and bool(part.isfinite().all()) for part in (down, up))
    )


def stack_adapters(first: Tensors, second: Tensors) -> dict[str, torch.Tensor]:
    """Return one adapter whose update is the sum of both: their ranks add up, nothing is lost.

    ``B1 A1 + B2 A2 = [B1 B2] [A1; A2]``; a layer that only one adapts keeps that one's rank.
    """
    stacked = dict(first)
    for key, value in second.items():
        # A is (rank, in, ...), B is (out, rank, ...).
        rank = 0 if ".lora_A." in key else 1
        stacked[key] = torch.cat([first[key], value], dim=rank) if key in first else value
    return stacked


class AdapterSlot:
    """The adapter that is merged into a denoiser's weights at the moment, if any.

    Args:
        denoiser: frozen; nobody else may replace its weights while an adapter is merged.
        part: its name in the pipeline and in an adapter's file.
        device: where it works.
    """

    def __init__(self, denoiser: Any, part: str, device: torch.device) -> None:
        self._denoiser = denoiser
        self._part = part
        self._device = device
        self._frozen: dict[str, torch.Tensor] = {}
        self._merged: dict[str, torch.Tensor] = {}
        self._used = self._frozen
        self.make_room: Callable[[], bool] = lambda: False
        """Takes something else off the device; returns whether there was anything."""
        self.image_tokens: ImageTokens | None = None
        """Those of the adapter in effect, if it has any."""

    @property
    def filled(self) -> bool:
        """Return whether an adapter is in effect."""
        return bool(self._merged)

    @contextmanager
    def merge(self, folder: Path) -> Iterator[None]:
        """Merge the adapter in ``folder``; see :meth:`using`."""
        if self._frozen:
            raise GeneratorError(f"{str(folder)!r} cannot be merged: an adapter already is")
        with self.using(load_adapter(folder), str(folder)):
            yield

    @contextmanager
    def using(self, state: Tensors, where: str) -> Iterator[None]:
        """Add the adapter's update to the denoiser's weights; on leaving, put the old ones back.

        Merging costs one small product per layer and then samples at the frozen model's speed. The
        old weights are kept, not recomputed: a subtraction would not restore every bit.

        Args:
            state: as ``save_adapter`` takes it; empty: nothing is merged.
            where: it is from, for messages.

        Raises:
            GeneratorError: the adapter does not fit this denoiser, another one is merged, or the
                device has no room for it.
        """
        if self._frozen:
            raise GeneratorError(f"{where!r} cannot be merged: an adapter already is")
        try:
            while not tried(partial(self._added, state, where)):
                if not self.make_room():
                    raise GeneratorError(
                        f"the adapter {where!r} has no room on {self._device} with "
                        f"{memory_of(self._device)}, beside the weights that it changes "
                        "(supplement.adapter=frozen draws without one; or let fewer clients run on "
                        "it at once, take a device with more memory, or device=cpu)"
                    )
            self._use(self._merged)
            with self._told(ImageTokens.of(state)):
                yield
        except AttributeError as error:
            raise GeneratorError(f"the adapter {where!r} does not fit: {error}") from error
        finally:
            self._use(self._frozen)
            self._frozen, self._merged = {}, {}

    def _added(self, state: Tensors, where: str) -> bool:
        """Make the merged weights; return True. Where that fails, none are left."""
        try:
            self._add(state, where)
        except RuntimeError:
            self._frozen, self._merged = {}, {}
            raise
        return True

    def _add(self, state: Tensors, where: str) -> None:
        """Make the weights with the update of ``state`` beside the frozen ones."""
        for layer in sorted(k.removesuffix(".lora_A.weight") for k in state if ".lora_A." in k):
            down, up = state[f"{layer}.lora_A.weight"], state[f"{layer}.lora_B.weight"]
            part, _, name = layer.partition(".")
            if part != self._part:
                raise GeneratorError(
                    f"the adapter {where!r} does not fit: it adapts a {part}, this generator "
                    f"has a {self._part}"
                )
            weight = self._denoiser.get_submodule(name).weight.detach()
            shape = (up.shape[0], *down.shape[1:])
            if shape != weight.shape:  # before the product, which may be of any size
                raise GeneratorError(
                    f"the adapter {where!r} does not fit: layer {name!r} has shape "
                    f"{tuple(weight.shape)}, its update {shape}"
                )
            self._frozen[name] = weight
            update = lora_update(down.float(), up.float())
            # In float32 also where weights are in half of it: rounded once, not twice.
            exact = weight.to(torch.float32, copy=True)
            self._merged[name] = rounded(exact.add_(update.to(exact)), weight.dtype, name)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Use the frozen weights for a while; costs no arithmetic."""
        self._use(self._frozen)
        try:
            with self._told(None):
                yield
        finally:
            self._use(self._merged)

    @contextmanager
    def _told(self, image_tokens: ImageTokens | None) -> Iterator[None]:
        """Have ``image_tokens`` in effect for a while."""
        before = self.image_tokens
        if image_tokens is not None:
            image_tokens = image_tokens.to(self._device)
        self.image_tokens = image_tokens
        try:
            yield
        finally:
            self.image_tokens = before

    def follow(self) -> None:
        """Have what is kept where the denoiser was brought to, without a second copy of it."""
        for name in self._merged:
            used = self._denoiser.get_submodule(name).weight.detach()
            for weights in (self._frozen, self._merged):
                here = weights is self._used
                weights[name] = used if here else weights[name].to(used.device)

    def _use(self, weights: dict[str, torch.Tensor]) -> None:
        self._used = weights
        for name, weight in weights.items():
            self._denoiser.get_submodule(name).weight.data = weight


def lora_update(down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Return ``B A``: (out, in) for linear layers, (out, in, kh, kw) for convolutions."""
    if down.ndim == 2:
        return up @ down
    return torch.einsum("or,rikl->oikl", up[:, :, 0, 0], down)
