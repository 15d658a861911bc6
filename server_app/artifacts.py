"""After the last round: features for the report's t-SNE, and the report."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from regl_app.core.array_files import Array
from regl_app.core.errors import ReglError
from regl_app.core.log import logger
from regl_app.core.types import Weights
from regl_app.data.images import ImageSet
from regl_app.flower.messages.train import TrainReply
from regl_app.learning.evaluation.features import features
from regl_app.learning.evaluation.metrics import predict_log_probs
from regl_app.learning.models.classifier import Classifier
from regl_app.runs.features import FILE_NAME, save_features
from regl_app.runs.folder import RunFolder

SHOWN_IMAGES = 400
SHOWN_CLIENTS = 12
_COORDINATES = 50


def write_features(
    folder: RunFolder,
    model: Classifier,
    test: ImageSet,
    trained: Mapping[int, TrainReply],
    device: torch.device,
) -> None:
    """Write features.npz: some test images as the global and the last local models see them.

    Of the clients that shared their labels, those with the fewest classes are shown. None is there
    where the run went on after its last round: the file stays if it has been written by then.
    """
    if not trained:
        if (folder.path / FILE_NAME).is_file():
            return
        logger.warning(
            "%s is of the global model alone: the run went on after its last round, and no "
            "checkpoint has the clients' own models",
            FILE_NAME,
        )
    state = {key: value.detach().clone() for key, value in model.state_dict().items()}
    try:
        _write_features(folder, model, state, _spread(test, SHOWN_IMAGES), trained, device)
    except Exception as error:  # the model is safe already
        logger.error("no picture of the features: %s: %s", type(error).__name__, error)
    finally:
        model.load_state_dict(state)


def _write_features(
    folder: RunFolder,
    model: Classifier,
    state: Weights,
    some: ImageSet,
    trained: Mapping[int, TrainReply],
    device: torch.device,
) -> None:
    skew = [
        (int((reply.real_counts > 0).sum()), partition_id)
        for partition_id, reply in trained.items()
        if reply.real_counts is not None and reply.weights is not None
    ]
    view = _view(model, some, device)
    local = {}
    for _, partition_id in sorted(skew)[:SHOWN_CLIENTS]:
        model.load_state_dict({**state, **(trained[partition_id].weights or {})})
        local[partition_id] = _view(model, some, device)
    save_features(
        folder.path,
        features=view[0],
        labels=some.labels.numpy(),
        predictions=view[1],
        local=local,
    )


def make_report(folder: RunFolder) -> None:
    """Write report.html; a run that learned is not failed by its report, so errors are logged."""
    try:
        from regl_app.runs.report.build import build_report

        build_report([folder.path], folder.report)
    except (ReglError, OSError) as error:
        logger.error("no report: %s", error)
    except Exception as error:  # a drawing, say: where it broke is for us to know
        logger.error("no report: %s: %s", type(error).__name__, error, exc_info=error)


def _view(model: Classifier, images: ImageSet, device: torch.device) -> tuple[Array, Array]:
    predictions = predict_log_probs(model, images.pixels, device).argmax(dim=1).numpy()
    return _principal(features(model, images, device)), predictions


def _principal(view: Array) -> Array:
    """Return the first principal coordinates of ``(N, D)``, all that t-SNE is customarily given.

    A dozen clients' full features are tens of megabytes and took seconds to write.
    """
    from sklearn.decomposition import PCA

    if min(view.shape) <= _COORDINATES:
        return view
    pca = PCA(_COORDINATES, svd_solver="randomized", random_state=0)
    return np.asarray(pca.fit_transform(view), np.float32)


def _spread(images: ImageSet, most: int) -> ImageSet:
    """Return at most about ``most`` images, evenly over what may be sorted by class."""
    return images.subset(np.arange(0, len(images), max(1, -(-len(images) // most))))
