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


def unread(unreadable: int, left_out: str) -> str:
    """Return what is to be added about files of a folder that are not read; '' if all are."""
    damaged = f"; {unreadable} pictures cannot be read and are left out" if unreadable else ""
    return damaged + (f"; not read: {left_out}" if left_out else "")


def mistyped(topic: str, error: Exception, near: str, path: str) -> Finding:
    """Return that ``path`` is no folder, is not in the hub's cache either, and what is ``near``."""
    repository, _, revision = path.partition("@")
    fetched = f"{repository} --revision {revision}" if revision else repository
    remedy = f"correct the path; if it is a hub id, fetch it first: hf download {fetched}"
    # A folder that is called like the id's owner is no reason to refuse the id.
    status: Literal["fail", "note"] = "fail" if "did you mean" in near else "note"
    return Finding(topic, status, f"{error}, and {near}", remedy)
