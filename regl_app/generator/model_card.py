"""The model card of a pretrained generator, from the options and figures of its own training."""

from __future__ import annotations

import datetime
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regl_app.generator.fonts import TYPEFACES

if TYPE_CHECKING:
    from regl_app.generator.pretrain import PretrainOptions


@dataclass(frozen=True)
class Quality:
    """How many of ``images`` samples a classifier of rendered glyphs takes for what was asked."""

    images: int
    accuracy: float
    render_accuracy: float
    seconds: float
    threads: int
    steps: int
    guidance: float

    def summary(self) -> str:
        """Return the figures in one sentence."""
        return (
            f"{self.accuracy:.1%} of {self.images} samples are recognized as the digit asked for "
            f"(the classifier reads {self.render_accuracy:.1%} of held-out renders); sampling took "
            f"{self.seconds:.1f} s on {self.threads} threads"
        )


def model_card(options: PretrainOptions, quality: Quality, seconds: float, font_files: int) -> str:
    """Return the card as Markdown with the hub's metadata header."""
    fonts = "\n".join(
        f"| {face.family} | {face.package} | {face.licence} | {len(face.files)} |"
        for face in TYPEFACES
    )
    return f"""---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---

# Printed digits, 32x32

A small, complete Stable Diffusion pipeline (tokenizer, CLIP text encoder, UNet, autoencoder,
DPM-Solver++) that knows the ten digits as concepts and has seen them in print only, never in
handwriting. It is the foundation model of regl-app's laptop-sized experiments: clients adapt it to
their own domain by LoRA.

```python
from diffusers import StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained("THIS_FOLDER")
images = pipeline(
    "a photo of the digit three",
    num_inference_steps={quality.steps},
    guidance_scale={quality.guidance},
).images
images[0].save("three.png")
```

## Data

{options.images:,} renders of the digits 0-9 from {font_files} font files, varied in slant,
rotation, aspect, weight, warp, blur and contrast. No photograph, scan or handwriting. Rendered
letterforms are not covered by the fonts' licences; no font file is shipped.

| family | Debian package | licence | files |
|---|---|---|---|
{fonts}

## Training

`regl pretrain`, seed {options.seed}: autoencoder {options.autoencoder_steps:,} steps, text encoder
and UNet {options.denoiser_steps:,} steps of batch {options.batch_size} (v-prediction, min-SNR 5,
10 % empty prompts, EMA), bf16 autocast, {seconds / 60:.0f} minutes on {quality.threads} CPU threads
({platform.machine()}), {datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}.

## Measured quality

{quality.summary()} ({quality.steps} steps, guidance {quality.guidance}). Reproduce with
`regl pretrain`, which prints the same figures.

## Limits

Digits only, white on black, 32x32 pixels. Not meant for anything but experiments.
"""
