"""The Flower ClientApp: what one hospital, phone or site does."""

from pathlib import Path

from regl_app.flower.engines.workdir import enter_bundle

# Flower imports this before it starts Ray: see regl_app.config.paths.
enter_bundle(Path(__file__).resolve().parent.parent)
