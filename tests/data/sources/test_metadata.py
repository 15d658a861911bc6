"""Columns of an image folder: where they are read from, and whose they are in a partition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regl_app.config import RunConfig
from regl_app.config.sections import DataConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import DataError
from regl_app.data.federation import Federation
from regl_app.data.sources.registry import load_source


def folder_of(root: Path, *names: str) -> Path:
    for place, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), place, dtype=np.uint8)).save(path)
    return root


def names_of(root: Path, column: str = "hospital") -> list[str]:
    source = load_source(DataConfig(source="folder", path=str(root), image_size=8))
    assert source.train.facts is not None
    return source.train.facts.names(column)


def test_lines_are_those_of_the_files_they_name(tmp_path: Path) -> None:
    root = folder_of(
        tmp_path, "train/a/1.png", "train/a/2.png", "train/b/ü.png", "test/a/1.png", "test/b/1.png"
    )
    text = "file_name,hospital\r\ntrain/b/u\u0308.png,Zürich\r\n./train/a/2.png,Bern\r\n"
    (root / "metadata.csv").write_text(text + "train/a/1.png,Zürich\ntest/a/1.png,\n", "utf-8-sig")
    assert names_of(root) == ["Zürich", "Bern", "Zürich"]
    settings = {"data.source": "folder", "data.path": str(root), "data.image-size": 8}
    by = {"partition.scheme": "column", "partition.column": "hospital"}
    federation = Federation.load(RunConfig.from_flat({**settings, **by}), 2)
    assert federation.counts().tolist() == [[1, 0], [1, 1]]


def test_a_table_in_the_training_folder_counts_from_there(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png")
    (root / "train/metadata.csv").write_text("hospital,file_name\nx,a/1.png\ny,b/1.png\n")
    assert names_of(root) == ["x", "y"]


def test_a_picture_that_is_split_off_or_unreadable_takes_its_line_along(tmp_path: Path) -> None:
    root = folder_of(tmp_path, *(f"{kind}/{n}.png" for kind in "ab" for n in range(10)))
    (root / "a/3.png").write_bytes(b"no picture")
    lines = [f"{kind}/{n}.png,{kind}{n}" for kind in "ba" for n in range(10)]
    (root / "metadata.csv").write_text("\n".join(["file_name,who", *lines]))
    keys = {"source": "folder", "path": str(root), "image_size": 8, "unreadable": "skip"}
    train = load_source(DataConfig(**keys, test_fraction=0.4)).train
    assert train.facts is not None and len(train) == 11
    values = train.images[:, 0, 0, 0].tolist()
    assert train.facts.names("who") == [f"{'ab'[value // 10]}{value % 10}" for value in values]


@pytest.mark.parametrize("text", ["image_id,age\n7,40\n", "a;b\n1;2\n", "", "a\0b\n"])
def test_a_table_of_something_else_stops_nobody_who_asks_for_no_column(
    tmp_path: Path, text: str
) -> None:
    root = folder_of(tmp_path, *(f"{kind}/{n}.png" for kind in "ab" for n in range(3)))
    (root / "metadata.csv").write_text(text)
    source = load_source(DataConfig(source="folder", path=str(root), image_size=8))
    assert len(source.train) + len(source.test) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,hospital\na/1.png,x\n", r"must have a column 'file_name' .* 'name', 'hospital'"),
        ("", r"must have a column 'file_name' .* has none"),
        ("file_name,hospital\na/1.png,x\na/1.png,y\n", r"line 3: 'a/1.png' is already in line 2"),
        ("file_name,hospital\na/1.png,x\n", r"1 of 2 images have no value .*\(b/1.png\)"),
        ("file_name,hospital\na/1.png,x\nb/1.png\n", r"1 of 2 images have no value"),
        ("file_name,hospitals\na/1.png,x\n", r"'hospital' is not in .* it has 'hospitals' .*mean"),
    ],
)
def test_a_table_that_does_not_fit_is_named(tmp_path: Path, text: str, message: str) -> None:
    root = folder_of(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png")
    (root / "train/metadata.csv").write_text(text)
    with pytest.raises(
        DataError, match=message.replace("(b/", "(train/b/").replace("'a/", "'train/a/")
    ):
        names_of(root)


def test_a_table_that_leads_out_is_refused(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    (tmp_path / "secret.csv").write_text("file_name,x\n")
    (root / "metadata.csv").symlink_to(tmp_path / "secret.csv")
    config = DataConfig(source="folder", path=str(root), image_size=8)
    with pytest.raises(DataError, match=r"metadata.csv of data.path must lie in"):
        load_source(config, AllowedFolders((root,)))
