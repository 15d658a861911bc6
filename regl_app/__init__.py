"""Federated learning that generates the data each client lacks: ReGL and FedDPD in one library."""

__version__ = "0.1.0"
