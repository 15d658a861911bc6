"""Which keys of a run's configuration its results depend on, by the mark at each key.

``result``: another value is another result. ``machine``: no result depends on it, but what clients
keep between rounds does. ``view``: how a run is shown, bounded or named; it may change on the way.
"""

from __future__ import annotations

from regl_app.config.run_config import RunConfig, flat_fields
from regl_app.core.types import Scalar


def marks() -> dict[str, str]:
    """Return what every key changes: 'result', 'machine' or 'view'."""
    found = {}
    for key, field in flat_fields(RunConfig):
        extra = field.json_schema_extra
        found[key] = str(extra["changes"]) if isinstance(extra, dict) else ""
    return found


def decisive_keys(config: RunConfig) -> frozenset[str]:
    """Return the keys of ``config`` of which another value is another result.

    ``share-diagnostics`` is one where each node has images of its own: without the clients' counts
    the global macro-F1 is the mean of their own, another number, and there is no recall per class.
    So it is where it decides what the experts are known by.
    """
    decisive = {key for key, mark in marks().items() if mark == "result"}
    if config.data.local or (config.asks_experts and config.teaching.say == "auto"):
        decisive.add("share-diagnostics")
    return frozenset(decisive)


def result_keys(config: RunConfig) -> dict[str, Scalar]:
    """Return the keys of ``config`` that must stay when an interrupted run goes on.

    ``cache-dir`` is one: clients without a state-dir keep there what they need of earlier rounds.
    """
    free = {key for key, mark in marks().items() if mark == "view"}
    if config.server.fraction >= 1:  # else it bounds how many clients are drawn
        free.add("server.min-nodes")
    return {key: value for key, value in config.to_flat().items() if key not in free}
