"""The run folder: everything a run leaves behind, written so that a crash loses one line at most.

``<out-dir>/<name>/`` holds ``config.json``, ``federation.json``, ``history.jsonl`` (one line per
round), with many classes ``confusion.npz``, ``model.safetensors``, ``checkpoints/``,
``adapters/``, ``samples/``, ``features.npz``, ``result.json`` and ``report.html``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import ValidationError

from regl_app.config import RunConfig
from regl_app.config.data_checks import without_keys_of_other_sources
from regl_app.config.named_code import named_code
from regl_app.config.paths import with_absolute_paths
from regl_app.core.errors import ConfigError, RunError
from regl_app.core.files import sync_folder, write_json
from regl_app.core.tensor_files import save_weights
from regl_app.core.types import Tensors
from regl_app.generator.card_precision import precision_words
from regl_app.generator.fitting import fit_words, unheard_prompt
from regl_app.generator.identity import identity_of
from regl_app.runs.checkpoints import (
    Checkpoint,
    has_checkpoint,
    leave_best,
    read_best,
    read_checkpoint,
    read_model,
    write_best,
    write_checkpoint,
)
from regl_app.runs.environment import CODE, describe_environment
from regl_app.runs.history import append_round, read_history
from regl_app.runs.records import FederationFacts, Record, RoundRecord, RunResult

__all__ = [
    "CODE",
    "DATA",
    "GENERATOR",
    "NAMED_CODE",
    "UNHEARD",
    "WEIGHTS",
    "Checkpoint",
    "RunFolder",
]

NAMED_CODE = "named-code"
"""In a run's environment: the digest of the packages of an own model and of another's method."""
DATA = "data"
"""In a run's environment: the state of the files that its server read (``RunFiles.words``)."""
GENERATOR = "generator"
"""Likewise: the ``identity_of`` what its images are made with, if any are."""
UNHEARD = "generator-negative-prompt"
"""Likewise: why its negative prompt has no effect, where one is set that has none."""
WEIGHTS = "weights"
"""Likewise: the SHA-256 of the file that its model started from, if ``model.weights`` names one."""

_RecordT = TypeVar("_RecordT", bound=Record)


