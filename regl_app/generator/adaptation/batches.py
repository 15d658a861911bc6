"""What an adapter is tuned on, step by step: the pictures that come, encoded once."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from regl_app.config.supplement_sections import LoraConfig
from regl_app.core.seeding import torch_generator
from regl_app.core.transfer import to_device
from regl_app.data.images import ImageSet
from regl_app.data.pictures import Pictures, part
from regl_app.generator.foundation import Foundation
from regl_app.generator.image_conditioning import encode_latents
from regl_app.generator.pool import Pool

_SMALL = 64
"""Side of images in pixels up to which all are encoded, and stay on the device: some KB each."""


class TuningBatches:
    """Real latents in reshuffled epochs, joined by prior latents of the lacking classes.

    Which pictures come in which step is drawn first. Of pictures above ``_SMALL`` only those that
    come are encoded, and their latents, up to a megabyte each, wait in the processor's memory.

    Args:
        foundation: whose VAE encodes.
        real: the client's images, at least one.
        config: steps, images in a step, weight of the prior.
        prior: the frozen model's latents of all classes, if any.
        seed: of the order.
        encoded_at_once: images that are encoded at once, at most.
        pictures: those of ``real`` at the generator's own size; None: its images, enlarged.
        every: whether all pictures are encoded, because somebody else looks at ``latents``.

    Raises:
        GeneratorError: what the VAE makes of a picture is not finite, or it does not fit into
            memory.
    """

    def __init__(
        self,
        foundation: Foundation,
        real: ImageSet,
        config: LoraConfig,
        prior: Pool | None,
        seed: int,
        encoded_at_once: int,
        pictures: Pictures | None,
        *,
        every: bool = False,
    ) -> None:
        self._device = foundation.device
        self._prior_weight = config.prior_weight
        lacking = None if prior is None else prior.lacking(real.counts(foundation.num_classes))
        used = config.prior_weight > 0 and lacking and len(lacking.labels)
        self._prior = lacking if used else None
        size = min(config.batch_size, max(len(real), 1) * 4)
        plan = self._planned(
            len(real), size, config.steps, torch_generator(seed, "lora", "batches")
        )
        self._plan = iter(plan)
        self._rows = foundation.prompt_rows.of_set(real.labels)
        self._prior_rows = torch.empty(0) if lacking is None else lacking.rows(foundation)
        shown = real.pixels if pictures is None else pictures
        small = foundation.image_size <= _SMALL
        self._at = torch.arange(len(real))
        """Where the latents of a picture are."""
        if not (small or every):
            drawn = torch.tensor(sorted({place for own, _ in plan for place in own.tolist()}))
            shown = part(shown, drawn)
            self._at[drawn] = torch.arange(len(drawn))
        kept = foundation.device if small else torch.device("cpu")
        self.latents = encode_latents(foundation, shown, encoded_at_once, kept=kept)
        """Scaled, float32 ``(M, c, h, w)``; of all pictures, in order, if ``every``."""

    def draw(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return a step's latents ``(B, c, h, w)``, prompt rows, loss weights and places ``(B,)``.

        The mean of B weighed losses is that of the client's own, plus ``prior_weight`` times that
        of the prior's, if there are any.
        The place is among the client's images, -1 for a prior one.
        """
        chosen, picked = next(self._plan)
        latents = self.latents[to_device(self._at[chosen], self.latents.device)]
        rows, weights = self._rows[chosen], torch.ones(len(chosen))
        if self._prior is not None and picked is not None:
            # One mean is taken over all: each kind is to come to a mean of its own in it.
            own, count = len(chosen), len(picked)
            latents = torch.cat([latents, self._prior.latents[picked].to(latents)])
            rows = torch.cat([rows, self._prior_rows[picked].to(rows)])
            theirs = torch.full((count,), self._prior_weight * (own + count) / count)
            weights = torch.cat([weights * ((own + count) / own), theirs])
            chosen = torch.cat([chosen, torch.full((count,), -1)])
        device, weights = self._device, weights.to(latents.dtype)
        return (
            to_device(latents, device),
            to_device(rows, device),
            to_device(weights, device),
            to_device(chosen, device),
        )

    def _planned(
        self, images: int, size: int, steps: int, random: torch.Generator
    ) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        """Return each step's places among the client's images, and among the prior's, if any."""

        def places() -> Iterator[int]:
            while True:
                yield from torch.randperm(images, generator=random).tolist()

        order, plan = places(), []
        for _ in range(steps):
            own, picked = torch.tensor([next(order) for _ in range(size)]), None
            if self._prior is not None:
                others = len(self._prior.labels)
                picked = torch.randint(others, (max(size // 2, 1),), generator=random)
            plan.append((own, picked))
        return plan
