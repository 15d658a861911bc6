"""Where a node keeps what is a client's: found again by the next version, let go after a month."""

from __future__ import annotations

import os
import time
from pathlib import Path

from regl_app.core.client_folders import client_folder, remove_unused


def test_a_node_that_is_updated_amid_a_run_finds_what_it_kept() -> None:
    assert client_folder(Path("/srv"), ("run-1",), 3) == Path(
        "/srv/state/1a5e08852ff225736404e43cc9976737/client-03"
    )
    assert client_folder(Path("/srv"), ("run-1", "a", "b"), 12) == Path(
        "/srv/state/1f5b6ee6dd358ad161d993e26260b237/client-12"
    )


def test_what_is_used_stays_and_folders_of_others_go_when_empty(tmp_path: Path) -> None:
    month_ago = time.time() - 31 * 24 * 3600
    files = {}
    for run, client, name, old in (
        ("a", 0, "round-0001", True),
        ("a", 0, "pictures", False),
        ("a", 1, "round-0001", True),
        ("b", 0, "pictures", True),
    ):
        path = client_folder(tmp_path, (run,), client) / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        files[run, client, name] = path
        if old:
            os.utime(path, (month_ago, month_ago))
    remove_unused(client_folder(tmp_path, ("c",), 0))
    assert [key for key, path in files.items() if path.exists()] == [("a", 0, "pictures")]
    assert not files["a", 1, "round-0001"].parent.exists()
    assert not files["b", 0, "pictures"].parents[1].exists()
