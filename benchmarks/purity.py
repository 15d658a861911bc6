"""What images that are what they are labelled as are worth: `python benchmarks/purity.py [SOURCE]`.

Digits or another source of table.py, ten clients, Dirichlet 0.01, ReGL's quotas; each seed has its
own split. All images are the frozen generator's. A judge, trained on all real images, reads 400 of
every class; a share of those that each client gets is drawn from what it reads as meant, the rest
from what it does not, so that look and number stay and only the purity differs. ``hard``: labels as
the papers have them; ``taught``: soft labels and an expert head (docs/teaching.md), as the methods
come.

A run takes a minute of one core; figures that are there are not measured again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from demo_picture import COLOURS, STYLE
from limits import JUDGE_STEPS, read_as_meant, trained
from table import SOURCES, machine_facts, machine_line

from regl_app import Federation, ImageSet, RunConfig, client_quotas, federate, make_synthesizer
from regl_app.core.files import write_json, write_text
from regl_app.core.seeding import numpy_generator
from regl_app.core.types import Scalar
from regl_app.rounds.client import Client
from regl_app.runs.comparison.tables import markdown_table
from regl_app.runs.report.svg import Svg
from regl_app.runs.statistics import mean_interval
from regl_app.supplement.client_generator import ClientGenerator

RESULTS = Path(__file__).resolve().parent / "results"
PURITIES = (0.25, 0.5, 0.75, 1.0)
LABELS: dict[str, dict[str, Scalar]] = {"hard": {"labels.by": "hard"}, "taught": {}}
_CLIENTS, _LAST, _CANDIDATES = 10, 3, 400
Found = dict[str, dict[str, dict[str, float]]]
"""Accuracy by labels, purity and seed."""


def main() -> None:
    """Measure every purity with every seed, write table and picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", choices=sorted(SOURCES), default="digits")
    parser.add_argument("--data", help="root of the torchvision data sets")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--cache-dir", default="", help="as the key cache-dir")
    options = parser.parse_args()
    torch.set_num_threads(1)
    source: str = options.source
    result = RESULTS / ("purity.md" if source == "digits" else f"purity-{source}.md")
    facts, (found, measured_on) = machine_facts(), _measured_before(result)
    where: dict[str, Scalar] = {"data.path": options.data} if options.data else {}
    for seed in range(options.seeds):
        base: dict[str, Scalar] = {
            **SOURCES[source],
            **where,
            "data.source": source,
            "method": "regl-free",
            "partition.beta": 0.01,
            "seed": seed,
            "data.seed": seed,
            "rounds": options.rounds,
            "pool.per-class": _CANDIDATES,
            "cache-dir": options.cache_dir,
        }
        missing = [
            (name, purity)
            for name in LABELS
            for purity in PURITIES
            if str(seed) not in found[name].get(f"{purity:g}", {})
        ]
        if not missing:
            continue
        images, right = _judged(RunConfig.from_flat(base))
        for name, purity in missing:
            config = RunConfig.from_flat({**base, **LABELS[name]})
            accuracy, measured_on = _accuracy(config, images, right, purity), facts
            found[name].setdefault(f"{purity:g}", {})[str(seed)] = accuracy
            print(f"seed {seed}, {name}, {purity:.0%}: {accuracy:.3f}", flush=True)
            write_json(result.with_suffix(".json"), {"by_seed": found, "machine": measured_on})
    text = f"{_table(found, source)}\n\n{machine_line(measured_on)}\n"
    write_text(result, text)
    write_text(result.with_suffix(".svg"), picture(found))
    print(text)


def _measured_before(result: Path) -> tuple[Found, dict[str, str]]:
    path = result.with_suffix(".json")
    before: dict[str, Any] = {"by_seed": {}, "machine": {}}
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
    return {name: before["by_seed"].get(name, {}) for name in LABELS}, before["machine"]


def _judged(config: RunConfig) -> tuple[ImageSet, np.ndarray]:
    """Return candidates of every class and which of them are read as meant."""
    federation = Federation.load(config, _CLIENTS)
    judge = trained(config, federation, federation.pooled(), JUDGE_STEPS)
    images = make_synthesizer(config, federation).pool(ClientGenerator.frozen("pool")).images
    return images, read_as_meant(judge, images).numpy()


