"""Site ``download`` (FedDPD): the server makes and selects the images, clients train on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch

from regl_app.config import RunConfig
from regl_app.config.choices import LABELS
from regl_app.core.activity import Span
from regl_app.core.types import Weights
from regl_app.data.images import ImageSet
from regl_app.rounds.client import client_name
from regl_app.rounds.server_supplement import ClientShare, ServerSupplement
from regl_app.rounds.sites.server import ServerSite
from regl_app.rounds.sites.site import Results
from regl_app.rounds.teaching import Teacher
from regl_app.supplement.make_supplement import Supplement
from regl_app.supplement.payload import Payload, pack
from regl_app.supplement.plan import budget, class_order


class DownloadSite(ServerSite):
    """Makes each client's supplement by the new global model and sends it in the next round.

    Args:
        config: the run.
        supplement: makes the images.
        pools: the digest of the pool that each partition could make itself.
    """

    def __init__(
        self,
        config: RunConfig,
        supplement: ServerSupplement,
        pools: Mapping[int, str],
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__(config, supplement, teacher)
        self._pools = dict(pools)
        self._payloads: dict[int, Payload] = {}
        self._real_images: dict[int, int] = {}
        self._adapters: dict[int, str] = {}
        self._spent: dict[str, float] = {}

    def payload(self, partition_id: int, number: int) -> Payload | None:
        """Return the images for a client, without what it holds already.

        Who is asked later than in the round that they were chosen for gets as many of them as the
        budget of round ``number`` has; who has never answered, of each class as many, as if it had
        as many real images as the others in the mean.
        """
        payload, real = self._payloads.get(partition_id), self._real_images.get(partition_id)
        if payload is None:
            return self._unmeasured(partition_id, number)
        if real is not None:
            classes = self._supplement.num_classes
            order = class_order(self._config, classes, client_name(partition_id))
            payload = payload.cut(budget(self._config, real, classes, number), order)
        if len(payload.labels) == 0:
            return None
        return payload.for_holder(self._adapters.get(partition_id, ""))

    def _unmeasured(self, partition_id: int, number: int) -> Payload | None:
        if partition_id < 0 or not self._real_images or self._supplement.knows(partition_id):
            return None
        typical = round(sum(self._real_images.values()) / len(self._real_images))
        made = self._supplement.unmeasured(partition_id, typical, number)
        for part, seconds in made.seconds.items():
            self._spent[part] = self._spent.get(part, 0.0) + seconds
        return self._packed(partition_id, made) if len(made.images) else None

    def _packed(self, partition_id: int, made: Supplement) -> Payload:
        digest = self._supplement.pool_digest
        pool = digest if self._pools.get(partition_id) == digest else ""
        return pack(made, pool, self._adapters.get(partition_id, ""))

    def answered(self, asked: Collection[int], results: Results) -> None:
        """Note which adapter each client keeps.

        Who was asked and did not answer may have lost its adapter: it is sent whole again.
        """
        for key in asked:
            answer = results.get(key)
            self._adapters[key] = "" if answer is None else answer.adapter

    def before_average(self, number: int, results: Results) -> Mapping[int, Weights]:
        """Leave the uploaded models as they are."""
        return {}

    def after_average(self, number: int, weights: Weights, results: Results) -> None:
        """Choose what goes out with the next round; a client that failed gets of its old images."""
        spent, self._spent = self._spent, {}
        self.notes, self._seconds = {}, spent
        if number >= self._config.rounds:
            return
        shares = self._supplement.make(number + 1, weights, results)
        labelling = Span()
        opinions = self._opinions(shares, results)
        label_seconds = labelling.seconds
        for key, share in shares.items():
            if len(share.supplement.images) == 0:  # a budget that has decayed to nothing
                self._payloads.pop(key, None)
            else:
                payload = self._packed(key, share.supplement)
                self._payloads[key] = payload.with_opinion(opinions.get(key))
                self._real_images[key] = results[key].real_images
        self._note(results, shares, used_now=False)
        for part, seconds in spent.items():
            self._seconds = {**self._seconds, part: self._seconds.get(part, 0.0) + seconds}
        if opinions:
            self._seconds = {**self._seconds, "label": label_seconds}

    def _opinions(
        self, shares: Mapping[int, ClientShare], results: Results
    ) -> dict[int, torch.Tensor]:
        """Return what the experts take each client's images for, where that labels them."""
        given = {k: s.supplement.images for k, s in shares.items() if len(s.supplement.images)}
        if not given or self.teacher is None or not LABELS[self._config.labels.by].needs_uploads:
            return {}
        found = self.teacher.opinion(ImageSet.concat(list(given.values())), results)
        parts = torch.split(found, [len(images) for images in given.values()])
        return dict(zip(given, parts, strict=True))

    def memory(self) -> dict[str, Any]:
        """Return what goes out next, with its adapters, and the supplement's memory.

        Not who keeps an adapter: until a run goes on, their caches may have forgotten it.
        """
        return {
            "payloads": self._payloads,
            "real_images": self._real_images,
            **super().memory(),
        }

    def restore(self, memory: Mapping[str, Any]) -> None:
        """Go on from :meth:`memory`."""
        super().restore(memory)
        self._payloads = dict(memory["payloads"])
        self._real_images = dict(memory["real_images"])
