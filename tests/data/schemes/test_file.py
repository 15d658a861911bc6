"""Partitions from a file: both formats, the way back, and what is refused with its line."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from regl_app.cli import app
from regl_app.config import RunConfig
from regl_app.config.sections import DataConfig, PartitionConfig
from regl_app.core.errors import DataError
from regl_app.core.types import Indices
from regl_app.data.federation import Federation
from regl_app.data.partition import partition_indices
from regl_app.data.partition_file import clients_named, read_partition, write_partition
from regl_app.data.row_facts import DataSetRows, RowFacts
from regl_app.data.sources.folder import folder_files
from regl_app.data.sources.metadata import folder_rows

NUMBERED = DataSetRows(6)
FILES = DataSetRows(3, files=("cat/1.png", "cat/ü, 2.png", "dog/1.png"))


def written(folder: Path, text: str, name: str = "who.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def parts_of(path: Path, clients: int, facts: RowFacts) -> list[Indices]:
    config = PartitionConfig(scheme="file", file=str(path))
    return partition_indices(torch.zeros(len(facts.places)).long(), config, clients, 0, facts)


@settings(max_examples=30, deadline=None)
@given(
    owner=st.lists(st.integers(0, 4), min_size=6, max_size=6),
    ending=st.sampled_from(["csv", "json"]),
)
@pytest.mark.parametrize("rows", [NUMBERED, FILES])
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, rows: DataSetRows, owner: list[int], ending: str
) -> None:
    path = tmp_path_factory.mktemp("file") / f"who.{ending}"
    owners = np.array(owner[: rows.total])
    parts = [np.flatnonzero(owners == client) for client in range(5)]
    write_partition(path, parts, rows)
    found = parts_of(path, 5, rows.all()) if rows.total else []
    assert [part.tolist() for part in found] == [part.tolist() for part in parts]


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_names_that_differ_in_how_they_are_composed_alone_are_told_apart(
    tmp_path: Path, ending: str
) -> None:
    names = [unicodedata.normalize(form, "ü.png") for form in ("NFC", "NFD")]
    for place, name in enumerate(["a/0.png", *(f"a/{name}" for name in names), "b/é.png"]):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), place).save(tmp_path / "set" / name)
    lines = [f"a/{names[0]},composed", f"a/{names[1]},apart", "a/0.png,x", "b/e\u0301.png,y"]
    (tmp_path / "set" / "metadata.csv").write_text("\n".join(["file_name,how", *lines]))
    config = DataConfig(source="folder", path=str(tmp_path / "set"), image_size=8)
    rows = folder_rows(tmp_path / "set", tmp_path / "set", folder_files(config)[:4])
    shown = dict(zip(rows.files, rows.values("how"), strict=True))
    assert shown == {
        "a/0.png": "x", f"a/{names[0]}": "composed", f"a/{names[1]}": "apart", "b/é.png": "y",
    }  # fmt: skip
    for only in range(4):  # each at a client of its own, the others at another
        parts = [np.array([only]), np.delete(np.arange(4), only)]
        write_partition(tmp_path / f"who.{ending}", parts, rows)
        found = parts_of(tmp_path / f"who.{ending}", 2, rows.all())
        assert [part.tolist() for part in found] == [part.tolist() for part in parts]


def test_a_name_that_csv_cannot_hold_is_refused_before_it_is_written(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a/1.png", " a/1.png", "b/1.png")]
    rows = folder_rows(tmp_path, tmp_path, paths)
    parts = [np.array([1]), np.array([0, 2])]
    with pytest.raises(DataError, match=r"' a/1\.png' would be read as 'a/1\.png' .*\.json"):
        write_partition(tmp_path / "who.csv", parts, rows)
    assert not (tmp_path / "who.csv").exists()
    write_partition(tmp_path / "who.json", parts, rows)
    assert [p.tolist() for p in parts_of(tmp_path / "who.json", 2, rows.all())] == [[1], [0, 2]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "client,row\n0,4\n1,0\n0,2\n"),
        ("a.csv", "\ufeffrow, client, note\r\n4, 0, x\r\n0, 1,\r\n2, 0, y\r\n"),
        ("a.csv", "client,row\nanna,4\nzoé,0\nanna,2\n"),
        ("a.csv", "client,row\n0.0,4.0\n1.0,0.0\n0.0,2.0\n"),
        ("a.csv", "client,row\n00,4\n01,0\n00,2\n"),
        ("a.json", '{"1.0": [0], "0.0": [2, 4]}'),
        ("a.json", "[[4, 2], [0]]"),
        ("a.json", '{"1": [0], "0": [2, 4]}'),
    ],
)
def test_formats_that_people_write(tmp_path: Path, name: str, text: str) -> None:
    parts = parts_of(written(tmp_path, text, name), 2, NUMBERED.all())
    assert [part.tolist() for part in parts] == [[2, 4], [0]]


def test_numbers_with_a_point_are_ordered_as_numbers(tmp_path: Path) -> None:
    """As pandas writes columns with gaps."""
    lines = [f"{client}.0,{11 - client}.0" for client in range(11)]
    path = written(tmp_path, "\n".join(["client,row", *lines, "11.0,"]))
    assert clients_named(path) == 12
    parts = parts_of(path, 12, DataSetRows(12).all())
    assert [part.tolist() for part in parts] == [*([11 - client] for client in range(11)), []]


def test_names_that_are_not_all_whole_numbers_stay_as_they_are(tmp_path: Path) -> None:
    path = written(tmp_path, "client,row\n1.0,4\n1.5,0\n1,2\n")
    parts = parts_of(path, 3, NUMBERED.all())
    assert [part.tolist() for part in parts] == [[2], [4], [0]]


def test_rows_are_those_of_the_data_set_and_not_of_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, "client,row\n0,5\n1,3\n1,0\n")
    with caplog.at_level("INFO", logger="regl"):
        parts = parts_of(path, 2, NUMBERED.at(np.array([5, 1, 3])))
    assert [part.tolist() for part in parts] == [[0], [2]]
    assert "1 of 3 training images are given to nobody" in caplog.text
    assert "1 rows of partition.file" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("client,row\n0,1\n1,6\n", r"line 3: row 6 is not in the data set, .* 0 to 5"),
        ("client,row\n0,1\n1,-1\n", r"line 3: row -1 is not in"),
        ("client,row\n0,1\n1,2\n1,1\n", r"line 4: row 1 is already in line 2"),
        ("client,row\n0,1\n1,1.5\n", r"line 3: row must be a whole number, got '1.5'"),
        ("client,row\n0,1\n1,1_0\n", r"line 3: row must be a whole number, got '1_0'"),
        ("client,row\n0,1\n1,+2\n", r"line 3: row must be a whole number, got '\+2'"),
        ("client,row\n0,1\n1,\u0663\n", r"line 3: row must be a whole number, got '\u0663'"),
        ("client,row\n0,1\n00,2\n1,3\n", r"has clients '0' and '00', which are one number"),
        ("client,row\n0.0,1\n1,2\n00.0,3\n", r"has clients '0' and '00', which are one"),
        ("client,row\n0,1\n,2\n", r"line 3: names no client"),
        ("client,row\n0,1\n2,2\n", r"has client 2, and there are 2 clients"),
        ("client,row\n0,1\n", r"does not name client 1 of 2 clients"),
        ("client,row\na,1\nb,2\nc,3\n", r"names 3 clients, and there are 2"),
        ("client,file\n0,cat/1.png\n1,b\n", r"line 2: 'cat/1.png' is a file, and rows"),
        ("who,what\n0,1\n", r"line 1: must name the columns 'client' and .* 'who', 'what'"),
        ("client,row,file\n0,1,a\n", r"line 1: must name"),
        ("", r"line 1: must name the columns .* names none"),
        ("client,row\n", r"gives nothing to anybody"),
        ("client,row\n0,1\n1\n2,\n", r"has client 2"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_partition(written(tmp_path, text), NUMBERED, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("3", "gives nothing to anybody"),
        ("[3, 4]", r"client 0: must be a list of row numbers or of files, got row 3"),
        ("[[0], [true]]", r"client 1, entry 0: must be a row number or a file, got"),
        ("[[0], [1, 0]]", r"client 1, entry 1: row 0 is already in client 0, entry 0"),
    ],
)
def test_wrong_json_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_partition(written(tmp_path, text, "who.json"), NUMBERED, 2)


def test_files_are_compared_in_nfc_and_a_close_one_is_suggested(tmp_path: Path) -> None:
    found = read_partition(written(tmp_path, 'client,file\n0,"./cat/u\u0308, 2.png"\n'), FILES, 1)
    assert found == {1: 0}
    with pytest.raises(DataError, match=r"line 2: file 'cat/2\.png' is not .*mean 'cat/"):
        read_partition(written(tmp_path, "client,file\n0,cat/2.png\n"), FILES, 1)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"who\.csv cannot be read: No such file"):
        read_partition(tmp_path / "who.csv", NUMBERED, 2)


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_the_command_writes_what_gives_the_same_federation(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"who.{ending}"
    drawn = {"partition.beta": 0.05, "data.max-train": 300, "data.seed": 4}
    settings = [f"{key}={value}" for key, value in drawn.items()]
    picture = str(tmp_path / "map.png")
    ran = CliRunner().invoke(
        app, ["partition", *settings, "--clients", "9", "--out", picture, "--write", str(path)]
    )
    assert ran.exit_code == 0, ran.output
    before = Federation.load(RunConfig.from_flat(drawn), 9)
    given = {**drawn, "partition.scheme": "file", "partition.file": str(path)}
    after = Federation.load(RunConfig.from_flat(given), 9)
    for one, other in (("train_indices",) * 2, ("test_indices",) * 2):
        pairs = zip(getattr(before, one), getattr(after, other), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)
    # Another choice of images is another set of the same rows.
    less = Federation.load(RunConfig.from_flat({**given, "data.max-train": 200}), 9)
    assert 150 < int(less.counts().sum()) < 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": [1], "a": [2], "b": [3]}', "names client 'a' twice"),
        ('{"--5": [1], "b": [2], "c": [3]}', "names 3 clients, and there are 2"),
        ('{"' + "9" * 5000 + '": [1]}', "names 1 clients, and there are 2"),
    ],
)
def test_odd_clients_of_json_are_refused_not_lost(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "who.json").write_text(text)
    keys = {"partition.scheme": "file", "partition.file": str(tmp_path / "who.json")}
    with pytest.raises(DataError, match=message):
        Federation.load(RunConfig.from_flat(keys), 2)
