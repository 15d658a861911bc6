"""Data that is read as an earlier set was: by the scales that its deep greyscale led to."""

from __future__ import annotations

from regl_app.config.sections import DataConfig, DataReadAlike
from regl_app.data.depth import Scale, UsedDepth


def read_alike(config: DataConfig, used: UsedDepth | None) -> DataConfig:
    """Return the same data keys, by which what ``used`` is of decides how pictures are read."""
    if used is None:
        return config
    whole, real = (each and (each.low, each.high) for each in (used.whole, used.real))
    return DataReadAlike(**{**dict(config), "scales": (whole, real)})


def used_depth(config: DataConfig) -> UsedDepth | None:
    """Return the scales that ``config`` is to be read by, None where its pictures decide."""
    if not isinstance(config, DataReadAlike):
        return None
    return UsedDepth(*(None if each is None else Scale(*each) for each in config.scales))
