"""What a user may not read is an error of ours that names the key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from regl_app.core.errors import ReglError


@contextmanager
def readable(what: str, kind: type[ReglError]) -> Iterator[None]:
    """Raise ``kind`` where the system does not let this user read, by ``what`` it was to read."""
    try:
        yield
    except PermissionError as error:
        where = f": {error.filename}" if error.filename else ""
        raise kind(
            f"{what}{where} may not be read by this user: {error.strerror} (give it the rights, on "
            "the folders that lead there as well)"
        ) from error
