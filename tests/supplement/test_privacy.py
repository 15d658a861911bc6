from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from regl_app.config import RunConfig
from regl_app.config.supplement_sections import PrivacyConfig
from regl_app.core.types import Scalar
from regl_app.supplement.privacy import (
    epsilon,
    histogram_epsilon,
    is_released,
    noisy_histogram,
    privatize,
)

D = np.array([0.6, -0.2, 0.0, 0.8])


def config(**keys: Scalar) -> RunConfig:
    flat = {"share-diagnostics": False, "privacy.noise": 4.0, "rounds": 10}
    named = {key.replace("__", ".").replace("_", "-"): v for key, v in keys.items()}
    return RunConfig.from_flat(flat | named)


def test_without_noise_the_vector_goes_out_as_it_is() -> None:
    plain = PrivacyConfig(clip=0.1)
    assert privatize(D, plain, np.random.default_rng(0)) is D


def test_noise_is_added_to_a_vector_of_bounded_length() -> None:
    keys = PrivacyConfig(clip=0.1, noise=0.5)
    draws = np.stack([privatize(D, keys, np.random.default_rng(seed)) for seed in range(4000)])
    np.testing.assert_allclose(draws.mean(axis=0), D * 0.1 / np.linalg.norm(D), atol=0.004)
    np.testing.assert_allclose(draws.std(axis=0), 0.05, rtol=0.05)
    short = privatize(0.01 * D, keys, np.random.default_rng(1))
    np.testing.assert_allclose(short - np.random.default_rng(1).normal(0, 0.05, 4), 0.01 * D)


def test_what_goes_out_is_a_valid_discrepancy() -> None:
    loud = PrivacyConfig(clip=1.0, noise=50.0)
    assert np.abs(privatize(D, loud, np.random.default_rng(0))).max() <= 1


def test_vectors_of_no_use_are_not_sent() -> None:
    private = config(rounds=4)
    assert [is_released(private, t) for t in (1, 2, 3, 4)] == [False, True, True, False]
    open_one = config(rounds=4, privacy__noise=0.0)
    assert all(is_released(open_one, t) for t in (1, 2, 3, 4))
    kept = config(rounds=4, privacy__noise=0.0, privacy__vector="client")
    assert not any(is_released(kept, t) for t in (1, 2, 3, 4))
    assert not is_released(RunConfig.from_flat({"method": "regl"}), 2)


@pytest.mark.parametrize("noise", [2.0, 8.0, 30.0])
def test_epsilon_is_just_above_the_exact_one_of_the_composed_mechanism(noise: float) -> None:
    # Balle and Wang 2018, theorem 8, with the root of the number of releases as composition.
    mu = 2 * math.sqrt(8) / noise

    def delta(value: float) -> float:
        one, other = norm.cdf(mu / 2 - value / mu), norm.cdf(-mu / 2 - value / mu)
        return float(one - math.exp(value) * other)

    exact = brentq(lambda value: delta(value) - 1e-5, 1e-6, 200)
    assert exact <= epsilon(config(privacy__noise=noise)) <= 1.25 * exact


@pytest.mark.parametrize(
    ("noise", "documented"), [(2.0, 16.5), (4.0, 7.1), (8.0, 3.2), (16.0, 1.5)]
)
def test_epsilons_are_those_of_the_documentation(noise: float, documented: float) -> None:
    assert round(epsilon(config(privacy__noise=noise)), 1) == documented


def test_epsilon_without_noise_or_without_a_vector() -> None:
    assert epsilon(config(privacy__noise=0.0)) == math.inf
    assert epsilon(config(privacy__noise=0.0, privacy__vector="client")) == 0
    assert epsilon(config(rounds=2)) == 0


def test_noise_on_a_histogram_is_of_the_size_that_is_told() -> None:
    keys, counts = PrivacyConfig(histogram_noise=3.0), np.array([0, 5, 100])
    draws = np.stack([noisy_histogram(counts, keys, np.random.default_rng(s)) for s in range(4000)])
    np.testing.assert_allclose(draws.mean(axis=0), counts, atol=0.2)
    np.testing.assert_allclose(draws.std(axis=0), 3.0, rtol=0.05)


@pytest.mark.parametrize(
    ("noise", "documented"), [(1.2, 3.84), (4.0, 1.01), (4.0 / 2**0.5, 1.48), (8.0, 0.48)]
)
def test_a_histograms_epsilon_is_that_of_the_documentation_and_above_the_exact_one(
    noise: float, documented: float
) -> None:
    keys: dict[str, Scalar] = {"teaching.head": "experts", "teaching.say": "noisy"}
    found = histogram_epsilon(config(privacy__histogram_noise=noise).updated(keys))
    assert round(found, 2) == documented
    # Balle and Wang 2018, theorem 8.
    one, other = norm.cdf(0.5 / noise - found * noise), norm.cdf(-0.5 / noise - found * noise)
    assert one - math.exp(found) * other <= 1e-5


def test_a_histogram_that_is_not_sent_costs_nothing() -> None:
    assert histogram_epsilon(config()) == 0
    assert histogram_epsilon(config(teaching__head="experts")) == 0  # guessed from updates