@dataclass(frozen=True)
class RunFolder:
    """One run's folder at ``path``; make it by :meth:`create` or :meth:`open`."""

    path: Path

    @classmethod
    def create(cls, config: RunConfig, out_dir: Path | None = None) -> RunFolder:
        """Make ``<out_dir>/<name>``, with a numbered suffix where that exists, and config.json.

        The name defaults to ``<method>-<source>-s<seed>``, ``out_dir`` to ``config.out_dir``.

        Raises:
            ConfigError: the name is not one plain folder name.
            RunError: the folder cannot be made.
        """
        name = config.name or f"{config.method}-{config.data.source}-s{config.seed}"
        if not re.fullmatch(r"[\w][\w.+=@-]*", name):
            raise ConfigError(
                f"name must be one folder name of letters, digits, '.', '_', '-', got {name!r}"
            )
        parent = Path(config.out_dir) if out_dir is None else out_dir
        try:
            parent.mkdir(parents=True, exist_ok=True)
            folder = cls(_make_numbered(parent, name))
        except OSError as error:
            raise RunError(
                f"out-dir={str(parent)!r}: cannot make a run folder: {error} "
                "(give another out-dir, or space and rights there)"
            ) from error
        for sub in (folder.checkpoints, folder.adapters, folder.samples):
            sub.mkdir()
        environment = describe_environment(config.device)
        if named := named_code(config.model.name, config.objective):
            environment[NAMED_CODE] = named
        if config.needs_generator:
            local = with_absolute_paths(config)
            environment[GENERATOR] = identity_of(local)
            if words := fit_words(local):
                environment["generator-settings"] = words
            if words := unheard_prompt(local):
                environment[UNHEARD] = words
            environment["generator-precision"] = precision_words(local)
        content = {"config": config.to_flat(), "environment": environment}
        write_json(folder.path / "config.json", content, durable=True)
        sync_folder(parent)
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Return the existing run folder at ``path``.

        Raises:
            RunError: there is no config.json.
        """
        if not (path / "config.json").is_file():
            raise RunError(f"{path} is not a run folder: it has no config.json")
        return cls(path)

    @property
    def name(self) -> str:
        """Return the folder's own name."""
        return self.path.resolve().name

    @property
    def checkpoints(self) -> Path:
        """Return the folder of the last global models."""
        return self.path / "checkpoints"

    @property
    def adapters(self) -> Path:
        """Return the folder of the clients' adapters."""
        return self.path / "adapters"

    @property
    def samples(self) -> Path:
        """Return the folder of the clients' sample pictures."""
        return self.path / "samples"

    @property
    def report(self) -> Path:
        """Return the path of the run's report."""
        return self.path / "report.html"

    def read_config(self) -> RunConfig:
        """Return the run's configuration.

        Raises:
            RunError: config.json is unreadable or no longer valid.
        """
        content = self._read_json("config.json")
        if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
            raise RunError(f"{self.path / 'config.json'}: must hold a table 'config'")
        try:  # versions before took keys of other sources, in vain
            return RunConfig.from_flat(without_keys_of_other_sources(content["config"]))
        except ConfigError as error:
            raise RunError(f"{self.path / 'config.json'}: {error}") from error

    def read_environment(self) -> dict[str, str]:
        """Return versions and machine as recorded when the run started (maybe empty)."""
        content = self._read_json("config.json")
        facts = content.get("environment", {}) if isinstance(content, dict) else {}
        return {str(k): str(v) for k, v in facts.items()} if isinstance(facts, dict) else {}

    def note(self, name: str, value: str) -> None:
        """Add to the environment what is known only now: `DATA`, `WEIGHTS`."""
        content = self._read_json("config.json")
        if not isinstance(content, dict):
            raise RunError(f"{self.path / 'config.json'}: must hold a table")
        environment = {**self.read_environment(), name: value}
        changed = {**content, "environment": environment}
        write_json(self.path / "config.json", changed, durable=True)

    def append_round(self, record: RoundRecord) -> None:
        """Append ``record`` to history.jsonl and flush it to the disk."""
        append_round(self.path / "history.jsonl", record)

    def read_history(self, *, quiet: bool = False) -> list[RoundRecord]:
        """Return the rounds in order; a torn last line is left out, and logged unless ``quiet``.

        A round that was recorded twice (a resumed run) counts as recorded last.

        Raises:
            RunError: any other line is not a round record.
        """
        return read_history(self.path / "history.jsonl", quiet=quiet)

    def write_facts(self, facts: FederationFacts) -> None:
        """Write federation.json."""
        write_json(self.path / "federation.json", facts.model_dump(mode="json"))

    def read_facts(self) -> FederationFacts | None:
        """Return federation.json, None where the run has none."""
        return self._read_record("federation.json", FederationFacts)

    def write_result(self, result: RunResult) -> None:
        """Write result.json: how the run ended."""
        write_json(self.path / "result.json", result.model_dump(mode="json"))

    def forget_result(self) -> None:
        """Remove result.json: the run goes on."""
        (self.path / "result.json").unlink(missing_ok=True)

    def read_result(self) -> RunResult | None:
        """Return result.json, None where the run has not ended."""
        return self._read_record("result.json", RunResult)

    def save_model(self, weights: Mapping[str, torch.Tensor]) -> Path:
        """Write the run's global model to model.safetensors, its checksum in the metadata."""
        path = self.path / "model.safetensors"
        save_weights(path, weights)
        return path

    def load_model(self) -> dict[str, torch.Tensor]:
        """Return the weights of the run's global model: its last, or the best where it chose.

        Raises:
            RunError: there is no model.safetensors, or it is damaged.
        """
        path = self.path / "model.safetensors"
        if not path.exists() and (result := self.read_result()) and result.status != "finished":
            why = f": {result.error}" if result.error else ""
            raise RunError(f"{self.path}: the run has {result.status} and left no model{why}")
        return read_model(path)

    def checkpoint(self, checkpoint: Checkpoint) -> Path:
        """Write ``checkpoint`` as one file with a checksum; only the last two are kept."""
        return write_checkpoint(self.checkpoints, checkpoint)

    @property
    def has_checkpoint(self) -> bool:
        """Whether a round of the run is complete."""
        return has_checkpoint(self.checkpoints)

    def read_checkpoint(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole; None if the run has left none.

        Raises:
            RunError: all that are there are damaged.
        """
        return read_checkpoint(self.checkpoints)

    def keep_best(self, number: int, weights: Mapping[str, torch.Tensor]) -> Path:
        """Write the global model of round ``number``, the best so far, beside the one before."""
        return write_best(self.checkpoints, number, weights)

    def leave_best(self, needed: Mapping[int, Collection[int]]) -> None:
        """Remove the models of rounds that were the best, but those that kept checkpoints need.

        ``needed`` says by round whose models are.
        """
        leave_best(self.checkpoints, needed)

    def load_best(self, number: int) -> Tensors:
        """Return the global model of round ``number``, the best one.

        Raises:
            RunError: it is not there, or damaged.
        """
        return read_best(self.checkpoints, number)

    def _read_record(self, name: str, kind: type[_RecordT]) -> _RecordT | None:
        path = self.path / name
        if not path.is_file():
            return None
        try:
            return kind.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise RunError(f"{path}: not a {kind.__name__}: {error}") from error

    def _read_json(self, name: str) -> object:
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: cannot be read: {error}") from error


def _make_numbered(parent: Path, name: str) -> Path:
    number = 1
    while True:
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:  # also when another run takes the name at the same moment
            number += 1
        else:
            return path
