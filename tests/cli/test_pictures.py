"""The pictures the commands write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regl_app.cli import fonts
from regl_app.cli.pictures import save_grid, save_heatmap


def test_the_grid_shows_every_image_in_its_place(tmp_path: Path) -> None:
    images = torch.zeros((2, 3, 1, 4, 4), dtype=torch.uint8)
    images[1, 2] = 200
    save_grid(images, ["zero", "one"], tmp_path / "grid.png", scale=2)
    pixels = np.asarray(Image.open(tmp_path / "grid.png").convert("L"))
    # The lower right tile: 2 pixels of gap right of and below it.
    assert (pixels[-10:-2, -10:-2] == 200).all()
    assert (pixels[-10:-2, -20:-12] == 0).all()
    assert pixels.shape[0] == 2 * (8 + 2) + 2


def test_colour_stays_colour(tmp_path: Path) -> None:
    images = torch.zeros((1, 1, 3, 4, 4), dtype=torch.uint8)
    images[:, :, 1] = 255
    save_grid(images, ["green"], tmp_path / "grid.png", scale=1)
    pixels = np.asarray(Image.open(tmp_path / "grid.png"))
    assert pixels[3, -4].tolist() == [0, 255, 0]


def test_the_heat_map_is_a_picture_of_any_size(tmp_path: Path) -> None:
    for shape in ((1, 2), (12, 30)):
        counts = np.arange(shape[0] * shape[1]).reshape(shape)
        save_heatmap(counts, [str(c) for c in range(shape[1])], tmp_path / "x.png", title="t")
        picture = Image.open(tmp_path / "x.png")
        assert min(picture.size) > 150
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_an_empty_federation_can_be_drawn(tmp_path: Path) -> None:
    save_heatmap(np.zeros((2, 3), dtype=np.int64), ["a", "b", "c"], tmp_path / "x.png", title="")
    assert (tmp_path / "x.png").is_file()


NAMES = ["Corn_(maize)___Common_rust", "café", "$\\frac{$", "<b>x&y", "ж", "a\nb", "x" * 300]


def test_names_of_any_kind_are_drawn(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    counts = np.ones((2, len(NAMES)), dtype=np.int64)
    save_heatmap(counts, NAMES, tmp_path / "map.png", title="$\\frac{$, 日本")
    images = torch.zeros((len(NAMES), 1, 1, 8, 8), dtype=torch.uint8)
    save_grid(images, NAMES, tmp_path / "grid.png", scale=2)
    assert Image.open(tmp_path / "grid.png").width < 400
    assert not [each for each in recwarn if "lyph" in str(each.message)]


def test_a_script_without_a_font_is_told_by_number(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fonts, "_has", lambda _font: frozenset(range(256)))
    fonts._font_of.cache_clear()
    assert [each.text for each in fonts.drawable(["a", "日本語"])] == ["a", "#1"]
    assert "#1 is '日本語'" in caplog.text
    fonts._font_of.cache_clear()


def test_another_font_of_the_machine_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second font has every letter: what the first one lacks is drawn by it."""
    first, second = list(fonts._fonts())[:2]
    every = {first: frozenset(range(256)), second: frozenset(range(70000))}
    monkeypatch.setattr(fonts, "_has", lambda font: every.get(font, frozenset()))
    fonts._font_of.cache_clear()
    assert [each.font for each in fonts.drawable(["a", "日本語"])] == [first, second]
    fonts._font_of.cache_clear()


def test_no_font_of_boxes_is_taken() -> None:
    """matplotlib brings one that has every letter, as a box."""
    assert not [font for font in fonts._fonts() if "lastresort" in font.lower()]


def test_plain_names_are_where_they_were(tmp_path: Path) -> None:
    images = torch.zeros((2, 1, 1, 4, 4), dtype=torch.uint8)
    save_grid(images, ["zero", "seven"], tmp_path / "grid.png", scale=1)
    assert Image.open(tmp_path / "grid.png").size == (12 + 7 * 5 + 6 + 2, 14)


def test_a_picture_of_very_many_has_a_limit(tmp_path: Path) -> None:
    counts = np.ones((60, 200), dtype=np.int64)
    save_heatmap(counts, [f"class {c}" for c in range(200)], tmp_path / "x.png", title="t")
    width, height = Image.open(tmp_path / "x.png").size
    assert width <= 48 * 150 and height <= 38 * 150
