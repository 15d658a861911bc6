"""Site ``server`` (FedDPD): each uploaded model is tuned on images chosen for it, then averaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regl_app.config import RunConfig
from regl_app.core.types import Weights
from regl_app.data.images import ImageSet, distinct
from regl_app.rounds.averaging import mean_weights
from regl_app.rounds.server_supplement import ClientShare, ServerSupplement
from regl_app.rounds.sites.site import Results, Site
from regl_app.rounds.teaching import Teacher


class ServerSite(Site):
    """Scores the uploads, makes each client's supplement and trains the uploads on it.

    Where the run distills, the average is trained on all of these images instead, with the
    experts' opinion for labels.
    """

    def __init__(
        self, config: RunConfig, supplement: ServerSupplement, teacher: Teacher | None = None
    ) -> None:
        super().__init__(teacher)
        self._config = config
        self._supplement = supplement
        self._images: ImageSet | None = None

    def unreadable(self, results: Results) -> set[int]:
        """Return whose answers on the probe set are not finite."""
        return self._supplement.screen(results)

    def before_average(self, number: int, results: Results) -> Mapping[int, Weights]:
        """Return the uploaded models after some steps on the images chosen for them."""
        shares = self._supplement.make(number, mean_weights(results), results)
        if self._config.distills:
            given = [share.supplement.images for share in shares.values()]
            self._images = distinct(ImageSet.concat(given)) if given else None
            tuned: Mapping[int, Weights] = {}
        else:
            tuned = self._supplement.tune(number, results, shares)
        self._note(results, shares, used_now=True)
        return tuned

    def _taught_on(self) -> ImageSet | None:
        return self._images

    def memory(self) -> dict[str, Any]:
        """Return what the server's supplement keeps of each client."""
        return self._supplement.memory()

    def restore(self, memory: Mapping[str, Any]) -> None:
        """Go on from :meth:`memory`."""
        self._supplement.restore(memory["held"], memory["preferred"], memory["tuned"])

    def _note(self, results: Results, shares: Mapping[int, ClientShare], *, used_now: bool) -> None:
        """Tell, for the history, what the server found and made."""
        self._seconds = dict(self._supplement.seconds)
        self.notes = {
            key: share.notes(results[key], used_now=used_now) for key, share in shares.items()
        }
