"""What the report says of rounds that differ: which was chosen by validation images, the rates."""

from __future__ import annotations

from regl_app.core.formats import percent
from regl_app.runs.report.run_data import RunData


def mark(run: RunData) -> tuple[float, str] | None:
    """Return the round that curves mark and what stands there, None where none was chosen."""
    if run.best_round is None:
        return None
    return run.best_round, "best, kept" if run.best_round == run.model_round else "best"


def marked_words(run: RunData) -> str:
    """Return the sentences by which a caption says what is marked, '' where nothing is."""
    if run.best_round is None or run.model_round is None:
        return early_words(run)
    text = f" Marked: round {run.best_round}, the best by validation images"
    if run.best_round == run.model_round:
        text += "; its model is kept."
    else:
        text += f"; the model that is kept is the last one's, of round {run.model_round}."
    return text + early_words(run)


def early_words(run: RunData) -> str:
    """Return the sentence that says that a run ended before its last round, '' if it did not."""
    if not run.ended_early:
        return ""
    keys, last = run.config.validation, run.history[-1].round
    rounds = "a round" if keys.patience == 1 else f"{keys.patience} rounds"
    return (
        f" It ended early, after round {last} of {run.config.rounds}: {rounds} brought no better "
        f"validation {keys.metric}."
    )


def in_the_end(run: RunData) -> str:
    """Return when the run's model is measured: in the end, or in the round that is kept."""
    return f"in round {run.model_round} (kept)" if _earlier(run) else "in the end"


def after(run: RunData) -> str:
    """Return after which round the run's model is what it is."""
    return f"round {run.model_round} (kept)" if _earlier(run) else "the last round"


def _earlier(run: RunData) -> bool:
    return run.model_round is not None and run.model_round != run.history[-1].round


def kept_note(run: RunData) -> str:
    """Return how the model that is not kept, the last one, did; '' where it is the kept one."""
    return f"last round {percent(run.history[-1].metrics.accuracy)}" if _earlier(run) else ""


def warm_up(run: RunData) -> str:
    """Return in words how many rounds warm up, '' where none does."""
    rounds = run.config.train.warmup_rounds
    return f"{rounds} round{'s' * (rounds > 1)} of warm-up" if rounds else ""
