"""The Flower ServerApp: rounds, aggregation, evaluation and what is kept of them."""

from pathlib import Path

from regl_app.flower.engines.workdir import enter_bundle

# ServerApp and ClientApp are imported by two threads, either first: see regl_app.config.paths.
enter_bundle(Path(__file__).resolve().parent.parent)
