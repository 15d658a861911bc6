"""Everything the report reads of a run, loaded and checked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from regl_app.config import RunConfig
from regl_app.config.external import keeps_parts
from regl_app.core.bounds import MOST_IMAGES
from regl_app.core.errors import RunError
from regl_app.core.log import logger
from regl_app.runs.comparison.outcome import rows_of
from regl_app.runs.comparison.plan import decisive
from regl_app.runs.confusions import Confusions, confusions_of
from regl_app.runs.features import FeaturesFile, load_features
from regl_app.runs.folder import GENERATOR, RunFolder
from regl_app.runs.kept import ended_early, up_to_kept
from regl_app.runs.records import FederationFacts, RoundRecord, RunResult
from regl_app.runs.samples import sample_files
from regl_app.runs.statistics import Summary, largest_rows, latest_rows, summarize, told_number

Rows = list[list[float] | None]

# Runs that differ in these alone are shown as seeds of one configuration.
_NOT_SHOWN = {"seed", "data.seed", "device", "generator.batch-size"}


@dataclass(frozen=True)
class RunData:
    """One run as the report sees it."""

    name: str
    config: RunConfig
    environment: dict[str, str]
    facts: FederationFacts | None
    history: tuple[RoundRecord, ...]
    result: RunResult | None
    samples: Mapping[int, Path]
    """By client, the file of its sample pictures: of many clients few are read."""
    features: FeaturesFile | None
    confusions: Confusions | None
    ended: int = 0
    """When it finished, in nanoseconds of the file system; 0 if it has not."""
    rows: tuple[str, ...] = ()
    """What the last comparison in its parent folder calls its configuration."""

    @classmethod
    def load(cls, path: Path) -> RunData:
        """Read the run folder at ``path``; damaged pictures are logged and left out.

        Raises:
            RunError: it is no run folder, or its configuration or history cannot be read.
        """
        folder = RunFolder.open(path)
        try:
            features = load_features(path)
        except RunError as error:
            logger.warning("the report goes without t-SNE: %s", error)
            features = None
        history, result = tuple(folder.read_history()), folder.read_result()
        try:
            confusions = confusions_of(history, path, result.best_round if result else None)
        except RunError as error:
            logger.warning("the report goes without what was taken for what: %s", error)
            confusions = None
        return cls(
            folder.name,
            folder.read_config(),
            folder.read_environment(),
            folder.read_facts(),
            history,
            result,
            sample_files(path),
            features,
            confusions,
            _ended(path) if result and result.status == "finished" else 0,
            rows_of(path),
        )

    @cached_property
    def summary(self) -> Summary:
        """Return the run's result in numbers."""
        return summarize(self.history, self.result, whole=self.whole)

    @cached_property
    def until_kept(self) -> Sequence[RoundRecord]:
        """Return the rounds up to the one whose model the run keeps."""
        return up_to_kept(self.history, self.result)

    @property
    def kept(self) -> RoundRecord | None:
        """Return the round whose model the run keeps, None before the first round."""
        return self.until_kept[-1] if self.until_kept else None

    @property
    def finished(self) -> bool:
        """Return whether the run came to its end, was neither stopped nor failed."""
        return self.result is not None and self.result.status == "finished"

    @property
    def whole(self) -> bool:
        """Return whether the global model is a whole one, that a test set of all classes measures.

        Of a method that leaves a part at the clients only accuracies there mean something.
        """
        return not keeps_parts(self.config.objective)

    @property
    def best_round(self) -> int | None:
        """Return the best round by validation images, None where none was chosen."""
        return self.result.best_round if self.result else None

    @property
    def model_round(self) -> int | None:
        """Return the round whose model is kept, None where none was chosen and it is the last."""
        return self.result.model_round if self.result else None

    @property
    def ended_early(self) -> bool:
        """Return whether the run ended before its last round, as it got no better."""
        return ended_early(self.config, self.history, self.result)

    @cached_property
    def class_names(self) -> list[str]:
        """Return the classes' names, their numbers where no names were recorded."""
        if self.facts is not None:
            return self.facts.class_names
        widths = [len(r.metrics.per_class) for r in self.history]
        widths += [len(row) for row in latest_rows(self.history, "real_counts") if row]
        return [str(label) for label in range(max(widths, default=0))]

    @cached_property
    def real(self) -> Rows:
        """Return the clients' real training images per class, K x C; empty where private."""
        if self.facts is not None and self.facts.train_counts is not None:
            return [None if row is None else list(row) for row in self.facts.train_counts]
        return latest_rows(self.history, "real_counts")

    @property
    def tested_on(self) -> str:
        """Return in words which images the global model was tested on."""
        if self.facts is not None and self.facts.test_images == 0:
            return "the test images of all clients together (the server has none)"
        return "the server's test set"

    @property
    def unreadable(self) -> int:
        """Return how many picture files could not be read and were left out, sites' included."""
        told = {
            client: int(files)
            for record in self.history
            for client, facts in record.clients.items()
            if (files := told_number(facts, "unreadable", MOST_IMAGES)) is not None
        }
        return (self.facts.unreadable if self.facts else 0) + sum(told.values())

    @cached_property
    def synthetic(self) -> Rows:
        """Return the clients' synthetic images per class at their largest; empty without any."""
        rows = largest_rows(self.history, "synthetic_counts")
        return rows if any(row and sum(row) for row in rows) else []

    @cached_property
    def num_clients(self) -> int:
        """Return the number of clients that are known of."""
        if self.facts is not None:
            return self.facts.num_clients
        known = [len(self.real)]
        known += [max(r.clients, default=-1) + 1 for r in self.history]
        known += [len(seconds) for r in self.history for seconds in r.seconds.clients.values()]
        return max(known)

    @cached_property
    def showcase_client(self) -> int | None:
        """Return the client with the most skewed labels: fewest classes, then most images."""
        held = [
            (sum(count > 0 for count in row), -sum(row), client)
            for client, row in enumerate(self.real)
            if row and sum(row)
        ]
        # A client with a handful of images is skewed by chance: look among the larger half first.
        sizes = sorted(size for _, size, _ in held)
        large = [entry for entry in held if entry[1] <= sizes[len(sizes) // 2]]
        return min(large)[2] if large else None

    def owns(self, client: int, label: int) -> bool:
        """Return whether ``client`` has real training images of class ``label``."""
        row = self.real[client] if client < len(self.real) else None
        return bool(row and label < len(row) and row[label])

    @cached_property
    def condition(self) -> tuple[tuple[str, object], ...]:
        """Return what repetitions do not differ in, as a hashable key: what ``regl compare`` knows
        a run by, but for seeds and where it was computed."""
        told = decisive(self.config, self.num_clients, self.environment.get(GENERATOR, ""))
        return tuple((key, value) for key, value in told.items() if key not in _NOT_SHOWN)


def _ended(path: Path) -> int:
    return (path / "result.json").stat().st_mtime_ns
