"""What sampling and tuning take where nobody says it: a table by family, each number with a source.

The smallest checkpoints, the bundled one and others of its size, have the defaults of the keys
themselves (``regl_app/config/supplement_sections.py``), which are measured here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_PIXELS_AT_ONCE = 4 * 1024**2
"""Images denoised at once: 4 of 1024 pixels, 16 of 512. What does not fit a card is halved."""
_PIXELS_A_STEP = 1024**2
"""Images of an optimizer's step: 1 of 1024 pixels, as in diffusers' examples for XL, 4 of 512."""
NAMED = "_name_or_path"
"""In a denoiser's configuration: the names by which it was loaded, a line each."""
_FEW, _MOST_FEW = 4, 16
"""Steps of a distilled checkpoint whose name does not say them, and the most that may be few."""
_FEW_WORDS, _HYPER = frozenset({"turbo", "lightning", "lcm"}), ("sd", "xl", "flux")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
"""Of a name, also of one such as ``dreamshaperXL_v21TurboDPMSDE``."""
_STEPS = re.compile(r"(?<!\d)(\d{1,2})[-_ ]?steps?(?![a-z])", re.IGNORECASE)
_CANDIDATES = 80
"""Of a class in the pool: twice the default of ``supplement.cap``, so that half is left out."""


@dataclass(frozen=True)
class Settings:
    """What fits one kind of checkpoint.

    Args:
        name: of the kind, for a person.
        steps: of the solver. The pipelines' own defaults in diffusers, but 30 of the 50 where those
            are from before fast solvers.
        guidance: scale. 2.0 for the UNets: what the papers found best for images to train on
            (Sariyildiz et al. 2023, Yuan et al. 2024); the pipelines' own defaults for
            transformers, of which no paper says; 1, off, where it was distilled away.
            Stable Diffusion 3.5 Large Turbo, PixArt-LCM, FLUX.1-dev's Turbo: of their model cards.
        lora_rank: DataDream (Kim et al. 2024), which tunes Stable Diffusion on a few images of each
            class to train classifiers; PixArt's own example and diffusers' for FLUX.1 Kontext.
            Alpha is the same, as in DataDream and in diffusers' scripts.
        lora_lr: peak rate, of diffusers' LoRA examples for XL and Sana; docs/checkpoints.md says
            where those of other families differ, and why.
        lora_steps: of diffusers' DreamBooth-LoRA examples.
        dpo_beta: Wallace et al. 2024, section 5: 2000 for Stable Diffusion 1.5, 5000 for XL; of
            transformers nobody says.
        dpo_lr: of diffusers' example of Diffusion-DPO by LoRA, for these two.
    """

    name: str
    steps: int
    guidance: float
    lora_rank: int = 16
    lora_lr: float = 1e-4
    lora_steps: int = 500
    dpo_beta: float = 2000.0
    dpo_lr: float = 1e-5
    dpo_steps: int = 100

    def keys(self, side: int) -> dict[str, int | float | str]:
        """Return the configuration's keys for images of ``side`` pixels."""
        a_step = max(_PIXELS_A_STEP // side**2, 1)
        return {
            "generator.steps": self.steps,
            "generator.guidance": self.guidance,
            # As the pipelines do it.
            "generator.guidance-stop": 1.0,
            "generator.batch-size": max(_PIXELS_AT_ONCE // side**2, 1),
            # As diffusers' examples, with feed-forward layers in a UNet and the stream of the text
            # where it has one: a look is learned there as well, and convolutions are few.
            "lora.layers": "attention",
            "lora.rank": self.lora_rank,
            "lora.alpha": float(self.lora_rank),
            "lora.steps": self.lora_steps,
            "lora.batch-size": min(a_step, 32),
            "lora.lr": self.lora_lr,
            "dpo.beta": self.dpo_beta,
            "dpo.steps": self.dpo_steps,
            "dpo.batch-size": min(a_step, 16),
            "dpo.lr": self.dpo_lr,
            "pool.per-class": _CANDIDATES,
        }


def distilled(
    name: str,
    denoiser: Mapping[str, Any],
    scheduler: Mapping[str, Any],
    dpo_beta: float = Settings.dpo_beta,
    *,
    steps: int = _FEW,
    guidance: float = 1.0,
) -> Settings | None:
    """Return what fits a checkpoint that was distilled to few steps; None: it was not.

    Told by its scheduler or by its name: a single file has the configs of what it was made from.

    Args:
        name: of its kind.
        denoiser: its configuration, with its names.
        scheduler: likewise.
        dpo_beta: of its kind.
        steps: where its name does not say them.
        guidance: likewise of its kind; 1, off, where it was distilled away.
    """
    called = str(denoiser.get(NAMED) or "")
    by_scheduler = few_steps(scheduler)
    if not by_scheduler and not _called_few(called):
        return None
    told = "" if by_scheduler else " by its name"
    return Settings(
        f"{name}, distilled to few steps{told}",
        steps=_told_steps(called) or steps,
        guidance=guidance,
        dpo_beta=dpo_beta,
    )


def _told_steps(called: str) -> int:
    """Return the number of few steps that names tell, 0 if none."""
    found = _STEPS.search(called)
    return int(found[1]) if found and 1 <= int(found[1]) <= _MOST_FEW else 0


def _called_few(called: str) -> bool:
    for name in called.splitlines():
        words = [word.lower() for word in _WORD.findall(name)]
        # Of "hyper" there are many that are none, such as hyper-realistic.
        hyper = _told_steps(name) > 0 or any(
            word == "hyper" and (not after or after.startswith(_HYPER))
            for word, after in zip(words, [*words, ""][1:], strict=True)
        )
        if not _FEW_WORDS.isdisjoint(words) or ("hyper" in words and hyper):
            return True
    return False


def few_steps(scheduler: Mapping[str, Any]) -> bool:
    """Return whether a scheduler is one that Turbo, Lightning, LCM and TCD come with."""
    name = str(scheduler.get("_class_name"))
    if name in ("LCMScheduler", "TCDScheduler"):
        return True
    return (
        name.startswith("Euler")
        and scheduler.get("timestep_spacing") == "trailing"
        and not scheduler.get("rescale_betas_zero_snr")
    )
