"""A finished run in one table, whatever engine ran it."""

from __future__ import annotations

from pathlib import Path

from regl_app.cli.console import print_path, print_table
from regl_app.runs.comparison.outcome import read_outcome
from regl_app.runs.statistics import TARGET_ACCURACY


def print_summary(folder: Path) -> None:
    """Print final accuracies and the paths of the run folder and its report."""
    outcome = read_outcome(folder)
    rows = [
        ("global accuracy, final", f"{outcome.accuracy:.3f}"),
        ("global accuracy, best round", f"{outcome.best_accuracy:.3f}"),
        ("global macro-F1, final", f"{outcome.macro_f1:.3f}"),
    ]
    if outcome.personalized is not None:
        rows.append(("global model on clients' own tests", f"{outcome.personalized:.3f}"))
    if outcome.own_models is not None:
        rows.append(("clients' own models there", f"{outcome.own_models:.3f}"))
    reached = outcome.rounds_to_target
    rows.append(
        (f"rounds to {TARGET_ACCURACY:.0%}", "not reached" if reached is None else str(reached))
    )
    rows.append(("time", f"{outcome.seconds:.0f} s"))
    print_table(("", outcome.method), rows)
    print_path("run folder", folder)
    report = folder / "report.html"
    if report.is_file():
        print_path("report", report)
