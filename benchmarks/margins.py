"""What preference tuning did in a table's runs: `python benchmarks/margins.py`.

Reads the histories that `python benchmarks/feddpd.py preferences-digits-beta0.01` leaves: per row,
how much better winners were than losers by reward, whether the tuned generator came to prefer them
(the implicit margin of the last step), and in how many of the tunings.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from feddpd import read_tables
from table import machine_facts, machine_line

from regl_app.config.parsing import parse_variants
from regl_app.core.files import write_json, write_text
from regl_app.runs.comparison.tables import markdown_table
from regl_app.runs.folder import RunFolder
from regl_app.runs.statistics import mean_interval

KINDS = ("reward", "implicit")
TABLE = "preferences-digits-beta0.01"
RESULT = Path(__file__).resolve().parent / "results" / "margins.md"


def main() -> None:
    """Write the table of margins from the finished runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", default="runs/benchmarks", help="folder of the run folders")
    options = parser.parse_args()
    facts, table = machine_facts(), read_tables()[TABLE]
    rows: list[list[str]] = []
    first: list[float] = []
    for name, settings in parse_variants(table["rows"]).items():
        if settings.get("supplement.adapter") != "dpo":
            continue
        found = []
        for seed in range(options.seeds):
            folder = RunFolder.open(Path(options.runs) / table["runs"] / f"{name}-s{seed}")
            found.append(_tunings(folder))
        every = [tuning for run in found for tuning in run]
        implicit = [_average(margin for _, margin in run) for run in found]
        first = first or implicit
        less = [own - other for own, other in zip(implicit, first, strict=True)]
        rows.append(
            [
                name,
                _mean([_average(reward for reward, _ in run) for run in found]),
                _mean(implicit),
                _mean(less) if rows else "",
                f"{sum(margin > 0 for _, margin in every)} of {len(every)}",
            ]
        )
    header = [
        "preferences",
        "margin in reward",
        "implicit margin",
        "paired, less the first",
        "grown in",
    ]
    text = f"""{TABLE}, {options.seeds} seeds; `python benchmarks/margins.py`

{markdown_table(header, rows)}

Of every client's tuning in every round that tuned, averaged per run. The reward is in nats; the
implicit margin is that of the last step, and starts at 0.

{machine_line(facts)}
"""
    write_text(RESULT, text)
    write_json(RESULT.with_suffix(".json"), {"header": header, "rows": rows, "machine": facts})
    print(text)


def _tunings(folder: RunFolder) -> list[tuple[float, float]]:
    """Return margin in reward and implicit margin of every tuning."""
    found: dict[int, list[tuple[float, float]]] = {}
    for record in folder.read_history():
        for client, facts in record.clients.items():
            reward, implicit = (facts.get(f"adapter_{kind}_margin") for kind in KINDS)
            if isinstance(reward, float) and isinstance(implicit, float):
                found.setdefault(client, []).append((reward, implicit))
    # Later rounds tell again of the adapter that they go on with.
    rounds = folder.read_config().dpo.rounds
    return [tuning for tunings in found.values() for tuning in tunings[:rounds]]


def _average(values: Iterable[float]) -> float:
    return sum(held := list(values)) / len(held)


def _mean(values: Sequence[float]) -> str:
    return mean_interval(values).text(digits=2)


if __name__ == "__main__":
    main()
