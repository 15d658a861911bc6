"""Step 1 of a client's round: adapt the generator, generate or select what is planned."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from client_app.node import Node
from client_app.state import ClientState, Memory
from regl_app.data.images import Counts, ImageSet
from regl_app.files import atomic_path
from regl_app.progress import LOGGER, format_seconds
from regl_app.protocol import Fact, TrainInstruction, Weights
from regl_app.report.samples import PER_CLASS, save_samples
from regl_app.supplement.discrepancy import Floats
from regl_app.supplement.judges import Judges
from regl_app.supplement.plan import client_quotas, measured_quotas
from regl_app.supplement.selection import first, reward, select
from regl_app.supplement.synthesizer import Adaptation, Generated, Synthesizer

_logger = logging.getLogger(LOGGER)


@dataclass(frozen=True)
class Supplement:
    """A client's synthetic images, the quotas ``(C,)`` they fill, and the shared probe set.

    ``preferred`` names the preference-tuned adapter that later rounds go on with, '' if none.
    """

    images: ImageSet
    quotas: Counts
    probe: ImageSet | None = None
    preferred: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)


def make_supplement(node: Node, order: TrainInstruction, weights: Weights) -> Supplement:
    """Return the images planned for this round: by the server if it sent quotas, else by rule.

    Adapter and images are cached by content, so later rounds only add what is new. Where models
    are compared, it is the global one, ``weights``, with what this client trained last; in its
    first round a client has nothing to compare and takes the first images of a sequence.
    """
    config, real = node.config, node.data.train
    memory = _memory(node, order, weights)
    quotas = _quotas(node, order, memory)
    if not config.uses_generator:
        return Supplement(ImageSet.empty(real.shape), np.zeros_like(node.real_counts))
    judges = _judges(node, weights, memory)
    synthesizer = node.synthesizer()
    started = time.perf_counter()
    adaptation = _adaptation(node, order.round, synthesizer, judges, memory)
    adapted = time.perf_counter()
    made = _make(node, synthesizer, quotas, adaptation)
    selected = time.perf_counter()
    images, found = _choose(node, made.images, quotas, judges)
    seconds = {"adapt": adapted - started, "generate": made.seconds}
    if config.supplement.selection != "none":
        seconds["select"] = time.perf_counter() - selected
    started = time.perf_counter()
    probe = synthesizer.probe()
    seconds["probe_images"] = time.perf_counter() - started
    if order.round == 1:
        _report(node, adaptation, made, len(images))
        if config.share_diagnostics:
            _leave_samples(node, Path(order.run_dir), synthesizer, adaptation, probe)
    tuned = config.supplement.adapter == "dpo" and judges is not None
    return Supplement(
        images=images,
        quotas=quotas,
        probe=probe,
        preferred=adaptation.path.name if tuned and adaptation.path is not None else "",
        seconds=seconds,
        facts=_facts(adaptation, made) | found,
    )


def remember(
    node: Node,
    order: TrainInstruction,
    local: Weights,
    supplement: Supplement,
    discrepancy: Floats | None,
) -> None:
    """Keep what the next round needs: the local model to compare, its own plan if it makes one."""
    if not _remembers(node):
        return
    state = ClientState.of(node, order.run_dir)
    if order.round == node.config.rounds:
        state.forget()
        return
    compared, planned = node.config.compares_models, node.config.plans_at_client
    state.save(
        Memory(
            order.round,
            local if compared else {},
            supplement.preferred,
            supplement.quotas if planned else None,
            discrepancy if planned else None,
        )
    )


def _remembers(node: Node) -> bool:
    return node.config.compares_models or node.config.plans_at_client


def _memory(node: Node, order: TrainInstruction, weights: Weights) -> Memory:
    if not _remembers(node):
        return Memory()
    memory = ClientState.of(node, order.run_dir).before(order.round, weights)
    if order.round > 1 and memory.round == 0:
        _logger.warning(
            "%s: nothing of an earlier round is kept here, so round %d goes as a first one",
            node.name,
            order.round,
        )
    return memory


def _quotas(node: Node, order: TrainInstruction, memory: Memory) -> Counts:
    if order.quotas is not None:
        return order.quotas
    if memory.held is not None and memory.discrepancy is not None:
        images = len(node.data.train)
        return measured_quotas(node.config, memory.held, memory.discrepancy, images, order.round)
    return client_quotas(node.config, node.real_counts, order.round)


def _judges(node: Node, weights: Weights, memory: Memory) -> Judges | None:
    if not memory.weights:
        return None
    return Judges(node.model(weights), node.model(memory.weights), node.device)


def _adaptation(
    node: Node, number: int, synthesizer: Synthesizer, judges: Judges | None, memory: Memory
) -> Adaptation:
    """Return this round's generator; preferences are tuned in the first rounds that can."""
    start = synthesizer.adapt(node.name, node.data.train)
    kind = node.config.supplement.adapter
    if judges is None or kind not in ("dpo", "guidance"):
        return start
    if kind == "guidance":
        return Adaptation.frozen(node.name, judges)
    if number <= 1 + node.config.dpo.rounds:
        return synthesizer.prefer(start, judges)
    return synthesizer.preferred(node.name, memory.preferred) or start


