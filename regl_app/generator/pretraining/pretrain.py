"""Make a small generator: a real Stable Diffusion pipeline of a few MB.

``regl pretrain`` runs this. The result is a plain diffusers folder with a model card.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from regl_app.core.activity import Span
from regl_app.core.files import atomic_path, write_json
from regl_app.core.log import logger
from regl_app.core.seeding import derive_seed, torch_generator
from regl_app.generator.compatibility import ORIGIN
from regl_app.generator.pretraining.autoencoder import encode, train_autoencoder
from regl_app.generator.pretraining.corpus import Corpus
from regl_app.generator.pretraining.denoiser import NOISE, train_denoiser
from regl_app.generator.pretraining.model_card import QUALITY, model_card
from regl_app.generator.pretraining.optimizer import LossProgress
from regl_app.generator.pretraining.options import PretrainOptions
from regl_app.generator.pretraining.quality import measure_quality
from regl_app.generator.pretraining.tokenizer import build_tokenizer

# The first phrasing is the default prompt; the others keep the text encoder from rote.
PHRASINGS = ("a photo of {}", "a photo of {}.", "a picture of {}", "an image of {}", "{}")


def pretrain(
    out: Path,
    corpus: Corpus,
    options: PretrainOptions | None = None,
    *,
    progress: LossProgress | None = None,
) -> Path:
    """Train a generator on ``corpus`` and write it to ``out``; return ``out``.

    The folder is a ``StableDiffusionPipeline`` (fp16 safetensors) with a model card that states
    data, licences, steps, time and the quality just measured. Deterministic for one machine,
    thread count, corpus and ``options.seed``.
    """
    options = options or PretrainOptions()
    report = progress or _log_progress()
    start = Span()
    images, labels = corpus.images.images, corpus.images.labels

    with torch.random.fork_rng(devices=[]):  # the libraries draw initial weights globally
        torch.manual_seed(derive_seed(options.seed, "weights"))
        vae = train_autoencoder(
            images,
            steps=options.autoencoder_steps,
            batch_size=options.batch_size,
            lr=options.autoencoder_lr,
            generator=torch_generator(options.seed, "autoencoder"),
            progress=report,
        )
        prompts = [[phrase.format(concept) for phrase in PHRASINGS] for concept in corpus.concepts]
        tokenizer = build_tokenizer(text for group in prompts for text in group)
        denoiser = train_denoiser(
            encode(vae, images),
            labels,
            prompts,
            tokenizer,
            steps=options.denoiser_steps,
            batch_size=options.batch_size,
            lr=options.denoiser_lr,
            generator=torch_generator(options.seed, "denoiser"),
            progress=report,
        )
    seconds = start.seconds

    with atomic_path(out) as temporary:
        _save(temporary, vae, denoiser.text_encoder, denoiser.unet, tokenizer)
        quality = measure_quality(
            temporary,
            corpus,
            options.quality_images,
            options.seed,
            options.classifier_steps,
            options.judge_steps,
        )
        logger.info("%s", quality.summary())
        if quality.purity is not None:
            logger.info("%s", quality.purity.summary())
        write_json(temporary / QUALITY, _steps(options) | quality.figures())
        if corpus.origin is not None:
            write_json(temporary / ORIGIN, corpus.origin)
        card = model_card(options, corpus, quality, seconds)
        (temporary / "README.md").write_text(card, encoding="utf-8")
    return out


def _steps(options: PretrainOptions) -> dict[str, int]:
    kept = ("autoencoder_steps", "denoiser_steps", "batch_size", "seed", "judge_steps")
    return {key: getattr(options, key) for key in kept}


def _save(folder: Path, vae: Any, text_encoder: Any, unet: Any, tokenizer: Any) -> None:
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DPMSolverMultistepScheduler(**NOISE, timestep_spacing="trailing"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    # transformers computes in the stored type unless told otherwise, diffusers in float32: a plain
    # from_pretrained would mix them.
    settings = folder / "text_encoder" / "config.json"
    write_json(settings, json.loads(settings.read_text(encoding="utf-8")) | {"dtype": "float32"})


def _log_progress() -> LossProgress:
    start = Span()

    def report(stage: str, done: int, total: int, loss: float) -> None:
        if done % max(1, total // 20) == 0 or done == total:
            spent = start.seconds
            logger.info(
                "%s: step %d of %d, loss %.4f, %.0f s so far", stage, done, total, loss, spent
            )

    return report
