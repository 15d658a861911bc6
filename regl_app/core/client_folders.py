"""Where a node keeps what one client of a run needs again: a folder each, let go after a month."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from pathlib import Path

KEPT_SECONDS = 30 * 24 * 3600


def client_folder(state_dir: Path, run: tuple[str, ...], client: int) -> Path:
    """Return where below ``state_dir`` is what client number ``client`` keeps of ``run``.

    Args:
        state_dir: the node's.
        run: what the run is told from others by.
        client: its number.
    """
    named = hashlib.sha256(json.dumps(run).encode()).hexdigest()[:32]
    return state_dir / "state" / named / f"client-{client:02d}"


def remove_unused(folder: Path) -> None:
    """Remove what no client beside ``folder``, of whatever run, has used in a month."""
    oldest = time.time() - KEPT_SECONDS
    for path in folder.parents[1].glob("*/*/*.safetensors"):
        with suppress(OSError):
            if path.stat().st_mtime < oldest:
                remove(path)


def remove(path: Path) -> None:
    """Remove a client's file, and the folders that are empty then."""
    path.unlink(missing_ok=True)
    with suppress(OSError):  # absent, or other rounds' or clients' files are in it
        path.parent.rmdir()
        path.parent.parent.rmdir()