def mixed(right: np.ndarray, purity: float, count: int, draw: np.random.Generator) -> np.ndarray:
    """Return ``count`` places of one class's candidates, ``purity`` of every prefix right.

    Args:
        right: which candidates are read as meant, ``(N,)``.
        purity: in [0, 1]; of a class without candidates of a kind all are of the other.
        count: places wanted; those of a kind are used again where they do not suffice.
        draw: what orders them.
    """
    if right.all() or not right.any():
        purity = float(right.all())
    steps = np.floor(np.arange(count + 1) * purity + 1e-9)
    is_right = np.diff(steps) > 0
    places = np.empty(count, dtype=np.int64)
    for kind in (True, False):
        wanted, there = int((is_right == kind).sum()), np.flatnonzero(right == kind)
        again = -(-wanted // max(len(there), 1))
        places[is_right == kind] = np.tile(draw.permutation(there), again)[:wanted]
    return places


def _accuracy(config: RunConfig, candidates: ImageSet, right: np.ndarray, purity: float) -> float:
    """Return the accuracy of the last rounds with images of ``purity``."""
    labels = candidates.labels.numpy()

    def images(client: Client, number: int) -> ImageSet:
        quotas = client_quotas(config, client.real_counts, number, client.name)
        most = client_quotas(config, client.real_counts, 1, client.name)
        chosen = []
        for label, (quota, first) in enumerate(zip(quotas, most, strict=True)):
            members = np.flatnonzero(labels == label)
            draw = numpy_generator(config.seed, "purity", client.partition_id, label)
            chosen.append(members[mixed(right[members], purity, int(first), draw)][:quota])
        return candidates.subset(np.concatenate(chosen))

    run = federate(config, _CLIENTS, own_images=images)
    return float(np.mean([each.metrics.accuracy for each in run.rounds[-_LAST:]]))


def _values(found: Found, name: str, purity: float) -> Sequence[float]:
    return list(found[name][f"{purity:g}"].values())


def _table(found: Found, source: str) -> str:
    seeds = len(found["hard"][f"{PURITIES[0]:g}"])
    rows = [
        [
            name,
            *(mean_interval(_values(found, name, p)).text(100) for p in PURITIES),
            mean_interval(_paid(found, name)).text(100),
        ]
        for name in LABELS
    ]
    gained = [
        mean_interval(
            [
                found["taught"][f"{p:g}"][seed] - accuracy
                for seed, accuracy in found["hard"][f"{p:g}"].items()
            ]
        ).text(100)
        for p in PURITIES
    ]
    rows.append(["taught, less hard", *gained, ""])
    least, most = PURITIES[0], PURITIES[-1]
    heads = [*(f"{p:.0%} read as meant" for p in PURITIES), f"{most:.0%} less {least:.0%}"]
    table = markdown_table(["labels", *heads], rows)
    command = "python benchmarks/purity.py" + (f" {source} --data <root>" * (source != "digits"))
    return f"""{source}, {_CLIENTS} clients, Dirichlet 0.01, ReGL's quotas, {seeds} seeds, each \
with its own split; `{command}`

{table}

Global accuracy over the last three rounds, %, mean and 95 % interval; below it and at
its end differences, paired by seed."""


def _paid(found: Found, name: str) -> list[float]:
    """Return what the most purity brings over the least, by seed."""
    least, most = (found[name][f"{p:g}"] for p in (PURITIES[0], PURITIES[-1]))
    return [most[seed] - accuracy for seed, accuracy in least.items()]


def picture(found: Found) -> str:
    """Return accuracy over purity, a curve for each kind of labels, as a picture of its own."""
    left, top, wide, high = 52.0, 12.0, 420.0, 240.0
    svg = Svg(left + wide + 130, top + high + 48)
    svg.text(left + 8, top + 18, "global accuracy")
    every = [v for name in LABELS for p in PURITIES for v in _values(found, name, p)]
    low = np.floor(20 * min(every)) / 20

    def place(purity: float, share: float) -> tuple[float, float]:
        return left + wide * purity, top + high * (1 - (share - low) / (1 - low))

    for share in np.arange(low, 1.001, 0.05):
        (start, y), (end, _) = place(0.0, share), place(1.0, share)
        svg.polyline([(start, y), (end, y)], class_="grid")
        svg.text(start - 8, y + 5, f"{share:.0%}", "end")
    for purity in (0.0, *PURITIES):
        x, y = place(purity, low)
        svg.text(x, y + 20, f"{purity:.0%}", "mid")
    svg.text(left + wide / 2, top + high + 42, "of the images are read as meant", "mid")
    for name, colour in zip(LABELS, COLOURS, strict=False):
        points = []
        for purity in PURITIES:
            values = _values(found, name, purity)
            points.append(place(purity, float(np.mean(values))))
            for value in values:
                x, y = place(purity, value)
                svg.add("circle", cx=x, cy=y, r=2.5, fill="none", stroke=colour)
        svg.polyline(points, fill="none", stroke=colour, stroke_width=2.5)
        x, y = points[-1]
        svg.text(x + 12, y + (5 if name == "taught" else 20), name, "name", style=f"fill:{colour}")
    text = str(svg.render("Global accuracy over the share of images that are read as meant"))
    text = text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return text.replace(">", f">{STYLE}", 1) + "\n"


if __name__ == "__main__":
    main()
