"""Differential privacy of what betrays a client's labels: discrepancy vector, label histogram.

Each client perturbs its own vector (local differential privacy): whatever a client's data are, its
vector lies in a ball of radius ``clip``, and any two vectors are at most ``2 * clip`` apart. The
epsilon counts one answer per round. Asked again for the same round a client says the same, as long
as it comes to the same vector (``disclosure``).
The histogram is perturbed once. It is of all the client's images, before any is held out to test or
to choose by, so that one image more or less changes it by length 1: that epsilon is an image's, not
a client's. Nothing else in a reply is protected by this.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from regl_app.config import RunConfig
from regl_app.config.supplement_sections import PrivacyConfig
from regl_app.core.types import Counts, Floats

PER_IMAGE = " for one image more or less"
"""Whose epsilon that of the label counts is, in ``budget_words``."""


def is_released(config: RunConfig, round_number: int) -> bool:
    """Return whether a client's vector of this round leaves it: only where it is of any use.

    The first round compares with an untrained model and no plan follows the last one.
    """
    if not config.measures_discrepancy or config.privacy.vector != "server":
        return False
    return config.privacy.noise == 0 or 2 <= round_number < config.rounds


def releases(config: RunConfig) -> int:
    """Return how many vectors a client that trains in every round sends."""
    return sum(is_released(config, number) for number in range(1, config.rounds + 1))


def privatize(discrepancy: Floats, config: PrivacyConfig, random: np.random.Generator) -> Floats:
    """Return the vector ``(C,)`` as it may leave the client (the Gaussian mechanism).

    ``clamp(d * min(1, clip / |d|) + N(0, (noise * clip)^2))``, the clamp to [-1, 1] being
    post-processing; without noise, the vector itself.
    """
    if config.noise == 0:
        return discrepancy
    norm = float(np.linalg.norm(discrepancy))
    clipped = discrepancy * min(1.0, config.clip / max(norm, 1e-12))
    noise = random.normal(0.0, config.noise * config.clip, discrepancy.shape)
    return np.clip(clipped + noise, -1.0, 1.0)


def epsilon(config: RunConfig) -> float:
    """Return the epsilon, at ``privacy.delta``, of all vectors a client sends in a run.

    By Flower's own accountant, for a client that trains in every round. Infinite without noise or
    where it is drawn from the run's seed, which all parties know; 0 where no vector is sent.
    """
    sent = releases(config)
    if sent == 0:
        return 0.0
    if config.privacy.noise == 0 or config.privacy.reproducible:
        return math.inf
    # The accountant's unit sensitivity is the distance of two vectors.
    return _accounted(config.privacy.noise / 2, config.privacy.delta, sent)


def noisy_histogram(counts: Counts, config: PrivacyConfig, random: np.random.Generator) -> Floats:
    """Return label counts ``(C,)`` as they may leave the client: ``n + N(0, histogram_noise^2)``.

    ``counts`` are of all its images: a split would let one image change many. Not clamped:
    whoever receives them does that.
    """
    return counts + random.normal(0.0, config.histogram_noise, counts.shape)


def histogram_epsilon(config: RunConfig) -> float:
    """Return the epsilon, at ``privacy.delta``, of a client's noisy label counts; 0 if not sent.

    Of one image more or less, which changes one count by one. A changed label changes two, a
    length of sqrt(2): ``histogram_noise / sqrt(2)`` has that epsilon. Infinite where the noise is
    drawn from the run's seed.
    """
    if not config.tells_noisy_counts:
        return 0.0
    if config.privacy.reproducible:
        return math.inf
    return _accounted(config.privacy.histogram_noise, config.privacy.delta, 1)


def budget_words(config: RunConfig, found: float, neighbours: str = "") -> str:
    """Return in words what an epsilon ``found`` promises for ``neighbours``."""
    if math.isinf(found):
        return (
            "not private, epsilon is infinite: the noise can be taken off by the seed "
            "(privacy.reproducible)"
        )
    return f"({found:.2f}, {config.privacy.delta:g})-differentially private{neighbours}"


@cache
def _accounted(multiplier: float, delta: float, releases: int) -> float:
    """Return the epsilon of ``releases`` by Flower's accountant.

    ``multiplier`` is the noise's standard deviation over what one can change.
    """
    # A named exception to "only flower/ imports flwr": an accountant of our own would be one more
    # thing to trust. Imported here, as only runs with noise need it, by Flower's public door.
    from flwr import serverapp as flower

    # One client, no sampling.
    alone = flower.PrivacyConfig(
        delta,
        1,
        flower.NeighboringRelation.ADD_OR_REMOVE_ONE,
        flower.SamplingMethod.NO_AMPLIFICATION,
    )
    accountant = flower.RdpAccountant(alone)
    accountant.compose(flower.GaussianPrivacyEvent(multiplier, 1, 1), releases)
    return float(accountant.get_epsilon(delta))
