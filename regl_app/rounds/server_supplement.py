"""The supplement made by the server, from nothing but the models that clients upload (FedDPD).

It has to see each client's own model. Under secure aggregation it sees only their sum, so the
sites ``download`` and ``server`` cannot work together with that; site ``client`` can.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from regl_app.config import RunConfig
from regl_app.core.activity import Span
from regl_app.core.finite import not_finite
from regl_app.core.log import logger
from regl_app.core.seeding import derive_seed
from regl_app.core.types import Counts, Floats, Weights
from regl_app.data.images import ImageSet
from regl_app.learning.methods.registry import make_method
from regl_app.learning.models.classifier import Classifier
from regl_app.learning.training.loop import train_local
from regl_app.rounds.client import client_name
from regl_app.rounds.exchange import RoundResult
from regl_app.supplement.adapter_state import AdapterState
from regl_app.supplement.batched_scoring import score_models
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.discrepancy import class_discrepancy
from regl_app.supplement.make_supplement import Supplement, make_supplement
from regl_app.supplement.model_pair import ModelPair
from regl_app.supplement.plan import blind_quotas, uploaded_quotas
from regl_app.supplement.selection import PairPredictions
from regl_app.supplement.synthesizer import Synthesizer


@dataclass(frozen=True)
class ClientShare:
    """What one client is given, and on what grounds: its discrepancy d and quotas, each (C,)."""

    discrepancy: Floats
    quotas: Counts
    supplement: Supplement

    def notes(self, result: RoundResult, *, used_now: bool) -> dict[str, Any]:
        """Return what of ``result`` the history is to have instead, fields by name.

        Quotas and images belong to the round in which they are used.
        """
        changes: dict[str, Any] = {"discrepancy": self.discrepancy}
        if used_now:
            changes["held"] = self.quotas
            if result.real_counts is not None:
                changes["synthetic_counts"] = self.supplement.images.counts(len(self.quotas))
        return {**changes, "facts": {**result.facts, **self.supplement.facts}}


class ServerSupplement:
    """Scores uploaded models, plans, generates and selects for every client.

    ``seconds`` adds up what the parts of the last call took. The same client's quotas and adapter
    are kept from round to round.

    Args:
        config: the run.
        model: a classifier of the run's architecture.
        synthesizer: the server's door to the generator.
        device: where to compute.
    """

    seconds: dict[str, float]

    def __init__(
        self,
        config: RunConfig,
        model: Classifier,
        synthesizer: Synthesizer,
        *,
        device: torch.device,
    ) -> None:
        self._config = config
        self._model = copy.deepcopy(model)
        self._device = device
        self._synthesizer = synthesizer
        self._held: dict[int, Counts] = {}
        self._preferred: dict[int, str] = {}
        self._tuned: Counter[int] = Counter()
        self._answers: dict[int, Floats] = {}
        self.seconds = {}
        self._screened = 0.0

    @property
    def num_classes(self) -> int:
        """Return C."""
        return self._model.head.out_features

    @property
    def pool_digest(self) -> str:
        """Return what identifies the shared pool."""
        return self._synthesizer.pool_digest

    def memory(self) -> dict[str, Any]:
        """Return what is kept of each client from round to round."""
        return {"held": self._held, "preferred": self._preferred, "tuned": self._tuned}

    def restore(
        self, held: Mapping[int, Counts], preferred: Mapping[int, str], tuned: Mapping[int, int]
    ) -> None:
        """Go on from what :meth:`memory` returned."""
        self._held, self._preferred = dict(held), dict(preferred)
        self._tuned = Counter(tuned)

    def screen(self, replies: Mapping[int, RoundResult]) -> set[int]:
        """Return who uploaded a model whose answers on the probe set are not finite.

        Finite weights may still be so large that nothing comes of them. The others' answers are
        kept for ``make``.
        """
        started = Span()
        uploads = {key: r.weights for key, r in replies.items() if r.weights is not None}
        scores = self._score(self._synthesizer.probe(), list(uploads.values()))
        found = dict(zip(uploads, scores, strict=True))
        self._answers = {key: own for key, own in found.items() if np.isfinite(own).all()}
        self._screened = started.seconds
        return set(found) - set(self._answers)

    def knows(self, partition_id: int) -> bool:
        """Return whether a client has uploaded a model that was compared."""
        return partition_id in self._held

    def unmeasured(self, partition_id: int, real_images: int, number: int) -> Supplement:
        """Return what a client gets of which no model is known: of each class as many, unselected.

        Nothing of it is kept.

        Args:
            partition_id: the client's.
            real_images: as how many its budget supposes.
            number: the round whose budget is spent.
        """
        name = client_name(partition_id)
        return make_supplement(
            self._config,
            self._synthesizer,
            name,
            blind_quotas(self._config, real_images, self.num_classes, number, name),
            ImageSet.empty(self._synthesizer.probe().shape),
            None,
            AdapterState(),
        )

    def make(
        self, number: int, global_weights: Weights, replies: Mapping[int, RoundResult]
    ) -> dict[int, ClientShare]:
        """Return what each client that uploaded a model is to be given in round ``number``.

        Args:
            number: the round whose budget is spent.
            global_weights: G, what the uploaded models are compared with.
            replies: by partition, screened; those without a model are passed over.
        """
        self.seconds = dict.fromkeys(("score", "adapt", "generate", "select"), 0.0)
        uploads = {key: r.weights for key, r in replies.items() if r.weights is not None}
        started = Span()
        probe = self._synthesizer.probe()
        (whole,) = self._score(probe, [global_weights])
        on_pool: dict[int, PairPredictions] = {}
        if self._config.generates_from_pool:
            pool = self._synthesizer.pool(ClientGenerator.frozen("pool")).images
            first, *others = self._score(pool, [global_weights, *uploads.values()])
            labels = pool.labels.numpy()
            on_pool = {
                key: PairPredictions(first, own, labels)
                for key, own in zip(uploads, others, strict=True)
            }
        self.seconds["score"] = started.seconds + self._screened
        given = {}
        global_model = self._with(global_weights)
        for key, weights in uploads.items():
            discrepancy = class_discrepancy(
                whole, self._answers[key], probe.labels.numpy(), whole.shape[1]
            )
            quotas = uploaded_quotas(
                self._config,
                self._held.get(key),
                discrepancy,
                replies[key].real_images,
                number,
                client_name(key),
            )
            pair = ModelPair(global_model, self._with(weights), self._device, on_pool.get(key))
            supplied = make_supplement(
                self._config,
                self._synthesizer,
                client_name(key),
                quotas,
                ImageSet.empty(probe.shape),
                pair,
                AdapterState(self._preferred.get(key, ""), self._tuned[key]),
            )
            self._tuned[key] = supplied.adapter_state.tuned
            self._held[key], self._preferred[key] = quotas, supplied.adapter_state.preferred
            for part, value in supplied.seconds.items():
                self.seconds[part] += value
            given[key] = ClientShare(discrepancy, quotas, supplied)
        torch.cuda.empty_cache()  # clients may be on the same card; without CUDA, nothing
        return given

    def tune(
        self, number: int, replies: Mapping[int, RoundResult], given: Mapping[int, ClientShare]
    ) -> dict[int, Weights]:
        """Return the uploaded models after some steps on the images chosen for each of them.

        One that diverges in these steps is left out, with a warning: it stays as it came.
        """
        started = Span()
        config, server = self._config, self._config.server
        train = config.train.model_copy(
            update={
                "steps": server.tune_steps,
                "epochs": 0,
                "lr": server.tune_lr,
                "class_weights": "none",
            }
        )
        tuned: dict[int, Weights] = {}
        for key, each in given.items():
            model = self._with(replies[key].weights or {})
            train_local(
                model,
                each.supplement.images,
                train,
                method=make_method(config, train),
                seed=derive_seed(config.seed, client_name(key), "server", number),
                device=self._device,
                real_images=0,
            )
            state = {name: value.cpu() for name, value in model.state_dict().items()}
            if not_finite(state) is None:
                tuned[key] = state
            else:
                logger.warning(
                    "client %d: its model diverged on synthetic images and is averaged as it came "
                    "(lower server.tune-lr=%g)",
                    key,
                    server.tune_lr,
                )
        self.seconds["tune"] = started.seconds
        return tuned

    def _with(self, weights: Weights) -> Classifier:
        model = copy.deepcopy(self._model)
        model.load_state_dict(dict(weights))
        return model.to(self._device)

    def _score(self, images: ImageSet, states: Sequence[Weights]) -> list[Floats]:
        """Return each model's log-probabilities ``(N, C)``."""
        if not states:
            return []
        found = score_models(states, self._model, images.images, self._device)
        return list(found.double().numpy())
