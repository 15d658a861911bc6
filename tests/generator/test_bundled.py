import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from regl_app.core.errors import GeneratorError
from regl_app.flower.engines.app_bundle import build_app_folder
from regl_app.generator import bundled
from regl_app.generator.bundled import bundled_path, checksums, verify
from regl_app.generator.checksums import CHECKSUMS
from regl_app.generator.pretraining.fonts import DEFAULT_FOLDERS


@pytest.fixture
def forget():
    bundled._find.cache_clear()
    yield
    bundled._find.cache_clear()


def test_ships_a_few_megabytes_with_a_card_and_true_checksums():
    folder = bundled_path()
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert 1e6 < size < 12e6
    card = (folder / "README.md").read_text()
    for part in ("## Data", "licence", "OFL-1.1", "## Training", "minutes", "recognized"):
        assert part in card
    assert checksums(folder) == CHECKSUMS


def test_plain_diffusers_loads_and_samples_it():
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(bundled_path())
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        ["a photo of the digit one", "a photo of the digit zero"],
        num_inference_steps=8,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(0),
        output_type="pt",
    ).images
    assert images.shape == (2, 3, 32, 32)
    one, zero = images[:, 0]
    # A printed one has its ink in the middle, a zero is hollow there.
    assert one[12:20, 12:20].mean() > zero[12:20, 14:18].mean()


def test_samples_are_what_was_asked_for():
    from regl_app.generator.pretraining.corpus import glyph_corpus
    from regl_app.generator.pretraining.quality import measure_quality

    try:
        corpus = glyph_corpus(1, 7, DEFAULT_FOLDERS)
    except GeneratorError as error:
        pytest.skip(f"the quality bar needs the training fonts: {error}")
    quality = measure_quality(bundled_path(), corpus, 300, seed=7, classifier_steps=600)
    assert quality.held_out_accuracy >= 0.97
    assert quality.accuracy >= 0.97


def test_damage_and_absence_name_the_file_and_the_remedy(tmp_path, monkeypatch, forget):
    (tmp_path / "unet").mkdir()
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(b"weights")
    expected = checksums(tmp_path)
    assert list(expected) == ["unet/diffusion_pytorch_model.safetensors"]
    verify(tmp_path, expected)
    weights.write_bytes(b"wEights")
    with pytest.raises(GeneratorError, match=r"safetensors is damaged.*reinstall"):
        verify(tmp_path, expected)
    weights.unlink()
    with pytest.raises(GeneratorError, match=r"safetensors is absent.*reinstall"):
        verify(tmp_path, expected)

    monkeypatch.setenv("REGL_GENERATOR", str(tmp_path))
    with pytest.raises(GeneratorError, match=r"not found in .*pip install regl-app"):
        bundled_path()
    weights.write_bytes(b"another generator")
    bundled._find.cache_clear()
    assert bundled_path() == tmp_path


def test_a_copy_of_the_code_alone_finds_the_installed_weights(tmp_path):
    # What Flower runs: the code, without weights, ahead of the installation on the path.
    app = build_app_folder(tmp_path / "app")
    assert not list(app.rglob("*.safetensors"))
    script = "import regl_app.generator.bundled as b; print(b.__file__); print(b.bundled_path())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(app)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    module, found = done.stdout.split()
    assert Path(module).is_relative_to(app)
    assert Path(found).samefile(bundled_path())
