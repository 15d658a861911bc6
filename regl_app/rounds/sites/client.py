"""Site ``client`` (ReGL, and FedDPD's quotas): clients generate; the server allocates from D.

Where one adapter serves all clients, the server has averaged it and hands it out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from regl_app.config import RunConfig
from regl_app.core.types import Counts, Weights
from regl_app.generator.adaptation.shared import SharedAdapter
from regl_app.rounds.client import client_name
from regl_app.rounds.shared_adapter import SharedTuning
from regl_app.rounds.sites.site import Results, Site
from regl_app.rounds.teaching import Teacher
from regl_app.supplement.plan import Measured, blind_quotas


class ClientSite(Site):
    """Plans each client's quotas from its discrepancy vector, where the policy asks for it."""

    def __init__(self, config: RunConfig, num_classes: int, teacher: Teacher | None = None) -> None:
        super().__init__(teacher)
        self._config = config
        self._num_classes = num_classes
        self._measured: dict[int, Measured] = {}
        self._tuning = SharedTuning()
        self._shared: SharedAdapter | None = None
        self._adapters: dict[int, str] = {}

    def quotas(self, partition_id: int, number: int) -> Counts | None:
        """Return the client's quotas by what it last measured; None before that."""
        measured = self._measured.get(partition_id)
        return (
            None
            if measured is None
            else measured.quotas(self._config, number, client_name(partition_id))
        )

    def adapter(self, partition_id: int) -> SharedAdapter | None:
        """Return the adapter of all clients, without B for who keeps it."""
        shared = self._shared
        if shared is None or self._adapters.get(partition_id) != shared.digest:
            return shared
        return dataclasses.replace(shared, up={})

    def share(self, tuning: SharedTuning) -> None:
        """Hand out what all clients have tuned together, and tell of it with round 1."""
        self._tuning = tuning
        self._shared = SharedAdapter.of(tuning.up) if tuning.up else None

    def answered(self, asked: Collection[int], results: Results) -> None:
        """Note who keeps the adapter; who did not answer may have lost it."""
        if self._shared is None:
            return
        for key in asked:
            answer = results.get(key)
            self._adapters[key] = "" if answer is None else answer.adapter

    def before_average(self, number: int, results: Results) -> Mapping[int, Weights]:
        """Take down D, by which later rounds are allocated (FedDPD); who failed keeps its own."""
        config = self._config
        planning = config.measures_discrepancy and not config.plans_at_client
        if not planning or number >= config.rounds:
            return {}
        for partition_id, result in results.items():
            if result.real_images == 0:
                continue
            held = result.held
            if held is None:  # private: its quotas are those it was sent, or the first, blind ones
                held = self.quotas(partition_id, number)
            if held is None:
                held = blind_quotas(
                    config,
                    result.real_images,
                    self._num_classes,
                    number,
                    client_name(partition_id),
                )
            measured = result.discrepancy
            self._measured[partition_id] = Measured(
                held,
                np.zeros(self._num_classes) if measured is None else measured,
                result.real_images,
                number,
            )
        return {}

    def after_average(self, number: int, weights: Weights, results: Results) -> None:
        """Tell, with the first round, what each client's part in the adapter took."""
        tuning, self._tuning = self._tuning, SharedTuning()
        self.notes = {
            key: {
                "seconds": {
                    **results[key].seconds,
                    "adapt": results[key].seconds.get("adapt", 0.0) + seconds,
                },
                "facts": {**results[key].facts, **tuning.facts.get(key, {})},
            }
            for key, seconds in tuning.seconds.items()
            if key in results
        }

    def memory(self) -> dict[str, Any]:
        """Return what clients have measured and the adapter of all clients.

        Not who keeps it: until a run goes on, their caches may have forgotten it.
        """
        up = {} if self._shared is None else self._shared.up
        return {"measured": self._measured, "shared": up}

    def restore(self, memory: Mapping[str, Any]) -> None:
        """Go on from :meth:`memory`."""
        self._measured = dict(memory["measured"])
        self._shared = SharedAdapter.of(memory["shared"]) if memory["shared"] else None
