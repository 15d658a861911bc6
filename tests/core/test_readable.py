"""What a user may not read is said by its key, whoever comes upon it."""

from __future__ import annotations

from pathlib import Path

import pytest

from regl_app.config import RunConfig
from regl_app.config.paths import with_absolute_paths
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import ConfigError, DataError, GeneratorError, ReglError
from regl_app.core.readable import readable
from regl_app.data import class_folders
from regl_app.data.sources.registry import load_source, source_state
from regl_app.data.sources.site import SiteFolder, load_site
from regl_app.generator.checkpoint import resolve_generator
from regl_app.generator.ip_adapter import check_ip_adapter
from regl_app.learning.models.pretrained import check_weights


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder below one that this user may not enter, as Python 3.11 meets it."""
    folder = tmp_path / "private" / "photos"

    def refused(path: Path, **_: object) -> bool:
        if path.is_relative_to(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return False

    monkeypatch.setattr(Path, "is_dir", refused)
    return folder


def test_data_and_generators_name_their_keys(closed: Path) -> None:
    config = RunConfig.from_flat(
        {"data.source": "folder", "data.path": str(closed), "method": "fedavg"}
    )
    for read in (load_source, source_state):
        with pytest.raises(DataError, match=r"data\.path='.*photos': .*photos may not be read by"):
            read(config.data)
    with pytest.raises(GeneratorError, match=r"generator\.path '.*photos': .* may not be read by"):
        resolve_generator(str(closed))
    site = RunConfig.from_flat({"data.source": "site", "data.classes": "a,b", "method": "fedavg"})
    with pytest.raises(DataError, match=r"data-dir='.*photos': .* may not be read by this user"):
        load_site(SiteFolder(closed, AllowedFolders()), site.data, 0, 0.2)


def test_a_folder_that_may_be_seen_and_not_listed_names_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(class_folders.os, "scandir", refused)
    config = RunConfig.from_flat(
        {"data.source": "folder", "data.path": str(tmp_path), "method": "fedavg"}
    )
    with pytest.raises(DataError, match=r"data\.path='.*': .* may not be read by this user"):
        load_source(config.data)


def test_a_path_that_may_not_be_looked_at_is_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refused)
    monkeypatch.setattr(Path, "is_file", refused)
    monkeypatch.chdir(tmp_path)
    config = RunConfig.from_flat({"generator.path": "private/sd", "model.weights": "w.safetensors"})
    absolute = with_absolute_paths(config)
    assert absolute.generator.path == str(tmp_path / "private" / "sd")
    with pytest.raises(ConfigError, match=r"model\.weights='.*tensors'.* may not be read by"):
        check_weights(absolute.model)
    with pytest.raises(GeneratorError, match=r"generator\.ip-adapter '.*': .* may not be read by"):
        check_ip_adapter(str(tmp_path / "ip.safetensors"), tmp_path, tmp_path)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(FileNotFoundError), readable("a key", DataError):
        raise FileNotFoundError("gone")
    with (
        pytest.raises(ReglError, match=r"^a key may not be read by this user"),
        readable("a key", DataError),
    ):
        raise PermissionError(1, "Operation not permitted")
