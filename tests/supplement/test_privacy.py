from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from regl_app.config import RunConfig
from regl_app.config.supplement_sections import PrivacyConfig
from regl_app.core.types import Floats, Scalar
from regl_app.data.client import ClientData
from regl_app.data.federation import Federation
from regl_app.data.images import ImageSet
from regl_app.data.read_pictures import PicturesRead
from regl_app.data.sources import site
from regl_app.rounds.client import Client
from regl_app.rounds.disclosure import cost_of_noisy_counts, shared_noisy_counts
from regl_app.supplement.privacy import (
    budget_words,
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


def test_noise_that_the_seed_takes_off_again_protects_nothing() -> None:
    keys: dict[str, Scalar] = {"privacy.reproducible": True}
    assert epsilon(config().updated(keys)) == math.inf
    assert epsilon(config(rounds=2).updated(keys)) == 0  # nothing is sent
    assert histogram_epsilon(config().updated(keys)) == 0
    noisy = config(teaching__head="experts", teaching__say="noisy").updated(keys)
    assert histogram_epsilon(noisy) == math.inf
    assert cost_of_noisy_counts(noisy) == {"histogram_epsilon": "infinite"}
    assert "taken off" in budget_words(noisy, histogram_epsilon(noisy))
    assert budget_words(noisy, 1.0149) == "(1.01, 1e-05)-differentially private"


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


NOISY: dict[str, Scalar] = {
    "teaching.head": "experts",
    "teaching.say": "noisy",
    "privacy.reproducible": True,
    "data.source": "site",
    "data.classes": ",".join(f"{label:03d}" for label in range(20)),
}


def site_of(config: RunConfig, counts: list[int]) -> ClientData:
    """Return a site of so many images per class, split as a run splits them."""
    labels = np.repeat(np.arange(len(counts)), counts)
    images = ImageSet(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), torch.tensor(labels))
    with pytest.MonkeyPatch.context() as patched:
        read = PicturesRead(images, np.arange(len(labels)))
        patched.setattr(site, "_read", lambda *_, **__: read)
        found = tuple((Path(f"{n}.png"), int(label)) for n, label in enumerate(labels))
        share = config.partition.test_fraction, config.validation.fraction
        files = site._Files(found, "", "")
        return site._read_and_split(files, None, "", config.data, 0, *share, None)[0]


def told_by(config: RunConfig, data: ClientData) -> Floats:
    source = cast(Any, SimpleNamespace(num_classes=20))
    told = shared_noisy_counts(
        Client(config, 0, source, data, torch.device("cpu"), Path(), "client 0")
    )
    assert told is not None
    return told


@given(
    counts=st.lists(st.integers(0, 8), min_size=20, max_size=20),
    one=st.integers(0, 19),
    other=st.integers(0, 19),
    most=st.sampled_from([0, 30]),
    validation=st.sampled_from([0.0, 0.2]),
)
@example([2] * 10 + [3] * 10, 0, 1, 0, 0.0)
def test_one_image_changes_what_noise_is_put_on_by_no_more_than_is_accounted_for(
    counts: list[int], one: int, other: int, most: int, validation: float
) -> None:
    """However a client's images are split: of the same noise, what is told differs by so much."""
    keys: dict[str, Scalar] = {"data.max-train": most, "validation.fraction": validation}
    assume(sum(counts) > 1 and counts[one] > 0 and one != other)
    config = RunConfig.from_flat({"share-diagnostics": False} | NOISY | keys)
    fewer = [n - (label == one) for label, n in enumerate(counts)]
    changed = [n + (label == other) for label, n in enumerate(fewer)]
    told = told_by(config, site_of(config, counts))
    assert np.linalg.norm(told - told_by(config, site_of(config, fewer))) == pytest.approx(1)
    swapped = np.linalg.norm(told - told_by(config, site_of(config, changed)))
    assert swapped == pytest.approx(math.sqrt(2))


def test_noise_is_put_on_all_images_of_a_clients_part() -> None:
    config = RunConfig.from_flat({"data.max-train": 200, "validation.fraction": 0.2})
    federation = Federation.load(config, 3)
    labels = federation.source.train.labels.numpy()
    for client, part in enumerate(federation.parts()):
        found = federation.client(client).label_counts(10)
        np.testing.assert_array_equal(found, np.bincount(labels[part], minlength=10))
