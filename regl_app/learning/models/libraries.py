"""Networks by name: of torchvision, of timm, or of a package of the user's own."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from regl_app.config.model_name import library_of
from regl_app.config.sections import ModelConfig
from regl_app.core.dotted import resolve
from regl_app.core.errors import ConfigError
from regl_app.learning.models.foreign import Network

_COLOURS = 3


def own_maker(key: str) -> Callable[[int, int, int], Any]:
    """Return what the dotted name ``key`` stands for by now.

    Raises:
        ConfigError: it cannot be imported, or is nothing that makes a module.
    """
    try:
        make = resolve(key)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"model.name={key!r} cannot be imported: {error} (its package must be installed, or on "
            "PYTHONPATH, where the server and every client runs: docs/models.md)"
        ) from error
    if not callable(make):
        raise ConfigError(
            f"model.name={key!r} must be an nn.Module's class, or a function that returns a "
            f"module, got {type(make).__name__}"
        )
    return make  # type: ignore[no-any-return]


def make_network(
    config: ModelConfig,
    num_classes: int,
    channels: int,
    side: int,
    own: Callable[[int, int, int], Any] | None,
) -> Network:
    """Return the network that ``config.name`` names, with random weights.

    Args:
        config: which.
        num_classes: of its last layer.
        channels: of the images, which a module of one's own is told.
        side: of the images that it is given.
        own: what makes a module of one's own (``own_maker``), None: it is a library's.

    Raises:
        ConfigError: there is none of that name, its library is not installed, or it cannot be made.
    """
    if own is not None:
        module = _made(config.name, side, lambda: own(num_classes, channels, side))
        return Network(module, channels)
    of = {"torchvision": _of_torchvision, "timm": _of_timm}[library_of(config.name)]
    return of(config.name, config.name.partition(":")[2], num_classes, side)


def _of_torchvision(key: str, name: str, num_classes: int, side: int) -> Network:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ConfigError(_unknown(key, name, known, "torchvision"))
    more: dict[str, Any] = {}
    if name.startswith("vit_"):
        more["image_size"] = side
    if name in ("googlenet", "inception_v3"):  # they would return more than logits
        more = {"aux_logits": False, "init_weights": True}
    module = _made(key, side, lambda: models.get_model(name, num_classes=num_classes, **more))
    expects = models.get_model_weights(name).DEFAULT.transforms()
    return Network(module, _COLOURS, tuple(expects.mean), tuple(expects.std))


def _of_timm(key: str, name: str, num_classes: int, side: int) -> Network:
    timm = import_timm(key)
    if not timm.is_model(name):
        raise ConfigError(_unknown(key, name, timm.list_models(pretrained=False), "timm"))
    expects = timm.models.get_pretrained_cfg(name)
    more = {"img_size": side} if expects is not None and expects.fixed_input_size else {}
    module = _made(key, side, lambda: timm.create_model(name, num_classes=num_classes, **more))
    if expects is None:
        return Network(module, _COLOURS)
    return Network(module, _COLOURS, tuple(expects.mean), tuple(expects.std))


def import_timm(key: str) -> Any:
    """Return timm.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise ConfigError(
            f"model.name={key!r} needs timm, which is not installed here (pip install timm, or "
            "this package's extra 'timm', at the server and at every client)"
        ) from error
    return timm


def _made(key: str, side: int, make: Any) -> nn.Module:
    try:
        module = make()
    except Exception as error:  # others' code may raise anything
        raise ConfigError(
            f"model.name={key!r} cannot be made for images of {side} x {side} pixels: "
            f"{type(error).__name__}: {error} (a module of your own is called with number of "
            "classes, channels, side of the images)"
        ) from error
    if not isinstance(module, nn.Module):
        raise ConfigError(f"model.name={key!r} must give an nn.Module, got {type(module).__name__}")
    return module


def _unknown(key: str, name: str, known: Iterable[str], library: str) -> str:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "see its documentation"
    return f"model.name={key!r}: {library} has no classifier {name!r} ({hint})"
