"""``key=value`` arguments and configuration files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regl_app.cli.options import resolve
from regl_app.config import RunConfig
from regl_app.config.parsing import parse_settings, parse_variants
from regl_app.core.errors import ConfigError


def test_values_take_their_keys_types() -> None:
    settings = ["rounds=3", "partition.beta=1", "tensorboard=False", "name=7", "method='regl'"]
    flat = parse_settings(settings)
    assert flat == {
        "rounds": 3,
        "partition.beta": 1.0,
        "tensorboard": False,
        "name": "7",
        "method": "regl",
    }
    assert [type(value) for value in flat.values()] == [int, float, bool, str, str]


def test_a_value_may_hold_an_equals_sign_and_spaces() -> None:
    flat = parse_settings(["generator.prompt=a {concept}, x=y"])
    assert flat == {"generator.prompt": "a {concept}, x=y"}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("rounds=ten", "rounds must be a whole number, got 'ten'"),
        ("train.lr=fast", "train.lr must be a number, got 'fast'"),
        ("report=maybe", "report must be true or false, got 'maybe'"),
        ("partition.bta=1", "did you mean 'partition.beta'?"),
        ("rounds", "expected KEY=VALUE such as partition.beta=0.1, got 'rounds'"),
        ("=3", "expected KEY=VALUE"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(setting: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve([setting])
    assert words in str(caught.value)


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="rounds is given twice: 1 and '2'"):
        parse_settings(["rounds=1", "rounds=2"])


def test_a_toml_file_is_read_and_arguments_win(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('method = "regl"\nrounds = 3\n[partition]\nbeta = 0.5\n')
    config = resolve(["rounds=4"], file)
    assert (config.method, config.rounds, config.partition.beta) == ("regl", 4, 0.5)


def test_a_run_folders_config_repeats_the_run(tmp_path: Path) -> None:
    config = resolve(["method=regl", "supplement.adapter=frozen"])
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"config": config.to_flat(), "environment": {}}))
    assert resolve([], file) == config
    # Another method brings its own preset along.
    assert resolve(["method=regl-dpd"], file).supplement.adapter == "lora"


@pytest.mark.parametrize("content", ["[1, 2]", "{broken", '{"config": 3}'])
def test_a_file_that_holds_no_keys_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"--config .*x\.json"):
        resolve([], file)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read"):
        resolve([], tmp_path / "absent.toml")


def test_a_comparisons_rows_may_vary_one_method() -> None:
    assert parse_variants(["regl", "regl+lora.rank=4", "small:regl+lora.rank=2+rounds=3"]) == {
        "regl": {"method": "regl"},
        "regl+lora.rank=4": {"method": "regl", "lora.rank": 4},
        "small": {"method": "regl", "lora.rank": 2, "rounds": 3},
    }
    assert parse_variants(["gpu:regl+device=cuda:0", "regl+device=cuda:1+train.lr=1e+1"]) == {
        "gpu": {"method": "regl", "device": "cuda:0"},
        "regl+device=cuda:1+train.lr=1e+1": {
            "method": "regl",
            "device": "cuda:1",
            "train.lr": 10.0,
        },
    }
    with pytest.raises(ConfigError, match="each method once, got 'regl' twice"):
        parse_variants(["regl", "regl"])
    # Then it is part of a method that does not exist.
    assert parse_variants(["regl+lora.rank"]) == {"regl+lora.rank": {"method": "regl+lora.rank"}}


@pytest.mark.parametrize("channels", [1, 3])
def test_a_choice_of_numbers_is_a_number(channels: int) -> None:
    flat = parse_settings([f"data.channels={channels}"])
    assert flat == {"data.channels": channels}
    site = parse_settings(["data.source=site", "data.classes=a,b", "method=fedavg"])
    assert RunConfig.from_flat(site | flat).data.channels == channels


def test_a_number_that_is_no_choice_is_refused_in_words() -> None:
    for text in ("2", "colour"):
        with pytest.raises(ConfigError, match=r"data\.channels must be one of 1 or 3, got"):
            RunConfig.from_flat(parse_settings([f"data.channels={text}"]))


def test_a_file_with_a_mark_of_its_encoding_is_read(tmp_path: Path) -> None:
    """As Windows' editors save it."""
    path = tmp_path / "run.toml"
    path.write_text("rounds = 3\n", encoding="utf-8-sig")
    assert resolve([], path).rounds == 3
