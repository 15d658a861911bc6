"""What FID and KID compare images by: the run's classifier, or Inception v3.

Published FIDs are of one port of TensorFlow's Inception v3, which the package torch-fidelity
brings. torchvision's has other weights and another resizing: its distances rank images, but stand
beside no published one. Nor do those of a classifier.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from regl_app.config.supplement_sections import CLASSIFIER, TORCH_FIDELITY
from regl_app.core.errors import ConfigError
from regl_app.core.file_states import file_state
from regl_app.core.making_modules import MAKING_MODULES
from regl_app.core.unread_weights import UNREAD, is_out_of_addresses, is_pointer, why_unread
from regl_app.data.images import to_float
from regl_app.learning.evaluation.predict import apply_in_batches
from regl_app.learning.models.classifier import Classifier

Embed = Callable[[torch.Tensor], torch.Tensor]
"""uint8 images ``(N, C, H, W)`` -> features ``(N, D)`` float32 on the processor."""
_NO_PACKAGE = (
    f"supplement.distance={TORCH_FIDELITY!r} needs the package torch-fidelity, which this machine "
    "lacks (pip install 'regl-app[fid]', or take 'classifier')"
)
_SIDE = 299
_AT_ONCE = 32


def distance_features(distance: str, classifier: Classifier, device: torch.device | str) -> Embed:
    """Return the features that ``supplement.distance`` names.

    Args:
        distance: 'classifier', 'torch-fidelity', or the path of a safetensors file with
            torchvision's ``inception_v3`` weights.
        classifier: the run's own, untrained: the same at all clients.
        device: where they are computed.

    Raises:
        ConfigError: the file or the package is not there, or the file holds something else.
    """
    if distance == CLASSIFIER:
        return lambda images: apply_in_batches(classifier, classifier.features, images, device, 500)
    if distance == TORCH_FIDELITY:
        return functools.partial(_embedded, _published(), str(device))
    file = Path(distance).expanduser()
    state = file_state(file) if file.exists() else ""
    return functools.partial(_embedded, _torchvision(file, state), str(device))


def check_distance(distance: str) -> None:
    """Refuse before a round what ``distance_features`` would refuse amid one, as far as is known.

    Raises:
        ConfigError: the file or the package is not there, or the file holds something else.
    """
    if distance == TORCH_FIDELITY and importlib.util.find_spec("torch_fidelity") is None:
        raise ConfigError(_NO_PACKAGE)
    if distance not in ("none", CLASSIFIER, TORCH_FIDELITY):
        _check_file(Path(distance).expanduser())


@torch.no_grad()
def _embedded(model: nn.Module, device: str, images: torch.Tensor) -> torch.Tensor:
    """Return ``model``'s features; it is on ``device`` for this time alone."""
    coloured = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
    model.to(device)
    try:
        parts = [model(part.to(device)).float().cpu() for part in torch.split(coloured, _AT_ONCE)]
    finally:
        model.to("cpu")
    return torch.cat(parts)


class _Inception(nn.Module):
    """torchvision's Inception v3 up to its last pooling: 2048 features."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features ``(N, 2048)`` of uint8 ``(N, 3, H, W)``, resized to 299 pixels."""
        shown = functional.interpolate(
            to_float(images), size=(_SIDE, _SIDE), mode="bilinear", antialias=True
        )
        features: torch.Tensor = self.model(shown)
        return features


@functools.lru_cache(maxsize=1)
def _torchvision(file: Path, _state: str) -> nn.Module:
    _check_file(file)
    model = _unfilled()
    try:
        weights = load_file(file)
    except UNREAD as error:
        raise ConfigError(
            f"supplement.distance={str(file)!r} cannot be read: {why_unread(file, error)}"
        ) from error
    model.fc = nn.Identity()
    model.load_state_dict({name: weights[name] for name in model.state_dict()}, assign=True)
    return _Inception(model.float()).eval().requires_grad_(False)


def _check_file(file: Path) -> None:
    what = f"supplement.distance={str(file)!r}"
    remedy = (
        "save the weights of torchvision.models.inception_v3 by "
        "safetensors.torch.save_file(model.state_dict(), file), or take 'classifier'"
    )
    try:
        with safe_open(file, "np") as content:
            names = content.keys()
            shapes = {name: tuple(content.get_slice(name).get_shape()) for name in names}
    except (MemoryError, OSError, SafetensorError) as error:
        told = f"{error} ({remedy})"
        if is_out_of_addresses(error) or (file.is_file() and is_pointer(file)):
            told = why_unread(file, error)
        raise ConfigError(f"{what} cannot be read on this machine: {told}") from error
    wanted = {name: tuple(value.shape) for name, value in _unfilled().state_dict().items()}
    lacking = [name for name, shape in wanted.items() if shapes.get(name) != shape]
    if lacking and any(not name.startswith("fc.") for name in lacking):
        raise ConfigError(
            f"{what} holds no Inception v3 of torchvision: {lacking[0]} and {len(lacking) - 1} "
            f"more are absent or of another shape ({remedy})"
        )


def _unfilled() -> nn.Module:
    from torchvision.models import Inception3

    with MAKING_MODULES, torch.device("meta"):
        model: nn.Module = Inception3(aux_logits=False, init_weights=False)
    return model


@functools.lru_cache(maxsize=1)
def _published() -> nn.Module:
    from torchmetrics.image.fid import FrechetInceptionDistance

    try:
        # It also resizes as the published figures' code does. Fetches its weights once.
        with MAKING_MODULES:
            model: nn.Module = FrechetInceptionDistance(feature=2048).inception
    except ModuleNotFoundError as error:
        raise ConfigError(_NO_PACKAGE) from error
    except OSError as error:
        raise ConfigError(
            f"supplement.distance={TORCH_FIDELITY!r}: Inception's weights could not be fetched: "
            f"{error} (fetch them once where there is a network and bring ~/.cache/torch, or take "
            "'classifier')"
        ) from error
    return model.eval().requires_grad_(False)
