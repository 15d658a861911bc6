"""What a run is: one frozen ``RunConfig`` of sections, presets and checks; no torch, no Flower.

The names below are imported when first used: in a deployment each message starts a process, which
asks this package small things only and leaves the keys to the node's worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regl_app.config.run_config import RunConfig, default_flat, flat_fields

__all__ = ["RunConfig", "default_flat", "flat_fields"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from regl_app.config import run_config

    value: object = getattr(run_config, name)
    globals()[name] = value
    return value
