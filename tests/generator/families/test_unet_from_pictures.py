"""A Stable Diffusion 1 starts from pictures as diffusers' image-to-image pipeline does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.generator.foundation import Foundation
from tests.generator.families.img2img import check_img2img
from tests.generator.families.test_limits import with_scheduler

CLASSES = ("a cat", "a dog")
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


@pytest.mark.parametrize(
    "scheduler",
    [
        {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "set_alpha_to_one": False},
        {"_class_name": "DDIMScheduler", "clip_sample": False, "prediction_type": "v_prediction"},
        {"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True},
        {"_class_name": "HeunDiscreteScheduler"},
    ],
    ids=lambda scheduler: scheduler["_class_name"],
)
def test_images_from_pictures_are_those_of_its_img2img_pipeline(
    scheduler: dict[str, Any], second_pipeline: Path, tmp_path: Path
) -> None:
    from diffusers import StableDiffusionImg2ImgPipeline

    folder = with_scheduler(second_pipeline, tmp_path / "copy", SD | scheduler)
    config = GeneratorConfig(
        path=str(folder),
        steps=4,
        guidance=2.0,
        guidance_stop=1.0,
        image_strength=0.6,
        precision="fp32",
    )
    foundation = Foundation.load(config, CLASSES)
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(folder, safety_checker=None)
    check_img2img(pipeline, foundation, config, [0, 1], [0, 0])
