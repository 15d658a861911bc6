"""Step 1 of a client's round: adapt the generator once, generate what is planned."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from client_app.node import Node
from regl_app.data.images import Counts, ImageSet
from regl_app.files import atomic_path
from regl_app.progress import LOGGER, format_seconds
from regl_app.protocol import Fact, TrainInstruction
from regl_app.report.samples import PER_CLASS, save_samples
from regl_app.supplement.plan import client_quotas
from regl_app.supplement.synthesizer import Adaptation, Generated, Synthesizer

_logger = logging.getLogger(LOGGER)


@dataclass(frozen=True)
class Supplement:
    """A client's synthetic images, the quotas ``(C,)`` they fill, and the shared probe set."""

    images: ImageSet
    quotas: Counts
    probe: ImageSet | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)


def make_supplement(node: Node, order: TrainInstruction) -> Supplement:
    """Return the images planned for this round: by the server if it sent quotas, else by rule.

    Adapter and images are cached by content, so later rounds only add what is new.
    """
    config, real = node.config, node.data.train
    quotas = (
        order.quotas
        if order.quotas is not None
        else client_quotas(config, node.real_counts, order.round)
    )
    if not config.uses_generator:
        return Supplement(ImageSet.empty(real.shape), np.zeros_like(node.real_counts))
    synthesizer = node.synthesizer()
    adaptation = synthesizer.adapt(node.name, real)
    made = synthesizer.generate(quotas, adaptation, real)
    started = time.perf_counter()
    probe = synthesizer.probe()
    seconds = {
        "adapt": adaptation.seconds,
        "generate": made.seconds,
        "probe_images": time.perf_counter() - started,
    }
    if order.round == 1:
        _report(node, adaptation, made)
        if config.share_diagnostics:
            _leave_samples(node, Path(order.run_dir), synthesizer, adaptation, probe)
    return Supplement(
        images=made.images,
        quotas=quotas,
        probe=probe,
        seconds=seconds,
        facts=_facts(adaptation, made),
    )


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
    return facts


def _report(node: Node, adaptation: Adaptation, made: Generated) -> None:
    if adaptation.path is None:
        adapter = "frozen generator"
    elif adaptation.cached:
        adapter = "adapter from the cache"
    else:
        adapter = f"adapter {adaptation.steps} steps in {format_seconds(adaptation.seconds)}"
    source = f"{made.reused} of them stored" if made.reused else format_seconds(made.seconds)
    real = len(node.data.train)
    _logger.info(
        "%s: %d real image%s, %s, %d synthetic images (%s)",
        node.name,
        real,
        "" if real == 1 else "s",
        adapter,
        len(made.images),
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
