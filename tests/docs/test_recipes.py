"""The recipes of docs/extend.md fit the code: their files run, their diffs apply."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regl_app.config import RunConfig
from regl_app.config.sections import DataConfig, ModelConfig, TrainConfig
from regl_app.core.errors import DataError
from regl_app.data.images import ImageSet
from regl_app.generator.families.family import Family
from regl_app.generator.families.registry import FAMILIES, PARTS
from regl_app.learning.models.build import build_model
from regl_app.learning.training.loop import train_local
from regl_app.runs.folder import RunFolder
from regl_app.runs.records import GlobalMetrics, Personalized, RoundRecord
from regl_app.runs.report.figures.base import Absent, Figure
from regl_app.runs.report.run_data import RunData

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
DIFFS = re.findall(r"```diff\n(.*?)```", TEXT, flags=re.S)


def recipe(name: str) -> dict[str, Any]:
    """Return what the one Python block that defines ``name`` defines."""
    blocks = [block for block in re.findall(r"```python\n(.*?)```", TEXT, re.S) if name in block]
    assert len(blocks) == 1, name
    names: dict[str, Any] = {"__name__": f"recipe_{name}"}
    exec(compile(blocks[0], f"docs/extend.md: {name}", "exec"), names)
    return names


def applied(diff: str, root: Path) -> list[Path]:
    """Apply ``diff`` to the files below ``root``; return these. A hunk must fit one place."""
    changed: list[Path] = []
    for part in re.split(r"(?m)^--- a/", diff)[1:]:
        name, _, hunks = part.partition("\n")
        path = root / name
        held = path.read_text(encoding="utf-8")
        for hunk in re.split(r"(?m)^@@.*\n", hunks):
            lines = hunk.splitlines(keepends=True)
            old = "".join(line[1:] for line in lines if line[0] in " -")
            assert f"\n{held}".count(f"\n{old}") == 1, f"{name} has not once {old!r}"
            new = "".join(line[1:] for line in lines if line[0] in " +")
            held = f"\n{held}".replace(f"\n{old}", f"\n{new}")[1:]
        path.write_text(held, encoding="utf-8")
        changed.append(path)
    return changed


def test_with_every_recipe_applied_the_package_imports_and_knows_them(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    for package in ("regl_app", "tests"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    files = re.findall(r"(?m)^`(regl_app/[\w/]+\.py)`[^\n]*:\n\n```python\n(.*?)```", TEXT, re.S)
    assert len(files) == len(DIFFS) == 4
    changed = [tmp_path / name for name, _ in files]
    for path, (_, content) in zip(changed, files, strict=True):
        assert not path.exists()
        path.write_text(content, encoding="utf-8")
    for diff in DIFFS:
        changed += applied(diff, tmp_path)
    for path in changed:
        compile(path.read_text(encoding="utf-8"), path, "exec")
    modules = [
        ".".join(path.relative_to(tmp_path).with_suffix("").parts)
        for path in changed
        if path.is_relative_to(tmp_path / "regl_app")
    ]
    script = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "from pkgutil import resolve_name\n"
        "from regl_app.config.choices import METHODS, SOURCES\n"
        "from regl_app.generator.families.registry import FAMILIES\n"
        "resolve_name(METHODS['feddyn'].implementation)\n"
        "resolve_name(SOURCES['stl10'].implementation), resolve_name(SOURCES['stl10'].files)\n"
        "assert FAMILIES['AuraFlowTransformer2DModel'].part == 'transformer'\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, *modules],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_the_method_keeps_what_its_gradients_add_up_to() -> None:
    method = recipe("FedDyn")["FedDyn"]
    train = TrainConfig(steps=3, batch_size=4, proximal=0.5)
    images = torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8)
    data = ImageSet(images, torch.arange(8) % 2)
    kept: dict[str, torch.Tensor] = {}
    for expected in (0.0, 1.0):
        model = build_model(ModelConfig(width=4), 2, channels=1, image_size=8, seed=0)
        before = {name: value.clone() for name, value in model.named_parameters()}
        done = train_local(
            model, data, train, method=method(train), seed=0, device="cpu", kept=kept
        )
        for name, value in model.named_parameters():
            old = expected * kept[name] if kept else torch.zeros_like(value)
            torch.testing.assert_close(done.kept[name], old - 0.5 * (value - before[name]).detach())
        kept = dict(done.kept)
    assert any(bool(value.abs().sum() > 0) for value in kept.values())


def test_the_source_reads_columns_first_and_labels_from_one(tmp_path: Path) -> None:
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    pixels = np.zeros((10, 3, 96, 96), dtype=np.uint8)
    pixels[:, 0, 5, :] = 200  # as the file has it: column 5 of the red channel
    for split in ("train", "test"):
        pixels.tofile(folder / f"{split}_X.bin")
        np.arange(1, 11, dtype=np.uint8).tofile(folder / f"{split}_y.bin")
    (folder / "class_names.txt").write_text(
        "airplane bird car cat deer dog horse monkey ship truck"
    )
    config = DataConfig(path=str(tmp_path), image_size=96, max_train=4)
    source = recipe("load_stl10")["load_stl10"](config)
    facts = source.train.facts
    assert facts is not None
    assert [int(label) for label in source.train.labels] == facts.places.tolist()
    with pytest.raises(DataError, match=r"needs data\.path"):
        recipe("load_stl10")["load_stl10"](DataConfig(image_size=96))
    source = recipe("load_stl10")["load_stl10"](config.model_copy(update={"max_train": 0}))
    assert source.concepts[:2] == ("an airplane", "a bird")
    assert source.train.labels.tolist() == list(range(10))
    assert source.train.images[0, 0, :, 5].tolist() == [200] * 96
    assert source.train.images.sum() == 10 * 96 * 200


def test_the_family_says_all_that_a_family_says() -> None:
    family = recipe("AURA")["AURA"]
    assert isinstance(family, Family)
    assert family.part in PARTS
    assert set(family.layers) == set(FAMILIES["PixArtTransformer2DModel"].layers)


def test_the_figure_is_drawn_or_says_why_not(tmp_path: Path) -> None:
    by_client = recipe("by_client")["by_client"]
    folder = RunFolder.create(RunConfig.from_flat({"method": "fedavg"}), tmp_path)
    assert isinstance(by_client(RunData.load(folder.path), ""), Absent)
    for number, shares in enumerate(({0: 0.5, 1: 0.25}, {1: 0.75}, {0: 1.0, 1: 0.25})):
        measured = GlobalMetrics(accuracy=0.5, macro_f1=0.5)
        own = Personalized(mean=0.5, per_client=shares)
        folder.append_round(RoundRecord(round=number, metrics=measured, personalized=own))
    figure = by_client(RunData.load(folder.path), "")
    assert isinstance(figure, Figure)
    assert "there are <b>75.0</b> points" in figure.caption
    assert figure.body.count('class="unknown"') == 1
