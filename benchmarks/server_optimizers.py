"""What rates do Flower's optimizers at the server stand? `python benchmarks/server_optimizers.py`.

FedAvg's clients on the digits of 16 pixels, five clients, eight rounds of 20 steps, each strategy
at several ``server.eta``: where keys are 'auto', they were chosen here. On seeds 100 and 101, which
no other table uses. Goes on where it was interrupted; half an hour on two cores that are busy.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from table import machine_facts, machine_line

from regl_app.config import RunConfig
from regl_app.core.files import write_json, write_text
from regl_app.core.log import setup_logging
from regl_app.core.types import Scalar
from regl_app.flower.engines.in_process import run_in_process
from regl_app.runs.comparison.tables import markdown_table
from regl_app.runs.folder import RunFolder

RESULT = Path(__file__).resolve().parent / "results" / "server_optimizers.md"
BETAS, SEEDS, CLIENTS, LAST = (0.1, 0.01), (100, 101), 5, 3
SETTINGS: dict[str, Scalar] = {
    "method": "fedavg",
    "rounds": 8,
    "train.steps": 20,
    "data.image-size": 16,
    "data.max-test": 300,
    "server.personalized-every": 0,
    "tensorboard": False,
    "report": False,
}
ROWS: dict[str, dict[str, Scalar]] = {
    "fedavg": {},
    "fedavgm": {"server.strategy": "fedavgm"},
    **{
        f"{name}, eta {eta:g}": {"server.strategy": name, "server.eta": eta}
        for name in ("fedadagrad", "fedadam", "fedyogi")
        for eta in (0.01, 0.1)
    },
    "fedadam, eta 0.01, tau 0.01": {
        "server.strategy": "fedadam",
        "server.eta": 0.01,
        "server.tau": 0.01,
    },
}


def accuracies(row: dict[str, Scalar], beta: float, seed: int) -> list[float]:
    """Return the global accuracy of every round, the untrained model's first."""
    own: dict[str, Scalar] = {"partition.beta": beta, "seed": seed, "data.seed": seed}
    with tempfile.TemporaryDirectory(prefix="regl-benchmark-") as scratch:
        config = RunConfig.from_flat(SETTINGS | row | own | {"out-dir": scratch})
        history = RunFolder.open(run_in_process(config, clients=CLIENTS, workers=1)).read_history()
    return [record.metrics.accuracy for record in history]


def figures(runs: list[list[float]]) -> str:
    """Return the last rounds' mean accuracy and the deepest fall from one round to the next, %."""
    last = statistics.mean(statistics.mean(each[-LAST:]) for each in runs)
    fall = max(before - after for each in runs for before, after in itertools.pairwise(each))
    return f"{100 * last:.1f} ({max(0.0, 100 * fall):.0f})"


def page(done: dict[str, list[float]], facts: dict[str, Any]) -> str:
    """Return the table of the rows that are complete."""
    rows = []
    for name in ROWS:
        runs = [
            [done[key] for seed in SEEDS if (key := _key(name, beta, seed)) in done]
            for beta in BETAS
        ]
        if all(len(each) == len(SEEDS) for each in runs):
            rows.append([name, *map(figures, runs)])
    table = markdown_table(["", *(f"Dirichlet {beta:g}" for beta in BETAS)], rows)
    return f"""digits of 16 pixels, {CLIENTS} clients; `python benchmarks/server_optimizers.py`

{table}

Global accuracy %, mean of the last {LAST} of {SETTINGS["rounds"]} rounds and of seeds \
{" and ".join(map(str, SEEDS))}; in brackets the deepest fall from one round to the next, in points.

{machine_line(facts)}
"""


def main() -> None:
    """Measure what is not there yet, and write table and figures."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    facts = machine_facts()
    setup_logging()
    figures_file = RESULT.with_suffix(".json")
    done: dict[str, list[float]] = {}
    if figures_file.is_file():
        done = json.loads(figures_file.read_text(encoding="utf-8"))["accuracy"]
    for name, row in ROWS.items():
        for beta in BETAS:
            for seed in SEEDS:
                key = _key(name, beta, seed)
                if key not in done:
                    done[key] = [round(each, 4) for each in accuracies(row, beta, seed)]
                    write_json(figures_file, {"accuracy": done, "machine": facts})
    text = page(done, facts)
    write_text(RESULT, text)
    print(text)


def _key(name: str, beta: float, seed: int) -> str:
    return f"{name}; {beta:g}; {seed}"


if __name__ == "__main__":
    main()
