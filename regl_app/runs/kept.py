"""Which of its rounds' global models a run keeps: the run is judged by that one's numbers."""

from __future__ import annotations

from collections.abc import Sequence

from regl_app.config import RunConfig
from regl_app.runs.records import RoundRecord, RunResult


def up_to_kept(history: Sequence[RoundRecord], result: RunResult | None) -> Sequence[RoundRecord]:
    """Return the rounds up to the one that model.safetensors is of: all, unless another was chosen.

    A run that has not ended has chosen none, and one that did not finish has kept none.
    """
    number = None if result is None else result.model_round
    return [each for each in history if number is None or each.round <= number]


def kept_record(history: Sequence[RoundRecord], result: RunResult | None) -> RoundRecord | None:
    """Return the round whose global model a run keeps: the last one unless it chose another.

    None without a round.
    """
    found = up_to_kept(history, result)
    return found[-1] if found else None


def kept_words(result: RunResult | None) -> str:
    """Return in words which round's model a run keeps and why, '' where it chose among none."""
    if result is None or result.model_round is None:
        return ""
    if result.model_round == result.best_round:
        return f"round {result.model_round}, the best by validation images"
    return f"round {result.model_round}, the last (best by validation: round {result.best_round})"


def ended_early(
    config: RunConfig, history: Sequence[RoundRecord], result: RunResult | None
) -> bool:
    """Return whether a run ended before its last round as it got no better on validation images."""
    finished = result is not None and result.status == "finished" and bool(history)
    return finished and config.validation.patience > 0 and history[-1].round < config.rounds


def trained_by(config: RunConfig, total: int, history: Sequence[RoundRecord]) -> int:
    """Return how many of ``total`` clients trained in ``history``; all, if it has no round."""
    if config.central or not history:  # one client trains on everybody's images
        return total
    return len({client for record in history for client in record.clients})
