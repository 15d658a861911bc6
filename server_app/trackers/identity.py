"""What a tracker calls a run, kept in its folder: a resumed run goes on under the same name."""

from __future__ import annotations

import json

from regl_app.core.files import write_json
from regl_app.runs.folder import RunFolder

FILE = "trackers.json"


def remembered(folder: RunFolder, tracker: str) -> str | None:
    """Return what `remember` kept for ``tracker``, None if that is nothing."""
    found = _read(folder).get(tracker)
    return found if isinstance(found, str) else None


def remember(folder: RunFolder, tracker: str, name: str) -> None:
    """Keep what ``tracker`` calls the run."""
    write_json(folder.path / FILE, _read(folder) | {tracker: name})


def _read(folder: RunFolder) -> dict[str, object]:
    try:
        content = json.loads((folder.path / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
