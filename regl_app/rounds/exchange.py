"""What server and client tell each other in a round, whatever carries it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from regl_app.core.finite import not_finite
from regl_app.core.types import Counts, Fact, Floats, Tensors, Weights
from regl_app.generator.adaptation.shared import SharedAdapter
from regl_app.supplement.image_quality import ImageQuality
from regl_app.supplement.payload import Payload


@dataclass(frozen=True)
class RoundTask:
    """What the server asks of a client; ``quotas`` (C,) is None where the client plans itself.

    ``payload`` holds images that the server made for the client, if it did; ``run`` tells this run
    from any other, also from one that had the same folder, ``run_dir``. ``received`` is the
    server's state of the run's method. ``adapter`` is the one that all clients have tuned, if they
    have.
    """

    round: int
    run_dir: str = ""
    quotas: Counts | None = None
    payload: Payload | None = None
    run: str = ""
    received: Tensors = field(default_factory=dict)
    adapter: SharedAdapter | None = None


@dataclass(frozen=True)
class RoundResult:
    """What of a client's round leaves it: see ``disclosure``.

    ``weights``, on the CPU, is None for a client without images: it takes no part in the average.
    ``num_examples`` is the weight in FedAvg: the images trained on, or the real ones among them
    (``server.weights``).
    ``held`` (C,) are this round's quotas, on which the server plans (policy ``discrepancy``);
    ``real_counts`` and ``synthetic_counts`` (C,) are diagnostics and absent where labels are
    private; ``noisy_counts`` (C,) are of all the client's images, under noise, where the run
    takes these.
    ``quality`` is that of the synthetic images, in rounds that measure it; private as labels are.
    ``adapter`` is the digest of the server's adapter, or of all clients', that the client keeps, ''
    if none. ``facts`` are numbers and texts for the run's history; ``sent`` is what the run's
    method sends beside the model.
    """

    partition_id: int
    round: int
    num_examples: int
    real_images: int
    loss: float
    weights: Weights | None
    discrepancy: Floats | None = None
    held: Counts | None = None
    real_counts: Counts | None = None
    synthetic_counts: Counts | None = None
    noisy_counts: Floats | None = None
    quality: ImageQuality | None = None
    adapter: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)
    sent: Tensors = field(default_factory=dict)


def diverged(result: RoundResult) -> str:
    """Return what of a result is no finite number, so that it cannot be averaged; '' if nothing."""
    if not math.isfinite(result.loss):
        return f"loss {result.loss}"
    for what, tensors in (("weights", result.weights or {}), ("method", result.sent)):
        if (name := not_finite(tensors)) is not None:
            return f"{what}[{name!r}] with NaN or infinity"
    return ""


@dataclass(frozen=True)
class Validation:
    """The global model on images that are held out to choose by, at least one, of equal weight."""

    images: int
    accuracy: float
    loss: float


@dataclass(frozen=True)
class EvaluationResult:
    """The global model on a client's own test set; all zero where that is empty.

    ``confusion`` (C, C) counts the classes that were taken for one another; absent where labels
    are private, or the server has test images of its own. ``validation`` is on the client's
    validation images, None without any.
    """

    partition_id: int
    round: int
    num_examples: int
    accuracy: float = 0.0
    macro_f1: float = 0.0
    loss: float = 0.0
    confusion: Counts | None = None
    validation: Validation | None = None
