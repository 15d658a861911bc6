"""Files and folders that systems and programs leave beside pictures: never data."""

from __future__ import annotations

_NAMES = frozenset(
    {
        "__macosx",
        "icon\r",
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "lost+found",
        "lost.dir",
        "#recycle",
        "#snapshot",
        "__pycache__",
        # What network stores keep beside each folder.
        "@eadir",
        "@synoresource",
        "@synoeastream",
        "@tmp",
        "@__thumb",
        "@__qini",
        "@recycle",
        "@recently-snapshot",
        "@snapshot",
    }
)


def is_leftover(name: str) -> bool:
    """Return whether a file or folder of this name is hidden or a system's own, at any depth."""
    return name.startswith(".") or name.casefold() in _NAMES
