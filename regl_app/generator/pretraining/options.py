"""What ``regl pretrain`` may be asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PretrainOptions:
    """Size of a pretraining; the defaults made the shipped weights.

    ``classifier_steps`` train who judges fidelity, ``judge_steps`` who judges purity.
    """

    autoencoder_steps: int = 1_500
    denoiser_steps: int = 3_000
    batch_size: int = 64
    autoencoder_lr: float = 3e-3
    denoiser_lr: float = 2e-3
    seed: int = 0
    classifier_steps: int = 600
    judge_steps: int = 1_500
    quality_images: int = 1_000
