"""Any partitioner of flwr-datasets by its name, with arguments as its own pages have them."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from regl_app.config.partitioners import FILLED_IN, partitioner_problem, partitioners
from regl_app.config.sections import PartitionConfig
from regl_app.core.errors import DataError
from regl_app.core.types import Indices
from regl_app.data.schemes.rows import Rows

_ARRAYS = ("distribution_array",)


def flower(rows: Rows, config: PartitionConfig, clients: int, seed: int) -> list[Indices]:
    """Clients hold what ``partition.partitioner`` of flwr-datasets gives them.

    It is given the images in a random order, as rows of ``index``, ``label`` and the column that
    its ``partition_by`` names; ``num_partitions``, ``seed`` and ``partition_by='label'`` where it
    takes them and ``partition.arguments`` says nothing else. Images that it drops are nobody's.

    Raises:
        DataError: there is no such partitioner, it refuses its arguments or the data, or makes
            another number of parts than there are clients.
    """
    import datasets

    partitioner, arguments, what = _made(config, clients, seed)
    table: dict[str, Any] = {"index": rows.indices, "label": rows.labels}
    by = arguments.get("partition_by")
    if isinstance(by, str) and by not in table:
        table[by] = _column(rows, by)
    with _told_of(what):
        partitioner.dataset = datasets.Dataset.from_dict(table)
        made = int(partitioner.num_partitions)
        if made == clients:
            held = [partitioner.load_partition(client)["index"] for client in range(clients)]
    if made != clients:
        raise DataError(f"{what} makes {made} parts for {clients} clients (take {made} clients)")
    parts = [np.asarray(part, dtype=np.int64) for part in held]
    everything = np.concatenate(parts)
    if len(np.unique(everything)) < len(everything):
        raise DataError(f"{what} gives images to several clients (choose another)")
    return parts


def check(config: PartitionConfig, clients: int) -> None:
    """Make the partitioner for so many clients, without images.

    Raises:
        DataError: there is no such partitioner, or it refuses its arguments.
    """
    _made(config, clients, 0)


def _made(config: PartitionConfig, clients: int, seed: int) -> tuple[Any, dict[str, Any], str]:
    """Return the partitioner, its arguments, and what an error calls it with them."""
    if problem := partitioner_problem(config.partitioner, config.argument_values):
        raise DataError(problem)
    kind = partitioners()[config.partitioner]
    arguments = _arguments(kind, config.argument_values, clients, seed)
    what = f"partition.partitioner={config.partitioner!r} with {arguments}"
    with _told_of(what):
        return kind(**{k: _value(k, v) for k, v in arguments.items()}), arguments, what


@contextmanager
def _told_of(what: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        raise DataError(f"{what}: {error or type(error).__name__}") from error


def _arguments(kind: Any, given: Mapping[str, Any], clients: int, seed: int) -> dict[str, Any]:
    taken = inspect.signature(kind).parameters
    usual = dict(zip(FILLED_IN, (clients, seed % 2**32, "label"), strict=True))
    return {**{name: value for name, value in usual.items() if name in taken}, **given}


def _column(rows: Rows, name: str) -> list[Any]:
    facts = rows.known(f"partition.arguments with partition_by={name!r}")
    values = facts.whole.values(name)
    return [values[int(place)] for place in facts.places[rows.indices]]


def _value(name: str, value: Any) -> Any:
    return np.array(value) if name in _ARRAYS else value
