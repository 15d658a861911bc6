"""A finished run in one table, whatever engine ran it."""

from __future__ import annotations

from pathlib import Path

from regl_app.cli.console import print_path, print_table
from regl_app.runs.comparison.outcome import read_outcome
from regl_app.runs.statistics import TARGET_ACCURACY


def print_summary(folder: Path) -> None:
    """Print what the model does that it keeps, and the paths of run folder and report."""
    outcome = read_outcome(folder)
    found = outcome.summary
    which = f"round {found.model_round} ({outcome.keeps})" if outcome.keeps else "final"
    shares = {
        f"global accuracy, {which}": found.accuracy,
        "global accuracy, highest of any round": found.best_accuracy,
        f"global macro-F1, {which}": found.macro_f1,
        "global model on clients' own tests": found.personalized,
        "clients' own models there": found.own_models,
    }
    rows = [(what, f"{share:.3f}") for what, share in shares.items() if share is not None]
    if outcome.whole:
        reached = found.rounds_to_target
        rows.append(
            (f"rounds to {TARGET_ACCURACY:.0%}", "not reached" if reached is None else str(reached))
        )
    rows.append(("time, without the report", f"{found.seconds:.0f} s"))
    print_table(("", outcome.method), rows)
    print_path("run folder", folder)
    report = folder / "report.html"
    if report.is_file():
        print_path("report", report)
