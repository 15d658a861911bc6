"""What the doctor finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FREE_DISK_GB = 2.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at; ``fail`` keeps the run from starting, ``note`` is worth knowing."""

    topic: str
    status: Literal["ok", "note", "fail"]
    detail: str
    remedy: str = ""
