"""The partitioners of flwr-datasets by name, and what their arguments may be."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from regl_app.core.near_names import close_to

# Of columns, not of rows; of a function, which no key can hold; the base of all.
_UNFIT = {"VerticalEvenPartitioner", "VerticalSizePartitioner", "IdToSizeFncPartitioner"}
FILLED_IN = ("num_partitions", "seed", "partition_by")
"""What a run says itself where a partitioner takes it and ``partition.arguments`` has none."""


@lru_cache(maxsize=1)
def partitioners() -> Mapping[str, Any]:
    """Return the classes that a run may name; the package is imported only by who asks."""
    from flwr_datasets import partitioner

    found = {name: getattr(partitioner, name) for name in sorted(partitioner.__all__)}
    return MappingProxyType(
        {
            name: kind
            for name, kind in found.items()
            if name not in _UNFIT and not inspect.isabstract(kind)
        }
    )


def partitioner_problem(name: str, given: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a partitioner's name or its arguments' names, with the remedy."""
    known = partitioners()
    if name not in known:
        return (
            f"partition.partitioner must be one of {', '.join(known)}, got {name!r}"
            f"{close_to(name, tuple(known))}"
        )
    taken = inspect.signature(known[name]).parameters
    if unknown := [key for key in given if key not in taken]:
        return (
            f"partition.arguments has {unknown[0]!r}, and {name} takes "
            f"{', '.join(taken)}{close_to(unknown[0], tuple(taken))}"
        )
    needed = [key for key, each in taken.items() if each.default is inspect.Parameter.empty]
    if missing := [key for key in needed if key not in (*given, *FILLED_IN)]:
        told = ", ".join(f'"{key}": ...' for key in missing)
        return (
            f"partition.partitioner={name!r} needs {', '.join(map(repr, missing))} (set "
            f"partition.arguments='{{{told}}}')"
        )
    return None
