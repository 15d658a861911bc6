"""The client's door to generation: adapt the generator, fill quotas, make the probe set.

Whatever was made before is reused: adapters and images are cached by content, and a foundation
is loaded only when something is missing.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from regl_app.config import RunConfig
from regl_app.config.paths import cache_dir
from regl_app.core.devices import resolve_device
from regl_app.core.disk_cache import GIGABYTE, evict
from regl_app.core.files import exclusive
from regl_app.core.seeding import derive_seed
from regl_app.core.types import Counts, Progress, StepProgress
from regl_app.data.federation import Federation
from regl_app.data.images import ImageSet
from regl_app.data.resize import fit
from regl_app.generator.adaptation.cache import AdapterCache
from regl_app.generator.adaptation.dpo import tune_dpo
from regl_app.generator.adaptation.lora import TunedAdapter, tune_lora
from regl_app.generator.adapters import load_adapter, stack_adapters
from regl_app.generator.discrepancy_guidance import DiscrepancyGuidance
from regl_app.generator.foundation import Foundation, shared_foundation
from regl_app.generator.image_conditioning import encode_latents, start_position, takes_image
from regl_app.generator.pool import Pool, load_pool, sample_pool
from regl_app.generator.sampling import sample
from regl_app.supplement.cache_keys import CacheKeys
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.generated import GeneratedImages
from regl_app.supplement.image_store import SupplementStore
from regl_app.supplement.model_pair import ModelPair
from regl_app.supplement.preference_pairs import rank_pairs
from regl_app.supplement.selection import reward

_STORED_BATCHES = 2
_PRIOR_STREAM, _PRIOR_PER_CLASS = derive_seed(0, "prior"), 16


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
        progress: Progress | None = None,
    ) -> None:
        self.config = config
        self.concepts = tuple(concepts)
        self.shape = shape
        self.seed = seed
        self.device = torch.device(device)
        self._most = int(config.cache_limit * GIGABYTE)
        self.store = SupplementStore(cache_dir / "images", self._most)
        self.adapters = AdapterCache(cache_dir / "adapters", self._most)
        self.keys = CacheKeys(config, self.concepts, shape, self.device)
        self._pools = cache_dir / "pools"
        self._progress = progress

    @property
    def foundation(self) -> Foundation:
        """Return this worker's foundation, loading it when first needed."""
        return shared_foundation(self.config.generator, self.concepts, self.device)

    def adapt(self, client_name: str, real: ImageSet) -> ClientGenerator:
        """Return the client's generator, tuned on ``real`` or taken from the cache.

        Frozen where the configuration says so or ``real`` has fewer than ``lora.min-images``.
        """
        adapter = self.config.supplement.adapter
        tuned_by_data = adapter == "lora" or (adapter == "dpo" and self.config.dpo.start == "lora")
        if not tuned_by_data or len(real) < self.config.lora.min_images:
            return ClientGenerator.frozen(client_name)
        seed = derive_seed(self.seed, "adapter", client_name)

        def tune() -> TunedAdapter:
            return tune_lora(
                self.foundation,
                real,
                self.config.lora,
                seed=seed,
                prior=self._prior(real),
                progress=self._reporter("adapter steps"),
            )

        return self._tuned(client_name, self.keys.lora(real, seed), tune)

    def prefer(self, start: ClientGenerator, judges: ModelPair) -> ClientGenerator:
        """Return ``start`` tuned towards images that the client lacks most (FedDPD's DPO).

        The pool is what ``start`` itself makes; pairs are formed by the rank of the reward.
        """
        seed = derive_seed(self.seed, "preference", start.client)
        key = self.keys.preference(self._pool_key(start), judges.digest, seed)

        def tune() -> TunedAdapter:
            pool, config = self.pool(start), self.config
            shared = start.path is None
            predictions = judges.of_pool(pool.images) if shared else judges.predictions(pool.images)
            base = load_adapter(start.path) if start.path else {}
            rewards = reward(predictions, config.supplement.disagreement)
            pairs = rank_pairs(rewards, pool.labels.numpy(), config.dpo.quantile)
            with self.foundation.adapter(start.path):
                tuned = tune_dpo(
                    self.foundation,
                    pool.latents,
                    pool.labels,
                    torch.from_numpy(np.stack([pairs.winners, pairs.losers])),
                    config.dpo,
                    config.lora,
                    seed=seed,
                    progress=self._reporter("preference steps"),
                )
            state = stack_adapters(base, tuned.state) if base else tuned.state
            facts = {
                "pairs": float(len(pairs.winners)),
                "reward_margin": pairs.margin,
                "implicit_margin": tuned.margins[-1],
            }
            return TunedAdapter(state, tuned.steps, tuned.loss, tuned.seconds, facts)

        return self._tuned(start.client, key, tune)

    def preferred(self, client_name: str, name: str) -> ClientGenerator | None:
        """Return the adapter that ``prefer`` left under ``name``, if it is still there."""
        held = self.adapters.find(name)
        return None if held is None else ClientGenerator.held(client_name, held)

    def received(self, client_name: str, digest: str, file: bytes) -> ClientGenerator | None:
        """Return the generator with an adapter from another machine, as ``client_name`` uses it.

        Args:
            client_name: whose sequences are made with it.
            digest: of the adapter.
            file: its content; empty where it came before. None is returned if it is not here.

        Raises:
            ProtocolError: ``file`` is not the adapter of that digest.
            GeneratorError: it is not an adapter of a denoiser.
        """
        held = self.adapters.received(digest)
        if held is None and file:
            held = self.adapters.receive(digest, file)
        return None if held is None else ClientGenerator.held(client_name, held)

    @property
    def pool_digest(self) -> str:
        """Return what identifies the shared pool's content."""
        return self._pool_path(self._pool_key(ClientGenerator.frozen("pool"))).stem

    def pool(self, adaptation: ClientGenerator) -> Pool:
        """Return ``pool.per-class`` samples of every class; the frozen ones serve all clients."""
        return self._pool(self._pool_key(adaptation), adaptation, self.config.pool.per_class)

    def candidates(
        self, wanted: Counts, adaptation: ClientGenerator, real: ImageSet
    ) -> GeneratedImages:
        """Return ``pool.per-class`` images of every class of which any is ``wanted``, ``(C,)``.

        The frozen generator's come from the shared pool, an adapted one's from the client's own
        sequences, as in ``generate``.
        """
        if adaptation.path is not None or adaptation.judges is not None:
            quotas = np.where(wanted > 0, self.config.pool.per_class, 0)
            return self.generate(quotas, adaptation, real)
        began = time.perf_counter()
        made = not self._pool_path(self._pool_key(adaptation)).exists()
        images = self.pool(adaptation).images
        places = np.flatnonzero((wanted > 0)[images.labels.numpy()])
        chosen = images.subset(places)
        new = len(images) if made else 0
        return GeneratedImages(
            chosen,
            new,
            len(chosen) - min(new, len(chosen)),
            time.perf_counter() - began,
            places,
        )

    def generate(
        self, quotas: Counts, adaptation: ClientGenerator, real: ImageSet
    ) -> GeneratedImages:
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
        made = self._sequences(quotas, adaptation, pictures, stream)
        own = adaptation.judges is not None or any(len(each) for each in pictures.values())
        return made if own else replace(made, sequence=quotas)

    def probe(self) -> ImageSet:
        """Return the frozen generator's class-balanced probe set, identical for all parties."""
        quotas = torch.full((len(self.concepts),), self.config.probe.per_class).numpy()
        stream = derive_seed(self.config.probe.seed, "probe")
        frozen = ClientGenerator.frozen("probe")
        none = dict.fromkeys(range(len(self.concepts)), torch.empty(0))
        with exclusive(self.store.root / "probe"):  # all workers want it at the same moment
            return self._sequences(quotas, frozen, none, stream).images

    def _sequences(
        self,
        quotas: Counts,
        adaptation: ClientGenerator,
        pictures: dict[int, torch.Tensor],
        stream: int,
    ) -> GeneratedImages:
        began = time.perf_counter()
        held: dict[int, torch.Tensor] = {}
        missing: list[_Missing] = []
        judges = adaptation.judges.digest if adaptation.judges else None
        keys = {
            label: self.keys.images(label, adaptation.digest, pictures[label], stream, judges)
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
        # What is stored as it comes is not lost with the process.
        done, total = 0, sum(part.last - part.first for part in missing)
        for portion in _portions(missing, _STORED_BATCHES * self.config.generator.batch_size):
            report = _within(self._reporter("images"), done, total)
            made = self._make(portion, adaptation, pictures, stream, report)
            for label, images in made.items():
                held[label] = torch.cat([held[label], images])
                self.store.put(keys[label], held[label])
                done += len(images)
        labels = [torch.full((len(images),), label) for label, images in held.items()]
        result = (
            ImageSet(torch.cat(list(held.values())), torch.cat(labels).long())
            if held
            else ImageSet.empty(self.shape)
        )
        return GeneratedImages(result, len(result) - reused, reused, time.perf_counter() - began)

    def _make(
        self,
        missing: list[_Missing],
        adaptation: ClientGenerator,
        pictures: dict[int, torch.Tensor],
        stream: int,
        report: StepProgress | None,
    ) -> dict[int, torch.Tensor]:
        """Sample what is missing: first what starts from noise, then what starts from pictures."""
        foundation, config = self.foundation, self.config.generator
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
        discrepancy_guidance = self._discrepancy_guidance(adaptation.judges)
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
                images = sample(
                    foundation,
                    [label for label, _ in places],
                    [index for _, index in places],
                    config,
                    stream=stream,
                    starts=starts,
                    discrepancy_guidance=discrepancy_guidance,
                    progress=_within(report, len(made), len(wanted)),
                )
                made |= dict(zip(places, fit(images, self.shape), strict=True))
        return {
            part.label: torch.stack(
                [made[part.label, index] for index in range(part.first, part.last)]
            )
            for part in missing
        }

    def _tuned(
        self, client_name: str, key: Mapping[str, object], tune: Callable[[], TunedAdapter]
    ) -> ClientGenerator:
        """Return the adapter of ``key``, tuned only if the cache does not hold it."""
        began = time.perf_counter()
        held = self.adapters.get(key)
        cached = held is not None
        if held is None:
            held = self.adapters.put(key, tune())
        return ClientGenerator.held(
            client_name, held, seconds=time.perf_counter() - began, cached=cached
        )

    def _discrepancy_guidance(self, judges: ModelPair | None) -> DiscrepancyGuidance | None:
        if judges is None:
            return None
        config = self.config.steering
        process = self.foundation.noise_process()
        return DiscrepancyGuidance(process, judges.gap(), self.shape, config.strength, config.limit)

    def _prior(self, real: ImageSet) -> Pool | None:
        config = self.config.lora
        if config.prior_weight == 0 or (real.counts(len(self.concepts)) > 0).all():
            return None
        key = self.keys.pool("frozen", _PRIOR_STREAM, _PRIOR_PER_CLASS)
        return self._pool(key, ClientGenerator.frozen("prior"), _PRIOR_PER_CLASS)

    def _pool_key(self, adaptation: ClientGenerator) -> dict[str, object]:
        pool = self.config.pool
        stream = derive_seed(pool.seed, "pool")
        return self.keys.pool(adaptation.digest, stream, pool.per_class)

    def _pool_path(self, key: Mapping[str, object]) -> Path:
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:40]
        return self._pools / f"{name}.safetensors"

    def _pool(self, key: Mapping[str, object], adaptation: ClientGenerator, per_class: int) -> Pool:
        path = self._pool_path(key)
        held = load_pool(path, len(self.concepts), per_class)
        if held is not None:
            return held
        with exclusive(path), self.foundation.adapter(adaptation.path):
            held = load_pool(path, len(self.concepts), per_class)
            if held is not None:
                return held
            pool = sample_pool(
                self.foundation,
                self.config.generator,
                self.shape,
                per_class=per_class,
                stream=int(str(key["stream"])),
                path=path,
                progress=self._reporter("pool images"),
            )
        evict(self._pools, "*.safetensors", self._most, keep=path)
        return pool

    def _reporter(self, what: str) -> StepProgress | None:
        progress = self._progress
        if progress is None:
            return None
        return lambda done, total: progress(what, done, total)


def _portions(missing: list[_Missing], size: int) -> list[list[_Missing]]:
    """Return ``missing`` in order, in lists of at most ``size`` images; a class may be cut."""
    portions: list[list[_Missing]] = []
    free = 0
    for part in missing:
        first = part.first
        while first < part.last:
            if free <= 0:
                portions.append([])
                free = size
            last = min(part.last, first + free)
            portions[-1].append(_Missing(part.label, first, last))
            free -= last - first
            first = last
    return portions


def _within(report: StepProgress | None, before: int, total: int) -> StepProgress | None:
    """Return a progress callback for a part that begins after ``before`` of ``total``."""
    return None if report is None else lambda done, _: report(before + done, total)


def make_synthesizer(
    config: RunConfig,
    federation: Federation,
    progress: Progress | None = None,
) -> Synthesizer:
    """Return what adapts the generator to a client and generates what the client lacks."""
    return Synthesizer(
        config,
        federation.source.concepts,
        federation.source.train.shape,
        seed=config.seed,
        device=resolve_device(config.device),
        cache_dir=cache_dir(config),
        progress=progress,
    )
