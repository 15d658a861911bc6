"""What of an adapter's effect half precision keeps: `python benchmarks/half_adapters.py`.

Tunes the bundled generator in float32 by the steps and rates that large checkpoints have, and asks
for the predictions of its denoiser with and without the adapter, of the same noisy latents, with
weights held in bf16 and in fp16. The *effect* is the difference of the two in float32. *Noise* is
what half precision does to a prediction without any adapter. What is *kept* is the effect's own
direction in the difference of the two in half precision (1: all of it): *merged* into the weights,
as images are drawn; merged with each weight rounded to the *nearest*; and *beside* the weights, in
layers of float32, as it was tuned. *Off* is what of that difference is not the effect, over the
effect. Some minutes of one core.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from table import machine_facts, machine_line

from regl_app.config import RunConfig
from regl_app.config.supplement_sections import DpoConfig, LoraConfig
from regl_app.core.files import write_json, write_text
from regl_app.core.precision import DTYPES, Precision
from regl_app.core.types import Tensors
from regl_app.data.images import ImageSet
from regl_app.data.sources.registry import load_source
from regl_app.generator import adapters as merging
from regl_app.generator.adaptation.dpo import tune_dpo
from regl_app.generator.adaptation.layers import lora_layers
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.adapters import AdapterSlot
from regl_app.generator.foundation import Foundation
from regl_app.generator.pool import sample_pool
from regl_app.runs.comparison.tables import markdown_table
from regl_app.supplement.preference_pairs import rank_pairs

RESULT = Path(__file__).resolve().parent / "results" / "half_adapters.md"
CONFIG = RunConfig.from_flat({})
LORA = LoraConfig(layers="attention", rank=16, alpha=16.0, steps=500, lr=1e-4, batch_size=16)
DPO = DpoConfig(beta=2000.0, steps=100, lr=1e-5)
HALVES: tuple[Precision, ...] = ("bf16", "fp16")
WAYS = ("merged", "nearest", "beside")
LATENTS = 128
QUESTIONS = 4
HEADER = (
    "adapter",
    "effect / prediction",
    "precision",
    "noise / effect",
    *("kept, merged", "kept, nearest", "kept, beside"),
    *("off, merged", "off, nearest", "off, beside"),
)


@dataclass(frozen=True)
class Question:
    """What denoisers are asked: noisy latents of all noise levels and classes."""

    latents: torch.Tensor
    timesteps: torch.Tensor
    rows: torch.Tensor

    @classmethod
    def of(cls, foundation: Foundation, seed: int) -> Question:
        """Return questions for ``foundation``: noise alone, as all but the last steps see."""
        random = torch.Generator().manual_seed(seed)
        return cls(
            torch.randn((LATENTS, *foundation.latent_shape), generator=random),
            torch.randint(50, 1000, (LATENTS,), generator=random),
            torch.arange(LATENTS) % foundation.num_classes,
        )

    @torch.no_grad()
    def put(self, foundation: Foundation) -> torch.Tensor:
        """Return the answers."""
        return foundation.predict(self.latents, self.timesteps, self.rows)


def held_in(precision: Precision, whole: Foundation) -> Foundation:
    """Return another foundation of the same weights, held in ``precision``."""
    fresh = Foundation.load(CONFIG.generator, load_source(CONFIG.data).concepts)
    for weight in fresh.denoiser.parameters():
        weight.data = weight.data.to(DTYPES[precision])
    return replace(
        fresh,
        precision=precision,
        held=precision,
        text=whole.text,
        adapters=AdapterSlot(fresh.denoiser, fresh.family.part, fresh.device),
    )


def beside(foundation: Foundation, state: Tensors, question: Question) -> torch.Tensor:
    """Return the answers with the adapter in layers of its own."""
    part, scale = foundation.family.part, LORA.alpha / LORA.rank
    with lora_layers(foundation, LORA, 0):
        for name, parameter in foundation.denoiser.named_parameters():
            if ".lora_" in name:
                value = state[f"{part}.{name.replace('.client.', '.')}"]
                parameter.data.copy_(value / scale if ".lora_B." in name else value)
        return question.put(foundation)


def adapters(foundation: Foundation, real: ImageSet) -> Iterator[tuple[str, Tensors]]:
    """Yield adapters by what they were tuned with."""
    for steps in (LORA.steps, LORA.steps // 5):
        lora = LORA.model_copy(update={"steps": steps})
        yield f"LoRA, {steps} steps at {lora.lr:g}", tune_lora(foundation, real, lora, seed=0).state
    with tempfile.TemporaryDirectory() as folder:
        pool = sample_pool(
            foundation,
            CONFIG.generator,
            real.shape,
            per_class=16,
            stream=4,
            path=Path(folder) / "pool",
        )
    # How bright an image is: any preference that can be learned will do.
    rewards = pool.images.images.double().mean((1, 2, 3)).numpy()
    ranked = rank_pairs(rewards, pool.labels.numpy(), CONFIG.dpo.quantile)
    pairs = torch.from_numpy(np.stack([ranked.winners, ranked.losers]))
    for steps in (500, DPO.steps):
        dpo = DPO.model_copy(update={"steps": steps})
        tuned = tune_dpo(foundation, pool.latents, pool.labels, pairs, dpo, LORA, seed=0)
        yield f"DPO, {steps} steps at {dpo.lr:g}", tuned.state


def main() -> None:
    """Measure and write ``results/half_adapters.md``."""
    source = load_source(CONFIG.data)
    whole = Foundation.load(
        CONFIG.generator.model_copy(update={"precision": "fp32"}), source.concepts
    )
    halves = {each: held_in(each, whole) for each in HALVES}
    questions = [Question.of(whole, seed) for seed in range(QUESTIONS)]
    rows, found = [], {}
    for name, state in adapters(whole, source.train.subset(torch.arange(200))):
        cells = {each: _measured(whole, half, state, questions) for each, half in halves.items()}
        found[name] = cells
        rows += [
            (
                name,
                f"{cell['effect']:.2g}",
                each,
                f"{cell['noise']:.1f}",
                *(f"{cell[f'{what}, {way}']:.2f}" for what in ("kept", "off") for way in WAYS),
            )
            for each, cell in cells.items()
        ]
    machine = machine_facts()
    text = (
        f"What half precision keeps of an adapter (the bundled generator, {QUESTIONS * LATENTS} "
        "noisy latents), `python benchmarks/half_adapters.py`\n\n"
        + markdown_table(HEADER, rows)
        + f"\n\n{machine_line(machine)}\n"
    )
    write_text(RESULT, text)
    write_json(RESULT.with_suffix(".json"), {"adapters": found, "machine": machine})
    print(text)


def _measured(
    whole: Foundation, half: Foundation, state: Tensors, questions: Sequence[Question]
) -> dict[str, float]:
    """Return a row's figures for one precision, of all questions together."""
    told = effects = noise = 0.0
    kept, off = dict.fromkeys(WAYS, 0.0), dict.fromkeys(WAYS, 0.0)
    for question in questions:
        plain, rough = question.put(whole), question.put(half)
        with whole.adapters.using(state, "adapter"):
            effect = question.put(whole) - plain
        with half.adapters.using(state, "adapter"):
            answers = {"merged": question.put(half)}
        with (
            mock.patch.object(merging, "rounded", lambda exact, dtype, _: exact.to(dtype)),
            half.adapters.using(state, "adapter"),
        ):
            answers["nearest"] = question.put(half)
        answers["beside"] = beside(half, state, question)
        told += float(plain.square().sum())
        effects += float(effect.square().sum())
        noise += float((rough - plain).square().sum())
        for way, answer in answers.items():
            kept[way] += float(((answer - rough) * effect).sum())
            off[way] += float((answer - rough - effect).square().sum())
    return {
        "effect": (effects / told) ** 0.5,
        "noise": (noise / effects) ** 0.5,
        **{f"kept, {way}": value / effects for way, value in kept.items()},
        **{f"off, {way}": (value / effects) ** 0.5 for way, value in off.items()},
    }


if __name__ == "__main__":
    main()
