"""The two models whose disagreement says what a client lacks (FedDPD)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from regl_app.core.digests import digest_of_tensors
from regl_app.core.types import Indices
from regl_app.data.images import ImageSet
from regl_app.generator.discrepancy_guidance import Gap, log_gap
from regl_app.learning.evaluation.predict import predict_log_probs
from regl_app.learning.models.classifier import Classifier
from regl_app.supplement.selection import PairPredictions


@dataclass(frozen=True)
class ModelPair:
    """The global model and a client's last local one; both are frozen and only evaluated.

    ``on_pool``: their predictions on the whole shared pool, where these are known already.
    """

    global_model: Classifier
    local_model: Classifier
    device: torch.device
    on_pool: PairPredictions | None = None

    def __post_init__(self) -> None:
        for model in (self.global_model, self.local_model):
            model.to(self.device).eval().requires_grad_(False)

    @cached_property
    def digest(self) -> str:
        """Return what identifies both models' weights."""
        models = (self.global_model, self.local_model)
        return digest_of_tensors(
            named for model in models for named in model.state_dict().items()
        ).hex()

    def predictions(self, images: ImageSet) -> PairPredictions:
        """Return both models' log-probabilities of ``images``."""
        log_probs = [
            predict_log_probs(model, images.images, self.device).numpy().astype(np.float64)
            for model in (self.global_model, self.local_model)
        ]
        return PairPredictions(log_probs[0], log_probs[1], images.labels.numpy())

    def of_pool(self, images: ImageSet, indices: Indices | None = None) -> PairPredictions:
        """Return both models' predictions on ``images`` of the shared pool.

        Args:
            images: those at ``indices``.
            indices: where they are in the pool, ``(N,)``; None: all of it.
        """
        if self.on_pool is None:
            return self.predictions(images)
        return self.on_pool if indices is None else self.on_pool.at(indices)

    def gap(self) -> Gap:
        """Return ``log p_G(y|x) - log p_L(y|x)``, differentiable in x."""
        return log_gap(self.global_model, self.local_model)
