"""The client's door to generation: adapt the generator, fill quotas, make the probe set.

Whatever was made before is reused: adapters and images are cached by content, and a foundation
is loaded only when something is missing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from regl_app.config import GeneratorConfig, RunConfig
from regl_app.data.images import Counts, ImageSet
from regl_app.generator.adapter_cache import AdapterCache
from regl_app.generator.conditioning import encode_latents, fit, start_position, takes_image
from regl_app.generator.foundation import Foundation, class_prompts, shared_foundation
from regl_app.generator.lora import tune_lora
from regl_app.generator.pool import Pool, frozen_pool
from regl_app.generator.sampling import Progress, sample
from regl_app.generator.source import generator_digest, resolve_generator
from regl_app.seeding import derive_seed
from regl_app.supplement.store import Key, SupplementStore

Report = Callable[[str, int, int], None]

_PRIOR_STREAM, _PRIOR_PER_CLASS = derive_seed(0, "prior"), 16


@dataclass(frozen=True)
class Adaptation:
    """One client's generator: the adapter's folder, or None for the frozen one."""

    client: str
    path: Path | None
    digest: str
    seconds: float = 0.0
    cached: bool = False
    steps: int = 0
    loss: float | None = None

    @classmethod
    def frozen(cls, client: str) -> Adaptation:
        """Return the training-free generator as client ``client`` uses it."""
        return cls(client, None, "frozen")


@dataclass(frozen=True)
class Generated:
    """Synthetic images in the classifier's shape, and what they cost."""

    images: ImageSet
    generated: int
    reused: int
    seconds: float


@dataclass(frozen=True)
class _Missing:
    """Images of one class that no store entry holds yet: indices ``first .. last - 1``."""

    label: int
    first: int
    last: int


