"""Partitions: disjoint, complete, seeded, and robust where there is little data."""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regl_app.config.sections import PartitionConfig
from regl_app.core.errors import DataError
from regl_app.data.partition import partition_indices

Scheme = Literal["iid", "dirichlet", "pathological", "shard"]
SCHEMES: list[Scheme] = ["iid", "dirichlet", "pathological", "shard"]


def _labels(*per_class: int) -> torch.Tensor:
    return torch.repeat_interleave(torch.arange(len(per_class)), torch.tensor(per_class))


def _counts(
    labels: torch.Tensor, parts: list[npt.NDArray[np.int64]], classes: int
) -> npt.NDArray[np.int64]:
    return np.stack([np.bincount(labels.numpy()[part], minlength=classes) for part in parts])


@settings(max_examples=60, deadline=None)
@given(
    scheme=st.sampled_from(SCHEMES),
    labels=st.lists(st.integers(0, 6), max_size=60),
    clients=st.integers(1, 25),
    beta=st.sampled_from([1e-3, 0.01, 0.1, 1.0, 100.0]),
    per_client=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_partitions_are_disjoint_complete_sorted_and_seeded(
    scheme: Scheme, labels: list[int], clients: int, beta: float, per_client: int, seed: int
) -> None:
    if scheme == "pathological" and labels and per_client > len(set(labels)):
        per_client = len(set(labels))
    config = PartitionConfig(
        scheme=scheme, beta=beta, classes_per_client=per_client, shards_per_client=per_client
    )
    values = torch.tensor(labels, dtype=torch.int64)
    parts = partition_indices(values, config, clients, seed)
    again = partition_indices(values, config, clients, seed)

    assert len(parts) == clients
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for part, same in zip(parts, again, strict=True):
        assert np.array_equal(part, np.sort(part))
        assert np.array_equal(part, same)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_another_seed_gives_another_partition(scheme: Scheme) -> None:
    labels = _labels(*[40] * 10)
    config = PartitionConfig(scheme=scheme)
    one, two = (partition_indices(labels, config, 10, seed) for seed in (0, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_iid_clients_are_equal_in_size_and_mixed() -> None:
    labels = _labels(*[100] * 10)  # sorted by label: contiguous shards would be one class each
    counts = _counts(labels, partition_indices(labels, PartitionConfig(scheme="iid"), 10, 0), 10)
    assert counts.sum(axis=1).tolist() == [100] * 10
    assert counts.min() > 0


def test_dirichlet_skew_follows_beta() -> None:
    labels = _labels(*[200] * 10)

    def largest_share(beta: float) -> float:
        config = PartitionConfig(scheme="dirichlet", beta=beta)
        shares = [
            (_counts(labels, partition_indices(labels, config, 10, seed), 10) / 200).max(axis=0)
            for seed in range(5)
        ]
        return float(np.mean(shares))

    extreme, strong, mild = map(largest_share, (0.01, 0.1, 10.0))
    assert extreme > 0.9 > strong > mild
    assert mild < 0.25


def test_pathological_clients_hold_the_classes_they_may() -> None:
    labels = _labels(*[50] * 10)
    config = PartitionConfig(scheme="pathological", classes_per_client=2)
    counts = _counts(labels, partition_indices(labels, config, 10, 3), 10)
    assert ((counts > 0).sum(axis=1) == 2).all()


def test_classes_nobody_drew_are_adopted_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    labels = _labels(*[10] * 10)
    config = PartitionConfig(scheme="pathological", classes_per_client=2)
    with caplog.at_level(logging.WARNING, logger="regl"):
        parts = partition_indices(labels, config, 2, 0)
    assert sum(map(len, parts)) == 100
    assert abs(len(parts[0]) - len(parts[1])) <= 20
    assert "drawn by none of the 2 clients" in caplog.text


def test_shards_limit_the_classes_of_a_client() -> None:
    labels = _labels(*[63] * 10)  # 630 images don't divide by 20 shards
    config = PartitionConfig(scheme="shard", shards_per_client=2)
    counts = _counts(labels, partition_indices(labels, config, 10, 0), 10)
    assert (counts > 0).sum(axis=1).max() <= 4  # a shard spans at most two labels
    assert counts.sum(axis=1).max() - counts.sum(axis=1).min() <= 4


def test_more_classes_per_client_than_classes_names_the_key() -> None:
    config = PartitionConfig(scheme="pathological", classes_per_client=4)
    with pytest.raises(DataError, match=r"partition\.classes-per-client must be <= 3.*got 4"):
        partition_indices(_labels(5, 5, 5), config, 3, 0)


@pytest.mark.parametrize(
    ("dealt", "said"),
    [
        ([[0, 1], [1, 2]], "1 of them, image 1 first, more often"),
        ([[0, 0], [2]], "1 of them, image 0 first, more often"),
        ([[0], [4]], "whole numbers from 0"),
        ([[-1], [2]], "whole numbers from 0"),
        ([[0.5], [2]], "whole numbers from 0"),
        ([[0]], "it dealt to 1"),
    ],
    ids=["two clients'", "twice one's", "too many", "negative", "broken", "too few clients"],
)
def test_an_own_scheme_must_deal_an_image_once(
    dealt: list[list[float]], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [np.array(each) for each in dealt]
    monkeypatch.setattr("regl_app.data.schemes.iid.iid", lambda *_: parts)
    with pytest.raises(DataError, match=said):
        partition_indices(_labels(2, 2), PartitionConfig(scheme="iid"), 2, 0)


def test_an_own_scheme_may_leave_clients_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [np.array([]), np.array([2, 0])]
    monkeypatch.setattr("regl_app.data.schemes.iid.iid", lambda *_: parts)
    found = partition_indices(_labels(2, 2), PartitionConfig(scheme="iid"), 2, 0)
    assert [part.tolist() for part in found] == [[], [0, 2]]


def test_no_client_is_refused() -> None:
    with pytest.raises(DataError, match="number of clients must be >= 1, got 0"):
        partition_indices(_labels(5, 5), PartitionConfig(), 0, 0)
