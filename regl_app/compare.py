"""Methods x seeds: which runs are missing, what the finished ones show, how sure that is.

Nothing here knows an engine: a run is whatever ``Engine`` makes a run folder of.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from regl_app.config import RunConfig
from regl_app.config.paths import with_absolute_paths
from regl_app.core.errors import ConfigError, ReglError, RunError
from regl_app.core.files import write_json, write_text
from regl_app.core.types import Scalar
from regl_app.generator.checkpoint import generator_identity
from regl_app.report.statistics import TARGET_ACCURACY, mean_interval, summarize

# Keys that change where and how results are written, not what they are.
_IRRELEVANT = {"name", "out-dir", "cache-dir", "tensorboard", "report", "share-diagnostics"}
_OF_SUPPLEMENT = (
    *("supplement.", "generator.", "lora.", "probe.", "pool.", "dpo.", "steering.", "privacy."),
    "server.tune-",
)
_OF_ADAPTER = ("lora.", "generator.guide")

_logger = logging.getLogger("regl")

Variants = Mapping[str, Mapping[str, Scalar]]
"""What is compared: settings, 'method' among them, by the name of their row."""

Engine = Callable[[RunConfig, int], Path]
"""Runs a configuration with so many clients; returns the finished run's folder."""


@dataclass(frozen=True)
class Outcome:
    """What one finished run showed. Accuracies and F1 in [0, 1], of the last round.

    ``method`` is the comparison's name for it. ``personalized`` is the global model's and
    ``own_models`` the clients' own models' mean over clients' own test images;
    ``rounds_to_target`` is None where 90 % was never reached. ``tail_accuracy`` is on the long
    tail's own test set. ``js_before``, ``js_after`` and ``precision`` tell how the largest
    supplement fits the global label distribution, as mean over clients.
    """

    method: str
    seed: int
    digest: str
    folder: str
    rounds: int
    accuracy: float
    best_accuracy: float
    macro_f1: float
    personalized: float | None
    own_models: float | None
    rounds_to_target: int | None
    seconds: float
    tail_accuracy: float | None = None
    js_before: float | None = None
    js_after: float | None = None
    precision: float | None = None


