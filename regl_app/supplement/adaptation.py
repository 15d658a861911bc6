"""A client's generator and what it made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from regl_app.core.types import Counts
from regl_app.data.images import ImageSet
from regl_app.generator.adapter_cache import CachedAdapter
from regl_app.supplement.judges import Judges
from regl_app.supplement.selection import Labels


@dataclass(frozen=True)
class Adaptation:
    """One client's generator: the adapter's folder, or None for the frozen one.

    ``judges`` steer the sampler (discrepancy guidance); ``facts`` are how the tuning went.
    """

    client: str
    path: Path | None
    digest: str
    seconds: float = 0.0
    cached: bool = False
    steps: int = 0
    loss: float | None = None
    judges: Judges | None = None
    facts: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def frozen(cls, client: str, judges: Judges | None = None) -> Adaptation:
        """Return the training-free generator as client ``client`` uses it."""
        return cls(client, None, "frozen", judges=judges)

    @classmethod
    def held(
        cls, client: str, held: CachedAdapter, *, seconds: float = 0.0, cached: bool = True
    ) -> Adaptation:
        """Return the generator with an adapter from the cache, or one just put there."""
        steps = 0 if cached else held.steps
        return cls(
            client, held.path, held.digest, seconds, cached, steps, held.loss, facts=held.facts
        )


@dataclass(frozen=True)
class Generated:
    """Synthetic images in the classifier's shape, and what they cost.

    ``places`` (N,) say where they are in the shared pool, None if they are not from it;
    ``sequence`` (C,) counts the images per class where they are the beginnings of the client's own
    sequences, None where they are not or where nobody else can make these again.
    """

    images: ImageSet
    generated: int
    reused: int
    seconds: float
    places: Labels | None = None
    sequence: Counts | None = None
