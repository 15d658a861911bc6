"""Measuring images tells, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from regl_app import RunConfig, federate
from regl_app.core.types import Scalar
from regl_app.data.images import ImageSet
from regl_app.rounds.client import Client
from regl_app.rounds.federate import Federated

SMALL: dict[str, Scalar] = {
    "method": "regl-free",
    "rounds": 3,
    "data.max-train": 600,
    "data.max-test": 40,
    "data.image-size": 16,
    "partition.beta": 5.0,
    "train.steps": 2,
    "model.width": 4,
    "probe.per-class": 1,
    "generator.steps": 1,
}


def _copies(client: Client, number: int) -> ImageSet:
    return client.data.train


def _run(cache: Path, **changes: Scalar) -> Federated:
    keys = {name.replace("__", "."): value for name, value in changes.items()}
    config = RunConfig.from_flat(SMALL | {"cache-dir": str(cache)} | keys)
    return federate(config, 2, own_images=_copies)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Federated:
    return _run(tmp_path_factory.mktemp("cache"))


def test_no_result_depends_on_it(measured: Federated, tmp_path: Path) -> None:
    plain = _run(tmp_path, supplement__measure=False)
    weights, same = measured.model.state_dict(), plain.model.state_dict()
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    for one, other in zip(measured.rounds, plain.rounds, strict=True):
        assert one.metrics == other.metrics
        for key, result in one.results.items():
            assert other.results[key].quality is None
            assert "measure" not in other.results[key].seconds
            told = {n: v for n, v in result.facts.items() if not n.startswith("images_")}
            assert told == dict(other.results[key].facts)


def test_rounds_1_2_and_4_measure_and_the_untrained_model_reads_nothing(
    measured: Federated,
) -> None:
    told = [set(each.results[0].facts) for each in measured.rounds[1:]]
    assert ["images_near_copies" in names for names in told] == [True, True, False]
    assert ["images_reading" in names for names in told] == [False, True, False]
    assert [each.results[0].quality is not None for each in measured.rounds[1:]] == [
        *(True, True, False)
    ]
    assert "measure" in measured.rounds[1].results[0].seconds


def test_who_copies_is_told_at_once(
    measured: Federated, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert measured.rounds[1].results[0].facts["images_near_copies"] == 1.0
    _run(tmp_path, rounds=1)
    assert "client 0: 100 % of its synthetic images are near-copies" in caplog.text


@pytest.mark.parametrize(
    ("changes", "by_class", "together"),
    [
        ({"share-diagnostics": False}, False, True),
        ({"share-diagnostics": False, "privacy.vector": "client"}, False, False),
        ({"share-diagnostics": False, "privacy.noise": 1.0, "rounds": 3}, False, False),
    ],
)
def test_classes_stay_private_where_label_counts_do(
    changes: dict[str, Scalar], by_class: bool, together: bool, tmp_path: Path
) -> None:
    found = _run(tmp_path, **({"method": "regl-dpd", "rounds": 1} | changes))
    result = found.rounds[1].results[0]
    assert (result.quality is not None) == by_class
    assert ("images_near_copies" in result.facts) == together


def test_distances_are_told_of_all_images_together_and_change_nothing(
    measured: Federated, tmp_path: Path
) -> None:
    found = _run(tmp_path, supplement__distance="classifier")
    told = found.rounds[1].results[0].facts
    # Of copies: unbiased for independent images, below zero where they are the same.
    assert -0.1 < told["images_kid"] <= 0
    assert "images_kid" not in measured.rounds[1].results[0].facts
    for one, other in zip(measured.rounds, found.rounds, strict=True):
        assert one.metrics == other.metrics
