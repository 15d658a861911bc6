"""What prompts call the classes: a file of their texts, and classes that need one."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from regl_app.config import RunConfig
from regl_app.config.paths import with_absolute_paths
from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.types import Scalar
from regl_app.data.concepts import concepts_of, prompts_line
from regl_app.data.federation import Federation
from regl_app.data.images import ImageSet
from regl_app.data.prompt_table import inlined, prompted, read_prompts
from regl_app.data.source import Source

NAMES = ("n02123045", "n02099601")
TEXTS = {"n02123045": "a tabby cat", "n02099601": ["a retriever", "a golden dog"]}


def source(names: tuple[str, ...] = NAMES) -> Source:
    nothing = ImageSet(
        torch.empty(0, 3, 8, 8, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)
    )
    return Source("photos", nothing, nothing, names, concepts_of(names))


def with_prompts(prompts: str) -> Source:
    return prompted(source(), GeneratorConfig(prompts=prompts))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("prompts.json", json.dumps(TEXTS)),
        (
            "prompts.csv",
            "class,prompt\nn02123045,a tabby cat\nn02099601,a retriever\nn02099601, a golden dog\n",
        ),
    ],
)
def test_classes_are_called_as_the_file_says(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8-sig")
    expected = ("a tabby cat", ("a retriever", "a golden dog"))
    assert with_prompts(str(path)).concepts == expected
    assert with_prompts(json.dumps(TEXTS)).concepts == expected
    # What goes with a run needs no file.
    sent = inlined({"generator.prompts": str(path), "seed": 1})
    path.unlink()
    assert with_prompts(str(sent["generator.prompts"])).concepts == expected
    assert inlined(sent) == sent and sent["seed"] == 1


@pytest.mark.parametrize("prompts", ["", "names"])
def test_without_a_file_they_are_called_as_they_are(prompts: str) -> None:
    before = source()
    assert prompted(before, GeneratorConfig(prompts=prompts)) is before
    assert inlined({"generator.prompts": prompts}) == {"generator.prompts": prompts}


def test_other_languages_and_commas_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text('class,prompt\nn02123045,"кот, полосатый"\nn02099601,犬\n', encoding="utf-8")
    sent = inlined({"generator.prompts": str(path)})
    assert with_prompts(str(sent["generator.prompts"])).concepts == ("кот, полосатый", "犬")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.json", '{"n02123045": "a cat"}', "lacks the classes 'n02099601'"),
        ("a.json", json.dumps({**TEXTS, "dog": "a dog"}), "has no such classes: 'dog'"),
        ("a.json", "[1]", "must be an object"),
        ("a.json", "{", "is no JSON"),
        ("a.json", '{"a": "b", "a": "c"}', "has the class 'a' twice"),
        ("a.json", '{"a": 3}', "'a' must have a text or several, got 3"),
        ("a.json", '{"a": {"b": "c"}}', "'a' must have a text or several"),
        ("a.json", '{"a": [" "]}', "'a' must have a text or several, got ' '"),
        ("a.json", '{"a": []}', "must have different texts, at least one"),
        ("a.json", '{"a": ["b", "b"]}', "must have different texts"),
        ("a.csv", "name,text\na,b\n", "must begin with the line 'class,prompt'"),
        ("a.csv", "", "must begin with the line"),
        ("a.csv", "class,prompt\na,b,c\n", "line 2: must have two fields"),
        ("a.csv", "class,prompt\na\n", "the class 'a' must have a text"),
        ("b.csv", None, "cannot be read"),
    ],
)
def test_what_is_no_table_for_these_classes_is_refused(
    tmp_path: Path, name: str, content: str | None, problem: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(GeneratorError, match=problem) as caught:
        with_prompts(str(path))
    assert "generator.prompts" in str(caught.value) and name in str(caught.value)


@pytest.mark.parametrize("name", ["a.json", "a.csv"])
def test_accents_are_the_same_however_they_are_composed(tmp_path: Path, name: str) -> None:
    decomposed, composed = (unicodedata.normalize(form, "café") for form in ("NFD", "NFC"))
    texts = {decomposed: "a coffee", "tea": "a tea"}
    lines = "".join(f"{key},{text}\n" for key, text in texts.items())
    content = json.dumps(texts) if name.endswith(".json") else f"class,prompt\n{lines}"
    (tmp_path / name).write_text(content, encoding="utf-8")
    found = prompted(source((composed, "tea")), GeneratorConfig(prompts=str(tmp_path / name)))
    assert found.concepts == ("a coffee", "a tea")
    both = json.dumps({decomposed: "a", composed: "b"})
    with pytest.raises(GeneratorError, match="twice"):
        prompted(source((composed, "tea")), GeneratorConfig(prompts=both))


@pytest.mark.parametrize("given", ["{", '{"a": []}', '{"a": "b", "a": "c"}'])
def test_a_table_that_is_given_itself_is_read_when_the_run_is_told_to(given: str) -> None:
    with pytest.raises(GeneratorError, match=r"generator\.prompts \(as given\)"):
        inlined({"generator.prompts": given})


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_bytes(b" " * (2**20 + 1))
    with pytest.raises(GeneratorError, match="larger than"):
        read_prompts(str(path))


def test_paths_refer_to_where_the_run_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGL_START_DIR", str(tmp_path))
    (tmp_path / "p.json").write_text(json.dumps(TEXTS))
    absolute = with_absolute_paths(RunConfig.from_flat({"generator.prompts": "p.json"}))
    assert absolute.generator.prompts == str(tmp_path / "p.json")
    assert len(read_prompts("p.json")) == 2
    for prompts in ("", "names", json.dumps({"a" * 5000: "b"})):
        config = RunConfig.from_flat({"generator.prompts": prompts})
        assert with_absolute_paths(config).generator.prompts == prompts


def test_a_federation_has_them(tmp_path: Path) -> None:
    settings: Mapping[str, Scalar] = {"data.max-train": 100, "data.max-test": 50}
    plain = Federation.load(RunConfig.from_flat(settings), 2)
    assert Federation.load(RunConfig.from_flat(settings), 2) is plain
    texts = json.dumps({str(digit): f"a handwritten {digit}" for digit in range(10)})
    config = RunConfig.from_flat({**settings, "generator.prompts": texts})
    told = Federation.load(config, 2)
    assert told.source.concepts[3] == "a handwritten 3"
    assert told.source.train is plain.source.train


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("A", "a", "b"), ("the capital letter A", "the small letter a", "the letter b")),
        (("A", "B"), ("the letter a", "the letter b")),
        (("0", "x_y"), ("the digit zero", "x y")),
    ],
)
def test_letters_of_both_cases_are_told_apart(
    names: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert concepts_of(names) == expected
    assert concepts_of(names, article=True)[:2] != concepts_of(names)[:2] or "x_y" not in names


def test_the_line_of_prompts_is_shortened() -> None:
    assert prompts_line([["a", "b"], ["c"]], "") == "a | b; c"
    assert prompts_line([["a"]] * 12, "d", most=2) == "a; a; and 10 more; away from 'd'"


def test_the_log_has_the_prompts_of_a_thousand_classes() -> None:
    texts = [[f"a photo of {number}"] for number in range(1001)]
    assert prompts_line(texts[:1000], "") == "; ".join(text for (text,) in texts[:1000])
    assert prompts_line(texts, "").endswith("a photo of 999; and 1 more")


@pytest.mark.parametrize("begin", ['class,prompt\ncat,"a cat\n', '"class,prompt\ncat,a cat\n'])
def test_what_is_no_csv_is_refused_with_its_name(tmp_path: Path, begin: str) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text(begin + "x" * 140_000)
    with pytest.raises(GeneratorError, match=r"prompts\.csv' is no CSV: .* \(close every quote"):
        read_prompts(str(path))
