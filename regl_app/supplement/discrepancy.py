"""What a client lacks, measured: where the global model is surer of a class than the local one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from regl_app.core.errors import DivergedError, ProtocolError
from regl_app.core.types import Floats


def class_discrepancy(
    log_p_global: npt.ArrayLike, log_p_local: npt.ArrayLike, labels: npt.ArrayLike, num_classes: int
) -> Floats:
    """Return the per-class prediction discrepancy d, ``(C,)`` in [-1, 1].

    FedDPD compares models on synthetic samples; per class this is::

        d[c] = mean over probe images x of class c of  1[p_G(c|x) > 1/C] * (p_G(c|x) - p_L(c|x))

    Positive: the global model knows class c better than this client does, so the client lacks
    it. The confidence gate ``p_G > 1/C`` keeps images out that the global model itself cannot
    read; they count as zero. A class without probe images has d = 0.

    Args:
        log_p_global: log-probabilities of the global model, ``(N, C)``.
        log_p_local: log-probabilities of the local model on the same images, ``(N, C)``.
        labels: classes of the probe images, ``(N,)``.
        num_classes: C.

    Raises:
        ProtocolError: shapes disagree.
        DivergedError: a value is NaN.
    """
    y = np.asarray(labels, dtype=np.int64)
    log_g = np.asarray(log_p_global, dtype=np.float64)
    log_l = np.asarray(log_p_local, dtype=np.float64)
    for name, values in (("log_p_global", log_g), ("log_p_local", log_l)):
        if values.shape != (len(y), num_classes):
            raise ProtocolError(f"{name} must be {(len(y), num_classes)}, got {values.shape}")
        if np.isnan(values).any():
            raise DivergedError(f"{name} holds NaN: the model has diverged (lower train.lr)")
    rows = np.arange(len(y))
    p_global, p_local = np.exp(log_g[rows, y]), np.exp(log_l[rows, y])
    gap = np.where(p_global > 1.0 / num_classes, p_global - p_local, 0.0)
    images = np.bincount(y, minlength=num_classes)
    return np.bincount(y, weights=gap, minlength=num_classes) / np.maximum(images, 1)
