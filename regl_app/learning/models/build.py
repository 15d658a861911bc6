"""The classifier of a run, with initial weights that depend on the seed alone."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from regl_app.config import RunConfig
from regl_app.config.choices import MODELS
from regl_app.config.model_name import is_own_module
from regl_app.config.sections import ModelConfig
from regl_app.core.dotted import resolve
from regl_app.core.global_random import drawing_from
from regl_app.core.log import logger
from regl_app.core.making_modules import MAKING_MODULES
from regl_app.core.seeding import derive_seed, torch_generator
from regl_app.core.torch_defaults import plain_torch
from regl_app.data.federation import Federation
from regl_app.data.source import Source
from regl_app.learning.models.classifier import Classifier
from regl_app.learning.models.foreign import ForeignClassifier
from regl_app.learning.models.libraries import make_network, own_maker
from regl_app.learning.models.pretrained import load_pretrained


def build_model(
    config: ModelConfig, num_classes: int, channels: int, image_size: int, seed: int
) -> Classifier:
    """Return a classifier of ``(N, channels, image_size, image_size)`` images in [-1, 1].

    One of ours is built without values and filled from a generator of its own: the global random
    state is neither read nor changed, so concurrent clients cannot disturb each other. One of
    others fills itself, from a state that is lent to it; it is made once and copied, until its name
    stands for something else or a run begins (``forget_networks``).

    Raises:
        ConfigError: another's model cannot be had, or does not fit images and classes.
    """
    if config.name not in MODELS:
        own = _own(config.name, seed) if is_own_module(config.name) else None
        return copy.deepcopy(_foreign(config, num_classes, channels, image_size, seed, own))
    with MAKING_MODULES:
        with torch.device("meta"):
            kind = resolve(MODELS[config.name].implementation)
            model: Classifier = kind.of(config, num_classes, channels, image_size)
        model = model.to_empty(device="cpu")
        _initialize(model, torch_generator(seed, "model"))
    return model


@dataclass(frozen=True, eq=False)
class _Own:
    """What makes a module of one's own: known by itself, as a notebook gives its name to others."""

    make: Callable[[int, int, int], Any]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Own) and self.make is other.make

    def __hash__(self) -> int:
        return id(self.make)


def _own(name: str, seed: int) -> _Own:
    if name.partition(":")[0] in sys.modules:
        return _Own(own_maker(name))
    with MAKING_MODULES, drawing_from(derive_seed(seed, "model")):  # importing it may make layers
        return _Own(own_maker(name))


@lru_cache(maxsize=2)
def _foreign(
    config: ModelConfig,
    num_classes: int,
    channels: int,
    image_size: int,
    seed: int,
    own: _Own | None,
) -> Classifier:
    side = config.input_size or image_size
    with MAKING_MODULES, drawing_from(derive_seed(seed, "model")):
        network = make_network(config, num_classes, channels, side, own.make if own else None)
        return ForeignClassifier.of(config, network, num_classes, channels, image_size)


def forget_networks() -> None:
    """Have others' networks made anew: a notebook may have changed what they are made of."""
    _foreign.cache_clear()


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
    """Return an untrained classifier of a run of ``config`` on ``source``."""
    channels, side, _ = source.test.shape
    return build_model(config.model, source.num_classes, channels, side, config.seed)


def start_model(config: RunConfig, source: Source) -> Classifier:
    """Return the global model that a run begins with: pretrained, where ``model.weights`` says so.

    Clients need no such file: what they train is sent to them.

    Raises:
        ConfigError: the weights are not there, or not this model's.
    """
    forget_networks()
    model = model_of(config, source)
    said = [model.words] if model.words else []
    if config.model.weights:
        said.append(load_pretrained(model, config.model))
    if said:
        logger.info("model %s: %s", config.model.name, "; ".join(said))
    return model


@plain_torch()
def make_model(config: RunConfig, federation: Federation) -> Classifier:
    """Return the classifier that a run of ``config`` starts from."""
    return start_model(config, federation.source)
