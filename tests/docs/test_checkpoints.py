"""The tables of docs/checkpoints.md are what the code says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from regl_app.config.run_config import BUNDLED_FIT
from regl_app.generator.families.registry import FAMILIES

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "checkpoints.md").read_text(encoding="utf-8")
UNET, TRANSFORMER = "UNet2DConditionModel", "Transformer2DModel"
XL = {"addition_embed_type": "text_time"}
COLUMNS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "Stable Diffusion 1, 2": (UNET, {}, {}),
    "XL": (UNET, XL, {}),
    "few steps": (UNET, {}, {"_class_name": "LCMScheduler"}),
    "latent consistency": (UNET, {"time_cond_proj_dim": 256}, {}),
    "SD 3": (f"SD3{TRANSFORMER}", {}, {}),
    "FLUX dev": (f"Flux{TRANSFORMER}", {"guidance_embeds": True}, {}),
    "schnell": (f"Flux{TRANSFORMER}", {"guidance_embeds": False}, {}),
}


def tables() -> list[dict[str, list[str]]]:
    """Return the tables whose first column is a key, by key; the head by 'key'."""
    found: list[dict[str, list[str]]] = []
    for line in TEXT.splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if cells[0] == "key":
            found.append({})
        if found and line.startswith("|") and re.fullmatch(r"key|[a-z]+\.[a-z-]+", cells[0]):
            found[-1][cells[0]] = cells[1:]
    return found


def text(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def by_family(name: str, side: int) -> dict[str, Any]:
    family, denoiser, scheduler = COLUMNS[name]
    return FAMILIES[family].settings(denoiser, scheduler).keys(side)


@pytest.mark.parametrize("name", ["up to 64 px", *COLUMNS])
def test_a_family_s_column_is_what_fits_it(name: str) -> None:
    table = tables()[0]
    place = table["key"].index(name)
    keys = BUNDLED_FIT if name == "up to 64 px" else by_family(name, 512)
    for key in table.keys() - {"key"}:
        assert table[key][place] == text(keys[key]), key


@pytest.mark.parametrize("family", ["PixArt", "Sana"])
def test_two_families_share_a_column(family: str) -> None:
    table = tables()[0]
    place = table["key"].index("PixArt, Sana")
    keys = FAMILIES[f"{family}{TRANSFORMER}"].settings({}, {}).keys(512)
    for key in table.keys() - {"key"}:
        assert table[key][place] == text(keys[key]), key


@pytest.mark.parametrize("side", [256, 512, 1024])
def test_how_many_images_at_once_goes_by_their_size(side: int) -> None:
    table = tables()[1]
    place = table["key"].index(f"{side} px")
    for key in table.keys() - {"key"}:
        assert table[key][place] == text(by_family("XL", side)[key])


def test_every_key_that_fits_the_generator_is_there() -> None:
    assert {key for table in tables() for key in table} - {"key"} == set(BUNDLED_FIT)
