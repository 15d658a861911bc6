"""The model card of a pretrained generator, from the options and figures of its own training."""

from __future__ import annotations

import datetime
import platform
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regl_app.generator.pretraining.corpus import Corpus
    from regl_app.generator.pretraining.options import PretrainOptions

QUALITY = "quality.json"
"""In the generator's folder: the figures of its card, for programs."""


@dataclass(frozen=True)
class Purity:
    """How much a judge reads as meant who knows the undisguised images only.

    ``samples`` is the share of the generator's images, ``held_out`` that of held-out images in
    the generator's look (what the disguise alone costs), ``undisguised`` that of held-out images
    without it; ``per_class`` is ``samples`` by class, None where a class was not drawn. Near 0 a
    generator is blind: nothing it makes is like its class in the clients' domain; near
    ``undisguised`` it is an oracle: it makes the clients' own images.
    """

    samples: float
    held_out: float
    undisguised: float
    per_class: tuple[float | None, ...]

    def summary(self) -> str:
        """Return the figures in one sentence."""
        return (
            f"purity: a judge trained on the undisguised images reads {self.samples:.1%} of the "
            f"samples as meant, {self.held_out:.1%} of held-out images in the generator's look, "
            f"and {self.undisguised:.1%} of undisguised ones"
        )


@dataclass(frozen=True)
class Quality:
    """How many of ``images`` samples a classifier of their own look takes for what was asked.

    ``purity`` is None where there are no undisguised images.
    """

    images: int
    accuracy: float
    held_out_accuracy: float
    seconds: float
    threads: int
    steps: int
    guidance: float
    purity: Purity | None = None

    def summary(self) -> str:
        """Return the figures in one sentence."""
        return (
            f"{self.accuracy:.1%} of {self.images} samples are recognized as what was asked for "
            f"(the classifier reads {self.held_out_accuracy:.1%} of held-out images); sampling "
            f"took {self.seconds:.1f} s on {self.threads} threads"
        )

    def figures(self) -> dict[str, Any]:
        """Return the figures for JSON, without seconds and threads.

        The files in its folder are a generator's identity: a second training must find the same.
        """
        timing = ("seconds", "threads")
        return {key: value for key, value in asdict(self).items() if key not in timing}


def model_card(options: PretrainOptions, corpus: Corpus, quality: Quality, seconds: float) -> str:
    """Return the card as Markdown with the hub's metadata header."""
    today = datetime.datetime.now(tz=datetime.UTC)
    purity = f"\n\nIts {quality.purity.summary()}." if quality.purity else ""
    return f"""---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---

# {corpus.title}, 32x32

A small, complete Stable Diffusion pipeline (tokenizer, CLIP text encoder, UNet, autoencoder,
DPM-Solver++) that knows {corpus.knows}
It is the foundation model of regl-app's laptop-sized experiments: clients adapt it to their own
domain by LoRA.

```python
from diffusers import StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained("THIS_FOLDER")
images = pipeline(
    "a photo of {corpus.concepts[3 % len(corpus.concepts)]}",
    num_inference_steps={quality.steps},
    guidance_scale={quality.guidance},
).images
images[0].save("picture.png")
```

## Data

{corpus.data}

## Training

`{corpus.command}`

Seed {options.seed}: autoencoder {options.autoencoder_steps:,} steps, text encoder and UNet
{options.denoiser_steps:,} steps of batch {options.batch_size} (v-prediction,
min-SNR 5, 10 % empty prompts, EMA), bf16 autocast, {seconds / 60:.0f} minutes on
{quality.threads} CPU threads ({platform.machine()}), {today:%Y-%m-%d}.

## Measured quality

{quality.summary()}
({quality.steps} steps, guidance {quality.guidance}). The command above, with these steps, prints
the same figures.{purity}

## Limits

{corpus.limits} Not meant for anything but experiments.
"""
