"""Before round 1: all clients tune one adapter together, and the server averages it (FFA-LoRA)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from regl_app.core.activity import Span, phase
from regl_app.core.finite import not_finite
from regl_app.core.types import Fact, Tensors
from regl_app.generator.adaptation.shared import SharedAdapter, average_up, up_of
from regl_app.generator.adapters import load_adapter
from regl_app.rounds.client import Client
from regl_app.rounds.disclosure import shared_facts


@dataclass(frozen=True)
class AdapterTask:
    """What the server asks for: round ``number`` of tuning, from 1, going on from ``up``, B by
    name; empty: from zero."""

    number: int
    up: Tensors = field(default_factory=dict)


@dataclass(frozen=True)
class AdapterResult:
    """A client's part in a round of tuning.

    ``up`` is its B, empty where it has too few images; ``images`` is its weight in the average.
    """

    partition_id: int
    number: int
    images: int
    up: Tensors = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)


def tune_part(client: Client, task: AdapterTask) -> AdapterResult:
    """Tune the common adapter on the client's own images, and tell what became of B.

    Raises:
        GeneratorError: the generator cannot be used, or tuning diverged.
    """
    config, real = client.config, client.data.train
    phase("tune")
    tuning = Span()
    start = SharedAdapter.of(task.up) if task.up else SharedAdapter("")
    part = client.synthesizer.tune_part(client.name, real, task.number, start)
    facts: dict[str, Fact] = {f"adapter_{name}": value for name, value in part.facts.items()}
    if part.path is None:  # too few images, or ruined
        told = shared_facts(config, facts)
        return AdapterResult(client.partition_id, task.number, images=0, facts=told)
    facts["adapter_steps"] = part.steps
    if part.loss is not None:
        facts["adapter_loss"] = part.loss
    return AdapterResult(
        client.partition_id,
        task.number,
        images=len(real),
        up=up_of(load_adapter(part.path)),
        seconds={"adapt": tuning.seconds},
        facts=shared_facts(config, facts),
    )


def odd_part(result: AdapterResult) -> str:
    """Return what of a client's part is no finite number, so that it is left out; '' if nothing."""
    name = not_finite(result.up)
    return "" if name is None else f"adapter[{name!r}] with NaN or infinity"


@dataclass
class SharedTuning:
    """How far the adapter of all clients has come, and what each client did for it."""

    up: Tensors = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    facts: dict[int, dict[str, Fact]] = field(default_factory=dict)

    def add(self, results: Mapping[int, AdapterResult]) -> None:
        """Average a round's usable parts; without any the adapter stays as it was.

        Args:
            results: by partition.
        """
        parts = [(r.images, r.up) for _, r in sorted(results.items()) if r.images and r.up]
        if parts:
            self.up = average_up(parts)
        for key, result in results.items():
            before = self.facts.get(key, {})
            told = {**before, **result.facts}
            # A peer's fact may be anything.
            done = [facts.get("adapter_steps") for facts in (before, result.facts)]
            steps = [each for each in done if isinstance(each, int)]
            self.facts[key] = {**told, "adapter_steps": sum(steps)} if steps else told
            took = result.seconds.get("adapt", 0.0)
            self.seconds[key] = self.seconds.get(key, 0.0) + took
