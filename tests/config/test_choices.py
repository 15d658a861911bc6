"""The tables of choices: what they name is there, and keys take exactly their names."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from flwr.serverapp.strategy import Strategy

from regl_app.config import RunConfig, choices, flat_fields
from regl_app.config.choices import (
    ADAPTERS,
    LABELS,
    METHODS,
    MODELS,
    POLICIES,
    SAYS,
    SCHEDULES,
    SCHEMES,
    SITES,
    SOURCES,
    STRATEGIES,
)
from regl_app.config.one_of import OneOf
from regl_app.config.presets import PRESETS
from regl_app.core.dotted import resolve
from regl_app.core.errors import ConfigError
from regl_app.learning.methods import Method
from regl_app.learning.models import Classifier

TABLES: dict[str, Mapping[str, Any]] = {
    "method": PRESETS,
    "objective": METHODS,
    "partition.scheme": SCHEMES,
    "model.name": MODELS,
    "supplement.schedule": SCHEDULES,
    "data.source": SOURCES,
    "supplement.policy": POLICIES,
    "supplement.adapter": ADAPTERS,
    "supplement.site": SITES,
    "server.strategy": STRATEGIES,
    "labels.by": LABELS,
    "teaching.say": SAYS,
}
CLOSED = {key: table for key, table in TABLES.items() if key != "model.name"}
"""What takes nothing but its table's names."""
PARAMETERS = {"partition.scheme": 4, "supplement.schedule": 1, "teaching.say": 3}
IMPLEMENTED = [
    (key, name, entry)
    for key, table in TABLES.items()
    for name, entry in table.items()
    if hasattr(entry, "implementation")
]


@pytest.mark.parametrize(
    ("key", "name", "entry"), IMPLEMENTED, ids=[f"{key}={name}" for key, name, _ in IMPLEMENTED]
)
def test_every_implementation_can_be_imported(key: str, name: str, entry: Any) -> None:
    found = resolve(entry.implementation)
    base = {"objective": Method, "server.strategy": Strategy, "model.name": Classifier}.get(key)
    if base is not None:
        assert issubclass(found, base)
    elif key in PARAMETERS:
        assert len(inspect.signature(found).parameters) == PARAMETERS[key]
    else:
        taken = ["config", *["roots"] * entry.links]
        assert list(inspect.signature(found).parameters) == [*taken, *["store"] * entry.stores]
        if entry.files:
            assert list(inspect.signature(resolve(entry.files)).parameters) == taken


def test_the_tables_import_nothing_of_ours_and_nothing_heavy() -> None:
    tree = ast.parse(Path(str(choices.__file__)).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules == {"__future__", "collections.abc", "dataclasses", "types"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]


@pytest.mark.parametrize(("key", "table"), CLOSED.items())
def test_a_key_takes_the_names_of_its_table(key: str, table: Mapping[str, Any]) -> None:
    (offered,) = [m for m in dict(flat_fields(RunConfig))[key].metadata if isinstance(m, OneOf)]
    assert [name for name in offered.names if name != "auto"] == list(table)


@pytest.mark.parametrize(("key", "table"), CLOSED.items())
@pytest.mark.parametrize("wrong", ["nothing", 3, None, True, ["a"]])
def test_a_wrong_name_reads_as_that_of_any_choice(
    key: str, table: Mapping[str, Any], wrong: Any
) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_flat({key: wrong})
    *_, before, last = table
    assert f"{key} must be one of '" in str(caught.value)
    assert f"{before!r} or {last!r}, got {wrong!r}" in str(caught.value)


def test_presets_name_choices() -> None:
    for preset in PRESETS.values():
        assert preset.policy in POLICIES
        assert preset.adapter in ADAPTERS
        assert preset.site in SITES
        assert preset.objective in METHODS


def test_what_dpo_starts_from_is_an_adapter() -> None:
    (start,) = [field for key, field in flat_fields(RunConfig) if key == "dpo.start"]
    assert set(start.annotation.__args__) <= set(ADAPTERS)


@pytest.mark.parametrize(
    ("flat", "fact", "value"),
    [
        ({"method": "regl"}, "adapts_to_client_images", True),
        ({"method": "regl-free"}, "adapts_to_client_images", False),
        ({"method": "regl-shared"}, "adapts_to_client_images", True),
        ({"method": "regl-shared"}, "shares_adapter", True),
        ({"method": "regl-shared"}, "needs_generator_at_server", True),
        ({"method": "regl-shared"}, "generates_at_server", False),
        ({"method": "fedavg", "teaching.first-steps": 9}, "needs_generator", True),
        ({"method": "fedavg", "teaching.first-steps": 9}, "needs_generator_at_server", True),
        ({"method": "fedavg", "teaching.first-steps": 9}, "uses_generator", False),
        ({"method": "regl", "teaching.first-steps": 9}, "generates_at_server", True),
        ({"method": "regl", "teaching.first-steps": 9}, "supplements_at_server", False),
        ({"method": "regl"}, "shares_adapter", False),
        ({"method": "regl"}, "needs_generator_at_server", False),
        ({"method": "feddpd"}, "adapts_to_client_images", False),
        ({"supplement.adapter": "dpo", "dpo.start": "lora"}, "adapts_to_client_images", True),
        ({"supplement.adapter": "lora", "dpo.start": "frozen"}, "adapts_to_client_images", True),
        ({"supplement.adapter": "guidance", "dpo.start": "lora"}, "adapts_to_client_images", False),
        ({"method": "feddpd"}, "generates_from_pool", True),
        ({"method": "feddpd", "supplement.adapter": "frozen"}, "generates_from_pool", True),
        ({"method": "feddpd", "supplement.adapter": "guidance"}, "generates_from_pool", False),
        ({"supplement.selection": "none", "method": "regl-free"}, "generates_from_pool", False),
        ({"supplement.adapter": "guidance"}, "compares_models", True),
        ({"supplement.adapter": "dpo"}, "compares_models", True),
        ({"method": "regl"}, "compares_models", False),
        ({"method": "regl", "supplement.selection": "discrepancy"}, "compares_models", True),
        ({"method": "feddpd"}, "compares_models", False),
        ({"method": "regl-dpd"}, "measures_discrepancy", True),
        ({"method": "regl"}, "measures_discrepancy", False),
    ],
)
def test_what_follows_from_choices_together(flat: dict[str, Any], fact: str, value: bool) -> None:
    pool = {"pool.per-class": 200}
    assert getattr(RunConfig.from_flat(flat | pool), fact) is value
