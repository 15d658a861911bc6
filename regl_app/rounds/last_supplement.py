"""What clients trained on beside their own in a run's last round, made again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from regl_app.config import RunConfig
from regl_app.config.choices import ADAPTERS
from regl_app.config.paths import cache_dir
from regl_app.core.devices import resolve_device
from regl_app.core.errors import RunError
from regl_app.core.types import Counts
from regl_app.data.federation import Federation
from regl_app.data.images import ImageSet
from regl_app.rounds.client import Client, client_name
from regl_app.supplement.adapter_state import AdapterState
from regl_app.supplement.make_supplement import make_supplement


def last_supplement(
    config: RunConfig, federation: Federation, counts: Mapping[int, Counts]
) -> Iterator[tuple[int, ImageSet]]:
    """Yield each client's synthetic images, of whose classes it had ``counts`` ``(C,)`` at last.

    They are drawn as they were then, where ``check_repeatable`` raised nothing: what the cache
    still holds is taken from there.
    """
    device, root = resolve_device(config.device), cache_dir(config)
    for key, wanted in sorted(counts.items()):
        client = Client(
            config, key, federation.source, federation.client(key), device, root, client_name(key)
        )
        if not np.any(wanted):
            yield key, ImageSet.empty(client.data.train.shape)
            continue
        made = make_supplement(
            config,
            client.synthesizer,
            client.name,
            wanted,
            client.data.train,
            None,
            AdapterState(),
        )
        yield key, made.images


def check_repeatable(config: RunConfig) -> None:
    """Refuse what cannot be made again, whatever is still there.

    Raises:
        RunError: which images those were depends on more than the run's configuration and files:
            models of that round, an adapter of all clients, or a site's own images.
    """
    why = ""
    if not config.uses_generator:
        why = f"method={config.method!r} makes none"
    elif not config.generates_at_client:
        why = f"with supplement.site={config.supplement.site!r} they were the server's"
    elif config.supplement.selects:
        why = "they were chosen by that round's models, which are gone"
    elif ADAPTERS[config.supplement.adapter].compares_models:
        why = "they were made towards that round's models, which are gone"
    elif config.shares_adapter:
        why = "the adapter was of all clients together"
    elif config.data.local:
        why = "each site's images stay there"
    if why:
        raise RunError(f"the synthetic images cannot be made again: {why}")
