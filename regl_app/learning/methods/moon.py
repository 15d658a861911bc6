"""MOON (Li et al., 2021): features stay near the global model's, away from the client's last ones.

Choose it for many local steps on images rich enough that features, not the head, drift.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from regl_app.core.errors import RunError
from regl_app.core.types import Tensors
from regl_app.learning.methods.method import Batch, Local, Method
from regl_app.learning.models.classifier import Classifier


class Moon(Method):
    """``loss = cross_entropy + mu * contrast``, mu being ``train.moon-mu``.

    ``contrast = -log(e^(sim(z, z_glob) / t) / (e^(sim(z, z_glob) / t) + e^(sim(z, z_prev) / t)))``
    with cosine similarity of penultimate features ``z``, ``(N, D)``, and ``t`` the
    ``train.moon-temperature``. A client's first round has no previous model and no contrast: it
    would be the constant log 2, without a gradient, if the global model stood in for it. Ours: the
    paper's projection head is left out, so that all methods train one architecture.
    """

    def loss(self, model: nn.Module, batch: Batch, local: Local) -> torch.Tensor:
        """Return cross-entropy plus the model-contrastive term."""
        if not local.kept or self.train.moon_mu == 0:
            return super().loss(model, batch, local)
        if not isinstance(model, Classifier):
            raise RunError(f"objective 'moon' needs a Classifier, got {type(model).__name__}")
        features = model.features(batch.images)
        cross_entropy = self.cross_entropy(model.head(features).float(), batch, local)
        similar = [
            functional.cosine_similarity(features.float(), _features(other, batch.images))
            for other in (local.global_model, local.once(_previous))
        ]
        logits = torch.stack(similar, dim=1) / self.train.moon_temperature
        nearest = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        contrast = functional.cross_entropy(logits, nearest)
        return cross_entropy + self.train.moon_mu * contrast

    def finish(self, model: nn.Module, local: Local, steps: int) -> tuple[Tensors, Tensors]:
        """Keep the local model: the next round's previous one."""
        return model.state_dict(), {}


def _previous(local: Local) -> nn.Module:
    return local.frozen(local.kept)


@torch.no_grad()
def _features(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    assert isinstance(model, Classifier)
    return model.features(images).float()
