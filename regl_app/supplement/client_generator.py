"""A client's generator: the run's one, with an adapter or steered by models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from regl_app.generator.adaptation.cache import CachedAdapter
from regl_app.supplement.model_pair import ModelPair


@dataclass(frozen=True)
class ClientGenerator:
    """One client's generator: the adapter's folder, or None for the frozen one.

    ``models`` steer the sampler (discrepancy guidance); ``facts`` are how the tuning went.
    """

    client: str
    path: Path | None
    digest: str
    seconds: float = 0.0
    cached: bool = False
    steps: int = 0
    loss: float | None = None
    models: ModelPair | None = None
    facts: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def frozen(cls, client: str, models: ModelPair | None = None) -> ClientGenerator:
        """Return the training-free generator as client ``client`` uses it."""
        return cls(client, None, "frozen", models=models)

    @classmethod
    def with_adapter(
        cls, client: str, adapter: CachedAdapter, *, seconds: float = 0.0, cached: bool = True
    ) -> ClientGenerator:
        """Return the generator with an adapter from the cache, or one just put there."""
        steps = 0 if cached else adapter.steps
        return cls(
            client,
            adapter.path,
            adapter.digest,
            seconds,
            cached,
            steps,
            adapter.loss,
            facts=adapter.facts,
        )

    def instead_of(self, ruined: ClientGenerator) -> ClientGenerator:
        """Return this generator, which stays in use, with how the tuning of ``ruined`` went."""
        return replace(
            self,
            seconds=ruined.seconds,
            cached=ruined.cached,
            steps=ruined.steps,
            loss=ruined.loss,
            facts=ruined.facts,
        )
