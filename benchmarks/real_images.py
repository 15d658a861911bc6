"""What other clients' real images bring: `python benchmarks/real_images.py [SOURCE...]`.

They are the supplement here, which no client could have: a bound for images that are taken for what
they are labelled as. Ten clients, rounds, splits and quotas as in docs/teaching-results.md,
Dirichlet 0.01 and 0.1. Their labels are true, so they are taught hard. Beside them `regl` and
`central` of those tables, paired by seed.

A run takes a minute of one core; figures that are there are not measured again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from limits import first_images, others_real
from table import SOURCES, machine_facts, machine_line, measured_before

from regl_app import Federation, ImageSet, RunConfig, client_quotas, federate
from regl_app.core.files import write_json, write_text
from regl_app.rounds.client import Client
from regl_app.runs.comparison.tables import markdown_table
from regl_app.runs.statistics import mean_interval

RESULTS = Path(__file__).resolve().parent / "results"
RESULT = RESULTS / "real-images.md"
BETAS = (0.01, 0.1)
BESIDE = ("regl", "central")
_CLIENTS = 10
Found = dict[str, dict[str, float]]
"""Accuracy by ``SOURCE-betaBETA`` and seed."""


def main() -> None:
    """Measure what is missing, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help="without: the digits")
    parser.add_argument("--data", help="root of the torchvision data sets")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: Found
    found, machine = measured_before(RESULT)
    facts = machine_facts()
    for source in options.sources or ["digits"]:
        for beta in BETAS:
            held = found.setdefault(f"{source}-beta{beta:g}", {})
            for seed in range(options.seeds):
                if str(seed) in held:
                    continue
                held[str(seed)] = _accuracy(source, beta, seed, options.data)
                machine = facts
                print(f"{source}, {beta:g}, seed {seed}: {held[str(seed)]:.3f}", flush=True)
                write_json(RESULT.with_suffix(".json"), {"by_seed": found, "machine": machine})
    text = f"{_table(found)}\n\n{machine_line(machine)}\n"
    write_text(RESULT, text)
    print(text)


def _accuracy(source: str, beta: float, seed: int, data: str | None) -> float:
    """Return the last round's accuracy with real images in the place of synthetic ones."""
    config = RunConfig.from_flat(
        {
            **SOURCES[source],
            **({"data.path": data} if data else {}),
            "data.source": source,
            "method": "regl-free",
            "labels.by": "hard",
            "partition.beta": beta,
            "seed": seed,
            "data.seed": seed,
        }
    )
    federation = Federation.load(config, _CLIENTS)
    kept: dict[int, ImageSet] = {}

    def images(client: Client, number: int) -> ImageSet:
        place = client.partition_id
        if place not in kept:
            most = client_quotas(config, client.real_counts, 1, client.name)
            kept[place] = others_real(federation, most, seed, place)
        quotas = client_quotas(config, client.real_counts, number, client.name)
        return first_images(kept[place], quotas)

    return federate(config, _CLIENTS, own_images=images).rounds[-1].metrics.accuracy


def _table(found: Found) -> str:
    rows, sources = [], dict.fromkeys(name.split("-beta")[0] for name in found)
    for name, values in found.items():
        source, beta = name.split("-beta")
        beside = json.loads((RESULTS / f"methods-{name}.json").read_text(encoding="utf-8"))
        cells = [mean_interval(list(values.values())).text(100)]
        for row in BESIDE:
            theirs = {
                str(each["seed"]): each["accuracy"]
                for each in beside["outcomes"]
                if each["method"] == row
            }
            pairs = [value - theirs[seed] for seed, value in values.items() if seed in theirs]
            cells.append(mean_interval(pairs).text(100))
        rows.append([source, beta, str(len(values)), *cells])
    heads = ["images", "Dirichlet", "seeds", "real images %", *(f"less {row}" for row in BESIDE)]
    root = " --data <root>" * any(source != "digits" for source in sources)
    return f"""{_CLIENTS} clients, ReGL's quotas filled with other clients' real images, each seed \
with its own split; `python benchmarks/real_images.py {" ".join(sources)}{root}`

{markdown_table(heads, rows)}

Global accuracy after ten rounds, mean and 95 % interval; differences in points, paired by seed."""


if __name__ == "__main__":
    main()
