"""The run configuration: what it takes, what it refuses, what it expands to."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from regl_app.config import RunConfig, default_flat, flat_fields
from regl_app.core.errors import ConfigError
from regl_app.core.types import Scalar


def test_defaults_are_valid_and_name_the_default_method() -> None:
    config = RunConfig.from_flat({})
    assert config.method == "regl-dpd"
    assert (config.supplement.policy, config.supplement.adapter) == ("discrepancy", "lora")


def test_the_unexpanded_defaults_give_the_default_configuration() -> None:
    assert RunConfig.from_flat(default_flat()) == RunConfig.from_flat({})


def test_every_key_is_documented_and_hyphenated() -> None:
    for key, field in flat_fields(RunConfig):
        assert field.description, f"{key} has no description"
        assert "_" not in key


def test_flat_form_gives_the_same_configuration_again() -> None:
    config = RunConfig.from_flat({"method": "regl", "partition.beta": 0.01, "data.max-train": 7})
    assert RunConfig.from_flat(config.to_flat()) == config


def test_nested_dotted_and_mixed_forms_agree() -> None:
    flat = RunConfig.from_flat({"partition.beta": 0.01, "train.batch-size": 8})
    assert RunConfig.from_any({"partition": {"beta": 0.01}, "train": {"batch-size": 8}}) == flat
    assert RunConfig.from_any({"partition": {"beta": 0.01}, "train.batch-size": 8}) == flat


def test_it_is_frozen() -> None:
    config = RunConfig.from_flat({})
    with pytest.raises(ValidationError):
        config.rounds = 3  # type: ignore[misc]  # what is tested
    with pytest.raises(ValidationError):
        config.partition.beta = 3.0  # type: ignore[misc]  # what is tested


@pytest.mark.parametrize(
    ("flat", "words"),
    [
        ({"methd": "regl"}, ["unknown key 'methd'", "did you mean 'method'"]),
        ({"partition.bta": 1.0}, ["partition.bta", "did you mean 'partition.beta'"]),
        ({"beta": 1.0}, ["unknown key 'beta'", "did you mean 'partition.beta'"]),
        ({"method": "fedsgd"}, ["method must be one of", "'regl-dpd'", "'fedsgd'"]),
        ({"rounds": "ten"}, ["rounds must be a whole number", "'ten'", "str"]),
        ({"rounds": 2.0}, ["rounds must be a whole number", "2.0"]),
        ({"tensorboard": 1}, ["tensorboard must be true or false", "1"]),
        ({"train.lr": "abc"}, ["train.lr must be a number", "'abc'"]),
        ({"train.lr": float("nan")}, ["train.lr must be a finite number", "nan"]),
        ({"partition.beta": -0.1}, ["partition.beta must be > 0, got -0.1", "0.01 extreme"]),
        ({"partition.test-fraction": 1.0}, ["partition.test-fraction must be < 1"]),
        ({"rounds": 0}, ["rounds must be >= 1, got 0"]),
        ({"partition": 3}, ["partition is a group of keys", "3"]),
        ({"method.a": 1, "method": "regl"}, ["method is a group of keys", "'regl'"]),
        ({"method": "regl", "method.a": 1}, ["method.a", "method is a key"]),
    ],
)
def test_what_cannot_be_is_refused_with_key_value_and_remedy(
    flat: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_flat(flat)
    for word in words:
        assert word in str(caught.value)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_flat({"rounds": 0, "train.lr": "x", "sed": 3})
    message = str(caught.value)
    assert "rounds" in message
    assert "train.lr" in message
    assert "did you mean 'seed'" in message


def test_a_list_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="method must be one of"):
        RunConfig.from_any({"method": ["regl"]})


def test_an_update_re_expands_the_preset_of_a_new_method_only() -> None:
    config = RunConfig.from_flat({"method": "regl", "supplement.adapter": "frozen"})
    assert config.updated({"rounds": 3}).supplement.adapter == "frozen"
    again = config.updated({"method": "regl-dpd"})
    assert (again.supplement.policy, again.supplement.adapter) == ("discrepancy", "lora")


@pytest.mark.parametrize(
    "changes",
    [
        {"labels.by": "hard"},
        {"server.strategy": "fedmedian"},
        {"objective": "fedrep"},
        {"supplement.policy": "none", "supplement.adapter": "frozen"},
        {
            "supplement.site": "server",
            "supplement.policy": "discrepancy",
            "supplement.adapter": "frozen",
        },
        {"supplement.cap": 0},
        {"rounds": 3},
        {},
    ],
)
def test_what_auto_teaches_follows_an_update_as_if_it_were_said_at_once(
    changes: dict[str, Scalar],
) -> None:
    base: dict[str, Scalar] = {"method": "regl"}
    at_once = RunConfig.from_flat(base | changes)
    updated = RunConfig.from_flat(base).updated(changes)
    assert updated.to_flat() == at_once.to_flat()


def test_what_auto_teaches_comes_back_with_what_allows_it() -> None:
    base = RunConfig.from_flat({"method": "regl"})
    there = base.updated({"server.strategy": "fedmedian"})
    assert there.updated({"server.strategy": "fedavg"}).to_flat() == base.to_flat()


@pytest.mark.parametrize("site", ["client", "download", "server"])
@pytest.mark.parametrize("method", ["fedavg", "regl-free", "feddpd"])
def test_an_update_of_something_else_leaves_teaching_as_it_is(method: str, site: str) -> None:
    base: dict[str, Scalar] = {"method": method, "supplement.adapter": "frozen"}
    if method != "fedavg":
        base |= {"supplement.site": site, "supplement.policy": "discrepancy"}
    seen = 0
    for labels, head, distill in itertools.product(
        ("auto", "hard", "global", "experts"),
        ("auto", "average", "experts", "bounded"),
        ("auto", "none", "experts"),
    ):
        keys = {"labels.by": labels, "teaching.head": head, "teaching.distill": distill}
        try:
            config = RunConfig.from_flat(base | keys)
        except ConfigError:
            continue
        seen += 1
        assert config.updated({}) == config, keys
        changed = config.updated({"rounds": 3})
        assert changed.to_flat() == config.to_flat() | {"rounds": 3}, keys
    assert seen > 5


def test_a_source_that_reads_no_files_leaves_the_path_of_the_one_before() -> None:
    photos = RunConfig.from_flat(
        {"method": "fedavg", "data.source": "folder", "data.path": "photos"}
    )
    assert photos.updated({"data.source": "digits"}).data.path == ""
    with pytest.raises(ConfigError, match=r"data\.path='others' means nothing"):
        photos.updated({"data.source": "digits", "data.path": "others"})


def test_another_source_leaves_the_keys_that_it_does_not_read() -> None:
    sites = RunConfig.from_flat(
        {"data.source": "site", "data.classes": "a,b", "data.channels": 1, "method": "fedavg"}
    )
    photos = sites.updated({"data.source": "folder", "data.path": "photos"})
    assert (photos.data.classes, photos.data.channels) == ("", 3)
    with pytest.raises(ConfigError, match=r"data\.channels=1 means nothing"):
        sites.updated({"data.source": "folder", "data.path": "photos", "data.channels": 1})


def test_teaching_that_was_chosen_stays() -> None:
    hard = RunConfig.from_flat({"method": "regl", "labels.by": "hard"})
    assert hard.updated({"rounds": 3}).labels.by == "hard"
    assert hard.updated({"server.strategy": "fedavgm"}).labels.by == "hard"
    own = RunConfig.from_flat({"method": "regl", "teaching.head": "experts"})
    assert own.updated({"labels.by": "hard"}).teaching.head == "experts"
    assert own.updated({"rounds": 3}).teaching.head == "experts"


def test_a_run_without_supplement_uses_no_generator() -> None:
    assert RunConfig.from_flat({"method": "regl"}).uses_generator
    assert not RunConfig.from_flat({"method": "fedavg"}).uses_generator
    assert not RunConfig.from_flat({"method": "regl", "supplement.cap": 0}).uses_generator


KEYS = [key for key, _ in flat_fields(RunConfig)]
VALUES = st.one_of(
    st.integers(-2, 2000), st.floats(), st.booleans(), st.sampled_from(["", "auto", "cpu", "none"])
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
def test_any_values_either_make_a_configuration_or_a_clear_error(flat: dict[str, Any]) -> None:
    try:
        config = RunConfig.from_flat(flat)
    except ConfigError as error:
        assert str(error).startswith("invalid run configuration")
    else:
        assert RunConfig.from_flat(config.to_flat()) == config
