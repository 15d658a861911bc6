"""Tokenizers as checkpoints were first published with: SentencePiece's file and no other."""

from __future__ import annotations

import json
import shutil
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.generator.foundation import Foundation
from regl_app.generator.sampling import sample

LABELS, INDICES = [0, 1], [0, 0]
NORMAL, UNKNOWN, CONTROL = 1, 2, 3
UNIGRAM, PAIRS = 1, 2


def write_model(
    file: Path, pieces: Sequence[tuple[str, float]], kind: int, ends: Mapping[str, str]
) -> None:
    """Write a file as SentencePiece's trainer does, of pieces with their scores.

    ``kind``: of model; ``ends``: what ``pad_id``, ``eos_id``, ``bos_id`` and ``unk_id`` mean.
    """
    from sentencepiece import sentencepiece_model_pb2 as written

    model, names = written.ModelProto(), [piece for piece, _ in pieces]
    for piece, score in pieces:
        use = UNKNOWN if piece == ends["unk_id"] else CONTROL if piece in ends.values() else NORMAL
        model.pieces.add(piece=piece, score=score, type=use)
    for field in ("pad_id", "eos_id", "bos_id", "unk_id"):
        setattr(model.trainer_spec, field, names.index(ends[field]) if field in ends else -1)
    model.trainer_spec.model_type = kind
    model.normalizer_spec.add_dummy_prefix = kind == UNIGRAM
    file.write_bytes(model.SerializeToString())


def by_sentencepiece(folder: Path, tokenizer: str, copy: Path) -> Path:
    """Return a copy of a pipeline that has the same vocabulary in ``spiece.model`` alone."""
    shutil.copytree(folder, copy)
    fast = copy / tokenizer / "tokenizer.json"
    content = json.loads(fast.read_text(encoding="utf-8"))
    fast.unlink()
    pieces = [(str(piece), float(score)) for piece, score in content["model"]["vocab"]]
    ends = {"pad_id": "<pad>", "eos_id": "</s>", "unk_id": "<unk>"}
    write_model(copy / tokenizer / "spiece.model", pieces, UNIGRAM, ends)
    return copy


def config_of(folder: Path) -> GeneratorConfig:
    return GeneratorConfig(path=str(folder), steps=2, guidance=1.0, image_size=32, precision="fp32")


def loaded(folder: Path) -> Foundation:
    return Foundation.load(config_of(folder), ("a cat", "a dog"))


def drawn(folder: Path) -> torch.Tensor:
    return sample(loaded(folder), LABELS, INDICES, config_of(folder), stream=7)


@pytest.mark.parametrize(
    ("name", "tokenizer"),
    [("pixart", "tokenizer"), ("sd3", "tokenizer_3"), ("flux-dev", "tokenizer_2")],
)
def test_a_t5_whose_tokenizer_is_spiece_model_alone_reads_the_same(
    name: str, tokenizer: str, pipelines: Callable[[str], Path], tmp_path: Path
) -> None:
    copy = by_sentencepiece(pipelines(name), tokenizer, tmp_path / "copy")
    assert torch.equal(drawn(copy), drawn(pipelines(name)))


def test_sana_s_gemma_is_read_from_tokenizer_model_alone(
    pipelines: Callable[[str], Path], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(pipelines("sana"), tmp_path / "copy"))
    (copy / "tokenizer" / "tokenizer.json").unlink()
    ends = {"pad_id": "<pad>", "eos_id": "<eos>", "bos_id": "<bos>", "unk_id": "<unk>"}
    pieces = [*ends.values(), "<mask>", *string.ascii_lowercase[:25]]
    scored = [(piece, -float(rank)) for rank, piece in enumerate(pieces)]
    write_model(copy / "tokenizer" / "tokenizer.model", scored, PAIRS, ends)
    for file, key, value in (
        (copy / "model_index.json", "tokenizer", ["transformers", "GemmaTokenizer"]),
        (copy / "tokenizer" / "tokenizer_config.json", "tokenizer_class", "GemmaTokenizer"),
    ):
        content = json.loads(file.read_text(encoding="utf-8")) | {key: value}
        file.write_text(json.dumps(content), encoding="utf-8")
    cat, dog = loaded(copy).text.tensors["embeddings"][:2]
    assert not torch.equal(cat, dog), "all is one unknown word"
