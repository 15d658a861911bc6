"""One adapter for all clients against one each: `python benchmarks/shared_adapter.py`.

Digits, ten clients, Dirichlet 0.01; each seed has its own split. A judge, trained on all real
images, tells how many of round 1's synthetic images are what they are labelled as; the run's rounds
tell what that brings, with soft labels and an expert head (docs/teaching.md).

* frozen, own: the methods regl-free and regl.
* shared: the method regl-shared, the clients' B averaged once or more often; 3 x 20 steps are as
  many as each client's own adapter takes.
* pooled: one adapter tuned on the images of all clients together, which nobody has: as many steps,
  A and B tuned.

Of some rows only images are made. It takes half an hour for a seed and goes on where it was
interrupted: figures that are there are not measured again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from limits import JUDGE_STEPS, SOFT, read_as_meant, trained
from table import machine_facts, machine_line

from regl_app import Federation, ImageSet, RunConfig, client_quotas, federate, make_synthesizer
from regl_app.config.paths import cache_dir
from regl_app.core.devices import resolve_device
from regl_app.core.files import write_json, write_text
from regl_app.core.types import Scalar
from regl_app.generator.adaptation.shared import SharedAdapter
from regl_app.rounds.client import Client, client_name
from regl_app.rounds.shared_adapter import AdapterTask, SharedTuning, tune_part
from regl_app.runs.comparison.tables import markdown_table
from regl_app.supplement.client_generator import ClientGenerator

RESULT = Path(__file__).resolve().parent / "results" / "shared-adapter.md"
_SHORT: dict[str, Scalar] = {"lora.steps": 20, "lora.lr": 0.01}
ROWS: dict[str, dict[str, Scalar]] = {
    "frozen": {"method": "regl-free"},
    "own": {"method": "regl"},
    "shared, 1 round": {"method": "regl-shared", "lora.rounds": 1},
    "shared, 3 rounds": {"method": "regl-shared", "lora.rounds": 3},
    "shared, 3 x 20 steps, lr 0.01": {"method": "regl-shared", "lora.rounds": 3, **_SHORT},
    "shared, 6 x 20 steps, lr 0.01": {"method": "regl-shared", "lora.rounds": 6, **_SHORT},
    "pooled": {"method": "regl"},
}
_IMAGES_ALONE = ("shared, 1 round", "shared, 3 x 20 steps, lr 0.01", "pooled")
_CLIENTS, _LAST, _EARLY = 10, 3, 3


@dataclass(frozen=True)
class Found:
    """One row's figures with one seed; ``sent`` are bytes that a client uploads before round 1."""

    read_as_meant: float
    by_class: list[float]
    sent: int
    accuracies: list[float]


