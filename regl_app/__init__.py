"""Federated learning that generates the data each client lacks: ReGL and FedDPD in one library.

The names below are the Python door (docs/api.md); each is imported when first used, so that
``import regl_app`` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from regl_app.core.version import __version__

if TYPE_CHECKING:
    from regl_app.config import RunConfig
    from regl_app.core.errors import ReglError
    from regl_app.data.client import ClientData
    from regl_app.data.federation import Federation
    from regl_app.data.images import ImageSet
    from regl_app.flower.engines.in_process import run_in_process
    from regl_app.generator.foundation import Foundation
    from regl_app.generator.pictures import generate_images
    from regl_app.learning.evaluation.metrics import evaluate
    from regl_app.learning.methods.registry import make_method, make_objective
    from regl_app.learning.models.build import make_model
    from regl_app.learning.training.loop import train_local
    from regl_app.rounds.federate import federate
    from regl_app.runs.folder import RunFolder
    from regl_app.runs.report.build import build_report
    from regl_app.runs.trained.model import TrainedModel
    from regl_app.supplement.plan import client_quotas
    from regl_app.supplement.synthesizer import Synthesizer, make_synthesizer


_HOMES = {
    "ClientData": "data.client",
    "Federation": "data.federation",
    "Foundation": "generator.foundation",
    "ImageSet": "data.images",
    "ReglError": "core.errors",
    "RunConfig": "config",
    "RunFolder": "runs.folder",
    "Synthesizer": "supplement.synthesizer",
    "TrainedModel": "runs.trained.model",
    "build_report": "runs.report.build",
    "client_quotas": "supplement.plan",
    "federate": "rounds.federate",
    "evaluate": "learning.evaluation.metrics",
    "generate_images": "generator.pictures",
    "make_method": "learning.methods.registry",
    "make_model": "learning.models.build",
    "make_objective": "learning.methods.registry",
    "make_synthesizer": "supplement.synthesizer",
    "run_in_process": "flower.engines.in_process",
    "train_local": "learning.training.loop",
}

__all__ = [
    "ClientData",
    "Federation",
    "Foundation",
    "ImageSet",
    "ReglError",
    "RunConfig",
    "RunFolder",
    "Synthesizer",
    "TrainedModel",
    "__version__",
    "build_report",
    "client_quotas",
    "evaluate",
    "federate",
    "generate_images",
    "make_method",
    "make_model",
    "make_objective",
    "make_synthesizer",
    "run_in_process",
    "train_local",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
