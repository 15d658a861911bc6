"""The comparisons of `benchmarks/gpu.py`, each of two sides that do the same work."""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers_loops import DiffusionDpo, TextToImageLora
from shapes import SHAPES

from regl_app.config import RunConfig
from regl_app.config.sections import ModelConfig
from regl_app.core.seeding import torch_generator
from regl_app.core.types import Tensors
from regl_app.data.federation import Federation
from regl_app.data.images import ImageSet
from regl_app.data.sources.registry import load_source
from regl_app.generator.adaptation.dpo import tune_dpo
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.card_precision import precision_on
from regl_app.generator.fitting import fitted
from regl_app.generator.foundation import Foundation
from regl_app.generator.prompts import class_prompts
from regl_app.generator.sampling import sample
from regl_app.learning.models.build import build_model, make_model
from regl_app.rounds.client import Client, client_name
from regl_app.rounds.client_round import train_round
from regl_app.rounds.exchange import RoundTask
from regl_app.supplement.batched_scoring import score_models

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_GIGABYTE = 10**9


@dataclass(frozen=True)
class Side:
    """One side of a comparison: work done a second, and the most memory that it took in GB.

    ``peak`` is None where there is no GPU; weights count in it.
    """

    rate: float
    peak: float | None


@dataclass(frozen=True)
class Row:
    """What is counted by the second, ours and the other's; ``other`` None: nobody to compare with.

    ``note`` is what shows that both did the same, ``apart`` how far results are from each other,
    where they can be compared, and ``parts`` the seconds of ours by part, of a client's round.
    """

    name: str
    ours: Side
    other: Side | None
    note: str
    apart: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)


ROWS: Mapping[str, str] = {
    "first-round": "first_round",
    "next-client": "next_client",
    "images": "images",
    "lora": "tuning",
    "preferences": "preferences",
    "uploads": "scoring",
}
"""By the names of ``--only``: the methods that measure them, in this order.

The first round comes first: later the card's kernels are loaded and its limits are known.
"""


@dataclass(frozen=True)
class ClientRound:
    """A client's first round, with the most memory that its worker has taken until its end."""

    side: Side
    note: str
    parts: Mapping[str, float]


