"""features.npz: what the models make of some test images, for the report's t-SNE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regl_app.core.array_files import Array, read_arrays, require, write_arrays
from regl_app.core.errors import RunError

FILE_NAME = "features.npz"


@dataclass(frozen=True)
class ModelFeatures:
    """One model's features ``(N, D)`` float32, whole or reduced, and predictions ``(N,)`` int64."""

    features: Array
    predictions: Array


@dataclass(frozen=True)
class FeaturesFile:
    """Test labels ``(N,)`` int64, the global model's view and maybe clients' local models'."""

    labels: Array
    global_model: ModelFeatures
    local_models: Mapping[int, ModelFeatures]


def save_features(
    run_dir: Path,
    *,
    features: Array,
    labels: Array,
    predictions: Array,
    local: Mapping[int, tuple[Array, Array]] | None = None,
) -> Path:
    """Write ``run_dir/features.npz``.

    ``features`` (N, D) and ``predictions`` (N,) are the global model's on test images with
    ``labels`` (N,), a few hundred of them. ``local`` adds, per client, the (features,
    predictions) of its model right after local training, on the same images.
    """
    arrays = {"labels": np.asarray(labels, np.int64)}
    views = {"global": (features, predictions)}
    views |= {f"client_{pid}": pair for pid, pair in (local or {}).items()}
    for name, (view, predicted) in views.items():
        arrays[f"{name}_features"] = np.asarray(view, np.float32)
        arrays[f"{name}_predictions"] = np.asarray(predicted, np.int64)
    path = run_dir / FILE_NAME
    _parse(path, arrays)  # never write what could not be read back
    write_arrays(path, arrays)
    return path


def load_features(run_dir: Path) -> FeaturesFile | None:
    """Return ``run_dir/features.npz``, None where the run has none.

    Raises:
        RunError: the file is damaged or its arrays do not fit together.
    """
    path = run_dir / FILE_NAME
    return _parse(path, read_arrays(path)) if path.is_file() else None


def _parse(path: Path, arrays: Mapping[str, Array]) -> FeaturesFile:
    labels = require(path, arrays, "labels", "int64", 1)
    local = {
        int(name.split("_")[1]): _view(path, arrays, name.removesuffix("_features"), len(labels))
        for name in arrays
        if name.startswith("client_") and name.endswith("_features")
    }
    return FeaturesFile(labels, _view(path, arrays, "global", len(labels)), local)


def _view(path: Path, arrays: Mapping[str, Array], name: str, size: int) -> ModelFeatures:
    features = require(path, arrays, f"{name}_features", "float32", 2)
    predictions = require(path, arrays, f"{name}_predictions", "int64", 1)
    if len(features) != size or len(predictions) != size:
        raise RunError(
            f"{path}: {name} has {len(features)} features and {len(predictions)} predictions "
            f"for {size} labels"
        )
    if not np.isfinite(features).all():
        raise RunError(f"{path}: {name}_features are not all finite")
    return ModelFeatures(features, predictions)
