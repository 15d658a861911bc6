"""What one finished run of a comparison showed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from regl_app.core.errors import RunError
from regl_app.core.log import logger
from regl_app.runs.comparison.plan import digest
from regl_app.runs.statistics import summarize


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


def read_outcome(folder: Path) -> Outcome:
    """Return what the finished run in ``folder`` showed.

    Raises:
        RunError: the run is not finished or its files cannot be read.
    """
    from regl_app.runs.folder import RunFolder

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
            logger.info("passed over: %s", error)
        else:
            found[outcome.digest] = outcome
    return found
