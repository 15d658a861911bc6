"""Errors a user can act on: each names the key or file, the value seen, what is allowed."""

from __future__ import annotations


class ReglError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(ReglError):
    """The run configuration is unknown, mistyped, out of range or contradictory."""


class DataError(ReglError):
    """A data source, partition or image cannot be used."""


class GeneratorError(ReglError):
    """A generator, adapter or synthetic image cannot be found, loaded or trusted."""


class ProtocolError(ReglError):
    """A message from a peer does not have the form, shape or values it must have."""


class DivergedError(ProtocolError):
    """A model's answers are no finite numbers: it has diverged."""


class StorageError(ReglError, OSError):
    """A file cannot be written: the disk is full, or this user may not."""


class RunError(ReglError):
    """A run cannot start, or learned nothing."""