class Synthesizer:
    """Generates what a client lacks; one object serves all virtual clients of a worker.

    Args:
        config: the run; its generator, lora, probe and threads keys matter here.
        concepts: what each class shows ('the digit three'), ``(C,)``.
        shape: ``(C, H, W)`` of the classifier's images.
        seed: the run's seed; every client draws from its own stream under it.
        device: where the generator runs.
        cache_dir: root of the adapter cache and the image store.
        progress: called with (what, done, of).
    """

    def __init__(
        self,
        config: RunConfig,
        concepts: tuple[str, ...],
        shape: tuple[int, int, int],
        *,
        seed: int,
        device: torch.device | str,
        cache_dir: Path,
        progress: Report | None = None,
    ) -> None:
        self.config = config
        self.concepts = tuple(concepts)
        self.shape = shape
        self.seed = seed
        self.device = torch.device(device)
        self.store = SupplementStore(cache_dir / "images")
        self.adapters = AdapterCache(cache_dir / "adapters")
        self._pools = cache_dir / "pools"
        self._progress = progress
        self._digest: str | None = None

    @property
    def generator_digest(self) -> str:
        """Return the digest of the generator's files."""
        if self._digest is None:
            self._digest = generator_digest(resolve_generator(self.config.generator.path))
        return self._digest

    @property
    def foundation(self) -> Foundation:
        """Return this worker's foundation, loading it when first needed."""
        return shared_foundation(self.config.generator, self.concepts, self.device)

    def adapt(self, client_name: str, real: ImageSet) -> Adaptation:
        """Return the client's generator, tuned on ``real`` or taken from the cache.

        Frozen where the configuration says so or ``real`` has fewer than ``lora.min-images``.
        """
        if self.config.supplement.adapter != "lora" or len(real) < self.config.lora.min_images:
            return Adaptation.frozen(client_name)
        seed = derive_seed(self.seed, "adapter", client_name)
        # Prior preservation also learns from the sampler's images.
        preserving = self.config.lora.prior_weight > 0
        key: dict[str, object] = {
            **(self._sampler_key() if preserving else self._common_key()),
            "image_size": self.config.generator.image_size,
            "lora": self.config.lora.model_dump(),
            "data": _digest_of(real),
            "prompts": self._prompts(),
            "seed": seed,
        }
        began = time.perf_counter()
        held = self.adapters.get(key)
        cached = held is not None
        if held is None:
            tuned = tune_lora(
                self.foundation,
                real,
                self.config.lora,
                seed=seed,
                prior=self._prior(real),
                progress=self._reporter("adapter steps"),
            )
            held = self.adapters.put(key, tuned)
        return Adaptation(
            client=client_name,
            path=held.path,
            digest=held.digest,
            seconds=time.perf_counter() - began,
            cached=cached,
            steps=0 if cached else held.steps,
            loss=held.loss,
        )

    def generate(self, quotas: Counts, adaptation: Adaptation, real: ImageSet) -> Generated:
        """Return the first ``quotas[c]`` images of every class c of the client's sequence.

        Only what the store lacks is sampled. With an adapter, minority classes (those of which
        the client has some real images) are also image-conditioned, as configured.

        Args:
            quotas: images per class, ``(C,)``.
            adaptation: from ``adapt``.
            real: the client's images, for image conditioning.
        """
        conditioned = adaptation.path is not None and self.config.generator.image_conditioning
        pictures = {
            label: real.images[real.labels == label] if conditioned else real.images[:0]
            for label in range(len(self.concepts))
        }
        stream = derive_seed(self.seed, "client", adaptation.client)
        return self._sequences(quotas, adaptation, pictures, stream, self.config.generator)

    def probe(self) -> ImageSet:
        """Return the frozen generator's class-balanced probe set, identical for all parties."""
        quotas = torch.full((len(self.concepts),), self.config.probe.per_class).numpy()
        stream = derive_seed(self.config.probe.seed, "probe")
        frozen = Adaptation.frozen("probe")
        none = dict.fromkeys(range(len(self.concepts)), torch.empty(0))
        return self._sequences(quotas, frozen, none, stream, self.config.generator).images

    def _sequences(
        self,
        quotas: Counts,
        adaptation: Adaptation,
        pictures: dict[int, torch.Tensor],
        stream: int,
        config: GeneratorConfig,
    ) -> Generated:
        began = time.perf_counter()
        held: dict[int, torch.Tensor] = {}
        missing: list[_Missing] = []
        keys = {
            label: self._image_key(label, adaptation, pictures[label], stream)
            for label, quota in enumerate(quotas)
            if quota > 0
        }
        for label, key in keys.items():
            stored = self.store.get(key, int(quotas[label]))
            held[label] = (
                torch.empty((0, *self.shape), dtype=torch.uint8) if stored is None else stored
            )
            if len(held[label]) < quotas[label]:
                missing.append(_Missing(label, len(held[label]), int(quotas[label])))
        reused = sum(len(images) for images in held.values())
        if missing:
            for label, images in self._make(missing, adaptation, pictures, stream, config).items():
                held[label] = torch.cat([held[label], images])
                self.store.put(keys[label], held[label])
        labels = [torch.full((len(images),), label) for label, images in held.items()]
        result = (
            ImageSet(torch.cat(list(held.values())), torch.cat(labels).long())
            if held
            else ImageSet.empty(self.shape)
        )
        return Generated(result, len(result) - reused, reused, time.perf_counter() - began)

    def _make(
        self,
        missing: list[_Missing],
        adaptation: Adaptation,
        pictures: dict[int, torch.Tensor],
        stream: int,
        config: GeneratorConfig,
    ) -> dict[int, torch.Tensor]:
        """Sample what is missing: first what starts from noise, then what starts from pictures."""
        foundation = self.foundation
        wanted = [(part.label, index) for part in missing for index in range(part.first, part.last)]
        share = config.image_share
        from_picture = [
            (label, index)
            for label, index in wanted
            if len(pictures[label]) and takes_image(index, share)
        ]
        chosen = set(from_picture)
        from_noise = [place for place in wanted if place not in chosen]
        made: dict[tuple[int, int], torch.Tensor] = {}
        report = self._reporter("images")
        with foundation.adapter(adaptation.path):
            for places in (from_noise, from_picture):
                if not places:
                    continue
                starts = None
                if places is from_picture:
                    starts = encode_latents(
                        foundation,
                        torch.stack(
                            [
                                pictures[label][start_position(index, share, len(pictures[label]))]
                                for label, index in places
                            ]
                        ),
                    )
                done = len(made)
                images = sample(
                    foundation,
                    [label for label, _ in places],
                    [index for _, index in places],
                    config,
                    stream=stream,
                    starts=starts,
                    progress=None if report is None else _shifted(report, done, len(wanted)),
                )
                made |= dict(zip(places, fit(images, self.shape), strict=True))
        return {
            part.label: torch.stack(
                [made[part.label, index] for index in range(part.first, part.last)]
            )
            for part in missing
        }

    def _prior(self, real: ImageSet) -> Pool | None:
        config = self.config.lora
        if config.prior_weight == 0 or (real.counts(len(self.concepts)) > 0).all():
            return None
        return self._frozen("prior", _PRIOR_STREAM, _PRIOR_PER_CLASS)

    def _frozen(self, name: str, stream: int, per_class: int) -> Pool:
        made_by = [sorted(self._sampler_key().items()), self._prompts(), stream, per_class]
        key = hashlib.sha256(repr(made_by).encode()).hexdigest()[:32]
        return frozen_pool(
            self.foundation,
            self.config.generator,
            per_class=per_class,
            stream=stream,
            path=self._pools / f"{key}.safetensors",
            progress=self._reporter(f"{name} images"),
        )

    def _prompts(self) -> list[str]:
        return list(class_prompts(self.config.generator, self.concepts))

    def _common_key(self) -> dict[str, str | int | float | bool | None]:
        # Arithmetic depends on threads and device, so results under one name never mix.
        return {
            "generator": self.generator_digest,
            "precision": self.config.generator.precision,
            "threads": self.config.threads,
            "device": self.device.type,
        }

    def _sampler_key(self) -> dict[str, str | int | float | bool | None]:
        config = self.config.generator
        return self._common_key() | {
            "steps": config.steps,
            "guidance": config.guidance,
            "guidance_stop": config.guidance_stop,
            "image_size": config.image_size,
        }

    def _image_key(
        self, label: int, adaptation: Adaptation, pictures: torch.Tensor, stream: int
    ) -> Key:
        config = self.config.generator
        key = self._sampler_key() | {
            "adapter": adaptation.digest,
            "guide": "frozen" if adaptation.path is None else config.guide,
            "label": label,
            "prompt": self._prompts()[label],
            "shape": "x".join(map(str, self.shape)),
            "stream": stream,
            "pictures": "",
        }
        if len(pictures) and config.image_share > 0:
            digest = hashlib.sha256(pictures.contiguous().numpy().tobytes()).hexdigest()
            key["pictures"] = f"{digest}/{config.image_strength}/{config.image_share}"
        return key

    def _reporter(self, what: str) -> Progress | None:
        progress = self._progress
        if progress is None:
            return None
        return lambda done, total: progress(what, done, total)


def _shifted(report: Progress, before: int, total: int) -> Progress:
    """Return a progress callback for a part that begins after ``before`` of ``total``."""
    return lambda done, _: report(before + done, total)


def _digest_of(real: ImageSet) -> str:
    digest = hashlib.sha256(str(real.shape).encode())
    digest.update(real.labels.numpy().tobytes())
    digest.update(real.images.contiguous().numpy().tobytes())
    return digest.hexdigest()
