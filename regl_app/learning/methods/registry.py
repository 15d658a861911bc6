"""Local learning rules by name: adding a method adds its file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from regl_app.config import RunConfig
from regl_app.config.sections import TrainConfig
from regl_app.learning.methods.fedavg import FedAvg
from regl_app.learning.methods.fedprox import FedProx
from regl_app.learning.methods.method import Objective

OBJECTIVES: Mapping[str, Callable[[TrainConfig], Objective]] = MappingProxyType(
    {
        "fedavg": lambda _: FedAvg(),
        "fedprox": lambda train: FedProx(train.proximal),
    }
)


def make_objective(config: RunConfig) -> Objective:
    """Return the local learning rule that ``config.objective`` names."""
    return OBJECTIVES[config.objective](config.train)
