"""The pictures the commands write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

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
