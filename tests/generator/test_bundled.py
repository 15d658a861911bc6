import json

import pytest
import torch

from regl_app.errors import GeneratorError
from regl_app.generator import bundled
from regl_app.generator.bundled import bundled_path, verify, write_checksums
from regl_app.generator.fonts import DEFAULT_FOLDERS, find_fonts


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
    verify(folder, folder)


def test_plain_diffusers_loads_and_samples_it():
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(bundled_path())
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        ["a photo of the digit one", "a photo of the digit zero"],
        num_inference_steps=8,
        guidance_scale=2.0,
        generator=torch.Generator().manual_seed(0),
        output_type="pt",
    ).images
    assert images.shape == (2, 3, 32, 32)
    one, zero = images[:, 0]
    # A printed one has its ink in the middle, a zero is hollow there.
    assert one[12:20, 12:20].mean() > zero[12:20, 14:18].mean()


def test_samples_are_what_was_asked_for():
    from regl_app.generator.glyph_classifier import measure_quality
    from regl_app.generator.glyphs import GlyphBank

    try:
        fonts = find_fonts(DEFAULT_FOLDERS)
    except GeneratorError as error:
        pytest.skip(f"the quality bar needs the training fonts: {error}")
    quality = measure_quality(
        bundled_path(), GlyphBank.render(fonts), 300, seed=7, classifier_steps=600
    )
    assert quality.render_accuracy >= 0.97
    assert quality.accuracy >= 0.97


def test_damage_and_absence_name_the_file_and_the_remedy(tmp_path, monkeypatch, forget):
    (tmp_path / "unet").mkdir()
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(b"weights")
    write_checksums(tmp_path)
    assert list(json.loads((tmp_path / "checksums.json").read_text())) == [
        "unet/diffusion_pytorch_model.safetensors"
    ]
    monkeypatch.setenv("REGL_GENERATOR", str(tmp_path))
    assert bundled_path() == tmp_path

    weights.write_bytes(b"wEights")
    bundled._find.cache_clear()
    with pytest.raises(GeneratorError, match=r"safetensors is damaged.*reinstall"):
        bundled_path()

    weights.unlink()
    with pytest.raises(GeneratorError, match=r"not found in .*pip install regl-app"):
        bundled_path()


def test_code_without_weights_finds_the_installed_ones(tmp_path, monkeypatch, forget):
    # Flower's copy of the code: this module lies where no safetensors came along.
    expected = bundled_path()
    bundled._find.cache_clear()
    copy = tmp_path / "regl_app" / "generator"
    (copy / "weights").mkdir(parents=True)
    (copy / "weights" / "checksums.json").write_text((expected / "checksums.json").read_text())
    monkeypatch.setattr(bundled, "__file__", str(copy / "bundled.py"))
    assert bundled_path().samefile(expected)

    bundled._find.cache_clear()
    (copy / "weights" / "checksums.json").write_text(
        json.dumps({"unet/diffusion_pytorch_model.safetensors": "0" * 64})
    )
    with pytest.raises(GeneratorError, match="another version"):
        bundled_path()
