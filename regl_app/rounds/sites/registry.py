"""The site of a run, by ``supplement.site``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from regl_app.config import RunConfig
from regl_app.config.choices import SITES
from regl_app.core.log import log_progress
from regl_app.data.source import Source
from regl_app.learning.models.classifier import Classifier
from regl_app.rounds.server_supplement import ServerSupplement
from regl_app.rounds.sites.client import ClientSite
from regl_app.rounds.sites.download import DownloadSite
from regl_app.rounds.sites.server import ServerSite
from regl_app.rounds.sites.site import Site
from regl_app.rounds.teaching import Teacher
from regl_app.supplement.synthesizer import Synthesizer


def make_site(
    config: RunConfig,
    source: Source,
    model: Classifier,
    *,
    device: torch.device,
    cache_dir: Path,
    pools: Mapping[int, str],
) -> Site:
    """Return the server's half of the supplement.

    Args:
        config: the run.
        source: classes and image shape; no image of it is looked at.
        model: a classifier of the run's architecture.
        device: where the server computes.
        cache_dir: root of the caches.
        pools: the digest of the pool that each partition could make itself.
    """
    synthesizer = None
    if config.distills or config.supplements_at_server:
        progress = log_progress("server")
        synthesizer = Synthesizer.of(config, source, device, cache_dir, progress)
    teacher = None
    if config.asks_experts:
        teacher = Teacher(config, model, device=device, synthesizer=synthesizer)
    if synthesizer is None or not config.supplements_at_server:
        return ClientSite(config, source.num_classes, teacher)
    supplement = ServerSupplement(config, model, synthesizer, device=device)
    if SITES[config.supplement.site].sends_images:
        return DownloadSite(config, supplement, pools, teacher)
    return ServerSite(config, supplement, teacher)
