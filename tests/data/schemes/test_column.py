"""Partitions by a column: each value at one client, and what is refused."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
import pytest
import torch

from regl_app.config.sections import PartitionConfig
from regl_app.core.errors import DataError
from regl_app.core.types import Indices
from regl_app.data.partition import partition_indices
from regl_app.data.row_facts import DataSetRows, RowFacts

BY_WRITER = PartitionConfig(scheme="column", column="writer")


def facts_of(values: list[Any], places: list[int] | None = None) -> RowFacts:
    rows = DataSetRows(len(values), ("writer",), lambda _: values)
    return rows.all() if places is None else rows.at(np.array(places))


def parts_of(facts: RowFacts, clients: int, seed: int = 0) -> list[Indices]:
    labels = torch.arange(len(facts.places)) % 2
    return partition_indices(labels, BY_WRITER, clients, seed, facts)


def test_clients_are_the_values_in_their_order() -> None:
    facts = facts_of(["b", "ä", "b", "a", "b"])
    assert [part.tolist() for part in parts_of(facts, 3)] == [[3], [0, 2, 4], [1]]


def test_numbers_are_ordered_as_numbers() -> None:
    texts: list[list[Any]] = [["10", "9", "10"], ["10.0", "9.0", "10.0"], ["10.0", "9", "10"]]
    for values in ([10, 9, 10], *texts, [10.0, 9.0, 10.0], np.array([10, 9, 10])):
        assert [part.tolist() for part in parts_of(facts_of(list(values)), 2)] == [[1], [0, 2]]


def test_one_name_in_two_spellings_of_unicode_is_one_client() -> None:
    composed, apart = (unicodedata.normalize(form, "Zoé") for form in ("NFC", "NFD"))
    parts = parts_of(facts_of([composed, apart, "日本"]), 2)
    assert [part.tolist() for part in parts] == [[0, 1], [2]]


def test_fewer_clients_than_values_get_whole_values_as_many_as_one_another() -> None:
    values = [f"w{number % 7}" for number in range(70)]
    parts = parts_of(facts_of(values), 3)
    held = [{values[place] for place in part} for part in parts]
    assert sorted(map(len, held)) == [2, 2, 3]
    assert set.union(*held) == set(values) and sum(map(len, held)) == 7
    assert sorted(np.concatenate(parts).tolist()) == list(range(70))
    others = parts_of(facts_of(values), 3, seed=1)
    assert any(not np.array_equal(a, b) for a, b in zip(parts, others, strict=True))


def test_more_clients_than_values_are_refused_with_the_count() -> None:
    with pytest.raises(DataError, match=r"'writer' has 2 values, too few for 3 .*at most 2"):
        parts_of(facts_of(["a", "b", "a"]), 3)


def test_only_images_of_the_run_count() -> None:
    facts = facts_of(["a", "b", "c", None], places=[2, 0])
    assert [part.tolist() for part in parts_of(facts, 2)] == [[1], [0]]


@pytest.mark.parametrize("empty", [None, float("nan"), "", "  ", [1], {"a": 1}])
def test_images_without_a_value_are_named(empty: Any) -> None:
    with pytest.raises(DataError, match=r"1 of 3 images have no value .*\(row 1\)"):
        parts_of(facts_of(["a", empty, "b"]), 2)


def test_an_absent_column_names_those_there_are() -> None:
    rows = DataSetRows(2, ("writer_id", "age"), lambda _: [1, 2])
    with pytest.raises(DataError, match=r"'writer' is not .* it has 'writer_id', 'age' .*mean"):
        partition_indices(torch.tensor([0, 1]), BY_WRITER, 2, 0, rows.all())
    with pytest.raises(DataError, match="no columns beside"):
        partition_indices(torch.tensor([0, 1]), BY_WRITER, 2, 0, DataSetRows(2).all())
    with pytest.raises(DataError, match="more of the images than their labels"):
        partition_indices(torch.tensor([0, 1]), BY_WRITER, 2, 0)
