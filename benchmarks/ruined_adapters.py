"""When is an adapter ruined? `python benchmarks/ruined_adapters.py` (half an hour on one core).

Tunes the bundled generator at sound and at absurd rates, LoRA on a client's digits and on the same
inverted, preferences on pairs that a small classifier ranks; prints what the check of
`regl_app/generator/adaptation/ruin.py` finds (`strange`), beside the share of drawn digits that the
classifier reads as meant (`read`), and the check's time over that of the tuning (`cost`).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from regl_app.config import RunConfig
from regl_app.config.supplement_sections import DpoConfig
from regl_app.core.activity import Span
from regl_app.core.types import Tensors
from regl_app.data.images import ImageSet, to_float
from regl_app.data.resize import fit
from regl_app.data.sources.registry import load_source
from regl_app.generator.adaptation.dpo import tune_dpo
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.adaptation.ruin import LIMITS, Known, strangeness
from regl_app.generator.foundation import Foundation
from regl_app.generator.pool import Pool, sample_pool
from regl_app.generator.sampling import sample
from regl_app.supplement.preference_pairs import rank_pairs

CONFIG = RunConfig.from_flat({})
LORA_RATES = (1e-3, 5e-3, 2e-2, 5e-2, 0.1, 1.0)
PREFERENCES: tuple[dict[str, float], ...] = (
    {},
    {"beta": 500.0, "lr": 1e-3, "steps": 40},
    {"beta": 5000.0, "lr": 1e-2},
    {"lr": 1e-2},
    {"beta": 500.0, "lr": 0.02},
    {"beta": 5000.0, "lr": 0.05},
    {"lr": 0.1},
)
Row = tuple[str, Callable[[int], Tensors], ImageSet | None]


def reader(train: ImageSet) -> nn.Module:
    """Return a classifier of digits, good enough to tell drawn ones from noise."""
    random = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.LazyLinear(128), nn.ReLU(), nn.Linear(128, 10))
        images = to_float(train.images)
        model(images[:1])
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(600):
        chosen = torch.randint(len(images), (128,), generator=random)
        noise = torch.randn(images[chosen].shape, generator=random)
        loss = nn.functional.cross_entropy(
            model(images[chosen] + 0.1 * noise), train.labels[chosen]
        )
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return model.requires_grad_(False)


def rows(foundation: Foundation, train: ImageSet, pool: Pool, read: nn.Module) -> Iterator[Row]:
    """Yield a name, what tunes by a seed, and the client's images."""
    few = train.subset(torch.isin(train.labels, torch.arange(4)).nonzero().flatten()[:60])
    for look, real in (("", few), (" inverted", ImageSet(255 - few.images, few.labels))):
        for lr in LORA_RATES:
            lora = CONFIG.lora.model_copy(update={"lr": lr})
            yield (
                f"lora{look} lr={lr:g}",
                lambda seed, r=real, c=lora: tune_lora(foundation, r, c, seed=seed).state,  # type: ignore[misc]
                real,
            )
    logits = read(to_float(pool.images.images)).log_softmax(1)
    rewards = logits.gather(1, pool.labels[:, None]).flatten().double().numpy()
    ranked = rank_pairs(rewards, pool.labels.numpy(), CONFIG.dpo.quantile)
    pairs = torch.from_numpy(np.stack([ranked.winners, ranked.losers]))

    def prefer(config: DpoConfig, seed: int) -> Tensors:
        tuned = tune_dpo(
            foundation, pool.latents, pool.labels, pairs, config, CONFIG.lora, seed=seed
        )
        return tuned.state

    for changes in PREFERENCES:
        dpo = CONFIG.dpo.model_copy(update=changes)
        name = f"dpo beta={dpo.beta:g} lr={dpo.lr:g} steps={dpo.steps}"
        yield name, lambda seed, c=dpo: prefer(c, seed), None  # type: ignore[misc]


def main() -> None:
    """Print a line per row: strangeness at each seed, digits read as meant, cost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    source = load_source(CONFIG.data)
    foundation = Foundation.load(CONFIG.generator, source.concepts)
    read = reader(source.train)
    meant = torch.arange(40) % 10
    with tempfile.TemporaryDirectory() as folder:
        pool = sample_pool(
            foundation,
            CONFIG.generator,
            source.train.shape,
            per_class=24,
            stream=4,
            path=Path(folder) / "pool",
        )

    def readable(state: Tensors) -> float:
        with foundation.adapters.using(state, "row"):
            places = [place // 10 for place in range(40)]
            images = sample(foundation, meant, places, CONFIG.generator, stream=5)
        seen = read(to_float(fit(images, source.train.shape))).argmax(1)
        return float((seen == meant).float().mean())

    print(f"limits {LIMITS}; frozen read {readable({}):.2f}")
    print("| tuned | strange, by seed | read, by seed | cost, by seed |\n|---|---|---|---|")
    for name, tune, real in rows(foundation, source.train, pool, read):
        cells: list[tuple[str, str, str]] = []
        for seed in seeds:
            span = Span()
            try:
                state = tune(seed)
            except Exception as error:  # a row of the table, whatever it is
                cells.append(("-", str(error).partition(":")[0], "-"))
                continue
            tuning, span = span.seconds, Span()
            known = (
                Known.drawn(foundation, pool)
                if real is None
                else Known.real(foundation, real, CONFIG.generator.batch_size)
            )
            strangeness(foundation, CONFIG.generator, state, {}, known)
            cost = span.seconds / tuning
            strange = strangeness(foundation, CONFIG.generator, state, {}, known, exact=True)
            try:
                legible = f"{readable(state):.2f}"
            except Exception:
                legible = "no number"
            cells.append((f"{strange:.1f}", legible, f"{cost:.1%}"))
        print(
            f"| {name} | {' | '.join(' '.join(part) for part in zip(*cells, strict=True))} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
