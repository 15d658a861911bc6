"""How the configuration's errors read."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from regl_app.config.explain import explain


class Oven(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    heat: int = Field(180, ge=50, le=250, multiple_of=10, description="degrees")
    fan: bool = Field(True, description="air moves")


def message(**values: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Oven.model_validate(values)
    return explain(caught.value, fields=Oven.model_fields)


def test_a_bound_names_limit_value_default_and_meaning() -> None:
    assert "heat must be <= 250, got 900 (default 180: degrees)" in message(heat=900)


def test_a_type_names_what_was_seen() -> None:
    assert "fan must be true or false, got 'on' (str)" in message(fan="on")


def test_an_unknown_key_near_a_known_one_names_it() -> None:
    assert "unknown key 'heet' (value 1): did you mean 'heat'?" in message(heet=1)


def test_an_unknown_key_far_from_all_lists_them() -> None:
    assert "known keys: heat, fan" in message(zzz=1)


def test_problems_without_words_of_their_own_keep_pydantics() -> None:
    assert "heat: Input should be a multiple of 10, got 55" in message(heat=55)


def test_each_problem_has_its_line() -> None:
    assert len(message(heat=1, fan=3).splitlines()) == 3
