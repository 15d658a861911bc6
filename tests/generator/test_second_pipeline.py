"""The whole client-side path on a checkpoint that shares no shape with the bundled one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from regl_app.config import RunConfig
from regl_app.data.images import ImageSet
from regl_app.supplement.synthesizer import Synthesizer


def test_adapt_generate_and_probe_on_another_checkpoint(
    second_pipeline: Path, tmp_path: Path
) -> None:
    config = RunConfig.from_flat(
        {
            "method": "regl",
            "generator.path": str(second_pipeline),
            "generator.steps": 3,
            "lora.steps": 3,
            "lora.min-images": 2,
            "probe.per-class": 2,
        }
    )
    colours = torch.randint(0, 256, (6, 3, 20, 20), dtype=torch.uint8)
    real = ImageSet(colours, torch.tensor([0, 0, 0, 0, 1, 1]))
    synthesizer = Synthesizer(
        config, ("a cat", "a dog", "a horse"), (3, 20, 20), seed=0, device="cpu", cache_dir=tmp_path
    )
    adaptation = synthesizer.adapt("client-0", real)
    assert adaptation.path is not None
    made = synthesizer.generate(np.array([0, 2, 4]), adaptation, real)
    assert made.generated == 6
    assert made.images.shape == (3, 20, 20)
    assert made.images.labels.tolist() == [1, 1, 2, 2, 2, 2]
    channels = made.images.images.float().mean((0, 2, 3))
    assert channels.std() > 0.1  # colour survives
    assert synthesizer.probe().counts(3).tolist() == [2, 2, 2]
