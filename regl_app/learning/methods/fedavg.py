"""FedAvg (McMahan et al., 2017): plain cross-entropy at the client. The baseline of all."""

from __future__ import annotations

from regl_app.learning.methods.method import Method


class FedAvg(Method):
    """Nothing but what every method does."""