def main() -> None:
    """Measure every row with every seed and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--cache-dir", default="", help="as the key cache-dir")
    options = parser.parse_args()
    torch.set_num_threads(1)
    facts, (found, measured_on) = machine_facts(), _measured_before()
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        base: dict[str, Scalar] = {
            "partition.beta": 0.01,
            "seed": seed,
            "data.seed": seed,
            "rounds": options.rounds,
            "cache-dir": options.cache_dir,
            **SOFT,
        }
        missing = [name for name in ROWS if seed not in found[name]]
        for name, result in _measure(base, missing):
            found[name][seed], measured_on = result, facts
            print(f"seed {seed}, {name}: {result}", flush=True)
            figures = {
                each: {str(key): vars(value) for key, value in rows.items()}
                for each, rows in found.items()
            }
            write_json(RESULT.with_suffix(".json"), {"by_seed": figures, "machine": facts})
    text = f"{_table(found, options)}\n\n{machine_line(measured_on)}\n"
    write_text(RESULT, text)
    print(text)


def _measured_before() -> tuple[dict[str, dict[int, Found]], dict[str, str]]:
    """Return the figures that are there, by row and seed, and what they were measured on."""
    path = RESULT.with_suffix(".json")
    before: dict[str, Any] = {"by_seed": {}, "machine": {}}
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
    figures = {
        name: {int(seed): Found(**each) for seed, each in before["by_seed"].get(name, {}).items()}
        for name in ROWS
    }
    return figures, before["machine"]


def _measure(base: dict[str, Scalar], rows: Sequence[str]) -> Iterator[tuple[str, Found]]:
    if not rows:
        return
    plain = RunConfig.from_flat({**base, "method": "regl"})
    federation = Federation.load(plain, _CLIENTS)
    judge = trained(plain, federation, federation.pooled(), JUDGE_STEPS)
    for name in rows:
        config = RunConfig.from_flat({**base, **ROWS[name]})
        generators, sent = _generators(name, config, federation)
        images = _images(config, federation, generators)
        whole = ImageSet.concat(images)
        right, classes = read_as_meant(judge, whole), range(federation.num_classes)
        accuracies: list[float] = []
        if name not in _IMAGES_ALONE:
            run = federate(config, _CLIENTS)
            accuracies = [each.metrics.accuracy for each in run.rounds]
        yield (
            name,
            Found(
                float(right.float().mean()),
                [float(right[whole.labels == label].float().mean()) for label in classes],
                sent,
                accuracies,
            ),
        )


def _generators(
    name: str, config: RunConfig, federation: Federation
) -> tuple[list[ClientGenerator], int]:
    """Return the clients' generators, and how many bytes of B each sent for them in all."""
    synthesizer = make_synthesizer(config, federation)
    names = [client_name(key) for key in range(_CLIENTS)]
    if name == "pooled":
        one = synthesizer.adapt("all", federation.pooled())
        return [ClientGenerator(each, one.path, one.digest) for each in names], 0
    if not config.shares_adapter:
        parts = [federation.client(key).train for key in range(_CLIENTS)]
        return [synthesizer.adapt(n, p) for n, p in zip(names, parts, strict=True)], 0
    device, folder = resolve_device(config.device), cache_dir(config)
    clients = [
        Client(config, key, federation.source, federation.client(key), device, folder, each)
        for key, each in enumerate(names)
    ]
    tuning, sent = SharedTuning(), 0
    for number in range(1, config.lora.rounds + 1):
        task = AdapterTask(number, tuning.up)
        tuning.add({client.partition_id: tune_part(client, task) for client in clients})
        sent += sum(value.numel() * value.element_size() for value in tuning.up.values())
    adapter = SharedAdapter.of(tuning.up)
    return [synthesizer.shared(each, adapter) for each in names], sent


def _images(
    config: RunConfig, federation: Federation, generators: Sequence[ClientGenerator]
) -> list[ImageSet]:
    """Return each client's synthetic images of round 1."""
    synthesizer, made = make_synthesizer(config, federation), []
    for key, generator in enumerate(generators):
        real = federation.client(key).train
        quotas = client_quotas(config, real.counts(federation.num_classes), 1, f"client {key}")
        made.append(synthesizer.generate(quotas, generator, real).images)
    return made


def _table(found: dict[str, dict[int, Found]], options: argparse.Namespace) -> str:
    seeds = range(options.first_seed, options.first_seed + options.seeds)

    def each(rows: dict[int, Found], figure: Callable[[Found], float | None]) -> str:
        values = [figure(rows[seed]) for seed in seeds]
        return " / ".join("-" if value is None else f"{100 * value:.1f}" for value in values)

    def after(number: int) -> Callable[[Found], float | None]:
        return lambda row: row.accuracies[number] if row.accuracies else None

    def late(row: Found) -> float | None:
        return sum(row.accuracies[-_LAST:]) / _LAST if row.accuracies else None

    lines = []
    for name, rows in found.items():
        sent = max(row.sent for row in rows.values())
        lines.append(
            [
                name,
                each(rows, lambda row: row.read_as_meant),
                each(rows, lambda row: min(row.by_class)),
                each(rows, after(_EARLY)),
                each(rows, late),
                f"{sent / 1e6:.2f}" if sent else "-",
            ]
        )
    head = [
        *("adapter", "read as meant %", "worst class %", f"after round {_EARLY} %"),
        *(f"mean of the last {_LAST} rounds %", "a client's upload, MB"),
    ]
    listed = " / ".join(map(str, seeds))
    command = f"python benchmarks/shared_adapter.py --seeds {options.seeds}"
    federation = f"digits, {_CLIENTS} clients, Dirichlet 0.01, {options.rounds} rounds"
    return f"""{federation}, seeds {listed} (each with its own split); `{command}`

{markdown_table(head, lines)}

Read as meant: share of round 1's images that a judge, trained on all real images, takes for what
they are labelled as. Accuracies with `labels.by=global` and `teaching.head=experts`."""


if __name__ == "__main__":
    main()
