"""What the doctor finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from regl_app.core.near_names import is_mistyped, near_path

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


def not_cached(topic: str, error: Exception, path: str, fetched: str) -> Finding:
    """Return that ``path`` is no folder and not in the hub's cache: it is mistyped, or an id.

    ``fetched``: what a run does where it is an id, in words.
    """
    from regl_app.generator.hub_checkpoint import HubId

    near, hub_id = near_path(path), HubId.parse(path)
    told = f"{error}, and {near}" if near else f"{error}"
    if hub_id and is_mistyped(path):
        remedy = f"correct the path; if it is a hub id, fetch it first: {hub_id.download}"
        return Finding(topic, "fail", told, remedy)
    return Finding(topic, "note", f"{told}; {fetched}")
