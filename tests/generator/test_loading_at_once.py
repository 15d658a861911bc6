"""Threads that load a checkpoint at once do not take each other's weights away."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import torch

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.generator.foundation import Foundation


def test_every_thread_has_a_generator_with_weights(second_pipeline: Path) -> None:
    config = GeneratorConfig(path=str(second_pipeline), precision="fp32")
    everyone = Barrier(4)

    def load(_: int) -> bool:
        everyone.wait()
        for _repeated in range(3):
            foundation = Foundation.load(config, ("a cat", "a dog"))
            if any(each.is_meta for each in foundation.denoiser.parameters()):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(load, range(4)))
    assert not torch.nn.Linear(2, 2).weight.is_meta  # modules are made as before
