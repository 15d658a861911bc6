"""The whole configuration of a run: one frozen object.

Keys are dotted and hyphenated, as in Flower's run config (``partition.beta``,
``train.batch-size``). ``RunConfig.from_flat`` is the only way in: it refuses an unknown key, a
wrong type, a value out of range or a contradictory pair before any work starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from regl_app.config.explain import explain
from regl_app.config.presets import PRESET_KEYS, PRESETS
from regl_app.config.section import MACHINE, RESULT, VIEW, Section, hyphenated
from regl_app.config.sections import (
    DataConfig,
    LongTailConfig,
    ModelConfig,
    PartitionConfig,
    ServerConfig,
    TrainConfig,
)
from regl_app.config.supplement_sections import (
    DpoConfig,
    GeneratorConfig,
    LoraConfig,
    PoolConfig,
    PrivacyConfig,
    ProbeConfig,
    SteeringConfig,
    SupplementConfig,
)
from regl_app.core.errors import ConfigError
from regl_app.core.types import Scalar


class RunConfig(Section):
    """Everything that defines a run. Same configuration, same machine: same result."""

    method: Literal[
        "regl-dpd",
        "regl",
        "regl-free",
        "feddpd",
        "fedavg",
        "fedprox",
        "scaffold",
        "moon",
        "fedrep",
        "central",
    ] = Field(
        "regl-dpd",
        description="preset: a point in policy x adapter x site x objective",
        json_schema_extra=RESULT,
    )
    objective: Literal["auto", "fedavg", "fedprox", "scaffold", "moon", "fedrep"] = Field(
        "auto",
        description="local learning rule; 'auto' = as the method says",
        json_schema_extra=RESULT,
    )
    rounds: int = Field(10, ge=1, description="federated rounds", json_schema_extra=RESULT)
    seed: int = Field(
        0,
        ge=0,
        description="seed of models, training, adapters and sampling",
        json_schema_extra=RESULT,
    )
    name: str = Field(
        "",
        description="run folder's name; '' = method-source-seed, numbered",
        json_schema_extra=VIEW,
    )
    out_dir: str = Field(
        "runs", description="folder that receives the run folder", json_schema_extra=VIEW
    )
    resume: str = Field(
        "",
        description="run folder of an interrupted run to go on with, from its last complete round; "
        "all keys that results depend on have to be that run's",
        json_schema_extra=VIEW,
    )
    cache_dir: str = Field(
        "",
        description="adapters and images shared by runs; '' = <user cache>/regl",
        json_schema_extra=MACHINE,
    )
    cache_limit: float = Field(
        10.0,
        gt=0,
        description="GB that images, adapters and pools below cache-dir may take, each: the least "
        "recently used go first, adapters an hour after their last use at the earliest",
        json_schema_extra=VIEW,
    )
    device: str = Field(
        "auto", description="'auto', 'cpu', 'cuda' or 'cuda:N'", json_schema_extra=RESULT
    )
    threads: int = Field(
        1,
        ge=1,
        description="CPU threads per client; results depend on it, so it is part of a run",
        json_schema_extra=RESULT,
    )
    share_diagnostics: bool = Field(
        True,
        description="replies carry label histograms and clients write sample pictures into the "
        "run folder, for the report; turn off where labels are private",
        json_schema_extra=MACHINE,
    )
    tensorboard: bool = Field(
        True, description="write TensorBoard scalars and images", json_schema_extra=VIEW
    )
    report: bool = Field(True, description="write report.html at the end", json_schema_extra=VIEW)
    log_format: Literal["auto", "plain", "full", "json"] = Field(
        "auto",
        description="log lines: 'full' = time, level, node, round and phase first, 'json' = one "
        "object per line, 'auto' = full in a deployment, else plain",
        json_schema_extra=VIEW,
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="port on which the server shows its metrics over HTTP during the run; 0 = none",
        json_schema_extra=VIEW,
    )
    metrics_address: str = Field(
        "127.0.0.1",
        description="address that metrics-port listens on; '0.0.0.0' = all",
        json_schema_extra=VIEW,
    )

    data: DataConfig = DataConfig()
    partition: PartitionConfig = PartitionConfig()
    long_tail: LongTailConfig = LongTailConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    supplement: SupplementConfig = SupplementConfig()
    generator: GeneratorConfig = GeneratorConfig()
    lora: LoraConfig = LoraConfig()
    pool: PoolConfig = PoolConfig()
    dpo: DpoConfig = DpoConfig()
    steering: SteeringConfig = SteeringConfig()
    probe: ProbeConfig = ProbeConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    server: ServerConfig = ServerConfig()

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
        return cls.from_flat(dict(_flatten(config)))

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        method = values.get("method", "regl-dpd")
        preset = PRESETS.get(method) if isinstance(method, str) else None
        if preset is None:
            return values  # an unknown method is reported by its own field
        values = dict(values)
        if values.get("objective", "auto") == "auto":
            values["objective"] = preset.objective
        section = values.get("supplement", {})
        if isinstance(section, SupplementConfig):
            section = section.model_dump()
        elif not isinstance(section, dict):
            return values  # likewise
        section = dict(section)
        for key in ("policy", "adapter", "selection", "site"):
            if section.get(key, "auto") == "auto":
                section[key] = getattr(preset, key)
        values["supplement"] = section
        return values

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ValueError(
                f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N', got {self.device!r}"
            )
        if (self.train.steps == 0) == (self.train.epochs == 0):
            raise ValueError(
                "exactly one of train.steps and train.epochs must be > 0, got "
                f"train.steps={self.train.steps} and train.epochs={self.train.epochs} "
                "(set the other one to 0)"
            )
        if self.supplement.policy == "none":
            for key, unused in (("adapter", "frozen"), ("selection", "none")):
                if (value := getattr(self.supplement, key)) != unused:
                    raise ValueError(
                        f"supplement.policy='none' contradicts supplement.{key}={value!r}: "
                        f"there are no synthetic images (set supplement.{key}={unused!r})"
                    )
        if self.supplement.adapter == "dpo" and self.pool.per_class < 2:
            raise ValueError(
                f"pool.per-class={self.pool.per_class} makes no pair for supplement.adapter='dpo' "
                "(use 2 or more)"
            )
        if self.supplement.selection != "none" and self.pool.per_class < self.supplement.cap:
            raise ValueError(
                f"pool.per-class={self.pool.per_class} is too small to select up to "
                f"supplement.cap={self.supplement.cap} images per class from (raise it; twice the "
                "cap leaves a choice)"
            )
        if self.method == "central" and self.supplement.policy != "none":
            raise ValueError(
                "method='central' is the upper bound on real data and takes no supplement, got "
                f"supplement.policy={self.supplement.policy!r} (use 'auto')"
            )
        if self.supplement.site != "client" and self.uses_generator:
            self._check_server_site()
        if self.objective == "scaffold" and self.train.optimizer != "sgd":
            raise ValueError(
                "objective='scaffold' corrects the steps of plain SGD, got train.optimizer="
                f"{self.train.optimizer!r} (set train.optimizer='sgd')"
            )
        if self.privacy.noise > 0 and self.privacy.vector == "client":
            raise ValueError(
                f"privacy.noise={self.privacy.noise:g} contradicts privacy.vector='client': a "
                "vector that is not sent needs no noise (set one of them back)"
            )
        if self.hides_discrepancy and self.share_diagnostics:
            raise ValueError(
                f"privacy.noise={self.privacy.noise:g} and privacy.vector={self.privacy.vector!r} "
                "hide labels that share-diagnostics=true sends openly (set "
                "share-diagnostics=false)"
            )
        if self.data.source == "folder" and not self.data.path:
            raise ValueError("data.source='folder' needs data.path, the folder of class folders")
        if self.data.source == "site":
            self._check_site()
        if self.data.source == "hub" and not self.data.path:
            raise ValueError("data.source='hub' needs data.path, a hub id or a parquet folder")
        if "{concept}" not in self.generator.prompt:
            raise ValueError(
                "generator.prompt must contain '{concept}', got "
                f"{self.generator.prompt!r} (try 'a photo of {{concept}}')"
            )
        if self.server.min_replies > self.server.min_nodes and self.server.min_nodes > 1:
            raise ValueError(
                f"server.min-replies={self.server.min_replies} can never be reached when a round "
                f"may start with server.min-nodes={self.server.min_nodes}"
            )
        return self

    def _check_site(self) -> None:
        names = self.data.class_names
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(
                "data.source='site' needs data.classes, the names of at least two different "
                f"classes, got {self.data.classes!r} (for example 'cat,dog')"
            )
        if bad := [name for name in names if not name or name[0] == "." or set(name) & set("/\\")]:
            raise ValueError(
                f"data.classes must be names of subfolders, got {bad[0]!r} (no '/', no '.' first)"
            )
        for key, seen, needed in (
            ("method", self.method, self.method != "central"),
            ("long-tail.factor", self.long_tail.factor, self.long_tail.factor == 1),
            ("data.public-fraction", self.data.public_fraction, self.data.public_fraction == 0),
        ):
            if not needed:
                raise ValueError(
                    f"data.source='site' contradicts {key}={seen!r}: nobody has all sites' images "
                    "(leave it at its default)"
                )

    def _check_server_site(self) -> None:
        site = self.supplement.site
        if self.objective == "fedrep":
            raise ValueError(
                f"supplement.site={site!r} judges uploaded models, and with objective='fedrep' "
                "their heads stay at the clients (use supplement.site='client')"
            )
        if self.supplement.policy == "balance":
            raise ValueError(
                f"supplement.site={site!r} contradicts supplement.policy='balance': the server "
                "does not know the clients' labels (use 'discrepancy' or 'equal')"
            )
        if self.supplement.adapter == "lora" or (
            self.supplement.adapter == "dpo" and self.dpo.start == "lora"
        ):
            raise ValueError(
                f"supplement.site={site!r} contradicts an adapter tuned on the client's images, "
                "which the server does not have (use supplement.adapter='frozen', 'guidance', or "
                "'dpo' with dpo.start='frozen')"
            )
        if self.privacy.noise > 0 or self.privacy.vector == "client":
            raise ValueError(
                f"supplement.site={site!r} reads the discrepancy off the uploaded models, so "
                "privacy.noise and privacy.vector hide nothing (use supplement.site='client')"
            )

    @property
    def uses_generator(self) -> bool:
        """Whether images are synthesized in this run."""
        return self.supplement.policy != "none" and self.supplement.cap > 0

    @property
    def generates_at_client(self) -> bool:
        """Whether it is the clients who synthesize them."""
        return self.uses_generator and self.supplement.site == "client"

    @property
    def compares_models(self) -> bool:
        """Whether clients need their last local model, to compare it with the global one."""
        needed = self.supplement.adapter in ("dpo", "guidance")
        return self.generates_at_client and (needed or self.supplement.selection != "none")

    @property
    def hides_discrepancy(self) -> bool:
        """Whether the discrepancy vector is kept from the server, or perturbed."""
        return self.privacy.noise > 0 or self.privacy.vector == "client"

    @property
    def plans_at_client(self) -> bool:
        """Whether clients measure their discrepancy and plan by it without telling anyone."""
        return self.supplement.policy == "discrepancy" and self.privacy.vector == "client"

    def to_flat(self) -> dict[str, Scalar]:
        """Return every key, dotted and hyphenated, with its resolved value."""
        return dict(_flatten(self.model_dump(by_alias=True)))

    def updated(self, changes: Mapping[str, Scalar]) -> Self:
        """Return a copy with dotted keys replaced and validated again.

        A new ``method`` re-expands its preset unless the preset's keys are among ``changes``.
        """
        flat = self.to_flat()
        if "method" in changes:
            flat |= dict.fromkeys(PRESET_KEYS, "auto")
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
    return {key: field.default for key, field in flat_fields(RunConfig)}


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Scalar]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


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
