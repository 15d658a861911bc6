"""What may leave a client, in one place: read this to know what the server can learn.

What is not decided here is always told: the local model but for what its method keeps
(``Method.shared``), what the method sends (``Method.finish``; CCVR: label counts, and mean and
covariance of each class's features), numbers of real and of all images trained on, the mean loss,
accuracy on the client's own test images, and seconds; in an evaluation also macro-F1, loss and the
number of test images, and accuracy, loss and number of the validation images; at first, which pool
the client could make. Where one adapter serves all clients, also what this one has tuned on its
images, B whole (``shared_adapter.tune_part``).
docs/secure.md has the table; its tests hold it against every message of real runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from regl_app.config import RunConfig
from regl_app.core.types import Counts, Fact, Floats
from regl_app.rounds.client import Client
from regl_app.rounds.exchange import RoundTask
from regl_app.rounds.lasting_noise import lasting_noise
from regl_app.supplement.image_quality import ImageQuality
from regl_app.supplement.privacy import (
    histogram_epsilon,
    is_released,
    noisy_histogram,
    privatize,
)


def shared_counts(config: RunConfig, counts: Counts) -> Counts | None:
    """Return images per class ``(C,)`` where diagnostics are shared, else None."""
    return counts if config.share_diagnostics else None


def shared_noisy_counts(client: Client) -> Floats | None:
    """Return the real images per class ``(C,)`` under noise, where the run takes these, else None.

    All of them, not only those trained on: what the epsilon is told for (``privacy``). The same
    whenever it is asked for, as often as that may be.
    """
    if not client.config.tells_noisy_counts:
        return None
    config, counts = client.config.privacy, client.data.label_counts(client.num_classes)
    random = (
        np.random.default_rng(client.seed("privacy", "histogram"))
        if config.reproducible
        else lasting_noise(client, counts.tolist(), config.histogram_noise)
    )
    return noisy_histogram(counts, config, random)


def shared_quotas(config: RunConfig, quotas: Counts) -> Counts | None:
    """Return the quotas ``(C,)`` the client filled, where the server goes on planning from them.

    They tell which classes the client lacks: under differential privacy they stay with it.
    """
    planned_by_server = config.measures_discrepancy and config.generates_at_client
    if planned_by_server and not config.plans_at_client and config.privacy.noise == 0:
        return quotas
    return None


def shared_discrepancy(
    client: Client, task: RoundTask, discrepancy: Floats | None
) -> Floats | None:
    """Return what the server learns of the discrepancy ``(C,)``: with noise, if any, or nothing.

    A round that is repeated, after a lost reply or by a resume, gets the answer that it got.
    """
    if discrepancy is None or not is_released(client.config, task.round):
        return None
    config = client.config.privacy
    # The run's seed is no secret: noise drawn from it hides nothing.
    random = (
        np.random.default_rng(client.seed("privacy", task.round))
        if config.reproducible
        else lasting_noise(
            client, "vector", task.run, task.round, discrepancy.tolist(), config.noise, config.clip
        )
    )
    return privatize(discrepancy, config, random)


def shared_facts(config: RunConfig, facts: Mapping[str, Fact]) -> Mapping[str, Fact]:
    """Return how the supplement went; nothing of it where the discrepancy is to be hidden.

    How many candidates there were tells how many classes were wanted.
    """
    return {} if config.hides_discrepancy else facts


def shared_quality(config: RunConfig, quality: ImageQuality | None) -> ImageQuality | None:
    """Return how good the synthetic images of each class are, where label counts are told too.

    It tells which classes a client has real images of, and of which it was given synthetic ones.
    """
    return quality if config.share_diagnostics else None


def shared_depth(client: Client) -> Mapping[str, Fact]:
    """Return by which scales a site read deep greyscale, where diagnostics are shared.

    Under ``data.depth=range`` these are the lowest and the highest value of its pictures.
    """
    depth = client.data.depth
    return {"depth": depth.text} if depth and client.config.share_diagnostics else {}


def cost_of_noisy_counts(config: RunConfig) -> Mapping[str, Fact]:
    """Return what the noisy label counts cost, for the history; nothing where none are sent."""
    if not config.tells_noisy_counts:
        return {}
    found = histogram_epsilon(config)
    return {"histogram_epsilon": "infinite" if math.isinf(found) else found}  # JSON has no infinity


def shares_confusion(config: RunConfig) -> bool:
    """Return whether a client counts its test images' classes and predictions for the server.

    Only where the server has no test images of its own, and diagnostics are shared.
    """
    return config.data.local and config.share_diagnostics


def shares_samples(config: RunConfig) -> bool:
    """Return whether sample pictures, real ones among them, go into a run folder at hand."""
    return config.share_diagnostics
