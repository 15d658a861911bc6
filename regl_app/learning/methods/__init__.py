"""Local learning rules: one file per method, holding its difference from FedAvg."""

from regl_app.learning.methods.method import Batch, Local, Method
from regl_app.learning.methods.registry import make_method, make_objective, method_class

__all__ = ["Batch", "Local", "Method", "make_method", "make_objective", "method_class"]