class Benchmark:
    """All comparisons on one pipeline's folder."""

    def __init__(
        self, folder: Path, device: torch.device, options: argparse.Namespace, scratch: Path
    ) -> None:
        self.folder, self.device, self.options = folder, device, options
        self.scratch = scratch
        size = options.size or SHAPES[options.shape].size
        keys: dict[str, Any] = {
            "method": "regl",
            "device": str(device),
            "generator.path": str(folder),
            "generator.image-size": size,
            "generator.precision": options.precision,
            "generator.guidance-stop": 1.0,  # as the pipelines have it
            "lora.layers": "attention",
        }
        given = {
            "generator.steps": options.steps,
            "generator.batch-size": options.batch,
            "lora.batch-size": options.tuning_batch,
            "dpo.batch-size": options.tuning_batch,
        }
        keys |= {key: value for key, value in given.items() if value}
        self.keys, self.size = keys, size
        self.config = fitted(RunConfig.from_flat(keys))
        self.dtype = _DTYPES[precision_on(options.precision, device, folder)]
        self.concepts = load_source(self.config.data).concepts
        self.prompts = class_prompts(self.config.generator, self.concepts)
        self.lora = self.config.lora.model_copy(update={"steps": options.tuning_steps})
        self.dpo = self.config.dpo.model_copy(update={"steps": options.tuning_steps})

    def rows(self, name: str) -> list[Row]:
        """Measure what is called ``name`` in ``ROWS``."""
        measured: list[Row] = getattr(self, ROWS[name])()
        return measured

    def images(self) -> list[Row]:
        """Measure images a second against the pipeline, in batches and one at a time."""
        generator = self.config.generator
        count = self.options.images or 2 * generator.batch_size
        ours, made = self.our_images(count)
        pipeline, prompts = self.pipeline(), self.prompts

        def draw(labels: list[int], steps: int, **more: Any) -> Any:
            return pipeline(
                [prompts[label] for label in labels],
                num_inference_steps=steps,
                guidance_scale=generator.guidance,
                height=self.size,
                width=self.size,
                **more,
            ).images

        def batched() -> torch.Tensor:
            parts = []
            for places in torch.split(torch.arange(count), generator.batch_size):
                labels = self.classes(count)[places[0] : places[-1] + 1]
                noise = self.noise(pipeline, labels, places.tolist())
                images = draw(labels, generator.steps, latents=noise, output_type="pt")
                parts.append((images * 255).round().byte().cpu())
            return torch.cat(parts)

        def single() -> torch.Tensor:
            for label in self.classes(self.options.naive_images):
                draw([label], self.options.naive_steps)
            return torch.empty(0)

        other, theirs = self.measured(count, batched)
        _same(made.shape, theirs.shape, "images")
        apart = float((made.float() - theirs.float()).abs().mean())
        what = f"{count} of {self.size} px, {generator.steps} steps, {apart:.2f} of 255 apart"
        self.forget()
        naive, _ = self.measured(self.options.naive_images, single)
        steps = f"{self.options.naive_steps} steps there, {generator.steps} here"
        return [
            Row(f"images, {generator.batch_size} at once", ours, other, what, apart),
            Row("images, one at a time there", ours, naive, steps),
        ]

    def our_images(self, count: int) -> tuple[Side, torch.Tensor]:
        """Measure our images a second."""
        foundation, classes = self.foundation(), self.classes(count)
        config, places = self.config.generator, list(range(count))
        return self.measured(count, lambda: sample(foundation, classes, places, config, stream=0))

    def noise(self, pipeline: Any, labels: list[int], places: list[int]) -> torch.Tensor:
        """Return what our images of ``labels`` at ``places`` start from."""
        side = self.size // pipeline.vae_scale_factor
        shape = (pipeline.unet.config.in_channels, side, side)
        each = [
            torch.randn(shape, generator=torch_generator(0, label, place))
            for label, place in zip(labels, places, strict=True)
        ]
        return torch.stack(each).to(self.device, self.dtype)

    def tuning(self) -> list[Row]:
        """Measure optimizer steps a second by LoRA, encoding included."""
        steps, lora, real = self.lora.steps, self.lora, self.pictures()

        def ours() -> tuple[Side, int]:
            foundation = self.foundation()
            return self.tuned(steps, lambda: tune_lora(foundation, real, lora, seed=0).state)

        def theirs() -> tuple[Side, int]:
            loop = TextToImageLora(self.pipeline(), lora, lora.lr, self.dtype)
            batches = torch.arange(steps * lora.batch_size).remainder(len(real)).view(steps, -1)

            def tune() -> torch.Tensor:
                for chosen in batches:
                    texts = [self.prompts[label] for label in real.labels[chosen].tolist()]
                    loop.step(real.images[chosen], texts)
                return torch.empty(0)

            return self.measured(steps, tune)[0], loop.tuned

        return [_tuning_row(f"LoRA steps of {lora.batch_size}", ours(), theirs())]

    def preferences(self) -> list[Row]:
        """Measure pairs a second of preference tuning."""
        config, count, steps = self.dpo, self.dpo.batch_size, self.dpo.steps
        labels = self.classes(count)
        pairs, rows = torch.arange(2 * count).view(2, -1), torch.tensor([*labels, *labels])

        def ours() -> tuple[Side, int]:
            foundation = self.foundation()
            random = torch.Generator().manual_seed(0)
            latents = torch.randn((2 * count, *foundation.latent_shape), generator=random)
            return self.tuned(
                steps * count,
                lambda: tune_dpo(foundation, latents, rows, pairs, config, self.lora, seed=0).state,
            )

        def theirs() -> tuple[Side, int]:
            loop = DiffusionDpo(self.pipeline(), self.lora, config.lr, self.dtype)
            won, lost = self.noise_images(2 * count).chunk(2)
            texts = [self.prompts[label] for label in labels]

            def tune() -> torch.Tensor:
                for _ in range(steps):
                    loop.step(won, lost, texts, config.beta)
                return torch.empty(0)

            return self.measured(steps * count, tune)[0], loop.tuned

        return [_tuning_row(f"preferences, {count} pairs a step", ours(), theirs())]

    def tuned(self, count: int, tune: Callable[[], Tensors]) -> tuple[Side, int]:
        """Measure a tuning of ours; return also how many weights it tunes."""
        weights = 0

        def work() -> torch.Tensor:
            nonlocal weights
            weights = sum(value.numel() for value in tune().values())
            return torch.empty(0)

        return self.measured(count, work)[0], weights

    def scoring(self) -> list[Row]:
        """Measure uploads scored a second, in one pass and one after the other."""
        random = torch.Generator().manual_seed(0)
        shape = (self.options.scored, 3, 32, 32)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)
        rows = []
        for count in map(int, self.options.uploads.split(",")):
            models = [build_model(ModelConfig(), 10, 3, 32, seed) for seed in range(count)]
            states = [model.state_dict() for model in models]
            both = []
            for batched in (True, False):
                score = partial(
                    score_models, states, models[0], images, self.device, batched=batched
                )
                self.forget()
                both.append(self.measured(count, score))
            apart = float((both[0][1] - both[1][1]).abs().max())
            note = f"{len(images)} images, {apart:.1e} of log-probability apart"
            rows.append(Row(f"uploads scored, {count}", both[0][0], both[1][0], note, apart))
        return rows

    def first_round(self) -> list[Row]:
        """Measure a client's first round: nothing loaded, nothing cached, to a trained model."""
        (only,) = self.client_rounds(1)
        return [Row("a client's first round", only.side, None, only.note, parts=only.parts)]

    def next_client(self) -> list[Row]:
        """Measure the first round of a worker's second client, against that of its first.

        Peaks show how many copies of the foundation a worker of several clients holds.
        """
        first, second = self.client_rounds(2)
        memory = "memory not measured"
        if first.side.peak and second.side.peak:
            memory = f"memory of both {second.side.peak / first.side.peak:.2f} times the first's"
        name = "a second client of the same worker"
        return [Row(name, second.side, first.side, f"{second.note}; {memory}", parts=second.parts)]

    def client_rounds(self, clients: int) -> list[ClientRound]:
        """Return the first rounds of ``clients`` that a new worker serves, one after the other."""
        per_class = self.options.per_class
        cache = Path(tempfile.mkdtemp(prefix="cache-", dir=self.scratch))
        keys = self.keys | {
            "supplement.policy": "equal",
            "supplement.cap": per_class,
            "supplement.ratio": 1000.0,
            "probe.per-class": self.options.probe,
            "partition.scheme": "iid",
            "cache-dir": str(cache),
        }
        if self.options.lora_steps:
            keys["lora.steps"] = self.options.lora_steps
        config = RunConfig.from_flat(keys)
        federation = Federation.load(config, 10)
        weights = make_model(config, federation).state_dict()
        found: list[ClientRound] = []

        def work() -> None:
            for number in range(clients):
                data, name = federation.client(number), client_name(number)
                client = Client(config, number, federation.source, data, self.device, cache, name)
                began = time.perf_counter()
                result = train_round(client, RoundTask(1), weights)
                self.wait()
                seconds = time.perf_counter() - began
                made = result.num_examples - result.real_images
                _same(made, per_class * len(self.concepts), "images made")
                parts = {"all": seconds, **{key: float(s) for key, s in result.seconds.items()}}
                note = f"{result.real_images} real images, {made} made"
                found.append(ClientRound(Side(1 / seconds, self.peak()), note, parts))

        self.forget()
        # A thread of its own has no generator yet.
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
        if len(found) < clients:
            raise SystemExit("the client's round failed: see above")
        return found

    def classes(self, count: int) -> list[int]:
        """Return a class for each of ``count`` images, in turn."""
        return [place % len(self.concepts) for place in range(count)]

    def pictures(self) -> ImageSet:
        """Return pictures of the generator's size to tune on, as many as eight batches have."""
        count = min(8 * self.lora.batch_size, 64)
        return ImageSet(self.noise_images(count), torch.tensor(self.classes(count)))

    def noise_images(self, count: int) -> torch.Tensor:
        """Return random images, uint8 ``(N, 3, H, W)``, of the generator's size."""
        random = torch.Generator().manual_seed(0)
        shape = (count, 3, self.size, self.size)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)

    def foundation(self) -> Foundation:
        """Return our generator, loaded anew."""
        self.forget()
        return Foundation.load(self.config.generator, self.concepts, self.device)

    def pipeline(self) -> Any:
        """Return diffusers' own, in the precision that ours computes in."""
        from diffusers import DiffusionPipeline

        self.forget()
        pipeline = DiffusionPipeline.from_pretrained(self.folder, use_safetensors=True)
        pipeline.to(self.device, self.dtype).set_progress_bar_config(disable=True)
        return pipeline

    def measured(self, count: int, work: Callable[[], torch.Tensor]) -> tuple[Side, torch.Tensor]:
        """Return how much of ``count`` a second is done, warmed up, and what came out at last."""
        seconds = []
        result = work()
        for _ in range(self.options.repeats):
            self.wait()
            began = time.perf_counter()
            result = work()
            self.wait()
            seconds.append(time.perf_counter() - began)
        return Side(count / statistics.median(seconds), self.peak()), result

    def wait(self) -> None:
        """Wait until the device has done all that it was asked."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def forget(self) -> None:
        """Free what nobody holds any more, and measure memory from here on."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> float | None:
        """Return the most GB that were taken at once; None without a GPU."""
        if self.device.type != "cuda":
            return None
        return torch.cuda.max_memory_allocated(self.device) / _GIGABYTE


def _same(ours: object, other: object, what: str) -> None:
    if ours != other:
        raise SystemExit(f"no comparison: {what} are {ours} here and {other} there")


def _tuning_row(name: str, ours: tuple[Side, int], other: tuple[Side, int]) -> Row:
    _same(ours[1], other[1], "tuned weights")
    return Row(name, ours[0], other[0], f"{ours[1]:,} weights tuned")
