"""Files that are either whole or absent: written to a temporary name, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from regl_app.core.errors import StorageError


@contextmanager
def atomic_path(
    path: Path, keep: Callable[[], bool] | None = None, *, durable: bool = False
) -> Iterator[Path]:
    """Yield a temporary sibling of ``path``; rename it to ``path`` when the block succeeds.

    Works for a file and for a folder (an existing folder is replaced). On an exception the
    temporary file is removed and ``path`` stays as it was. ``keep`` says whether a folder that is
    at ``path`` by then, another process's, stays instead: a reader may be in the midst of it.
    ``durable`` is for a file that a run cannot go on without: it is on the disk, not only in the
    system's memory, before this returns. That costs milliseconds or more.
    """
    with storing(path):
        above = _made_first(path) if durable else []
        path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers such as numpy and PIL choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        with storing(path):
            yield temporary
            if durable:
                _sync_file(temporary)
        if temporary.is_dir() and path.is_dir():
            if keep is not None and keep():
                return
            shutil.rmtree(path)
        try:
            temporary.replace(path)
        except OSError:  # a folder that has come up since cannot be replaced
            if keep is None or not keep():
                raise
        for folder in above:
            sync_folder(folder)
    finally:
        delete(temporary)


def _made_first(path: Path) -> list[Path]:
    """Return the folders whose lists change when ``path`` is written, with those yet to be made."""
    folders = [path.parent]
    while not folders[-1].exists():
        folders.append(folders[-1].parent)
    return folders


def _sync_file(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def sync_folder(path: Path) -> None:
    """Bring to the disk which files ``path`` lists, where the system can do that for a folder."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


_FULL, _NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT}), os.strerror(errno.ENOSPC)
_FORBIDDEN = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Name what is being written when there is no room for it or no right to, and what to do.

    Raises:
        StorageError: the disk is full, or the quota on it; or the place is not this user's.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        if why := why_not_written(error, path):
            raise StorageError(f"{path}: {why}") from error
        raise


def why_not_written(error: Exception, path: Path | None = None) -> str | None:
    """Return what keeps a file from being written, with the remedy; None: it is another error.

    ``path`` is what was written: what may not be opened elsewhere is another error then.
    Without it nobody knows whether it was to be read or to be written.
    """
    number = getattr(error, "errno", None)
    # safetensors has an error of its own, with the system's words in it.
    if number in _FULL or _NO_SPACE in str(error):
        return (
            "cannot be written, its disk is full (free some space there; what was complete before "
            "is kept)"
        )
    if number not in _FORBIDDEN or not isinstance(error, OSError):
        return None
    if path is not None and error.filename is not None:
        seen = Path(os.fsdecode(error.filename))
        if not (seen.is_relative_to(path.parent) or path.is_relative_to(seen)):
            return None
    if path is None:
        return (
            f"cannot be read or written: {error.strerror} (give it to this user; what a run writes "
            "can go elsewhere by out-dir, cache-dir or TMPDIR)"
        )
    return (
        f"cannot be written: {error.strerror} (give it to this user, or choose another folder by "
        "out-dir, cache-dir or TMPDIR)"
    )


@contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """Let nobody else on this machine make ``path`` meanwhile: look again whether it is there.

    Yields whether that is so. Where the system knows no such locks, or the folder cannot be
    written, several make it.
    """
    with ExitStack() as stack:
        alone = False
        try:
            import fcntl

            path.parent.mkdir(parents=True, exist_ok=True)
            handle = stack.enter_context(path.with_name(f".{path.name}.lock").open("w"))
            fcntl.flock(handle, fcntl.LOCK_EX)  # ends with the file, also if this process is killed
            alone = True
        except (ImportError, OSError):
            pass
        yield alone


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of writing ``path``, who has ``exclusive(path)`` alone."""
    named = re.escape(path.stem), re.escape(path.suffix)
    temporary = re.compile(r"\.{}\.\d+-[0-9a-f]{{8}}{}".format(*named))
    for each in path.parent.iterdir():
        if temporary.fullmatch(each.name):
            delete(each)


def delete(path: Path) -> None:
    """Remove a file or folder, as far as this user may."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # a read-only disk refuses what is not there, too
            path.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write ``content`` to ``path`` atomically; ``durable`` as in ``atomic_path``."""
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str, *, durable: bool = False) -> None:
    """Write ``content`` to ``path`` atomically as UTF-8; ``durable`` as in ``atomic_path``."""
    write_bytes(path, content.encode(), durable=durable)


def write_json(path: Path, content: Any, *, durable: bool = False) -> None:
    """Write ``content`` to ``path`` atomically as indented JSON (NaN is refused)."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_text(path, text, durable=durable)


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below ``folder``; 0 if it is absent.

    What vanishes or hides meanwhile does not count.
    """
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(parent) / name).stat().st_size
    return total


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
