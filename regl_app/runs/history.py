"""history.jsonl: one line per round, appended so that a crash tears the last line at most."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from regl_app.core.errors import RunError
from regl_app.core.files import storing, sync_folder
from regl_app.core.log import logger
from regl_app.runs.records import RoundRecord


def append_round(path: Path, record: RoundRecord) -> None:
    """Append ``record`` to the history at ``path`` and flush it to the disk."""
    line = record.model_dump_json().encode() + b"\n"
    first = not path.exists()
    with storing(path), path.open("ab+") as stream:
        _cut_torn_line(stream.fileno(), path)
        stream.write(line)
        stream.flush()
        os.fsync(stream.fileno())
    if first:
        sync_folder(path.parent)


def read_history(path: Path, *, quiet: bool = False) -> list[RoundRecord]:
    """Return the rounds in order, none without a file.

    A torn last line is left out, and logged unless ``quiet``: to who looks again and again, a line
    may be torn as it is just being written.

    A round that was recorded twice (a resumed run) counts as recorded last.

    Raises:
        RunError: any other line is not a round record.
    """
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    if lines.pop() and not quiet:
        logger.warning(
            "%s: line %d is torn (the run was interrupted while writing it) and left out",
            path,
            len(lines) + 1,
        )
    rounds: dict[int, RoundRecord] = {}
    for number, line in enumerate(lines, start=1):
        try:
            record = RoundRecord.model_validate_json(line)
        except ValidationError as error:
            raise RunError(f"{path}:{number}: not a round record: {error}") from error
        rounds[record.round] = record
    return [rounds[key] for key in sorted(rounds)]


def _cut_torn_line(descriptor: int, path: Path) -> None:
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return
    kept = os.pread(descriptor, size, 0).rfind(b"\n") + 1
    logger.warning("%s: dropping a torn last line of %d bytes", path, size - kept)
    os.ftruncate(descriptor, kept)
