"""From ``key=value`` texts to typed settings: one run's, or the rows of a comparison."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from regl_app.config.run_config import RunConfig, flat_fields
from regl_app.core.errors import ConfigError
from regl_app.core.types import Scalar


def parse_variants(texts: Sequence[str]) -> dict[str, dict[str, Scalar]]:
    """Return the settings of each row of a comparison by its name.

    ``regl``, ``regl+lora.rank=4`` or, to name the row, ``small:regl+lora.rank=4``.

    Raises:
        ConfigError: a setting is no ``key=value`` or another method, or two rows have one name.
    """
    variants: dict[str, dict[str, Scalar]] = {}
    for text in texts:
        # A colon may also be in a value, a plus in a number: 'device=cuda:0', 'train.lr=1e+1'.
        found = re.match(r"([^:=]+):(.*)", text)
        name, rest = (found[1], found[2]) if found else (text, text)
        method, *settings = re.split(r"\+(?=[a-z][a-z0-9.-]*=)", rest)
        if name in variants:
            raise ConfigError(f"comparison needs each method once, got {name!r} twice")
        own = parse_settings(settings)
        if "method" in own:
            raise ConfigError(
                f"row {name!r} names two methods, {method!r} and method={own['method']!r}: a row "
                "begins with its method, NAME:METHOD+KEY=VALUE+..."
            )
        variants[name] = {"method": method, **own}
    return variants


def parse_settings(settings: Sequence[str]) -> dict[str, Scalar]:
    """Return ``key=value`` texts as typed values; the types are those of the keys.

    A value that does not fit its key's type stays a text, which the configuration then refuses
    with its own words.

    Raises:
        ConfigError: an argument has no ``=``, or a key is given twice.
    """
    types = {key: field.annotation for key, field in flat_fields(RunConfig)}
    flat: dict[str, Scalar] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"expected KEY=VALUE such as partition.beta=0.1, got {setting!r} "
                "(no spaces around '=')"
            )
        if key in flat:
            raise ConfigError(f"{key} is given twice: {flat[key]!r} and {text!r}")
        flat[key] = _typed(text, types.get(key))
    return flat


def _typed(text: str, kind: Any) -> Scalar:
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if get_origin(kind) is Literal and all(isinstance(value, int) for value in get_args(kind)):
        kind = int
    if kind in (int, float):
        try:
            return int(text) if kind is int else float(text)
        except ValueError:
            return text
    # Quotes as in Flower's `-c "method='regl'"` are taken as meant.
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text


def read_toml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows editors write a mark first
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--config {path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path}: must hold a table of keys")
    # A run folder's config.json keeps the keys beside a description of the machine.
    keys = content.get("config", content)
    if not isinstance(keys, dict):
        raise ConfigError(f"--config {path}: 'config' must be a table of keys")
    return keys
