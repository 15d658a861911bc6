"""What one finished run of a comparison showed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from regl_app.config.external import keeps_parts
from regl_app.config.named_code import names_code
from regl_app.core.errors import RunError
from regl_app.core.log import logger
from regl_app.runs.comparison.plan import decisive, digest
from regl_app.runs.statistics import Summary, summarize

# Of the summary's numbers what comparison.json does not hold.
_NOT_IN_FILE = {"loss", "personalized_worst", "synthetic_images", "bytes_down", "bytes_up"}


@dataclass(frozen=True)
class Files:
    """The states of the files that a result depends on; '' where there are none, None: unknown.

    ``data`` decide who has which image (``RunFiles.words``), ``weights`` is the SHA-256 of what the
    model starts from, ``code`` that of what the run names and this app does not bring.
    """

    data: str | None = None
    weights: str | None = None
    code: str | None = None

    def contradict(self, others: Files) -> bool:
        """Return whether a state that is known is another one there."""
        return any(own not in (None, other) for own, other in self._beside(others))

    def say_less(self, others: Files) -> bool:
        """Return whether a state that there is there is unknown here."""
        return any(own is None and other for own, other in self._beside(others))

    def _beside(self, others: Files) -> tuple[tuple[str | None, str | None], ...]:
        return (self.data, others.data), (self.weights, others.weights), (self.code, others.code)

    @property
    def words(self) -> str:
        """Return those that are known for people, digests cut to 16 digits."""
        weights = f"model.weights {self.weights[:16]}" if self.weights else ""
        code = f"its own code {self.code[:16]}" if self.code else ""
        return "; ".join(filter(None, (self.data, weights, code)))


@dataclass(frozen=True)
class Outcome:
    """One finished run: which it was and, in ``summary``, what it showed.

    ``method`` is the comparison's name for it, ``digest`` what identifies its result but for code
    and data. A finished run's summary holds at least seconds and, of a whole global model,
    accuracies and macro-F1. ``keeps`` is
    which round's model the run keeps, 'best' by validation images or 'last'; '' if it holds none
    out. ``name`` is the run's own, ``settings`` what the digest is of, ``files`` those that it
    saw, as far as its folder says, ``code`` the digest of the app that made it, '' if unknown.
    """

    method: str
    seed: int
    digest: str
    folder: str
    summary: Summary
    keeps: str = ""
    name: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    files: Files = Files()
    code: str = ""

    @property
    def whole(self) -> bool:
        """Return whether its global model is a whole one; else only accuracies at clients count."""
        return self.summary.accuracy is not None

    def to_json(self) -> dict[str, object]:
        """Return it as comparison.json holds it: one flat table."""
        which: dict[str, object] = {
            "method": self.method,
            "seed": self.seed,
            "digest": self.digest,
            "folder": self.folder,
        }
        numbers = asdict(self.summary)
        return which | {key: numbers[key] for key in numbers if key not in _NOT_IN_FILE}


def read_outcome(folder: Path) -> Outcome:
    """Return what the finished run in ``folder`` showed.

    Raises:
        RunError: the run is not finished or its files cannot be read.
    """
    from regl_app.runs.folder import CODE, DATA, GENERATOR, NAMED_CODE, WEIGHTS, RunFolder

    run = RunFolder.open(folder)
    result, history, facts = run.read_result(), run.read_history(), run.read_facts()
    if result is None or result.status != "finished" or not history:
        why = (result and result.error) or "it has not ended"
        raise RunError(f"{folder}: not a finished run: {why}")
    config = run.read_config()
    clients = facts.num_clients if facts else 0
    environment = run.read_environment()
    generator = environment.get(GENERATOR, "")
    return Outcome(
        method=config.method,
        seed=config.seed,
        digest=digest(config, clients, generator),
        folder=str(folder),
        summary=summarize(history, result, whole=not keeps_parts(config.objective)),
        keeps=config.validation.keep if config.validation.used else "",
        name=config.name,
        settings=decisive(config, clients, generator),
        files=Files(
            environment.get(DATA),
            environment.get(WEIGHTS) if config.model.weights else "",
            environment.get(NAMED_CODE) if names_code(config.model.name, config.objective) else "",
        ),
        code=environment.get(CODE, ""),
    )


def rows_of(folder: Path) -> tuple[str, ...]:
    """Return what the last comparison beside the run ``folder`` calls the rows that it is in."""
    path = folder.resolve()
    try:
        content = json.loads((path.parent / "comparison.json").read_text(encoding="utf-8"))
        found = [
            str(each["method"])
            for each in content["outcomes"]
            if Path(each["folder"]).name == path.name
        ]
    except (OSError, ValueError, TypeError, KeyError):
        return ()  # none, or none of ours
    return tuple(dict.fromkeys(found))


def finished_runs(out_dir: Path) -> list[Outcome]:
    """Return the finished runs below ``out_dir``, oldest first; unfinished ones are passed over."""
    found = []
    ended = out_dir.glob("*/result.json")
    for path in sorted(ended, key=lambda path: (path.stat().st_mtime_ns, path)):
        try:
            outcome = read_outcome(path.parent)
        except RunError as error:
            logger.info("passed over: %s", error)
        else:
            found.append(outcome)
    return found
