"""A run has the files that it began with, and each is read once a process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from regl_app.config import RunConfig
from regl_app.data.federation import Federation
from regl_app.data.prompt_table import run_source
from regl_app.data.run_files import RunFiles
from regl_app.data.sources import registry


def test_what_a_server_reads_before_it_knows_its_clients_is_not_read_again() -> None:
    registry._load.cache_clear()
    config = RunConfig.from_flat({"data.max-train": 77, "data.max-test": 20})
    source = run_source(config)
    files = RunFiles.of(config.data, config.partition)
    assert Federation.load(config, 2, files=files).source.train.pixels is source.train.pixels
    assert Federation.load(config, 3).source.train.pixels is source.train.pixels
    assert registry._load.cache_info().misses == 1


def test_a_run_that_goes_on_keeps_the_partition_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "given.json"
    given.write_text("[[0, 1, 2], [3]]")
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (str(given), "~/given.json"):
        os.utime(given, ns=(0, 0))
        config = RunConfig.from_flat({"partition.scheme": "file", "partition.file": path})
        files = RunFiles.of(config.data, config.partition)
        begun = Federation.load(config, 2, files=files)
        given.write_text("[[0], [1, 2, 3]]")
        assert Federation.load(config, 2, files=files) is begun
        assert Federation.load(config, 2) is not begun
        assert RunFiles.of(config.data, config.partition) != files
        given.write_text("[[0, 1, 2], [3]]")
