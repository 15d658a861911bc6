"""The site of a run, by ``supplement.site``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from regl_app.config import RunConfig
from regl_app.config.choices import SITES
from regl_app.data.source import Source
from regl_app.learning.models.classifier import Classifier
from regl_app.rounds.sites.client import ClientSite
from regl_app.rounds.sites.site import Site


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
    if not config.uses_generator or config.generates_at_client:
        return ClientSite(config, source.num_classes)
    from regl_app.rounds.server_supplement import ServerSupplement
    from regl_app.rounds.sites.download import DownloadSite
    from regl_app.rounds.sites.server import ServerSite

    supplement = ServerSupplement(config, source, model, device=device, cache_dir=cache_dir)
    if SITES[config.supplement.site].sends_images:
        return DownloadSite(config, supplement, pools)
    return ServerSite(supplement)
