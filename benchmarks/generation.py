"""Generation plus adaptation against the naive way, as a ratio measured in one run.

    python benchmarks/generation.py --threads 2

Naive, as the libraries' examples do it: every client loads the pipeline, tunes a LoRA adapter in
fp32 with prompts and pictures encoded in every step, and calls the pipeline once per image with
50 steps. Its cost per step and per image is measured on a few and multiplied; ours is measured
whole: one foundation per worker, cached encodings, few-step solver, large batches, bf16.
Both tune the same layers for the same number of steps on the same batch size.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from table import machine_facts, machine_line

from regl_app.config import RunConfig
from regl_app.config.supplement_sections import GeneratorConfig, LoraConfig
from regl_app.core.files import write_json, write_text
from regl_app.data.concepts import Concept
from regl_app.data.images import ImageSet, to_float
from regl_app.data.resize import fit
from regl_app.data.sources.registry import load_source
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.adapters import save_adapter
from regl_app.generator.checkpoint import resolve_generator
from regl_app.generator.families.unet import UNET
from regl_app.generator.fitting import fitted
from regl_app.generator.foundation import Foundation
from regl_app.generator.pool import sample_pool
from regl_app.generator.prompts import class_prompts
from regl_app.generator.sampling import sample

NAIVE_STEPS = 50
RESULT = Path(__file__).resolve().parent / "results" / "generation.md"


def main() -> None:
    """Run the benchmark, print a markdown table and write the figures as JSON."""
    options = _options()
    facts = machine_facts()
    torch.set_num_threads(options.threads)
    config = fitted(RunConfig.from_flat({"method": "regl", "generator.path": options.generator}))
    source = load_source(config.data)
    real = source.train.subset(torch.nonzero(source.train.labels < 2).flatten())
    import diffusers  # noqa: F401  # neither side is charged for the libraries' import
    import peft  # noqa: F401

    naive = _naive(config, source.concepts, real, options)
    ours = _ours(config, source.concepts, real, options)
    result = _summary(naive, ours, config, options)
    text = _table(result)
    print(text)
    write_text(options.out, f"{text}\n\n{machine_line(facts)}\n")
    write_json(options.out.with_suffix(".json"), {**result, "machine": facts})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generator", default="bundled", help="as generator.path")
    parser.add_argument("--clients", type=int, default=10, help="clients that share a worker")
    parser.add_argument("--images", type=int, default=500, help="synthetic images per client")
    parser.add_argument("--naive-images", type=int, default=5, help="images timed the naive way")
    parser.add_argument("--naive-steps", type=int, default=5, help="steps timed the naive way")
    parser.add_argument("--timed-images", type=int, default=1000, help="for the time per 1,000")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of both sides")
    parser.add_argument("--out", type=Path, default=RESULT, help="table; its figures beside it")
    return parser.parse_args()


def _naive(
    config: RunConfig, concepts: tuple[Concept, ...], real: ImageSet, options: argparse.Namespace
) -> dict[str, float]:
    """Return seconds per load, per tuning step and per image."""
    from diffusers import StableDiffusionPipeline

    folder = resolve_generator(config.generator.path)
    load, pipeline = _timed(
        lambda: StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True).to(
            torch.float32
        )
    )
    pipeline.set_progress_bar_config(disable=True)
    prompts = class_prompts(config.generator, concepts)
    step = _NaiveTuning(pipeline, prompts, real, config.lora)
    step()
    began = time.perf_counter()
    for _ in range(options.naive_steps):
        step()
    tune = time.perf_counter() - began
    calls = [prompts[i % len(prompts)] for i in range(options.naive_images)]

    def one(prompt: str) -> None:
        pipeline(prompt, num_inference_steps=NAIVE_STEPS, guidance_scale=config.generator.guidance)

    one(prompts[0])
    began = time.perf_counter()
    for prompt in calls:
        one(prompt)
    images = time.perf_counter() - began
    return {
        "load": load,
        "step": tune / options.naive_steps,
        "image": images / options.naive_images,
    }


class _NaiveTuning:
    """A tuning step as in the libraries' text-to-image LoRA example."""

    def __init__(
        self, pipeline: Any, prompts: tuple[str, ...], real: ImageSet, config: LoraConfig
    ) -> None:
        from diffusers import DDPMScheduler
        from peft import LoraConfig as PeftConfig

        self.pipeline, self.real, self.config = pipeline, real, config
        self.noising = DDPMScheduler.from_config(pipeline.scheduler.config)
        for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            module.requires_grad_(False)
        layers = UNET.adapted_layers(pipeline.unet, config.layers)
        pipeline.unet.add_adapter(
            PeftConfig(r=config.rank, lora_alpha=config.alpha, target_modules=layers)
        )
        self.parameters = [p for p in pipeline.unet.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, config.lr)
        self.prompts = prompts
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self) -> None:
        pipeline, generator = self.pipeline, self.generator
        chosen = torch.randint(len(self.real), (self.config.batch_size,), generator=generator)
        side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
        images = to_float(fit(self.real.images[chosen], (3, side, side)))
        texts = [self.prompts[label] for label in self.real.labels[chosen].tolist()]
        with torch.no_grad():
            encoded = pipeline.vae.encode(images)
            latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
            latents = latents * pipeline.vae.config.scaling_factor
            states = pipeline.encode_prompt(texts, "cpu", 1, False)[0]
        noise = torch.randn(latents.shape, generator=generator)
        steps = self.noising.config.num_train_timesteps
        t = torch.randint(steps, (len(latents),), generator=generator)
        noisy = self.noising.add_noise(latents, noise, t)
        target = (
            self.noising.get_velocity(latents, noise, t)
            if self.noising.config.prediction_type == "v_prediction"
            else noise
        )
        loss = (pipeline.unet(noisy, t, states).sample - target).square().mean()
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()


