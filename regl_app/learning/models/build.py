"""The classifier of a run, with initial weights that depend on the seed alone."""

from __future__ import annotations

import torch
from torch import nn

from regl_app.config import RunConfig
from regl_app.config.choices import MODELS
from regl_app.config.sections import ModelConfig
from regl_app.core.dotted import resolve
from regl_app.core.making_modules import MAKING_MODULES
from regl_app.core.seeding import torch_generator
from regl_app.data.federation import Federation
from regl_app.data.source import Source
from regl_app.learning.models.classifier import Classifier


def build_model(
    config: ModelConfig, num_classes: int, channels: int, image_size: int, seed: int
) -> Classifier:
    """Return a classifier of ``(N, channels, image_size, image_size)`` images in [-1, 1].

    Built without values and filled from a generator of its own: the global random state is
    neither read nor changed, so concurrent clients cannot disturb each other.
    """
    with MAKING_MODULES:
        with torch.device("meta"):
            kind = resolve(MODELS[config.name].implementation)
            model: Classifier = kind.of(config, num_classes, channels, image_size)
        model = model.to_empty(device="cpu")
        _initialize(model, torch_generator(seed, "model"))
    return model


def _initialize(model: nn.Module, generator: torch.Generator) -> None:
    """Fill every parameter: He for convolutions, identity for norms, small for the head."""
    for name, module in model.named_modules():
        match module:
            case nn.Conv2d():
                nn.init.kaiming_normal_(
                    module.weight, mode="fan_out", nonlinearity="relu", generator=generator
                )
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            case nn.GroupNorm():
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            case nn.Linear():
                bound = module.in_features**-0.5
                nn.init.uniform_(module.weight, -bound, bound, generator=generator)
                nn.init.zeros_(module.bias)
            case _ if next(module.parameters(recurse=False), None) is not None:
                raise TypeError(f"no initial values known for {name}: {type(module).__name__}")


def model_of(config: RunConfig, source: Source) -> Classifier:
    """Return the untrained classifier that a run of ``config`` on ``source`` starts from."""
    channels, side, _ = source.test.shape
    return build_model(config.model, source.num_classes, channels, side, config.seed)


def make_model(config: RunConfig, federation: Federation) -> Classifier:
    """Return the untrained classifier that a run of ``config`` starts from."""
    return model_of(config, federation.source)
