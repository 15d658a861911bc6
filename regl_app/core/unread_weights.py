"""Why a safetensors file cannot be read, and what helps: a pointer of Git LFS, a copy cut short."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

UNREAD = (MemoryError, OSError, RuntimeError, SafetensorError)
"""What opening a file and loading its tensors raise; torch maps it once more than ``safe_open``."""
LIFT_LIMIT = "lift the limit of its address space: ulimit -v unlimited, or that of the batch job"

_POINTER = b"version https://git-lfs"


def is_pointer(file: Path) -> bool:
    """Return whether ``file`` is the few lines that Git LFS has in the place of a large one.

    Raises:
        OSError: it cannot be opened.
    """
    with file.open("rb") as content:
        return content.read(len(_POINTER)) == _POINTER


def is_out_of_addresses(error: BaseException | str) -> bool:
    """Return whether a file could not be mapped, which takes addresses, not memory."""
    return isinstance(error, MemoryError) or "unable to mmap" in str(error)


def why_unread(file: Path, error: Exception | str) -> str:
    """Return why ``file`` could not be read, by the library's ``error``, with the remedy."""
    if is_out_of_addresses(error):
        size = file.stat().st_size / 1e9
        return f"the system does not let this process map its {size:.1f} GB ({LIFT_LIMIT})"
    try:
        if is_pointer(file):
            return (
                "it is a pointer of Git LFS, which stands for the file (fetch the file itself: git "
                "lfs pull in its repository, or hf download)"
            )
    except OSError:
        return f"{error}"
    return f"{error} (incomplete, or no safetensors file: fetch it again)"


def damage(file: Path) -> str:
    """Return why a safetensors file cannot be read, with the remedy; '' where it is whole.

    Its head is read, which says how long it has to be, and no tensor.

    Raises:
        OSError: it cannot be opened.
    """
    try:
        with safe_open(file, "np"):
            return ""
    except (MemoryError, SafetensorError) as error:
        return why_unread(file, error)
