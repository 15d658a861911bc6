"""What it brings to reject images: `python benchmarks/rejections.py [SOURCE...]`.

Ten clients, Dirichlet 0.01, ReGL's quotas drawn by the generator as shipped, taught as the methods
come (docs/teaching.md). A client trains on all that fill its quotas, or on fewer:

* experts: from round 2 on without those that the class experts, by the last round's uploads and
  true label counts, take for another class than they were asked for.
* veto: without those of other classes that look like the client's own: nearer to a real image of
  one of its classes, in the generator's latents, than 95 of a hundred of these are to one another.
* as few: after either, as many of each class as it leaves, at random: the control.

A run takes a minute of one core; figures that are there are not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from limits import as_few
from table import SOURCES, machine_facts, machine_line, measured_before

from regl_app import (
    Federation,
    ImageSet,
    RunConfig,
    client_quotas,
    federate,
    make_model,
    make_synthesizer,
)
from regl_app.core.files import write_json, write_text
from regl_app.core.seeding import numpy_generator
from regl_app.generator.foundation import Foundation
from regl_app.generator.image_conditioning import encode_latents
from regl_app.rounds.client import Client
from regl_app.rounds.experts import opinion, say
from regl_app.rounds.federate import FederatedRound
from regl_app.runs.comparison.tables import markdown_table
from regl_app.runs.statistics import mean_interval
from regl_app.supplement.client_generator import ClientGenerator

RESULT = Path(__file__).resolve().parent / "results" / "rejections.md"
WAYS = ("all", "experts", "experts, as few", "veto", "veto, as few")
CPU = torch.device("cpu")
_CLIENTS = 10
_SURE = 0.95
_FEW = 5
"""Images of a class below which it has no veto: its spread cannot be told."""

Keep = Callable[[Client, int, ImageSet], torch.Tensor]
"""(client, round, its images) -> which of them it trains on, bool ``(N,)``."""


def main() -> None:
    """Measure what is missing, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help="without: the digits")
    parser.add_argument("--data", help="root of the torchvision data sets")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found, machine = measured_before(RESULT)
    facts = machine_facts()
    for source in options.sources or ["digits"]:
        held = found.setdefault(source, {})
        for seed in range(options.seeds):
            for way in WAYS:
                runs = held.setdefault(way, {})
                if str(seed) in runs:
                    continue
                runs[str(seed)] = _run(source, seed, options.data, way)
                machine = facts
                print(f"{source}, seed {seed}, {way}: {runs[str(seed)]}", flush=True)
                write_json(RESULT.with_suffix(".json"), {"by_seed": found, "machine": machine})
    text = f"{_table(found)}\n\n{machine_line(machine)}\n"
    write_text(RESULT, text)
    print(text)


def _run(source: str, seed: int, data: str | None, way: str) -> dict[str, float]:
    """Return accuracies of the last round and in the mean of all, and the share that is kept."""
    config = RunConfig.from_flat(
        {
            **SOURCES[source],
            **({"data.path": data} if data else {}),
            "data.source": source,
            "method": "regl-free",
            "supplement.measure": False,
            "partition.beta": 0.01,
            "seed": seed,
            "data.seed": seed,
        }
    )
    federation, last = Federation.load(config, _CLIENTS), _LastRound()
    keep = _keep(way, config, federation, last)
    kept, drawn = 0, 0

    def images(client: Client, number: int) -> ImageSet:
        nonlocal kept, drawn
        quotas = client_quotas(config, client.real_counts, number, client.name)
        frozen = ClientGenerator.frozen(client.name)
        whole = client.synthesizer.generate(quotas, frozen, client.data.train).images
        left = whole.subset(torch.nonzero(keep(client, number, whole)).flatten())
        if way.endswith("as few"):
            draw = numpy_generator(seed, "rejections", client.partition_id, number)
            left = as_few(whole, left, draw)
        kept, drawn = kept + len(left), drawn + len(whole)
        return left

    done = federate(config, _CLIENTS, own_images=images, on_round=last.take)
    accuracies = [each.metrics.accuracy for each in done.rounds[1:]]
    mean = sum(accuracies) / len(accuracies)
    return {"accuracy": accuracies[-1], "mean_accuracy": mean, "kept": kept / drawn}


