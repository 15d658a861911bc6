"""What a run's global model starts from: weights of a file or of the hub. Never unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load

from regl_app.config.sections import ModelConfig
from regl_app.core.errors import ConfigError
from regl_app.core.finite import not_finite
from regl_app.core.readable import readable
from regl_app.core.tensor_files import is_intact
from regl_app.core.types import Tensors
from regl_app.core.unread_weights import is_pointer, why_unread
from regl_app.data.run_files import file_digest
from regl_app.learning.models.classifier import Classifier
from regl_app.learning.models.foreign import ForeignClassifier
from regl_app.learning.models.hub_weights import fetch_weights

_BODY = "body."
_PARALLEL = "module."
"""What ``torch.nn.DataParallel`` puts before the names that it saves."""
_CHECKSUM = "sha256"
_CHECKPOINT = ("model.", "state.", _CHECKSUM)
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def check_weights(config: ModelConfig) -> None:
    """Refuse weights that no model could start from, before anything else is done.

    A file of the hub is fetched here if it is not in its cache.

    Raises:
        ConfigError: they are not there, or no safetensors file.
    """
    if not config.weights:
        return
    path = _file(config)
    try:
        with safe_open(path, framework="np"):
            pass
    except (MemoryError, OSError, SafetensorError) as error:
        raise _unread(path, config, error) from error


def weights_digest(config: ModelConfig) -> str:
    """Return the SHA-256 of the file that ``config.weights`` names, '' if it names none.

    Nothing is fetched.

    Raises:
        ConfigError: it is not there, or of the hub and not in its cache.
        OSError: it cannot be read.
    """
    return file_digest(_file(config, fetch=False)) if config.weights else ""


def load_pretrained(model: Classifier, config: ModelConfig) -> str:
    """Give ``model`` the weights that ``config.weights`` names; return what was done, in words.

    A file of the run's own kind (``model.safetensors`` of an earlier run) fills all of it. One with
    the names of the network's library fills the body, and the head stays new: its classes are
    others.

    Raises:
        ConfigError: it is not there, is no safetensors file, is damaged or not finite, or is not of
            this model.
    """
    done = _fill(model, config)
    if odd := not_finite(_learnt(model)):
        raise ConfigError(
            f"{_what(config)} holds NaN or infinity in {odd!r}: whoever trained it has diverged "
            "(take an earlier or another one)"
        )
    return done


def _learnt(model: Classifier) -> dict[str, torch.Tensor]:
    """Return weights, and statistics of batches; other buffers may be masks with infinities."""
    statistics = {
        name: value
        for name, value in model.named_buffers()
        if name.rpartition(".")[2] in _STATISTICS
    }
    return {**dict(model.named_parameters()), **statistics}


def _fill(model: Classifier, config: ModelConfig) -> str:
    path = _file(config)
    tensors, own = _read(path, config), model.state_dict()
    if all(name.startswith(_PARALLEL) for name in tensors):
        tensors = {name.removeprefix(_PARALLEL): value for name, value in tensors.items()}
    if tensors.keys() == own.keys() and _shapes(tensors) == _shapes(own):
        model.load_state_dict(dict(tensors))
        return f"starts from {path}, head included"
    if not isinstance(model, ForeignClassifier):
        raise ConfigError(
            f"{_what(config)} holds no {config.name!r} of this run's classes and images: "
            f"{_difference(tensors, own)}{_others(config.name)}"
        )
    body = {name.removeprefix(_BODY): value for name, value in own.items() if _BODY in name[:5]}
    head = {f"{model.head_name}.{part}" for part in ("weight", "bias")}
    constants = {name for name, _ in model.body.named_buffers()} - body.keys()
    found = {name: value for name, value in tensors.items() if name in body}
    left = {
        name
        for name in tensors.keys() - body.keys() - head - constants
        if name.rpartition(".")[2] not in _STATISTICS
    }
    if left or _shapes(found) != _shapes(body):
        if any(name.startswith(_BODY) for name in tensors):
            raise ConfigError(
                f"{_what(config)} is of another run's model than this one's "
                f"(model.name={config.name!r}, model.norm={config.norm!r}): "
                f"{_difference(tensors, own)} (if that run began without weights: model.norm=group)"
            )
        rest = {name: tensors[name] for name in left} | found
        raise ConfigError(
            f"{_what(config)} does not fit model.name={config.name!r}: {_difference(rest, body)}"
        )
    model.body.load_state_dict(found, strict=False)
    return f"starts from {path}, with a new head for {model.head.out_features} classes"


def _file(config: ModelConfig, *, fetch: bool = True) -> Path:
    weights, path = config.weights, Path(config.weights).expanduser()
    with readable(_what(config), ConfigError):
        if path.is_file():
            return path
    if (path if path.is_dir() else path.parent).joinpath("history.jsonl").is_file():
        raise ConfigError(f"{_what(config)} {_of_run(path)}")
    if path.suffix == ".safetensors" or path.is_absolute() or path.exists():
        raise ConfigError(
            f"{_what(config)} is no file (a .safetensors file, 'owner/name' of the hub, or of "
            "timm's models 'hub')"
        )
    return fetch_weights(weights, config.name, fetch=fetch)


def _of_run(path: Path) -> str:
    """Return what is wrong with a path into a run's folder that is no file."""
    folder = path if path.is_dir() else path.parent
    model = folder / "model.safetensors"
    if model.is_file():
        return f"is no file of that run: its model is {model}"
    best = sorted(folder.glob("checkpoints/best-*.safetensors"))
    instead = f", or take its best round so far, {best[-1]}" * bool(best)
    return (
        "is of a run that has not ended, and has no model.safetensors yet (let it end, regl run "
        f"--resume {folder}{instead})"
    )


