"""Local learning rules: one file per method, holding its difference from FedAvg."""

from regl_app.learning.methods.method import Batch, Local, Method
from regl_app.learning.methods.registry import METHODS, make_method, make_objective

__all__ = ["METHODS", "Batch", "Local", "Method", "make_method", "make_objective"]