def _make(
    node: Node, synthesizer: Synthesizer, quotas: Counts, adaptation: Adaptation
) -> Generated:
    if node.config.supplement.selection == "none":
        return synthesizer.generate(quotas, adaptation, node.data.train)
    return synthesizer.candidates(quotas, adaptation, node.data.train)


def _choose(
    node: Node, images: ImageSet, quotas: Counts, judges: Judges | None
) -> tuple[ImageSet, dict[str, Fact]]:
    """Return the quotas' images among the candidates ``images``, and how the choice went."""
    keys = node.config.supplement
    if keys.selection == "none" or len(images) == 0:
        return images, {}
    if judges is None:
        return images.subset(first(images.labels.numpy(), quotas)), {"candidates": len(images)}
    opinions = judges.opinions(images)
    chosen = select(opinions, quotas, disagreement=keys.disagreement, filtered=keys.filter)
    rewards = reward(opinions, keys.disagreement)
    facts: dict[str, Fact] = {"candidates": len(images), "discrepant": chosen.discrepant}
    if len(chosen.indices):
        facts["reward"] = float(rewards[chosen.indices].mean())
        facts["reward_of_candidates"] = float(rewards.mean())
    return images.subset(chosen.indices), facts


def _facts(adaptation: Adaptation, made: Generated) -> dict[str, Fact]:
    facts: dict[str, Fact] = {
        "adapted": adaptation.path is not None,
        "adapter_steps": adaptation.steps,
        "adapter_cached": adaptation.cached,
        "generated": made.generated,
        "reused": made.reused,
    }
    if adaptation.loss is not None:
        facts["adapter_loss"] = adaptation.loss
    return facts | {f"adapter_{name}": value for name, value in adaptation.facts.items()}


def _report(node: Node, adaptation: Adaptation, made: Generated, used: int) -> None:
    if adaptation.path is None:
        adapter = "frozen generator"
    elif adaptation.cached:
        adapter = "adapter from the cache"
    else:
        adapter = f"adapter {adaptation.steps} steps in {format_seconds(adaptation.seconds)}"
    source = f"{made.reused} of them stored" if made.reused else format_seconds(made.seconds)
    candidates = "" if used == len(made.images) else f" of {len(made.images)} candidates"
    real = len(node.data.train)
    _logger.info(
        "%s: %d real image%s, %s, %d synthetic images%s (%s)",
        node.name,
        real,
        "" if real == 1 else "s",
        adapter,
        used,
        candidates,
        source,
    )


def _leave_samples(
    node: Node, run_dir: Path, synthesizer: Synthesizer, adaptation: Adaptation, probe: ImageSet
) -> None:
    """Write a few pictures and the adapter into the run folder, if it is on this machine."""
    if not (run_dir / "config.json").is_file():
        return
    # A prefix of the client's own sequence: later rounds reuse what is made here.
    few = np.full(node.num_classes, PER_CLASS, dtype=np.int64)
    adapted = adaptation.path is not None
    save_samples(
        run_dir,
        node.partition_id,
        real=node.data.train,
        frozen=probe,
        adapted=synthesizer.generate(few, adaptation, node.data.train).images if adapted else None,
        class_names=node.federation.source.class_names,
    )
    if adaptation.path is not None:
        with atomic_path(run_dir / "adapters" / f"client-{node.partition_id:02d}") as temporary:
            shutil.copytree(adaptation.path, temporary)