def _ours(
    config: RunConfig, concepts: tuple[Concept, ...], real: ImageSet, options: argparse.Namespace
) -> dict[str, float]:
    """Return seconds for load, prior, one adapter, a client's images and 1,000 images."""
    generator = config.generator
    load, foundation = _timed(lambda: Foundation.load(generator, concepts, "cpu"))
    prior_seconds, prior = 0.0, None
    with TemporaryDirectory() as folder:
        if config.lora.prior_weight > 0:
            path = Path(folder) / "prior"
            prior_seconds, prior = _timed(
                lambda: sample_pool(
                    foundation, generator, real.shape, per_class=16, stream=0, path=path
                )
            )
        adapt, tuned = _timed(lambda: tune_lora(foundation, real, config.lora, seed=0, prior=prior))
        save_adapter(Path(folder) / "adapter", tuned.state)
        with foundation.adapter(Path(folder) / "adapter"):
            images, _ = _timed(lambda: _sample(foundation, generator, options.images))
    thousand, _ = _timed(lambda: _sample(foundation, generator, options.timed_images))
    return {
        "load": load,
        "prior": prior_seconds,
        "adapt": adapt,
        "images": images,
        "thousand": thousand * 1000 / options.timed_images,
    }


def _sample(foundation: Foundation, config: GeneratorConfig, count: int) -> torch.Tensor:
    labels = [index % foundation.num_classes for index in range(count)]
    return sample(foundation, labels, list(range(count)), config, stream=0)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def _summary(
    naive: dict[str, float], ours: dict[str, float], config: RunConfig, options: argparse.Namespace
) -> dict[str, Any]:
    adapt = config.lora.steps * naive["step"]
    generate = options.images * naive["image"]
    shared = (ours["load"] + ours["prior"]) / options.clients
    total_naive = naive["load"] + adapt + generate
    total_ours = shared + ours["adapt"] + ours["images"]
    return {
        "settings": {
            "clients": options.clients,
            "images_per_client": options.images,
            "threads": options.threads,
            "lora_steps": config.lora.steps,
            "lora_batch": config.lora.batch_size,
            "solver_steps": config.generator.steps,
            "naive_solver_steps": NAIVE_STEPS,
            "naive_images_timed": options.naive_images,
            "naive_steps_timed": options.naive_steps,
        },
        "naive_seconds_per_client": {
            "load": naive["load"],
            "adapt": adapt,
            "generate": generate,
            "total": total_naive,
        },
        "our_seconds_per_client": {
            "load": shared,
            "adapt": ours["adapt"],
            "generate": ours["images"],
            "total": total_ours,
        },
        "ratio": total_naive / total_ours,
        "ratio_adapt": adapt / ours["adapt"],
        "ratio_generate": generate / ours["images"],
        "seconds_per_1000_images": ours["thousand"],
    }


def _table(result: dict[str, Any]) -> str:
    naive, ours = result["naive_seconds_per_client"], result["our_seconds_per_client"]
    settings = result["settings"]
    lines = [
        f"The bundled generator, `python benchmarks/generation.py --threads {settings['threads']}`",
        "",
        "| seconds per client | naive | ours | ratio |",
        "| --- | ---: | ---: | ---: |",
    ]
    for phase in ("load", "adapt", "generate", "total"):
        ratio = naive[phase] / ours[phase]
        lines.append(f"| {phase} | {naive[phase]:.1f} | {ours[phase]:.1f} | {ratio:.1f} |")
    lines += [
        "",
        f"{settings['images_per_client']} images and {settings['lora_steps']} adapter steps of "
        f"{settings['lora_batch']} images per client, {settings['threads']} thread(s). Naive "
        f"figures are extrapolated from {settings['naive_images_timed']} images and "
        f"{settings['naive_steps_timed']} steps. Our load is shared by {settings['clients']} "
        f"clients. 1,000 images: {result['seconds_per_1000_images']:.1f} s.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