@dataclass(frozen=True)
class Comparison:
    """All finished runs of a comparison and what became of the others."""

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    clients: int
    outcomes: tuple[Outcome, ...]
    failures: tuple[str, ...]

    def of(self, method: str) -> list[Outcome]:
        """Return the finished runs of ``method``, by seed."""
        found = [outcome for outcome in self.outcomes if outcome.method == method]
        return sorted(found, key=lambda outcome: outcome.seed)

    @property
    def tailed(self) -> bool:
        """Return whether runs were also judged on the test set of a long tail."""
        return any(run.tail_accuracy is not None for run in self.outcomes)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows: one row per method, accuracies in percent."""
        columns: dict[str, Callable[[list[Outcome]], str]] = {
            "global accuracy %": lambda runs: _percent(runs, "accuracy"),
            "long-tail accuracy %": lambda runs: _percent(runs, "tail_accuracy"),
            "global model at clients %": lambda runs: _percent(runs, "personalized"),
            "own models at clients %": lambda runs: _percent(runs, "own_models"),
            f"rounds to {TARGET_ACCURACY:.0%}": _rounds,
            "JS distance": _distances,
            "precision %": lambda runs: _percent(runs, "precision"),
            "runs": lambda runs: f"{len(runs)}/{len(self.seeds)}",
            "s/run": lambda runs: f"{mean_interval([run.seconds for run in runs]).mean:.0f}",
        }
        cells = {
            name: [cell(runs) if (runs := self.of(method)) else "-" for method in self.methods]
            for name, cell in columns.items()
        }
        cells["runs"] = [f"{len(self.of(method))}/{len(self.seeds)}" for method in self.methods]
        # What no run measured is no column.
        shown = [name for name, column in cells.items() if set(column) != {"-"} or name == "s/run"]
        rows = [
            [method, *(cells[name][index] for name in shown)]
            for index, method in enumerate(self.methods)
        ]
        return ["method", *shown], rows

    def differences(self, of: str = "accuracy") -> tuple[list[str], list[list[str]]]:
        """Return header and rows: final accuracy of the row's method minus the column's, points.

        ``of`` is the outcome that is compared: 'accuracy' or 'tail_accuracy'.

        Paired by seed: runs of one seed share the split and the initial model, so the interval of
        the differences is the one to judge by, not whether two methods' intervals overlap.
        """
        rows = []
        for index, method in enumerate(self.methods[1:], start=1):
            cells = [self._difference(method, other, of) for other in self.methods[:index]]
            rows.append([method, *cells, *[""] * (len(self.methods) - 1 - index)])
        return ["difference in points", *(f"- {name}" for name in self.methods[:-1])], rows

    def _difference(self, method: str, other: str, of: str) -> str:
        base, own = (
            {run.seed: value for run in self.of(name) if (value := getattr(run, of)) is not None}
            for name in (other, method)
        )
        pairs = [value - base[seed] for seed, value in own.items() if seed in base]
        return _mean(pairs, 100) if pairs else "-"

    def to_markdown(self) -> str:
        """Return both tables, with what the figures mean."""
        parts = [markdown_table(*self.table())]
        tailed = self.tailed
        judged = "long-tail" if tailed else "global"
        if len(self.seeds) > 1:
            parts.append(
                f"Mean ± half width of the 95 % t-interval, {len(self.seeds)} seeds. Differences "
                f"of final {judged} accuracy, row minus column, are paired by seed:"
            )
        if len(self.methods) > 1:
            parts.append(
                markdown_table(*self.differences("tail_accuracy" if tailed else "accuracy"))
            )
            if tailed:
                parts.append("Likewise of final global accuracy, on the balanced test set:")
                parts.append(markdown_table(*self.differences()))
        parts += [f"Failed: {failure}" for failure in self.failures]
        return "\n\n".join(parts) + "\n"

    def to_json(self) -> dict[str, object]:
        """Return everything as plain JSON values."""
        return asdict(self)


def _mean(values: Sequence[float], scale: float = 1.0) -> str:
    interval = mean_interval(values)
    mean = f"{interval.mean * scale:.1f}"
    return mean if interval.half is None else f"{mean} ± {interval.half * scale:.1f}"


def _percent(runs: Sequence[Outcome], name: str) -> str:
    known = [value for run in runs if (value := getattr(run, name)) is not None]
    return _mean(known, 100) if known else "-"


def _rounds(runs: Sequence[Outcome]) -> str:
    reached = [run.rounds_to_target for run in runs if run.rounds_to_target is not None]
    text = _mean(reached) if reached else f"> {max(run.rounds for run in runs)}"
    if reached and len(reached) < len(runs):
        text += f" (reached by {len(reached)}/{len(runs)})"
    return text


def _distances(runs: Sequence[Outcome]) -> str:
    known = [
        (run.js_before, run.js_after)
        for run in runs
        if run.js_before is not None and run.js_after is not None
    ]
    if not known:
        return "-"
    before, after = (mean_interval(values).mean for values in zip(*known, strict=True))
    return f"{before:.2f} → {after:.2f}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a GitHub table."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def configurations(
    base: Mapping[str, Scalar], variants: Variants, seeds: Sequence[int], *, vary_data: bool
) -> Iterator[RunConfig]:
    """Yield one configuration per seed and variant; seeds outermost, so early tables are fair.

    ``vary_data`` lets ``data.seed`` follow the seed: the interval then covers the split as well.

    Raises:
        ConfigError: nothing to run, something twice, or a configuration is invalid.
    """
    if not variants:
        raise ConfigError("comparison needs at least one method, got none")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"comparison needs each seed once, got {list(seeds)}")
    for seed in seeds:
        for name, settings in variants.items():
            folder = re.sub(r"[^\w.+=@-]", "_", name)
            own: dict[str, Scalar] = {"seed": seed, "name": f"{folder}-s{seed}"}
            if vary_data:
                own["data.seed"] = seed
            yield RunConfig.from_flat({**base, **settings, **own})


def digest(config: RunConfig, clients: int, generator: str) -> str:
    """Return what identifies a result: a hash of all that can change it but code and data.

    A run without supplement touches no generator and one with the frozen generator no adapter: its
    result stays valid whatever those are.

    Args:
        config: the run.
        clients: K.
        generator: the generator's ``generator_identity``.
    """
    unused: tuple[str, ...] = () if config.uses_generator else _OF_SUPPLEMENT
    if config.supplement.adapter == "frozen":
        unused += _OF_ADAPTER
    relevant = {
        key: value
        for key, value in config.to_flat().items()
        if key not in _IRRELEVANT and not key.startswith(unused)
    }
    used = generator if config.uses_generator else ""
    text = json.dumps([relevant, clients, used], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_outcome(folder: Path) -> Outcome:
    """Return what the finished run in ``folder`` showed.

    Raises:
        RunError: the run is not finished or its files cannot be read.
    """
    from regl_app.rundir import RunFolder

    run = RunFolder.open(folder)
    result, history, facts = run.read_result(), run.read_history(), run.read_facts()
    if result is None or result.status != "finished" or not history:
        why = (result and result.error) or "it has not ended"
        raise RunError(f"{folder}: not a finished run: {why}")
    config, summary = run.read_config(), summarize(history, result)
    last = history[-1].metrics
    return Outcome(
        method=config.method,
        seed=config.seed,
        digest=digest(
            config,
            facts.num_clients if facts else 0,
            run.read_environment().get("generator", ""),
        ),
        folder=str(folder),
        rounds=summary.rounds,
        accuracy=last.accuracy,
        best_accuracy=max(record.metrics.accuracy for record in history),
        macro_f1=last.macro_f1,
        personalized=summary.personalized,
        own_models=summary.own_models,
        rounds_to_target=summary.rounds_to_target,
        seconds=result.seconds,
        tail_accuracy=summary.tail_accuracy,
        js_before=summary.js_before,
        js_after=summary.js_after,
        precision=summary.precision,
    )


def finished_runs(out_dir: Path) -> dict[str, Outcome]:
    """Return the finished runs below ``out_dir`` by digest; unfinished ones are passed over."""
    found = {}
    for path in sorted(out_dir.glob("*/result.json")):
        try:
            outcome = read_outcome(path.parent)
        except RunError as error:
            _logger.info("passed over: %s", error)
        else:
            found[outcome.digest] = outcome
    return found


def compare(
    base: Mapping[str, Scalar],
    variants: Variants,
    seeds: Sequence[int],
    *,
    clients: int,
    out_dir: Path,
    engine: Engine,
    vary_data: bool = False,
) -> Comparison:
    """Run what is missing of variants x seeds in ``out_dir`` and return all of it.

    A run that fails is reported and does not stop the others; comparison.json is written after
    every run, so that an interrupted comparison goes on where it was.

    Raises:
        ConfigError: any of the configurations is invalid; nothing has run then.
    """
    planned = list(configurations(base, variants, seeds, vary_data=vary_data))
    names = [name for _ in seeds for name in variants]
    # Absolute as in a run folder's config.json: the digests must agree.
    configs = [with_absolute_paths(c.updated({"out-dir": str(out_dir)})) for c in planned]
    known = finished_runs(out_dir)
    digests = [
        digest(config, clients, generator_identity(config.generator.path)) for config in configs
    ]
    outcomes: list[Outcome] = []
    failures: list[str] = []
    started, ran = time.monotonic(), 0
    missing = sum(each not in known for each in digests)
    for name, config, each in zip(names, configs, digests, strict=True):
        outcome = known.get(each)
        if outcome is None:
            try:
                outcome = read_outcome(engine(config, clients))
            except ReglError as error:
                failures.append(f"{config.name}: {error}")
                _logger.error("%s failed: %s", config.name, error)
            ran += 1
            left = (time.monotonic() - started) / ran * (missing - ran)
            remaining = f"{ran} of {missing} runs, about {left / 60:.0f} min left"
        else:
            remaining = "already there"
        if outcome is not None:
            outcomes.append(replace(outcome, method=name))
            accuracy = f"{outcome.accuracy:.1%}"
            _logger.info("%s: global accuracy %s (%s)", config.name, accuracy, remaining)
        comparison = Comparison(
            tuple(variants), tuple(seeds), clients, tuple(outcomes), tuple(failures)
        )
        write_json(out_dir / "comparison.json", comparison.to_json())
        write_text(out_dir / "comparison.md", comparison.to_markdown())
    return comparison
