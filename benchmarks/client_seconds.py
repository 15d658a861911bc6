"""Does site 'server' cost its clients what FedAvg costs? `python benchmarks/client_seconds.py`.

Both run in turns on the digits, clients one after the other on one thread, so that a machine whose
speed drifts slows them alike; a ratio of each turn's median seconds per client and round.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from cost import client_seconds, run_rounds
from table import machine_facts, machine_line

from regl_app.core.files import write_json, write_text
from regl_app.core.log import setup_logging
from regl_app.core.types import Scalar
from regl_app.runs.comparison.tables import markdown_table
from regl_app.runs.statistics import mean_interval

RESULT = Path(__file__).resolve().parent / "results" / "client_seconds.md"
SITES: dict[str, dict[str, Scalar]] = {
    "fedavg": {"method": "fedavg"},
    "server": {"method": "feddpd", "supplement.adapter": "frozen"},
}


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    facts = machine_facts()
    setup_logging()
    seconds: dict[str, list[float]] = {name: [] for name in SITES}
    for turn in range(options.turns):
        # Who begins changes, as what runs second finds the machine warm.
        for name in list(SITES)[:: 1 if turn % 2 == 0 else -1]:
            history = run_rounds(SITES[name] | {"labels.by": "hard"}, options.rounds, 10)[1:]
            seconds[name].append(statistics.median(map(client_seconds, history)))
    ratios = [own / plain for own, plain in zip(seconds["server"], seconds["fedavg"], strict=True)]
    mean = mean_interval(ratios)
    rows = [[name, *(f"{value:.2f}" for value in values)] for name, values in seconds.items()]
    rows.append(["server / fedavg", *(f"{ratio:.2f}" for ratio in ratios)])
    table = markdown_table(["s per client and round", *map(str, range(1, options.turns + 1))], rows)
    text = f"""digits, 10 clients, Dirichlet 0.01, seed 0; `python benchmarks/client_seconds.py`

{table}

By turn; each the median of {options.rounds} rounds. Mean ratio {mean.text(digits=2)} (95 %
t-interval over turns).

{machine_line(facts)}
"""
    write_text(RESULT, text)
    write_json(RESULT.with_suffix(".json"), {"seconds": seconds, "machine": facts})
    print(text)


if __name__ == "__main__":
    main()
