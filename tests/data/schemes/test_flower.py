"""Partitioners of flwr-datasets by name: what they make of the rows, and what they refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from regl_app.config.sections import PartitionConfig
from regl_app.core.errors import DataError
from regl_app.core.types import Indices
from regl_app.data.partition import partition_indices
from regl_app.data.row_facts import DataSetRows

LABELS = torch.arange(60) % 3
WRITERS = [f"w{number % 4}" for number in range(60)]
AGES = [float(number) for number in range(60)]
ROWS = DataSetRows(60, ("writer", "age"), lambda name: WRITERS if name == "writer" else AGES)


def parts_of(name: str, clients: int, **arguments: object) -> list[Indices]:
    config = PartitionConfig(scheme="flwr", partitioner=name, arguments=json.dumps(arguments))
    return partition_indices(LABELS, config, clients, 0, ROWS.all())


@pytest.mark.parametrize(
    ("name", "clients", "arguments"),
    [
        ("IidPartitioner", 4, {}),
        ("LinearPartitioner", 4, {}),
        ("SquarePartitioner", 4, {}),
        ("ExponentialPartitioner", 3, {}),
        ("DirichletPartitioner", 3, {"alpha": 5.0, "min_partition_size": 2}),
        ("InnerDirichletPartitioner", 2, {"partition_sizes": [20, 40], "alpha": 1.0}),
        ("PathologicalPartitioner", 3, {"num_classes_per_partition": 2}),
        ("ShardPartitioner", 3, {"num_shards_per_partition": 2}),
        ("SizePartitioner", 2, {"partition_sizes": [10, 50]}),
        ("NaturalIdPartitioner", 4, {"partition_by": "writer"}),
        ("GroupedNaturalIdPartitioner", 2, {"partition_by": "writer", "group_size": 2}),
        ("ContinuousPartitioner", 3, {"partition_by": "age", "strictness": 0.5}),
        (
            "DistributionPartitioner",
            3,
            {
                "distribution_array": [[0.5, 0.5, 1.0], [0.5, 0.5, 1.0], [0.5, 0.5, 1.0]],
                "num_unique_labels_per_partition": 3,
                "preassigned_num_samples_per_label": 1,
            },
        ),
    ],
)
def test_every_partitioner_of_rows_can_be_named(
    name: str, clients: int, arguments: dict[str, object]
) -> None:
    parts = parts_of(name, clients, **arguments)
    held = np.concatenate(parts)
    assert len(parts) == clients
    assert len(set(held.tolist())) == len(held) and 45 <= len(held) <= 60
    if name == "SizePartitioner":
        assert [len(part) for part in parts] == [10, 50]
    if name == "NaturalIdPartitioner":
        assert all(len({WRITERS[place] for place in part}) == 1 for part in parts)


def test_images_are_dealt_in_a_random_order() -> None:
    first = parts_of("IidPartitioner", 2)[0]
    assert set(LABELS[first].tolist()) == {0, 1, 2} and first.tolist() != list(range(0, 60, 2))


@pytest.mark.parametrize(
    ("name", "clients", "arguments", "message"),
    [
        ("Partitioner", 2, {}, r"must be one of ContinuousPartitioner, .* got 'Partitioner'"),
        ("VerticalEvenPartitioner", 2, {}, "must be one of"),
        ("os.system", 2, {}, "must be one of"),
        ("DirichletPartitoner", 2, {}, r"did you mean 'DirichletPartitioner'\?"),
        ("IidPartitioner", 2, {"alpha": 1}, r"has 'alpha', and IidPartitioner takes num_part"),
        ("DirichletPartitioner", 2, {}, "alpha"),
        ("DirichletPartitioner", 2, {"alpha": -1}, "alpha"),
        ("SizePartitioner", 3, {"partition_sizes": [10, 50]}, "makes 2 parts for 3 clients"),
        ("SizePartitioner", 2, {"partition_sizes": [10, 500]}, "partition"),
        ("NaturalIdPartitioner", 3, {"partition_by": "writer"}, "makes 4 parts for 3 clients"),
        ("NaturalIdPartitioner", 4, {"partition_by": "wirter"}, r"it has 'writer', 'age' .*mean"),
        ("IidPartitioner", 100, {}, "IidPartitioner"),
    ],
)
def test_what_a_partitioner_refuses_is_told_with_its_name(
    name: str, clients: int, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        parts_of(name, clients, **arguments)
