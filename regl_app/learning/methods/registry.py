"""Local learning rules by name: adding a method adds its file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from regl_app.config import RunConfig
from regl_app.learning.methods.fedavg import FedAvg
from regl_app.learning.methods.fedprox import FedProx
from regl_app.learning.methods.fedrep import FedRep
from regl_app.learning.methods.method import Method
from regl_app.learning.methods.moon import Moon
from regl_app.learning.methods.scaffold import Scaffold

METHODS: Mapping[str, type[Method]] = MappingProxyType(
    {
        "fedavg": FedAvg,
        "fedprox": FedProx,
        "scaffold": Scaffold,
        "moon": Moon,
        "fedrep": FedRep,
    }
)


def make_method(config: RunConfig) -> Method:
    """Return the local learning rule that ``config.objective`` names."""
    return METHODS[config.objective](config.train)


make_objective = make_method
"""The former name, as notebooks know it."""
