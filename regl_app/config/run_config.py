"""The whole configuration of a run: one frozen object.

Keys are dotted and hyphenated, as in Flower's run config (``partition.beta``,
``train.batch-size``). ``RunConfig.from_flat`` is the only way in: it refuses an unknown key, a
wrong type, a value out of range or a contradictory pair before any work starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Self

from pydantic import BaseModel, ValidationError, model_validator

from regl_app.config.auto_teaching import TAUGHT_KEYS, Taught, auto_teaching
from regl_app.config.checks import check
from regl_app.config.choices import SOURCES, STRATEGIES, STRATEGY_KEYS
from regl_app.config.data_checks import without_keys_of_other_sources
from regl_app.config.explain import explain
from regl_app.config.or_auto import AUTO, may_be_auto
from regl_app.config.presets import PRESET_KEYS, PRESETS
from regl_app.config.run_keys import RunKeys
from regl_app.config.section import Section, hyphenated
from regl_app.core.errors import ConfigError
from regl_app.core.types import Scalar


class RunConfig(RunKeys):
    """Everything that defines a run. Same configuration, same machine: same result."""

    @classmethod
    def from_flat(cls, flat: Mapping[str, Scalar]) -> Self:
        """Build the configuration from dotted keys, with the preset of ``method`` expanded.

        Raises:
            ConfigError: names every offending key, its value and what is allowed.
        """
        try:
            return cls.model_validate(_nested(flat))
        except ValidationError as error:
            raise ConfigError(explain(error, fields=dict(flat_fields(cls)))) from None

    @classmethod
    def from_any(cls, config: Mapping[str, Any]) -> Self:
        """Build the configuration from nested tables, dotted keys or a mixture."""
        return cls.from_flat(dict(flattened(config)))

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        method = values.get("method", "regl-dpd")
        preset = PRESETS.get(method) if isinstance(method, str) else None
        if preset is None:
            return values  # an unknown method is reported by its own field
        values = _expand(values, {key: getattr(preset, of) for key, of in PRESET_KEYS.items()})
        values = _expand(values, _fitting(values))
        values = _expand(values, _of_the_strategy(values))
        taught = auto_teaching(values)
        return _expand(values, {key: getattr(taught, of) for key, of in TAUGHT_KEYS.items()})

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        check(self)
        return self

    def to_flat(self) -> dict[str, Scalar]:
        """Return every key, dotted and hyphenated, with its resolved value."""
        return dict(flattened(self.model_dump(by_alias=True)))

    def updated(self, changes: Mapping[str, Scalar], chosen: Iterable[str] = frozenset()) -> Self:
        """Return a copy with dotted keys replaced and validated again.

        A new ``method`` re-expands its preset unless the preset's keys are among ``changes``. A new
        generator leaves what fitted the bundled one to what fits it, a new strategy what was the
        old one's 'auto' to its own, a new source what it does not read, its path where it reads no
        files. What 'auto' had a run taught by follows whatever is new; the same, chosen, cannot be
        told from it, unless it is said by ``chosen``: keys that keep their values.
        """
        flat = self.to_flat()
        renewed = _taught_by_auto(flat)
        if self.generator.path == BUNDLED != changes.get("generator.path", BUNDLED):
            renewed |= {key for key, value in BUNDLED_FIT.items() if flat[key] == value}
        strategy = flat["server.strategy"]
        if strategy != changes.get("server.strategy", strategy):
            autos = strategy_autos(str(strategy))
            renewed |= {key for key, value in autos.items() if flat[key] == value}
        if "method" in changes:
            renewed |= {*PRESET_KEYS, *TAUGHT_KEYS}
        flat |= dict.fromkeys(renewed.difference(chosen), AUTO)
        source = changes.get("data.source")
        if source in SOURCES and not SOURCES[str(source)].files:
            flat["data.path"] = ""
        if source is not None:
            flat = without_keys_of_other_sources(flat | {"data.source": source})
        return self.from_flat(flat | dict(changes))


def flat_fields(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``(dotted key, FieldInfo)`` for every leaf key, in the order of declaration."""
    for name, field in section.model_fields.items():
        key = prefix + hyphenated(name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from flat_fields(field.annotation, key + ".")
        else:
            yield key, field


def default_flat() -> dict[str, Scalar]:
    """Return the unexpanded defaults of every key: what ``pyproject.toml`` lists for Flower."""
    fields = flat_fields(RunConfig)
    return {key: AUTO if may_be_auto(each.metadata) else each.default for key, each in fields}


BUNDLED = "bundled"
BUNDLED_FIT: Mapping[str, Scalar] = MappingProxyType(
    {
        key: each.default
        for key, each in flat_fields(RunConfig)
        if may_be_auto(each.metadata) and each.default != AUTO
    }
)
"""What 'auto' is for the bundled generator, and for others of its size."""


def _fitting(values: Mapping[str, Any]) -> Mapping[str, Scalar]:
    """Return what the keys that fit the generator are, as far as no file is to be read for it."""
    table = values.get("generator", {})
    if isinstance(table, Section):
        table = table.model_dump()
    path = table.get("path", BUNDLED) if isinstance(table, dict) else BUNDLED
    return BUNDLED_FIT if path == BUNDLED else dict.fromkeys(BUNDLED_FIT, AUTO)


def strategy_autos(strategy: str) -> dict[str, Scalar]:
    """Return what 'auto' is of each key that a Flower strategy may read; 'auto' if this does not.

    Args:
        strategy: a name in ``STRATEGIES``.
    """
    settings = STRATEGIES[strategy].settings
    return {key: settings.get(key.removeprefix("server."), AUTO) for key in STRATEGY_KEYS}


def _of_the_strategy(values: Mapping[str, Any]) -> Mapping[str, Scalar]:
    table = values.get("server", {})
    if isinstance(table, Section):
        table = table.model_dump()
    name = table.get("strategy", "fedavg") if isinstance(table, dict) else ""
    known = isinstance(name, str) and name in STRATEGIES  # else reported by its own field
    return strategy_autos(name) if known else {}


def _expand(values: Mapping[str, Any], choices: Mapping[str, Scalar]) -> dict[str, Any]:
    """Return nested ``values`` with the dotted keys of ``choices`` that are 'auto' filled in."""
    expanded = dict(values)
    for key, choice in choices.items():
        group, _, leaf = key.rpartition(".")
        table = expanded.get(group, {}) if group else expanded
        if isinstance(table, Section):
            table = table.model_dump()
        elif not isinstance(table, dict):
            continue  # reported by its own field
        if table.get(leaf, AUTO) == AUTO:
            table = {**table, leaf: choice}
        expanded = {**expanded, group: table} if group else table
    return expanded


def flattened(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Scalar]]:
    """Yield ``(dotted key, value)`` of nested tables, dotted keys or a mixture."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _taught_by_auto(flat: Mapping[str, Scalar]) -> set[str]:
    """Return the keys of teaching that have the value of 'auto'.

    ``labels.by='hard'`` is a choice, which decides what the others are by 'auto', unless all of
    them are what 'auto' alone would make of them.
    """
    auto = auto_teaching(_nested({**flat, "labels.by": AUTO}))
    values = Taught(**{of: str(flat[key]) for key, of in TAUGHT_KEYS.items()})
    chosen = values.labels != auto.labels or (values.labels == "hard" and values != auto)
    found = auto_teaching(_nested(flat)) if chosen else auto
    same = {key for key, of in TAUGHT_KEYS.items() if getattr(found, of) == getattr(values, of)}
    return same - {"labels.by"} if chosen else same


def _nested(flat: Mapping[str, Scalar]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, leaf = key.split(".")
        table = nested
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{key}: {section} is a key, not a group of keys")
        if isinstance(table.get(leaf), dict):
            raise ConfigError(f"{key} is a group of keys, got the single value {value!r}")
        table[leaf] = value
    return nested
