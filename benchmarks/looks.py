"""How pure every look of a generator is: `python benchmarks/looks.py --data ROOT`.

A judge trained on the undisguised public images, the one of `regl pretrain`, reads held-out public
images in every look (what the disguise alone costs); beside it stands what it read of the images of
the generators that are there (`make bench-looks`), as `regl pretrain` wrote it into their folders.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from table import SOURCES, machine_facts, machine_line

from regl_app import ImageSet, RunConfig
from regl_app.core.files import write_json, write_text
from regl_app.data.looks import Look
from regl_app.generator.compatibility import ORIGIN
from regl_app.generator.pretraining.corpus import public_corpus
from regl_app.generator.pretraining.model_card import QUALITY
from regl_app.generator.pretraining.options import PretrainOptions
from regl_app.generator.pretraining.quality import train_judge
from regl_app.learning.evaluation.metrics import evaluate
from regl_app.runs.comparison.tables import markdown_table

RESULTS = Path(__file__).resolve().parent / "results"
FORMER = "inverted+blurred"
"""The default before purity was measured, and the look of older tables."""
DISGUISES = ("inverted", "blurred", "rotated", "sheared", "shrunk", "mirrored", "outlined")


def main() -> None:
    """Measure the disguises, read the generators' figures, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", choices=("fashion-mnist", "cifar10"), default="fashion-mnist")
    parser.add_argument("--data", required=True, help="root of the torchvision data sets")
    parser.add_argument("--generators", default="runs/generators", help="folder of their folders")
    options = parser.parse_args()
    torch.set_num_threads(1)
    machine = machine_facts()
    made = _generators(Path(options.generators), options.source)
    shares = _disguises(options.source, options.data, {FORMER, *DISGUISES, *made})
    plain = shares.pop("")
    text = f"""{options.source}, public fifth; `python benchmarks/looks.py --data <root>`

{table(shares, made)}

Purity: the share that a judge trained on the undisguised public images reads as meant; it reads
{plain:.1%} of held-out undisguised ones. "Disguise": of held-out public images in that look;
"generator" and "lowest class": of the images of a generator trained in that look, all and of the
class that is read worst; "own look": what a classifier of its own look reads as meant; "steps": of
its autoencoder and its denoiser.

{machine_line(machine)}
"""
    name = f"looks-{options.source}"
    write_text(RESULTS / f"{name}.md", text)
    content = {"undisguised": plain, "disguises": shares, "generators": made, "machine": machine}
    write_json(RESULTS / f"{name}.json", content)
    print(text)


def table(shares: Mapping[str, float], made: Mapping[str, dict[str, Any]]) -> str:
    """Return a line per look, the purest disguise first, with its generator's figures if any.

    Args:
        shares: of held-out images read as meant, by look.
        made: what lies in the generators' ``quality.json``, by look.
    """
    header = ["look", "disguise %", "generator %", "lowest class %", "own look %", "steps"]
    looks = sorted(shares, key=lambda look: -shares[look])
    rows = [[look, _percent(shares[look]), *_row(made.get(look))] for look in looks]
    return markdown_table(header, rows)


def _generators(folder: Path, source: str) -> dict[str, dict[str, Any]]:
    """Return the figures of every generator of ``source`` below ``folder``, by look."""
    found = {}
    for path in sorted(folder.glob(f"*/{QUALITY}")):
        if not path.with_name(ORIGIN).is_file():
            continue
        origin = json.loads(path.with_name(ORIGIN).read_text(encoding="utf-8"))
        if origin["source"] == source:
            found[str(origin["look"])] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _disguises(source: str, data: str, looks: set[str]) -> dict[str, float]:
    """Return which share of held-out public images is read as meant, by look; '' is undisguised."""
    flat = SOURCES[source] | {"data.source": source, "data.path": data}
    corpus = public_corpus(RunConfig.from_flat(flat).data, FORMER)
    plain, classes = corpus.undisguised, len(corpus.concepts)
    if plain is None:
        raise SystemExit(f"{source} has no public images")
    options = PretrainOptions()
    judge = train_judge(plain, classes, options.seed, options.judge_steps)

    def read(images: torch.Tensor) -> float:
        found = ImageSet(images, plain.held_out.labels)
        return evaluate(judge, found, classes, torch.device("cpu")).accuracy

    images = plain.held_out.images
    return {"": read(images)} | {look: read(Look.parse(look).of(images)) for look in looks}


def _row(figures: dict[str, Any] | None) -> list[str]:
    if figures is None:
        return [""] * 4
    purity = figures["purity"]
    lowest = min(share for share in purity["per_class"] if share is not None)
    steps = f"{figures['autoencoder_steps']:,} + {figures['denoiser_steps']:,}"
    return [_percent(purity["samples"]), _percent(lowest), _percent(figures["accuracy"]), steps]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


if __name__ == "__main__":
    main()
