import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

from regl_app.config.sections import DataConfig
from regl_app.core.errors import GeneratorError
from regl_app.data.sources.registry import load_source
from regl_app.generator.bundled import checksums
from regl_app.generator.compatibility import ORIGIN, check_public_part
from regl_app.generator.pretraining.corpus import Corpus, glyph_corpus, public_corpus
from regl_app.generator.pretraining.fonts import Typeface, find_fonts
from regl_app.generator.pretraining.model_card import QUALITY
from regl_app.generator.pretraining.options import PretrainOptions
from regl_app.generator.pretraining.pretrain import pretrain
from regl_app.generator.pretraining.quality import measure_purity
from regl_app.generator.pretraining.tokenizer import build_tokenizer

TINY = PretrainOptions(
    autoencoder_steps=4,
    denoiser_steps=4,
    batch_size=16,
    classifier_steps=2,
    judge_steps=2,
    quality_images=20,
)


@pytest.fixture
def glyphs(monkeypatch) -> Corpus:
    face = Typeface("DejaVu", "fonts-dejavu-core", "Bitstream-Vera", ("DejaVuSans.ttf",))
    folder = Path(matplotlib.get_data_path())
    monkeypatch.setattr(
        "regl_app.generator.pretraining.corpus.find_fonts", lambda _: find_fonts([folder], [face])
    )
    return glyph_corpus(200, 0, [])


def test_writes_a_pipeline_with_a_card_and_repeats_itself(tmp_path, glyphs):
    state = torch.random.get_rng_state()
    stages = []

    def report(*step):
        stages.append(step[:3])

    first = pretrain(tmp_path / "a", glyphs, TINY, progress=report)
    second = pretrain(tmp_path / "b", glyphs, TINY, progress=lambda *_: None)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert stages[0] == ("autoencoder", 1, 4)
    assert stages[-1] == ("denoiser", 4, 4)
    assert (first / "model_index.json").is_file()
    assert "200 renders" in (first / "README.md").read_text()
    assert "purity" not in (first / "README.md").read_text()
    assert json.loads((first / QUALITY).read_text())["purity"] is None
    assert not (first / ORIGIN).exists()
    assert checksums(first) == checksums(second)


def test_a_data_sets_generator_tells_what_was_public(tmp_path):
    data = DataConfig(public_fraction=0.3)
    folder = pretrain(
        tmp_path / "a", public_corpus(data, "inverted"), TINY, progress=lambda *_: None
    )
    card = (folder / "README.md").read_text()
    assert "30 % of each class of digits" in card
    assert "--source digits --look inverted data.public-fraction=0.3" in card
    purity = json.loads((folder / QUALITY).read_text())["purity"]
    assert f"reads {purity['samples']:.1%} of the samples as meant" in card
    check_public_part(folder, data)
    check_public_part(folder, DataConfig(source="mnist"))
    for fraction in (0.0, 0.2):
        with pytest.raises(GeneratorError, match=r"set data\.public-fraction=0\.3"):
            check_public_part(folder, DataConfig(public_fraction=fraction))
    (folder / ORIGIN).write_text("{}")
    with pytest.raises(GeneratorError, match="make the generator again"):
        check_public_part(folder, data)


@pytest.mark.parametrize("seed", [0, 1])
def test_no_client_and_no_test_holds_what_the_generator_learned_from(seed):
    data = DataConfig(public_fraction=0.3, seed=seed)
    corpus = public_corpus(data, "inverted")
    assert corpus.images.images.shape[1:] == (3, 32, 32)
    learned = {
        (255 - picture[0]).numpy().tobytes()
        for part in (corpus.images, corpus.held_out)
        for picture in part.images
    }
    clients = load_source(data)
    held = {
        picture[0].numpy().tobytes()
        for part in (clients.train, clients.test)
        for picture in part.images
    }
    whole = load_source(DataConfig())
    everything = [
        picture[0].numpy().tobytes()
        for part in (whole.train, whole.test)
        for picture in part.images
    ]
    # The digits hold a few identical pictures: those may lie on both sides.
    twins = {picture for picture, count in Counter(everything).items() if count > 1}
    assert not (learned & held) - twins
    assert learned <= set(everything)
    assert len(clients.train) + len(clients.test) == round(0.7 * len(everything))


def test_the_public_part_does_not_move_with_the_split():
    one, other = (public_corpus(DataConfig(public_fraction=0.3, seed=s), "blurred") for s in (0, 1))
    clients = [load_source(DataConfig(public_fraction=0.3, seed=s)) for s in (0, 1)]
    counts = [each.train.counts(10) + each.test.counts(10) for each in clients]
    np.testing.assert_array_equal(counts[0], counts[1])
    assert one.concepts == other.concepts


def test_purity_is_what_a_judge_of_the_undisguised_images_reads_as_meant():
    corpus = public_corpus(DataConfig(public_fraction=0.5), "inverted")
    plain = corpus.undisguised
    assert torch.equal(plain.examples.images, 255 - corpus.examples.images)
    assert torch.equal(plain.held_out.labels, corpus.held_out.labels)
    oracle = measure_purity(plain.held_out, corpus, 0, 150)
    assert oracle.samples == oracle.undisguised > 0.8
    assert oracle.held_out < 0.5 < oracle.samples
    blind = measure_purity(corpus.held_out, corpus, 0, 150)
    assert blind.samples == oracle.held_out == blind.held_out
    one = plain.held_out.subset(torch.nonzero(plain.held_out.labels == 3).flatten())
    alone = measure_purity(one, corpus, 0, 150)
    assert [share is None for share in alone.per_class] == [label != 3 for label in range(10)]
    assert alone.samples == pytest.approx(alone.per_class[3]) == pytest.approx(oracle.per_class[3])
    assert measure_purity(one, replace(corpus, undisguised=None), 0, 150) is None


def test_known_words_are_one_token_and_unknown_ones_fall_to_bytes():
    tokenizer = build_tokenizer(["a photo of the digit three"])
    ids = tokenizer("a photo of the digit three").input_ids
    assert len(ids) == 6 + 2
    assert len(tokenizer("zebra").input_ids) == 5 + 2
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "a photo of the digit three"
