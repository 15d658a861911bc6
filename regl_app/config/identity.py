"""Which keys of a run's configuration its results depend on: the others may change on the way."""

from __future__ import annotations

from regl_app.config.run_config import RunConfig
from regl_app.core.types import Scalar

_FREE_KEYS = frozenset(
    {"resume", "name", "out-dir", "report", "tensorboard", "log-format", "cache-limit"}
    | {"metrics-port", "metrics-address", "server.timeout", "server.min-replies"}
)


def result_keys(config: RunConfig) -> dict[str, Scalar]:
    """Return the keys of ``config`` that results depend on.

    ``cache-dir`` is one: clients without a state-dir keep there what they need of earlier rounds.
    """
    free = set(_FREE_KEYS)
    if config.server.fraction >= 1:  # else it bounds how many clients are drawn
        free.add("server.min-nodes")
    return {key: value for key, value in config.to_flat().items() if key not in free}
