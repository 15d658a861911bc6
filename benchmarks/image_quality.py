"""What do fidelity, diversity and near-copies tell? `python benchmarks/image_quality.py` (minutes).

A client has 60 real digits of each class and sets 30 images of each beside them, whose worth is
known: new real ones, copies and spoiled copies of its own, another class, noise, what the bundled
generator draws. Prints what `regl_app/supplement/image_quality.py` measures, mean over classes and
seeds, standard deviation over seeds in brackets, and the seconds of measuring a client.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from regl_app.config import RunConfig
from regl_app.core.activity import Span
from regl_app.data.images import ImageSet
from regl_app.data.resize import fit
from regl_app.data.sources.registry import load_source
from regl_app.generator.decoding import decode_latents
from regl_app.generator.foundation import Foundation
from regl_app.generator.image_conditioning import encode_latents
from regl_app.generator.sampling import sample
from regl_app.learning.models.build import build_model
from regl_app.supplement.image_quality import MEASURES, measure_quality

CONFIG = RunConfig.from_flat({"device": "cpu"})
TRAIN, MADE = 60, 30
Spoil = Callable[[torch.Tensor], torch.Tensor]


def split(images: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    """Return ``TRAIN`` images of each class, and ``MADE`` others."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    places = [order[images.labels[order] == label] for label in range(10)]
    train = torch.cat([each[:TRAIN] for each in places])
    return images.subset(train), images.subset(
        torch.cat([each[TRAIN : TRAIN + MADE] for each in places])
    )


def spoiled(seed: int) -> Mapping[str, Spoil]:
    """Return what is done to copies of training images, by name."""
    random = torch.Generator().manual_seed(seed)

    def noisy(deviation: float, images: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(images.shape, generator=random) * deviation
        return (images + noise).clamp(0, 255).byte()

    return {
        "copies": lambda images: images,
        "copies, noise of 20 levels": partial(noisy, 20.0),
        "copies, noise of 50 levels": partial(noisy, 50.0),
        "copies, blurred": lambda images: functional.avg_pool2d(images.float(), 3, 1, 1).byte(),
        "copies, moved by a pixel": lambda images: images.roll(1, 3),
        "copies, moved by two pixels": lambda images: images.roll(2, 3),
        "copies, darker by a fifth": lambda images: (images * 0.8).byte(),
    }


def rows(
    foundation: Foundation, train: ImageSet, new: ImageSet, seed: int
) -> dict[str, torch.Tensor]:
    """Return ``MADE`` images for each class, in the order of ``new``'s labels, by name."""
    own = torch.cat([train.images[train.labels == label][:MADE] for label in range(10)])
    one = new.images.view(10, MADE, *new.shape)[:, :1].expand(-1, MADE, -1, -1, -1)
    noise = torch.randint(0, 256, own.shape, generator=torch.Generator().manual_seed(seed))
    found = {
        "new real images": new.images,
        "the next class's real images": new.images.roll(-MADE, 0),
        "noise": noise.byte(),
        "one real image over and over": one.flatten(0, 1),
    }
    found |= {name: spoil(own) for name, spoil in spoiled(seed).items()}
    latents = encode_latents(foundation, own, 100)
    found["copies, by the generator's VAE"] = decode_latents(foundation, latents, 100, train.shape)
    labels, indices = new.labels.tolist(), list(range(MADE)) * 10
    draw = partial(sample, foundation, labels, indices, stream=seed)
    found["the bundled generator's"] = fit(draw(CONFIG.generator), train.shape)
    for strength in (0.6, 0.2):
        keys = CONFIG.generator.model_copy(update={"image_strength": strength})
        found[f"its, from own images, generator.image-strength={strength:g}"] = fit(
            draw(keys, starts=latents), train.shape
        )
    return found


def main() -> None:
    """Print a line per kind of image."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    source = load_source(CONFIG.data)
    foundation = Foundation.load(CONFIG.generator, source.concepts)
    channels, side, _ = source.train.shape
    table: dict[str, list[list[float]]] = {}
    took = []
    for seed in range(parser.parse_args().seeds):
        embedding = build_model(CONFIG.model, 10, channels, side, seed)
        train, new = split(source.train, seed)
        nothing = ImageSet.empty(train.shape)
        for name, images in rows(foundation, train, new, seed).items():
            span, made = Span(), ImageSet(images, new.labels)
            quality = measure_quality(made, train, nothing, embedding, None, "cpu")
            took.append(span.seconds)
            told = [float(np.mean(getattr(quality, each))) for each in MEASURES[1:]]
            table.setdefault(name, []).append(told)
    print("| images | fidelity | diversity | near-copies |\n|---|---:|---:|---:|")
    for name, found in table.items():
        means, spreads = np.mean(found, axis=0), np.std(found, axis=0, ddof=1)
        cells = [f"{m:.2f} ({s:.2f})" for m, s in zip(means, spreads, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"\nmeasured in {np.median(took):.2f} s (median)")


if __name__ == "__main__":
    main()
