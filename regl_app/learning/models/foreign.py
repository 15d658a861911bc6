"""Classifiers of others, made fit to be federated: body and head apart, no averaged statistics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import nn
from torch.nn import functional

from regl_app.config.sections import ModelConfig
from regl_app.core.errors import ConfigError
from regl_app.core.seeding import torch_generator
from regl_app.learning.models.batch_norm import (
    AsGroupNorm,
    HeldBatchNorm,
    batch_norms,
    without_batch_norm,
)
from regl_app.learning.models.classifier import Classifier


@dataclass(frozen=True)
class Network:
    """A module from images to logits, and what it expects: ``channels`` of them, scaled by ``mean``
    and ``std`` of images in [0, 1]; None: as they are, in [-1, 1]."""

    module: nn.Module
    channels: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


class ForeignClassifier(Classifier):
    """A network without its last layer as ``body``, and that as ``head``.

    BatchNorm is GroupNorm here, or its running statistics stay as they came: averaged statistics
    of clients that hold different classes fit nobody. Scale and shift are trained either way. Gray
    images are repeated where the network takes colour, which is what summing its first kernels over
    colours would be.
    """

    foreign = True

    def __init__(self, network: Network, head_name: str, head: nn.Linear, size: int) -> None:
        super().__init__()
        self.body = network.module
        self.head = head
        self.head_name = head_name
        self._channels, self._size = network.channels, size
        mean, std = network.mean or (0.5,), network.std or (0.5,)
        # Not a part of the state: nobody trains or averages them.
        self.register_buffer("mean", torch.tensor(mean)[None, :, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[None, :, None, None], persistent=False)

    @classmethod
    def of(
        cls, config: ModelConfig, network: Network, num_classes: int, channels: int, side: int
    ) -> Self:
        """Return ``network`` as a classifier of ``(N, channels, side, side)`` images in [-1, 1].

        Raises:
            ConfigError: it cannot take such images, does not return ``(N, num_classes)`` logits, or
                does not end in the ``nn.Linear`` that makes them.
        """
        name, module = config.name, network.module
        norms = len(batch_norms(module))
        module = without_batch_norm(module, HeldBatchNorm if config.freezes else AsGroupNorm)
        network = replace(network, module=module)
        said = []
        if norms:
            becomes = (
                "keeps the running statistics that it comes with"
                if config.freezes
                else "is GroupNorm, which has no statistics to average"
            )
            said.append(f"its BatchNorm (layers: {norms}) {becomes}")
        if kept := _keep_constants(module):
            said.append(f"its buffers of whole numbers ({kept}) are not averaged")
        made = cls(network, "", nn.Linear(1, 1), config.input_size)
        images = (
            torch.rand(2, channels, side, side, generator=torch_generator(0, "dry run"))
            .mul(2)
            .sub(1)
        )
        head_name = _last_layer(made, images, name, num_classes, config.input_size or side)
        head = module.get_submodule(head_name)
        assert isinstance(head, nn.Linear)
        if head.bias is None:
            said.append("its last layer is given a bias")
            head = _with_bias(head)
        parent, _, leaf = head_name.rpartition(".")
        setattr(module.get_submodule(parent), leaf, nn.Identity())
        made = cls(network, head_name, head, config.input_size)
        made._check_features(images, name, num_classes)
        made.words = "; ".join(said)
        return made

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the penultimate features ``(N, D)``."""
        features: torch.Tensor = self.body(self._prepared(x))
        return features

    def _prepared(self, x: torch.Tensor) -> torch.Tensor:
        if self._size and x.shape[-1] != self._size:
            x = functional.interpolate(x, self._size, mode="bilinear", antialias=True)
        if x.shape[1] != self._channels:
            x = x.expand(-1, self._channels, -1, -1)
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        return ((x + 1) / 2 - mean) / std

    @torch.no_grad()
    def _check_features(self, images: torch.Tensor, name: str, num_classes: int) -> None:
        self.eval()
        found = self.features(images)
        fits = found.ndim == 2 and found.shape[1] == self.head.in_features
        if not fits or self.head(found).shape != (2, num_classes):
            raise ConfigError(
                f"model.name={name!r}: what its last layer, {self.head_name!r}, is given must be "
                f"features (N, {self.head.in_features}), got {tuple(found.shape)}"
            )
        self.train()


def _keep_constants(module: nn.Module) -> int:
    """Take buffers of whole numbers (indices, counters) out of the state; return how many.

    An average of equal ones may come out below them, and would be cut off.
    """
    kept = 0
    for part in module.modules():
        for name, buffer in list(part.named_buffers(recurse=False)):
            if buffer.is_floating_point():
                continue
            kept += 1
            part.register_buffer(name, buffer, persistent=False)
    return kept


@torch.no_grad()
def _last_layer(
    made: ForeignClassifier, images: torch.Tensor, name: str, num_classes: int, side: int
) -> str:
    """Return the name of the ``nn.Linear`` whose output the network returns, by trying it."""
    module = made.body.eval()
    seen: list[tuple[str, torch.Tensor]] = []
    hooks = [
        part.register_forward_hook(lambda _, __, out, at=path: seen.append((at, out)))
        for path, part in module.named_modules()
        if path and isinstance(part, nn.Linear)
    ]
    try:
        logits = module(made._prepared(images))
    except Exception as error:  # others' code may raise anything
        what = (str(error).strip().splitlines() or ["no more is known"])[0][:200]
        raise ConfigError(
            f"model.name={name!r} fails on images of {side} x {side} pixels: "
            f"{type(error).__name__}: {what} (if it is for larger ones, raise data.image-size, or "
            "have them scaled: model.input-size=224 say)"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(logits, torch.Tensor) or logits.shape != (len(images), num_classes):
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ConfigError(
            f"model.name={name!r} must return logits (N, {num_classes}) of N images, one for each "
            f"class; of {len(images)} it returned {got}"
        )
    for path, out in reversed(seen):
        if out is logits or (out.shape == logits.shape and torch.equal(out, logits)):
            return path
    raise ConfigError(
        f"model.name={name!r} must return what its last nn.Linear makes, as it is: experts, CCVR, "
        "FedRep, MOON and the report look for features and last layer there (end it in an "
        "nn.Linear with one output a class, without softmax; or take another model)"
    )


def _with_bias(head: nn.Linear) -> nn.Linear:
    made = nn.Linear(head.in_features, head.out_features)
    with torch.no_grad():
        made.weight.copy_(head.weight)
        made.bias.zero_()
    return made
