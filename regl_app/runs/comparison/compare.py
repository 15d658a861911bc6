"""Methods x seeds: which runs are missing, what the finished ones show, how sure that is.

Nothing here knows an engine: a run is whatever ``Engine`` makes a run folder of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from regl_app.config import RunConfig
from regl_app.config.paths import with_absolute_paths
from regl_app.core.activity import Span
from regl_app.core.errors import ReglError
from regl_app.core.files import write_json, write_text
from regl_app.core.log import logger
from regl_app.core.types import Scalar
from regl_app.generator.identity import identity_of
from regl_app.runs.comparison.outcome import Outcome, finished_runs, read_outcome
from regl_app.runs.comparison.plan import Variants, configurations, decisive, digest
from regl_app.runs.comparison.reuse import (
    States,
    Wanted,
    reusable,
    tell_other_code,
    tell_silent,
)
from regl_app.runs.comparison.tables import Comparison

Engine = Callable[[RunConfig, int], Path]
"""Runs a configuration with so many clients; returns the finished run's folder."""


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

    A finished run is reused if its settings and generator are the same, the files of its data set
    (names, sizes, times), ``partition.file`` and ``model.weights``; the log says why one is not. A
    run that fails is reported and does not stop the others; comparison.json is written after every
    run, so that an interrupted comparison goes on where it was.

    Raises:
        ConfigError: any of the configurations is invalid; nothing has run then.
        GeneratorError: a file of prompts cannot be read.
    """
    from regl_app.data.prompt_table import inlined

    # By content: a run with other prompts under the same path is another run.
    base, variants = inlined(base), {name: inlined(own) for name, own in variants.items()}
    planned = list(configurations(base, variants, seeds, vary_data=vary_data))
    names = [name for _ in seeds for name in variants]
    # Absolute as in a run folder's config.json: the digests must agree.
    configs = [with_absolute_paths(c.updated({"out-dir": str(out_dir)})) for c in planned]
    finished, states = finished_runs(out_dir), States()
    wanted = [_wanted(config, clients, states) for config in configs]
    reused = [reusable(each, finished) for each in wanted]
    tell_silent(wanted, reused)
    tell_other_code(reused)
    outcomes: list[Outcome] = []
    failures: list[str] = []
    running, ran = Span(), 0
    missing = sum(each is None for each in reused)
    for name, config, outcome in zip(names, configs, reused, strict=True):
        if outcome is None:
            try:
                outcome = read_outcome(engine(config, clients))
            except ReglError as error:
                failures.append(f"{config.name}: {error}")
                logger.error("%s failed: %s", config.name, error)
            ran += 1
            left = running.seconds / ran * (missing - ran)
            remaining = f"{ran} of {missing} runs, about {left / 60:.0f} min left"
        else:
            remaining = "already there"
        if outcome is not None:
            outcomes.append(replace(outcome, method=name))
            logger.info("%s: %s (%s)", config.name, _reached(outcome), remaining)
        comparison = Comparison(
            tuple(variants), tuple(seeds), clients, tuple(outcomes), tuple(failures)
        )
        write_json(out_dir / "comparison.json", comparison.to_json())
        write_text(out_dir / "comparison.md", comparison.to_markdown())
    return comparison


def _reached(outcome: Outcome) -> str:
    if outcome.whole:
        return f"global accuracy {outcome.summary.accuracy:.1%}"
    reached = outcome.summary.personalized
    return f"accuracy at the clients {'not measured' if reached is None else f'{reached:.1%}'}"


def _wanted(config: RunConfig, clients: int, states: States) -> Wanted:
    which = (config, clients, identity_of(config))
    return Wanted(config.name, digest(*which), decisive(*which), states.of(config))
