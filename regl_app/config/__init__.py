"""What a run is: one frozen ``RunConfig`` of sections, presets and checks; no torch, no Flower."""

from regl_app.config.run_config import RunConfig, default_flat, flat_fields

__all__ = ["RunConfig", "default_flat", "flat_fields"]
