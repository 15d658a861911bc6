"""Local learning rules: one file per method, holding its difference from FedAvg."""

from regl_app.methods.objective import Objective
from regl_app.methods.registry import OBJECTIVES, make_objective

__all__ = ["OBJECTIVES", "Objective", "make_objective"]
