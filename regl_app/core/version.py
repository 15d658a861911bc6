"""The version, once: the package's door, run folders, reports and metrics all say this one."""

from __future__ import annotations

__version__ = "0.1.0"
