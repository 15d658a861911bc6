"""Classifiers that are federated."""
