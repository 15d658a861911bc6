"""The folder that holds this copy of the three packages."""

from __future__ import annotations

from pathlib import Path

APP_ROOT = Path(__file__).resolve().parents[2]
"""A checkout, an installation's ``site-packages``, or an app bundle that Flower unpacked."""
