"""Site ``server`` (FedDPD): each uploaded model is tuned on images chosen for it, then averaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regl_app.core.types import Weights
from regl_app.rounds.averaging import mean_weights
from regl_app.rounds.server_supplement import ClientShare, ServerSupplement
from regl_app.rounds.sites.site import Results, Site


class ServerSite(Site):
    """Scores the uploads, makes each client's supplement and trains the uploads on it."""

    def __init__(self, supplement: ServerSupplement) -> None:
        super().__init__()
        self._supplement = supplement

    def unreadable(self, results: Results) -> set[int]:
        """Return whose answers on the probe set are not finite."""
        return self._supplement.screen(results)

    def before_average(self, number: int, results: Results) -> Mapping[int, Weights]:
        """Return the uploaded models after some steps on the images chosen for them."""
        shares = self._supplement.make(number, mean_weights(results), results)
        tuned = self._supplement.tune(number, results, shares)
        self._note(results, shares, used_now=True)
        return tuned

    def memory(self) -> dict[str, Any]:
        """Return what the server's supplement keeps of each client."""
        return self._supplement.memory()

    def restore(self, memory: Mapping[str, Any]) -> None:
        """Go on from :meth:`memory`."""
        self._supplement.restore(memory["held"], memory["preferred"], memory["tuned"])

    def _note(self, results: Results, shares: Mapping[int, ClientShare], *, used_now: bool) -> None:
        """Tell, for the history, what the server found and made."""
        self.seconds = dict(self._supplement.seconds)
        self.notes = {
            key: share.notes(results[key], used_now=used_now) for key, share in shares.items()
        }
