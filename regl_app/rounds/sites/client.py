"""Site ``client`` (ReGL, and FedDPD's quotas): clients generate; the server allocates from D."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from regl_app.config import RunConfig
from regl_app.core.types import Counts, Weights
from regl_app.rounds.sites.site import Results, Site
from regl_app.rounds.teaching import Teacher
from regl_app.supplement.plan import blind_quotas, measured_quotas


class ClientSite(Site):
    """Plans each client's quotas from its discrepancy vector, where the policy asks for it."""

    def __init__(self, config: RunConfig, num_classes: int, teacher: Teacher | None = None) -> None:
        super().__init__(teacher)
        self._config = config
        self._num_classes = num_classes
        self._quotas: dict[int, Counts] = {}

    def quotas(self, partition_id: int) -> Counts | None:
        """Return the client's planned quotas; None before its first plan."""
        return self._quotas.get(partition_id)

    def before_average(self, number: int, results: Results) -> Mapping[int, Weights]:
        """Allocate the next quotas from D (FedDPD); a client that failed keeps its old ones."""
        config = self._config
        planning = config.measures_discrepancy and not config.plans_at_client
        if not planning or number >= config.rounds:
            return {}
        for partition_id, result in results.items():
            if result.real_images == 0:
                continue
            held = result.held
            if held is None:  # private: its quotas are those it was sent, or the first, blind ones
                held = self._quotas.get(partition_id)
            if held is None:
                held = blind_quotas(config, result.real_images, self._num_classes, number)
            measured = result.discrepancy
            self._quotas[partition_id] = measured_quotas(
                config,
                held,
                np.zeros(self._num_classes) if measured is None else measured,
                result.real_images,
                number + 1,
                measured_round=number,
            )
        return {}

    def memory(self) -> dict[str, Any]:
        """Return the next quotas."""
        return {"quotas": self._quotas}

    def restore(self, memory: Mapping[str, Any]) -> None:
        """Go on with the quotas of :meth:`memory`."""
        self._quotas = dict(memory["quotas"])
