"""What the server makes of the average by those who hold a class: an expert head, distillation.

No message grows by it. It has to see each client's own model and who holds what: under secure
aggregation it sees neither.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property

import torch

from regl_app.config import RunConfig
from regl_app.config.choices import SITES, STRATEGIES
from regl_app.core.activity import Span
from regl_app.core.finite import not_finite
from regl_app.core.log import logger
from regl_app.core.seeding import derive_seed
from regl_app.core.types import Floats, Weights
from regl_app.data.images import ImageSet
from regl_app.learning.models.classifier import Classifier
from regl_app.learning.training.soft_labels import opinion_share, soft_labels
from regl_app.rounds.exchange import RoundResult
from regl_app.rounds.experts import expert_head, opinion, say
from regl_app.rounds.holdings.registry import holdings
from regl_app.rounds.synthetic_steps import train_on_synthetic
from regl_app.supplement.client_generator import ClientGenerator
from regl_app.supplement.synthesizer import Synthesizer


class Teacher:
    """Asks the class experts, who are this round's uploads; ``seconds`` tells what that took.

    ``held`` ``(K, C)`` is what the round's clients with a model were taken to hold.

    Args:
        config: the run.
        model: a classifier of the run's architecture.
        device: where to compute.
        synthesizer: the server's door to the generator, where ``config`` distills.
    """

    def __init__(
        self,
        config: RunConfig,
        model: Classifier,
        *,
        device: torch.device,
        synthesizer: Synthesizer | None,
    ) -> None:
        self._config = config
        self._model = copy.deepcopy(model)
        self._device = device
        self._synthesizer = synthesizer
        self.seconds: dict[str, float] = {}
        self.held: Floats | None = None

    def teach(
        self,
        number: int,
        average: Weights,
        results: Mapping[int, RoundResult],
        start: Weights,
        images: ImageSet | None = None,
    ) -> Weights:
        """Return the global model that is made of the ``average`` of round ``number``.

        Args:
            number: the round.
            average: of the uploaded models.
            results: by partition; those without a model have no say.
            start: the global model that the round began with.
            images: what to distill on; None: the shared pool of the frozen generator.
        """
        started, keys = Span(), self._config.teaching
        taught = average
        self.held = holdings(self._config, start, results, self._num_classes)
        if keys.head != "average":
            states = [each.weights for each in results.values() if each.weights is not None]
            shares = say(results, self.held)
            bounded_by = self.held if keys.head == "bounded" else None
            kept = None if self._plain else (self.held.sum(axis=0) == 0).tolist()
            taught = expert_head(taught, states, shares, bounded_by=bounded_by, kept=kept)
        if self._config.distills:
            images = self._pool if images is None else images
            taught = self._distilled(number, taught, results, images)
        self.seconds = {"teach": started.seconds}
        return taught

    def opinion(self, images: ImageSet, results: Mapping[int, RoundResult]) -> torch.Tensor:
        """Return what the experts take ``images`` for, ``(N, C)`` float32.

        ``results`` are those that :meth:`teach` was last called with.
        """
        states = [each.weights for each in results.values() if each.weights is not None]
        assert self.held is not None
        return opinion(states, say(results, self.held), self._model, images, self._device)

    @property
    def _plain(self) -> bool:
        """Return whether what is averaged are the uploads as they came, by number of images."""
        config = self._config
        tuned = config.supplements_at_server and not (
            config.distills or SITES[config.supplement.site].sends_images
        )
        return STRATEGIES[config.server.strategy].plain_average and not tuned

    @property
    def _num_classes(self) -> int:
        return self._model.head.out_features

    @cached_property
    def _pool(self) -> ImageSet:
        assert self._synthesizer is not None  # whoever distills has one
        return self._synthesizer.pool(ClientGenerator.frozen("pool")).images

    def _distilled(
        self, number: int, average: Weights, results: Mapping[int, RoundResult], images: ImageSet
    ) -> Weights:
        """Return ``average`` after some steps of cross-entropy with the experts' opinion."""
        if len(images) == 0:
            return average
        config, keys = self._config, self._config.teaching
        train = config.train.model_copy(update={"lr": keys.lr, "batch_size": keys.batch_size})
        model = copy.deepcopy(self._model)
        model.load_state_dict(dict(average))
        taught = train_on_synthetic(
            model,
            images,
            train,
            steps=keys.steps,
            seed=derive_seed(config.seed, "server", "distill", number),
            device=self._device,
            targets=soft_labels(
                images.labels,
                self.opinion(images, results),
                opinion_share(config.labels, number),
            ),
        )
        if (name := not_finite(taught)) is not None:
            logger.warning(
                "round %d: the distilled model is not finite in %r: the average goes on as it is "
                "(lower teaching.lr=%g)",
                number,
                name,
                keys.lr,
            )
            return average
        return taught
