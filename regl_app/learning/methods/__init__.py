"""Local learning rules: one file per method, holding its difference from FedAvg."""

from regl_app.learning.methods.method import Objective
from regl_app.learning.methods.registry import OBJECTIVES, make_objective

__all__ = ["OBJECTIVES", "Objective", "make_objective"]
