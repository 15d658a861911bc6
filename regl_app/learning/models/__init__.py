"""Classifiers that are federated."""

from regl_app.learning.models.build import build_model
from regl_app.learning.models.classifier import Classifier

__all__ = ["Classifier", "build_model"]
