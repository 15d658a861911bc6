"""What limits the supplement: `python benchmarks/limits.py`.

One federation, ReGL's quotas, plain federated averaging; only where the supplement comes from
differs, up to sources no real client could have (they show how far a better one would lead):

* none, frozen, lora: as the methods fedavg, regl-free and regl, with the same random streams.
* shared: one adapter tuned on the images of all clients together.
* frozen/lora, checked: each round's images less those that a judge, trained on all real images,
  reads otherwise.
* frozen, as few: as many of each class as checked leaves, drawn at random: the control of checked.
* frozen, soft: with soft labels and an expert head (docs/teaching.md).
* permuted, soft: likewise, each image under another class's name: what the prompt's class is worth.
* real: other clients' real images.

Prints the images of round 1 (the budget decays as in the methods), how many of them the judge reads
as meant, and the final accuracy.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from regl_app import (
    Federation,
    ImageSet,
    RunConfig,
    client_quotas,
    federate,
    make_model,
    make_synthesizer,
    train_local,
)
from regl_app.core.files import write_json, write_text
from regl_app.core.seeding import numpy_generator
from regl_app.core.types import Scalar
from regl_app.learning.evaluation.metrics import predict_log_probs
from regl_app.rounds.client import Client
from regl_app.runs.environment import describe_environment
from regl_app.runs.statistics import mean_interval
from regl_app.supplement.client_generator import ClientGenerator

RESULT = Path(__file__).resolve().parent / "results" / "limits-digits-beta0.01.md"
FIGURES = ("read_as_meant", "images", "accuracy")
SOFT: dict[str, Scalar] = {"labels.by": "global", "teaching.head": "experts"}
JUDGE_STEPS = 400
CPU = torch.device("cpu")
Choice = Callable[[ImageSet, np.random.Generator], ImageSet]


def main() -> None:
    """Measure every source with every seed and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    facts = describe_environment("cpu")  # before a result file makes the working tree dirty
    found: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(options.seeds):
        config = RunConfig.from_flat(
            {
                "method": "regl",
                "partition.beta": 0.01,
                "seed": seed,
                "rounds": options.rounds,
                "labels.by": "hard",
            }
        )
        federation = Federation.load(config, options.clients)
        judge = trained(config, federation, federation.pooled(), JUDGE_STEPS)
        for name, supplements in _sources(config, federation):
            choose = _choice(name, judge)
            everything = ImageSet.concat(list(supplements))
            whole = choose(everything, numpy_generator(seed, "limits", "as few"))
            right = float(read_as_meant(judge, whole).float().mean()) if len(whole) else 0.0
            keys = config.updated(SOFT) if name.endswith(", soft") else config
            accuracy = _accuracy(keys, supplements, choose)
            found.setdefault(name, []).append((right, len(whole), accuracy))
            print(f"seed {seed} {name}: {right:.3f} {len(whole)} {accuracy:.3f}", flush=True)
    text = _table(found, options, facts)
    write_text(RESULT, text)
    figures = {
        name: [dict(zip(FIGURES, value, strict=True)) for value in values]
        for name, values in found.items()
    }
    machine = {key: facts[key] for key in ("date", "revision", "python", "torch", "diffusers")}
    write_json(RESULT.with_suffix(".json"), {"by_seed": figures, "machine": machine})
    print(text)


def _sources(config: RunConfig, federation: Federation) -> Iterator[tuple[str, Sequence[ImageSet]]]:
    clients = [federation.client(k).train for k in range(federation.num_clients)]
    names = [f"client {k}" for k in range(len(clients))]  # as the app calls them
    quotas = [
        client_quotas(config, client.counts(federation.num_classes), 1, name)
        for client, name in zip(clients, names, strict=True)
    ]
    synthesizer = make_synthesizer(config, federation)

    def made(adaptations: Sequence[ClientGenerator]) -> list[ImageSet]:
        return [
            synthesizer.generate(quota, adaptation, real).images
            for quota, adaptation, real in zip(quotas, adaptations, clients, strict=True)
        ]

    yield "none", [ImageSet.empty(federation.source.train.shape)] * len(clients)
    frozen = made([ClientGenerator.frozen(name) for name in names])
    yield "frozen", frozen
    lora = made([synthesizer.adapt(n, c) for n, c in zip(names, clients, strict=True)])
    yield "lora", lora
    one = synthesizer.adapt("all", federation.pooled())
    yield "shared", made([ClientGenerator(name, one.path, one.digest) for name in names])
    yield "frozen, checked", frozen
    yield "frozen, as few", frozen
    yield "frozen, soft", frozen
    yield "permuted, soft", [_permuted(each, federation.num_classes) for each in frozen]
    yield "lora, checked", lora
    yield "real", [others_real(federation, quota, config.seed, k) for k, quota in enumerate(quotas)]