def _read(path: Path, config: ModelConfig) -> dict[str, torch.Tensor]:
    try:
        content = path.read_bytes()
        tensors = load(content)
    except (MemoryError, OSError, SafetensorError) as error:
        raise _unread(path, config, error) from error
    if is_intact(content, tensors) is False:
        raise ConfigError(
            f"{_what(config)} is damaged: its checksum is wrong (copy it again, or restore it)"
        )
    if _CHECKSUM in tensors and all(name.startswith(_CHECKPOINT) for name in tensors):
        raise ConfigError(
            f"{_what(config)} is all that a run needs to go on from a round, no model (take its "
            "model.safetensors, or go on with it: regl run --resume)"
        )
    return tensors


def _unread(path: Path, config: ModelConfig, error: Exception) -> ConfigError:
    if not isinstance(error, SafetensorError) or is_pointer(path):
        return ConfigError(f"{_what(config)} cannot be read: {why_unread(path, error)}")
    return ConfigError(
        f"{_what(config)} is no safetensors file: {error}. Pickled weights (.pth, .pt, .bin) "
        "can run code and are not read: convert them where you trust them (docs/models.md)"
    )


def _what(config: ModelConfig) -> str:
    return f"model.weights={config.weights!r}"


def _others(name: str) -> str:
    """Return how a network of torchvision is asked for that is called as one of ours."""
    from torchvision.models import list_models

    theirs = f"torchvision:{name}"
    return f" (of torchvision's {name}? model.name={theirs})" if name in list_models() else ""


def _shapes(tensors: Tensors) -> Mapping[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items()}


def _difference(tensors: Tensors, wanted: Tensors) -> str:
    """Return the first of what is missing, too much or of another shape, and the remedy."""
    for names, words in (
        (sorted(wanted.keys() - tensors.keys()), "lacks"),
        (sorted(tensors.keys() - wanted.keys()), "also has"),
    ):
        if names:
            return f"it {words} {names[0]!r} and {len(names) - 1} more (is it of another model?)"
    for name, value in wanted.items():
        if tensors[name].shape != value.shape:
            return (
                f"{name!r} must have shape {tuple(value.shape)}, got {tuple(tensors[name].shape)} "
                "(of another size of model or of images: model.input-size must be what it was "
                "trained with, 224 say, where positions are learnt)"
            )
    raise AssertionError("they are of one form")
