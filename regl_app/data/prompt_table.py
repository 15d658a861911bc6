"""What prompts call the classes where their names do not do: WordNet ids, codes, other languages.

``generator.prompts`` is a file, or what is in it as JSON. ``regl run`` puts the latter in place of
the former, so that it goes with the run: server and clients have the same, and config.json has it.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from regl_app.config import RunConfig
from regl_app.config.supplement_sections import AS_NAMED, GeneratorConfig, prompts_are_inside
from regl_app.core.errors import GeneratorError
from regl_app.core.start_dir import start_dir
from regl_app.core.types import Scalar
from regl_app.data.picture_store import PictureStore
from regl_app.data.source import Source
from regl_app.data.sources.registry import load_source

PromptTable = Mapping[str, tuple[str, ...]]
"""Class name -> its phrasings."""

_KEY = "generator.prompts"
_COLUMNS = ("class", "prompt")
_MOST_BYTES = 2**20


def run_source(config: RunConfig) -> Source:
    """Return the source of a run, its classes called as ``generator.prompts`` says.

    Raises:
        DataError: the source is absent or damaged.
        GeneratorError: the file of prompts is not for these classes.
    """
    source = load_source(config.data, store=PictureStore.of(config))
    return prompted(source, config.generator)


def prompted(source: Source, config: GeneratorConfig) -> Source:
    """Return ``source`` with the concepts of ``generator.prompts``; itself where that is empty.

    Raises:
        GeneratorError: the file cannot be read, lacks a class, or has one that there is not.
    """
    if config.prompts in ("", AS_NAMED):
        return source
    table = read_prompts(config.prompts)
    names = source.class_names
    problems = [
        f"{what} {_shown(found)}"
        for what, found in (
            ("lacks the classes", [name for name in names if name not in table]),
            ("has no such classes:", [name for name in table if name not in names]),
        )
        if found
    ]
    if problems:
        raise GeneratorError(
            f"{_KEY} {_place(config.prompts)} {' and '.join(problems)} (each of the {len(names)} "
            f"classes needs its line: {_shown(names)})"
        )
    concepts = tuple(
        texts[0] if len(texts) == 1 else texts for texts in map(table.get, names) if texts
    )
    return replace(source, concepts=concepts)


def inlined(flat: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return a run's keys with a file of prompts replaced by its content.

    Raises:
        GeneratorError: the file cannot be read, or what is given in its place is no table.
    """
    text = flat.get(_KEY)
    if not isinstance(text, str) or text in ("", AS_NAMED):
        return dict(flat)
    if prompts_are_inside(text):
        read_prompts(text)
        return dict(flat)
    table = {
        name: texts[0] if len(texts) == 1 else texts for name, texts in read_prompts(text).items()
    }
    return {**flat, _KEY: json.dumps(table, ensure_ascii=False)}


def with_prompts_inside(config: RunConfig) -> RunConfig:
    """Return ``config`` with the content of a file of prompts, where it is used, in its place.

    Raises:
        GeneratorError: the file cannot be read.
    """
    prompts = (
        inlined(config.to_flat())[_KEY] if config.needs_generator else config.generator.prompts
    )
    return config if prompts == config.generator.prompts else config.updated({_KEY: prompts})


def read_prompts(text: str) -> PromptTable:
    """Return the table in ``text``, which is JSON or the path of a JSON or CSV file.

    Raises:
        GeneratorError: it cannot be read, or is no table of classes and texts.
    """
    if prompts_are_inside(text):
        return _of_json(text, text)
    path = start_dir() / Path(text).expanduser()
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise GeneratorError(f"{_KEY} {text!r} is larger than {_MOST_BYTES} bytes")
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise GeneratorError(
            f"{_KEY} {text!r} cannot be read: {error} (give a JSON or CSV file in UTF-8, or JSON "
            'itself, such as {"n02123045": "a tabby cat", "n02099601": ["a retriever", "a dog"]})'
        ) from error
    return _of_json(content, text) if path.suffix.lower() == ".json" else _of_csv(content, text)


def _of_json(content: str, text: str) -> PromptTable:
    try:
        pairs = json.loads(content, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise GeneratorError(f"{_KEY} {_place(text)} is no JSON: {error}") from error
    if not isinstance(pairs, _Pairs):
        raise GeneratorError(f"{_KEY} {_place(text)} must be an object {{class: text or [texts]}}")
    table: dict[str, tuple[str, ...]] = {}
    for written, value in pairs:
        name = unicodedata.normalize("NFC", written)
        texts = value if isinstance(value, list) and not isinstance(value, _Pairs) else [value]
        if name in table:
            raise GeneratorError(f"{_KEY} {_place(text)} has the class {name!r} twice")
        table[name] = tuple(_checked(name, each, text) for each in texts)
    return _filled(table, text)


def _of_csv(content: str, text: str) -> PromptTable:
    try:
        return _of_rows(content, text)
    except csv.Error as error:
        raise GeneratorError(
            f"{_KEY} {text!r} is no CSV: {error} (close every quote, or name it .json)"
        ) from error


def _of_rows(content: str, text: str) -> PromptTable:
    reader = csv.DictReader(io.StringIO(content))
    if tuple(name.strip() for name in reader.fieldnames or ()) != _COLUMNS:
        raise GeneratorError(
            f"{_KEY} {text!r} must begin with the line {','.join(_COLUMNS)!r} (or be named .json), "
            f"got {','.join(reader.fieldnames or ())!r}"
        )
    table: dict[str, tuple[str, ...]] = {}
    for row in reader:
        name, *phrase = (row[column] for column in reader.fieldnames or ())
        if None in row or len(phrase) != 1:
            raise GeneratorError(
                f"{_KEY} {text!r}, line {reader.line_num}: must have two fields (put a text with a "
                'comma into "quotes")'
            )
        name = unicodedata.normalize("NFC", str(name).strip())
        table[name] = (*table.get(name, ()), _checked(name, phrase[0], text))
    return _filled(table, text)


class _Pairs(list[tuple[str, object]]):
    """A JSON object as it stands there, names that come twice included."""


def _checked(name: str, phrase: object, text: str) -> str:
    if not isinstance(phrase, str) or not phrase.strip():
        raise GeneratorError(
            f"{_KEY} {_place(text)}: the class {name!r} must have a text or several, got {phrase!r}"
        )
    return phrase.strip()


def _filled(table: PromptTable, text: str) -> PromptTable:
    for name, texts in table.items():
        if not texts or len(set(texts)) < len(texts):
            raise GeneratorError(
                f"{_KEY} {_place(text)}: the class {name!r} must have different texts, at least "
                f"one, got {list(texts)}"
            )
    return table


def _place(text: str) -> str:
    return "(as given)" if prompts_are_inside(text) else repr(text)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