def first_images(images: ImageSet, quotas: np.ndarray) -> ImageSet:
    """Return the first ``quotas[c]`` images of every class c, as far as there are so many."""
    places = [torch.nonzero(images.labels == label).flatten() for label in range(len(quotas))]
    return images.subset(torch.cat([p[:q] for p, q in zip(places, quotas.tolist(), strict=True)]))


def others_real(federation: Federation, quota: np.ndarray, seed: int, client: int) -> ImageSet:
    """Return up to ``quota[c]`` real images of every class c from the other clients."""
    theirs = [federation.client(k).train for k in range(federation.num_clients) if k != client]
    images = ImageSet.concat(theirs)
    draw = numpy_generator(seed, "limits", client)
    places = [np.flatnonzero(images.labels.numpy() == label) for label in range(len(quota))]
    chosen = [
        draw.choice(held, min(int(wanted), len(held)), replace=False)
        for held, wanted in zip(places, quota, strict=True)
    ]
    return images.subset(np.concatenate(chosen))


def _permuted(images: ImageSet, classes: int) -> ImageSet:
    """Return the images under the next class's name."""
    return ImageSet(images.images, (images.labels + 1) % classes)


def _choice(name: str, judge: torch.nn.Module) -> Choice:
    """Return what is trained on of the images of source ``name``."""
    if name.endswith(", checked"):
        return lambda images, draw: _checked(images, judge)
    if name.endswith(", as few"):
        return lambda images, draw: as_few(images, _checked(images, judge), draw)
    return lambda images, draw: images


def _checked(images: ImageSet, judge: torch.nn.Module) -> ImageSet:
    """Return the images that ``judge`` reads as meant."""
    return images.subset(torch.nonzero(read_as_meant(judge, images)).flatten())


def as_few(images: ImageSet, others: ImageSet, draw: np.random.Generator) -> ImageSet:
    """Return as many images of each class as ``others`` has, drawn at random."""
    labels, wanted = images.labels.numpy(), others.labels.numpy()
    chosen = [
        draw.choice(np.flatnonzero(labels == label), int((wanted == label).sum()), replace=False)
        for label in np.unique(wanted)
    ]
    return images.subset(np.concatenate([np.empty(0, dtype=np.int64), *chosen]))


def read_as_meant(judge: torch.nn.Module, images: ImageSet) -> torch.Tensor:
    """Return which images ``judge`` takes for what they are labelled as, bool ``(N,)``."""
    if len(images) == 0:
        return torch.zeros(0, dtype=torch.bool)
    return predict_log_probs(judge, images.images, CPU).argmax(dim=1) == images.labels


def trained(
    config: RunConfig, federation: Federation, images: ImageSet, steps: int
) -> torch.nn.Module:
    """Return a classifier after ``steps`` on ``images``."""
    model = make_model(config, federation)
    longer = config.updated({"train.steps": steps})
    train_local(model, images, longer.train, seed=0, device=CPU)
    return model


def _accuracy(config: RunConfig, supplements: Sequence[ImageSet], choose: Choice) -> float:
    """Return the final accuracy when clients train on the first of their ``supplements``."""

    def images(client: Client, number: int) -> ImageSet:
        quotas = client_quotas(config, client.real_counts, number, client.name)
        draw = numpy_generator(config.seed, "limits", client.partition_id, number)
        return choose(first_images(supplements[client.partition_id], quotas), draw)

    run = federate(config, len(supplements), own_images=images)
    return run.rounds[-1].metrics.accuracy


def _table(
    found: dict[str, list[tuple[float, float, float]]],
    options: argparse.Namespace,
    facts: dict[str, str],
) -> str:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [
        f"digits, {options.clients} clients, Dirichlet 0.01, ReGL's quotas, {options.rounds} "
        f"rounds of federated averaging, {options.seeds} seeds on one split; "
        f"`python benchmarks/limits.py --seeds {options.seeds}`",
        "",
        "| supplement | images in round 1 | read as meant % | final accuracy % |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, values in found.items():
        right, images, accuracy = (mean_interval([value[i] for value in values]) for i in range(3))
        read = f"{100 * right.mean:.0f}" if images.mean else "-"
        lines.append(f"| {name} | {images.mean:.0f} | {read} | {accuracy.text(100)} |")
    lines += ["", f"1 CPU core, torch {facts['torch']}; {today}, revision {facts['revision']}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
