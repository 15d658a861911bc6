"""Adapters: the generator tuned to a client's look (LoRA) or to what it lacks (DPO), once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from regl_app.config.choices import REWARDS
from regl_app.core.activity import Span
from regl_app.core.dotted import resolve
from regl_app.core.errors import ProtocolError
from regl_app.core.log import logger
from regl_app.core.seeding import derive_seed
from regl_app.core.types import CacheKey, Floats, Tensors
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation.cache import AdapterCache
from regl_app.generator.adaptation.dpo import tune_dpo
from regl_app.generator.adaptation.lora import TunedAdapter, tune_lora
from regl_app.generator.adaptation.ruin import LIMITS, Known, strangeness
from regl_app.generator.adaptation.shared import SharedAdapter, SharedStart, whole_adapter
from regl_app.generator.adapters import load_adapter, stack_adapters
from regl_app.generator.pool import Pool
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.model_pair import ModelPair
from regl_app.supplement.own_pictures import OwnPictures
from regl_app.supplement.pools import Pools
from regl_app.supplement.preference_pairs import rank_pairs
from regl_app.supplement.run_generator import RunGenerator

_RUINED = "ruined"
_PRIOR_STREAM, _PRIOR_PER_CLASS = derive_seed(0, "prior"), 16


class AdapterTuning:
    """Tunes adapters of a run's generator, or takes them from the cache.

    Args:
        generator: the run's.
        cache: where adapters are kept.
        pools: what preferences are formed on, and the prior that LoRA preserves.
        own: what gives a client's pictures at the generator's size.
    """

    def __init__(
        self, generator: RunGenerator, cache: AdapterCache, pools: Pools, own: OwnPictures
    ) -> None:
        self._generator = generator
        self._cache = cache
        self._pools = pools
        self._own = own

    def adapt(self, client_name: str, real: ImageSet) -> ClientGenerator:
        """Return the client's generator, tuned on ``real`` or taken from the cache.

        Frozen where the configuration says so, ``real`` has fewer than ``lora.min-images``, or
        nobody's adapter is a client's own (:meth:`shared`).
        """
        config = self._generator.config
        own = config.adapts_to_client_images and not config.shares_adapter
        if not own or len(real) < config.lora.min_images:
            return ClientGenerator.frozen(client_name)
        seed = derive_seed(self._generator.seed, "adapter", client_name)
        tune = partial(self._tune_lora, real, seed)
        key = self._generator.keys.lora(real, seed)
        return self._find_or_tune(ClientGenerator.frozen(client_name), key, tune)

    def tune_part(
        self, client_name: str, real: ImageSet, number: int, start: SharedAdapter
    ) -> ClientGenerator:
        """Return the client's part in round ``number`` of tuning one adapter for all.

        A is the same everywhere; B goes on from ``start``, from zero if that is empty. Frozen where
        ``real`` has fewer than ``lora.min-images``.
        """
        if len(real) < self._generator.config.lora.min_images:
            return ClientGenerator.frozen(client_name)
        seed = derive_seed(self._generator.seed, "shared adapter", client_name, number)
        key = self._generator.keys.part(real, seed, start.digest)
        tune = partial(self._tune_lora, real, seed, SharedStart(self._shared_seed, start.up))
        return self._find_or_tune(ClientGenerator.frozen(client_name), key, tune)

    def shared(self, client_name: str, adapter: SharedAdapter) -> ClientGenerator:
        """Return the generator with the adapter of all clients, as ``client_name`` uses it.

        Raises:
            ProtocolError: it came without B, and the cache has it no more.
        """
        began = Span()
        key = self._generator.keys.shared(adapter.digest, self._shared_seed)
        cached = self._cache.get(key)
        if cached is None:
            if not adapter.up:
                raise ProtocolError(
                    f"adapter {adapter.digest!r} is no longer in this client's cache; the server "
                    "sends it again in the next round"
                )
            generator, start = self._generator, SharedStart(self._shared_seed, adapter.up)
            state = whole_adapter(generator.foundation, generator.config.lora, start)
            cached = self._cache.keep(key, state)
        return ClientGenerator.with_adapter(client_name, cached, seconds=began.seconds)

    @property
    def _shared_seed(self) -> int:
        """Return the seed of the shared adapter's A: the same for all clients of a run."""
        return derive_seed(self._generator.seed, "shared adapter")

    def prefer(self, start: ClientGenerator, pair: ModelPair) -> ClientGenerator:
        """Return ``start`` tuned towards images that the client lacks most (FedDPD's DPO).

        The pool is what ``start`` itself makes; pairs are formed by the rank of the reward.

        Args:
            start: the client's generator so far.
            pair: global and local model, whose predictions on the pool are the reward.
        """
        seed = derive_seed(self._generator.seed, "preference", start.client)
        key = self._generator.keys.preference(self._pools.key(start), pair.digest, seed)
        tune = partial(self._tune_dpo, start, pair, seed)
        return self._find_or_tune(start, key, tune, "dpo")

    def preferred(self, client_name: str, name: str) -> ClientGenerator | None:
        """Return the adapter that ``prefer`` left under ``name``, if it is still there."""
        cached = self._cache.find(name)
        return None if cached is None else ClientGenerator.with_adapter(client_name, cached)

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
        cached = self._cache.received(digest)
        if cached is None and file:
            cached = self._cache.receive(digest, file)
        return None if cached is None else ClientGenerator.with_adapter(client_name, cached)

    def _find_or_tune(
        self,
        start: ClientGenerator,
        key: CacheKey,
        tune: Callable[[], TunedAdapter],
        section: str = "lora",
    ) -> ClientGenerator:
        """Return the adapter of ``key``, tuned only if it is not in the cache.

        ``start``, what it is tuned from, stays in use where the adapter is ruined by the rate of
        ``section``.
        """
        began = Span()
        adapter = self._cache.get(key)
        cached = adapter is not None
        if adapter is None:
            adapter = self._cache.put(key, tune())
        made = ClientGenerator.with_adapter(
            start.client, adapter, seconds=began.seconds, cached=cached
        )
        if _RUINED not in adapter.facts:
            return made
        logger.warning(
            "%s: the adapter is ruined and not used: what it draws is %.0f times as strange to the "
            "generator it was tuned from as what that draws itself, at most %.0f is sound (lower "
            "%s.lr, now %s)",
            start.client,
            adapter.facts[_RUINED],
            LIMITS[section],
            section,
            getattr(self._generator.config, section).lr,
        )
        return start.instead_of(made)

    def _judged(self, tuned: TunedAdapter, start: Tensors, known: Known) -> TunedAdapter:
        """Return ``tuned``, with a fact that says so if it is ruined."""
        generator = self._generator
        sampler = generator.config.generator
        found = strangeness(generator.foundation, sampler, tuned.state, start, known)
        if found <= known.limit:
            return tuned
        return replace(tuned, facts={**tuned.facts, _RUINED: found})

    def _tune_lora(
        self, real: ImageSet, seed: int, start: SharedStart | None = None
    ) -> TunedAdapter:
        foundation, config = self._generator.foundation, self._generator.config
        pictures = self._own.of(real)
        tuned = tune_lora(
            foundation,
            real,
            config.lora,
            seed=seed,
            pictures=pictures,
            prior=self._prior(real),
            start=start,
            encoded_at_once=config.generator.batch_size,
            image_encoder=self._generator.image_encoder,
            progress=self._generator.reporter("adapter steps"),
        )
        known = Known.real(foundation, real, config.generator.batch_size, pictures)
        return self._judged(tuned, {}, known)

    def _tune_dpo(self, start: ClientGenerator, pair: ModelPair, seed: int) -> TunedAdapter:
        """Return the adapter that ``start`` and its preference tuning make together."""
        config, foundation = self._generator.config, self._generator.foundation
        pool = self._pools.pool(start)
        is_shared = start.path is None  # what the models say of the shared pool may be known
        predictions = pair.of_pool(pool.images) if is_shared else pair.predictions(pool.images)
        base = load_adapter(start.path) if start.path else {}
        judge = resolve(REWARDS[config.dpo.reward].implementation)
        rewards: Floats = judge(predictions, config.supplement.disagreement)
        ranked = rank_pairs(rewards, pool.labels.numpy(), config.dpo.quantile)
        with foundation.adapter(start.path):
            tuned = tune_dpo(
                foundation,
                pool.latents,
                pool.rows(foundation),
                torch.from_numpy(np.stack([ranked.winners, ranked.losers])),
                config.dpo,
                config.lora,
                seed=seed,
                progress=self._generator.reporter("preference steps"),
            )
        state = stack_adapters(base, tuned.state) if base else tuned.state
        facts = {
            "pairs": float(len(ranked.winners)),
            "reward_margin": ranked.margin,
            "implicit_margin": tuned.margins[-1],
        }
        made = TunedAdapter(state, tuned.steps, tuned.loss, tuned.seconds, facts)
        return self._judged(made, base, Known.drawn(foundation, pool))

    def _prior(self, real: ImageSet) -> Pool | None:
        """Return what LoRA must not forget; None if nothing, or if ``real`` has every class."""
        has_every_class = (real.counts(len(self._generator.concepts)) > 0).all()
        if self._generator.config.lora.prior_weight == 0 or has_every_class:
            return None
        return self._pools.frozen(_PRIOR_STREAM, _PRIOR_PER_CLASS)
