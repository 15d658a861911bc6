"""One round in one line of the log."""

from __future__ import annotations

from regl_app.config import RunConfig
from regl_app.config.external import keeps_parts
from regl_app.core.formats import format_seconds
from regl_app.runs.records import RoundRecord


def round_line(record: RoundRecord, config: RunConfig) -> str:
    """Return what a finished round is reported by: its scores, its length and what is left."""
    # A round's length, not the mean: the first one also adapts the generators.
    left = record.seconds.wall * (config.rounds - record.round)
    about = "likely less than" if config.uses_generator and record.round == 1 else "about"
    eta = f"; {about} {format_seconds(left)} left" if left else ""
    refused = f"; {len(record.failures)} failures" if record.failures else ""
    number = f"round {record.round}/{config.rounds}"
    return f"{number}: {scores(record, config)}, {record.seconds.wall:.1f} s{refused}{eta}"


def scores(record: RoundRecord, config: RunConfig) -> str:
    """Return a round's accuracies in words.

    Where a part of each model stays at its client the global model is no whole one: what counts is
    how it does with the clients' own parts.
    """
    chosen = f", validation {record.validation.accuracy:.1%}" if record.validation else ""
    if keeps_parts(config.objective):
        reached = f"{record.personalized.mean:.1%}" if record.personalized else "not measured"
        return f"with own parts, on clients' own tests {reached}{chosen}"
    own = f", on clients' own tests {record.personalized.mean:.1%}" if record.personalized else ""
    tail = f" (long tail {record.tail.accuracy:.1%})" if record.tail else ""
    return f"global accuracy {record.metrics.accuracy:.1%}{tail}{own}{chosen}"
