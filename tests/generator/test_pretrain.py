from pathlib import Path

import matplotlib
import pytest
import torch

from regl_app.generator import pretrain as module
from regl_app.generator.bundled import checksums
from regl_app.generator.fonts import Typeface, find_fonts
from regl_app.generator.pretrain import PretrainOptions, pretrain
from regl_app.generator.tokenizer import build_tokenizer

TINY = PretrainOptions(
    images=200,
    autoencoder_steps=4,
    denoiser_steps=4,
    batch_size=16,
    classifier_steps=2,
    quality_images=20,
)


@pytest.fixture
def one_font(monkeypatch):
    face = Typeface("DejaVu", "fonts-dejavu-core", "Bitstream-Vera", ("DejaVuSans.ttf",))
    folder = Path(matplotlib.get_data_path())
    monkeypatch.setattr(module, "find_fonts", lambda _: find_fonts([folder], [face]))


def test_writes_a_pipeline_with_a_card_and_repeats_itself(tmp_path, one_font):
    state = torch.random.get_rng_state()
    stages = []
    first = pretrain(tmp_path / "a", TINY, progress=lambda *step: stages.append(step[:3]))
    second = pretrain(tmp_path / "b", TINY, progress=lambda *_: None)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert stages[0] == ("autoencoder", 1, 4)
    assert stages[-1] == ("denoiser", 4, 4)
    assert (first / "model_index.json").is_file()
    assert "200 renders" in (first / "README.md").read_text()
    assert checksums(first) == checksums(second)


def test_known_words_are_one_token_and_unknown_ones_fall_to_bytes():
    tokenizer = build_tokenizer(["a photo of the digit three"])
    ids = tokenizer("a photo of the digit three").input_ids
    assert len(ids) == 6 + 2
    assert len(tokenizer("zebra").input_ids) == 5 + 2
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "a photo of the digit three"
