"""Partitions that are drawn: equal sizes, skewed sizes, a least size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regl_app.config.sections import PartitionConfig
from regl_app.core.errors import DataError
from regl_app.core.types import Counts, Indices
from regl_app.data.partition import partition_indices


def labels_of(*per_class: int) -> torch.Tensor:
    return torch.repeat_interleave(torch.arange(len(per_class)), torch.tensor(per_class))


def parts_of(labels: torch.Tensor, clients: int, seed: int = 0, **keys: object) -> list[Indices]:
    return partition_indices(labels, PartitionConfig.model_validate(keys), clients, seed)


def counts_of(labels: torch.Tensor, parts: list[Indices]) -> Counts:
    classes = int(labels.max()) + 1
    return np.stack([np.bincount(labels.numpy()[part], minlength=classes) for part in parts])


@settings(max_examples=60, deadline=None)
@given(
    scheme=st.sampled_from(["dirichlet-balanced", "quantity", "dirichlet"]),
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=60),
    clients=st.integers(1, 25),
    beta=st.sampled_from([1e-3, 0.01, 0.5, 100.0]),
    seed=st.integers(0, 2**31),
)
def test_all_images_are_dealt_once_whatever_the_numbers(
    scheme: str, labels: list[int], clients: int, beta: float, seed: int
) -> None:
    values = torch.tensor(labels, dtype=torch.int64)
    parts = parts_of(values, clients, seed, scheme=scheme, beta=beta)
    again = parts_of(values, clients, seed, scheme=scheme, beta=beta)
    assert len(parts) == clients
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    if scheme == "dirichlet-balanced":
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1


@settings(max_examples=30, deadline=None)
@given(
    scheme=st.sampled_from(["quantity", "dirichlet"]),
    per_class=st.lists(st.integers(20, 40), min_size=1, max_size=5),
    clients=st.integers(1, 4),
    least=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_no_client_has_fewer_than_the_least_size(
    scheme: str, per_class: list[int], clients: int, least: int, seed: int
) -> None:
    labels = labels_of(*per_class)
    parts = parts_of(labels, clients, seed, scheme=scheme, beta=0.5, min_size=least)
    assert min(map(len, parts)) >= least
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))


def test_equal_sizes_leave_the_skew_of_labels_to_beta() -> None:
    labels = labels_of(*[100] * 10)

    def largest_share(beta: float) -> float:
        parts = parts_of(labels, 10, scheme="dirichlet-balanced", beta=beta)
        return float((counts_of(labels, parts) / 100).max(axis=1).mean())

    extreme, strong, mild = map(largest_share, (0.01, 0.3, 100.0))
    # Not 1: where several clients draw one class, it is soon gone.
    assert extreme > strong > 0.4 > 0.2 > mild
    mixed = counts_of(labels, parts_of(labels, 10, scheme="dirichlet-balanced", beta=1000.0))
    assert mixed.min() > 0


def test_quantity_skews_sizes_and_not_labels() -> None:
    labels = labels_of(*[500] * 4)
    parts = parts_of(labels, 5, seed=3, scheme="quantity", beta=0.5)
    sizes = np.array([len(part) for part in parts])
    assert sizes.max() > 4 * sizes.min()
    shares = counts_of(labels, parts)[sizes > 150] / sizes[sizes > 150, None]
    assert len(shares) > 1 and np.abs(shares - 0.25).max() < 0.1
    even = [len(part) for part in parts_of(labels, 5, scheme="quantity", beta=1e6)]
    assert max(even) - min(even) < 10


def test_a_client_with_its_share_gets_nothing_of_later_classes() -> None:
    labels = labels_of(*[50] * 10)
    sizes = [
        len(part)
        for seed in range(5)
        for part in parts_of(labels, 5, seed, scheme="dirichlet", beta=0.1, min_size=10)
    ]
    assert max(sizes) < 100 + 50  # its share, less one, and the class that fills it
    assert min(sizes) >= 10


def test_a_least_size_that_cannot_be_had_is_refused_with_the_numbers() -> None:
    labels = labels_of(10, 10)
    with pytest.raises(DataError, match=r"min-size=6 for 4 clients needs 24 .* there are 20 .*5\)"):
        parts_of(labels, 4, scheme="quantity", min_size=6)
    with pytest.raises(DataError, match=r"not drawn for all of 4 .*beta=0\.01: the best had \d"):
        parts_of(labels, 4, scheme="quantity", beta=0.01, min_size=5)


def test_one_class_alone_is_dealt_too() -> None:
    labels = labels_of(12)
    for scheme in ("dirichlet-balanced", "quantity", "dirichlet"):
        parts = parts_of(labels, 3, scheme=scheme, beta=1.0)
        assert sorted(np.concatenate(parts).tolist()) == list(range(12))