class _LastRound:
    """What the clients uploaded in the last round."""

    def __init__(self) -> None:
        self.done: FederatedRound | None = None

    def take(self, done: FederatedRound) -> None:
        self.done = done


def _keep(way: str, config: RunConfig, federation: Federation, last: _LastRound) -> Keep:
    if way.startswith("experts"):
        model, classes = make_model(config, federation), federation.num_classes
        counts = [federation.client(key).train.counts(classes) for key in range(_CLIENTS)]

        def read(client: Client, number: int, images: ImageSet) -> torch.Tensor:
            if last.done is None or number == 1 or len(images) == 0:
                return torch.ones(len(images), dtype=torch.bool)
            uploads = {k: r for k, r in last.done.results.items() if r.weights is not None}
            held = np.array([counts[key] for key in uploads], dtype=np.float64)
            states = [each.weights for each in uploads.values() if each.weights is not None]
            found = opinion(states, say(uploads, held), model, images, CPU)
            return found.argmax(dim=1) == images.labels

        return read
    if way.startswith("veto"):
        fitted = make_synthesizer(config, federation).config.generator  # to the checkpoint
        foundation = Foundation.load(fitted, federation.source.concepts)
        vetoes: dict[int, _Veto] = {}

        def unlike(client: Client, number: int, images: ImageSet) -> torch.Tensor:
            key = client.partition_id
            if key not in vetoes:
                vetoes[key] = _Veto(foundation, client.data.train)
            return vetoes[key].passes(images)

        return unlike
    return lambda client, number, images: torch.ones(len(images), dtype=torch.bool)


class _Veto:
    """A client's objection to images that look like its own classes and are called others."""

    def __init__(self, foundation: Foundation, real: ImageSet) -> None:
        self._foundation = foundation
        latents = self._latents(real)
        self._classes: dict[int, tuple[torch.Tensor, float]] = {}
        for label in np.unique(real.labels.numpy()).tolist():
            own = latents[real.labels == label]
            if len(own) < _FEW:
                continue
            apart = torch.cdist(own, own).fill_diagonal_(float("inf")).min(dim=1).values
            self._classes[label] = own, float(torch.quantile(apart, _SURE))

    def passes(self, images: ImageSet) -> torch.Tensor:
        """Return which images nobody objects to, bool ``(N,)``."""
        found = torch.ones(len(images), dtype=torch.bool)
        if len(images) == 0:
            return found
        latents = self._latents(images)
        for label, (own, near) in self._classes.items():
            alike = torch.cdist(latents, own).min(dim=1).values < near
            found &= ~(alike & (images.labels != label))
        return found

    def _latents(self, images: ImageSet) -> torch.Tensor:
        return encode_latents(self._foundation, images.pixels, 64).float().flatten(1)


def _table(found: dict[str, dict[str, dict[str, dict[str, float]]]]) -> str:
    rows = []
    for source, ways in found.items():
        for way, runs in ways.items():
            share = mean_interval([run["kept"] for run in runs.values()])
            cells = [source, way, str(len(runs)), f"{100 * share.mean:.0f}"]
            for figure in ("accuracy", "mean_accuracy"):
                cells.append(mean_interval([run[figure] for run in runs.values()]).text(100))
                for other in ("all", f"{way}, as few"):
                    theirs = {} if other == way else ways.get(other, {})
                    pairs = [
                        run[figure] - theirs[seed][figure]
                        for seed, run in runs.items()
                        if seed in theirs
                    ]
                    cells.append(mean_interval(pairs).text(100) if pairs else "")
            rows.append(cells)
    heads = ["images", "trained on", "seeds", "kept %"]
    for figure in ("last round %", "mean of all rounds %"):
        heads += [figure, "less all", "less as few"]
    root = " --data <root>" * any(source != "digits" for source in found)
    return f"""`python benchmarks/rejections.py {" ".join(found)}{root}`

{markdown_table(heads, rows)}

Global accuracy after ten rounds and in their mean, mean and 95 % interval; differences in points,
paired by seed."""


if __name__ == "__main__":
    main()
