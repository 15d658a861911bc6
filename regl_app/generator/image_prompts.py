"""Image prompts: an IP-Adapter shows the denoiser a client's own picture beside the text.

Ye et al. 2023: a picture's features become a few tokens, to which new, trained attention layers
listen beside the text's. Layers and projection are diffusers' own; here they are switched on while
one client draws. The features of an image that guidance leads away from are zeros, as there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from regl_app.core.errors import GeneratorError
from regl_app.core.making_modules import MAKING_MODULES
from regl_app.core.out_of_memory import is_out_of_memory
from regl_app.core.types import Tensors
from regl_app.generator.held_weights import memory_of
from regl_app.generator.ip_adapter import KEY, IpAdapter
from regl_app.generator.quiet import quiet
from regl_app.generator.turns import drawn_after

_KIND = "ip_image_proj"


@dataclass(frozen=True)
class ImagePrompts:
    """What one client's images are drawn after.

    Args:
        features: of its pictures, by the encoder that the adapter was trained with, ``(M, F)``.
        labels: their classes, ``(M,)``.
        scale: of what the new attention layers say; 0: nothing.
    """

    features: torch.Tensor
    labels: torch.Tensor
    scale: float


@dataclass(frozen=True)
class _Installed:
    """What makes a UNet listen to pictures: its attention processors, and the projection."""

    digest: str
    processors: Mapping[str, Any]
    projection: Any

    @property
    def modules(self) -> list[torch.nn.Module]:
        every = (*self.processors.values(), self.projection)
        return [each for each in every if isinstance(each, torch.nn.Module)]

    def scaled(self, scale: float) -> None:
        for processor in self.processors.values():
            if hasattr(processor, "to_k_ip"):
                processor.scale = [scale]


class ImagePromptSlot:
    """The image prompts that are in effect at the moment, if any.

    Args:
        denoiser: frozen; as it was whenever no prompts are in effect.
    """

    def __init__(self, denoiser: Any) -> None:
        self._denoiser = denoiser
        self._last: _Installed | None = None
        self._prompts: ImagePrompts | None = None

    @property
    def shown(self) -> bool:
        """Return whether prompts are in effect."""
        return self._prompts is not None

    @contextmanager
    def using(self, adapter: IpAdapter, prompts: ImagePrompts) -> Iterator[None]:
        """Have ``prompts`` shown by ``adapter`` for a while; its layers are kept for the next time.

        Raises:
            GeneratorError: the adapter cannot be loaded, does not fit this denoiser or into the
                device's memory, or is one for features of another length.
        """
        if prompts.features.shape[1] != adapter.features:
            raise GeneratorError(
                f"{KEY} {str(adapter.file)!r} is shown {adapter.features} numbers a picture, the "
                f"encoder makes {prompts.features.shape[1]} (set generator.image-encoder to the "
                "one that it was trained with)"
            )
        installed = self._brought(adapter)
        installed.scaled(prompts.scale)
        plain = dict(self._denoiser.attn_processors)
        self._switch(installed.processors, installed.projection, _KIND)
        self._prompts = prompts
        try:
            yield
        finally:
            self._prompts = None
            self._switch(plain, None, None)

    def of_images(self, labels: Sequence[int], indices: Sequence[int]) -> torch.Tensor | None:
        """Return the features ``(N, F)`` of the picture that each image is drawn after.

        None where no prompts are in effect.

        Args:
            labels: classes of the images, ``(N,)``.
            indices: place of each in its class's sequence, ``(N,)``.
        """
        prompts = self._prompts
        if prompts is None:
            return None
        return prompts.features[drawn_after(prompts.labels, labels, indices)]

    def beside(self, told: Tensors, features: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """Return the conditioning ``told`` of N images with ``features`` (N, F); None: zeros.

        As it is where no prompts are in effect.
        """
        if self._prompts is None:
            return dict(told)
        if features is None:
            count = len(told["embeddings"])
            features = self._prompts.features.new_zeros(count, self._prompts.features.shape[1])
        return {**told, "image_prompts": features}

    def _brought(self, adapter: IpAdapter) -> _Installed:
        """Return the adapter's layers where the denoiser works, in the type of its weights.

        They were away while the denoiser went elsewhere; and where that comes layer by layer
        nothing else brings them, before they are in it or after.
        """
        device = self._denoiser.device
        try:
            installed = self._load(adapter)
            for module in installed.modules:
                torch.nn.Module.to(module, device, self._denoiser.dtype)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise GeneratorError(
                f"{KEY} {str(adapter.file)!r}: its layers do not fit into {device} beside the "
                f"generator, with {memory_of(device)} (let fewer clients run on it at once, or set "
                "generator.ip-adapter='')"
            ) from error
        return installed

    def _load(self, adapter: IpAdapter) -> _Installed:
        if self._last is not None and self._last.digest == adapter.digest:
            return self._last
        from diffusers.loaders import IPAdapterMixin

        class Host(IPAdapterMixin):  # type: ignore[misc]  # what of a pipeline an adapter changes
            unet = self._denoiser

        self._last = None  # the old one is freed before the new one is there
        if self._denoiser.encoder_hid_proj is not None:
            raise GeneratorError(
                f"{KEY} {str(adapter.file)!r} cannot be used: this generator projects its text "
                "where the adapter would its pictures (set generator.ip-adapter='')"
            )
        plain = dict(self._denoiser.attn_processors)
        state = adapter.read()
        try:
            with MAKING_MODULES, quiet():
                Host().load_ip_adapter(state, subfolder="", weight_name="")
            processors = dict(self._denoiser.attn_processors)
            projection = self._denoiser.encoder_hid_proj
        except (KeyError, ValueError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            raise GeneratorError(
                f"{KEY} {str(adapter.file)!r} does not fit this generator: {error}"
            ) from error
        finally:
            self._switch(plain, None, None)
        installed = _Installed(adapter.digest, processors, projection)
        for module in installed.modules:
            module.eval().requires_grad_(False)
        self._last = installed
        return installed

    def _switch(self, processors: Mapping[str, Any], projection: Any, kind: str | None) -> None:
        self._denoiser.set_attn_processor(dict(processors))
        self._denoiser.encoder_hid_proj = projection
        self._denoiser.config.encoder_hid_dim_type = kind
