"""Write docs/configuration.md from regl_app/config/run_keys.py; with ``--check`` only compare."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from regl_app.config import RunConfig, flat_fields
from regl_app.config.augmentations import Augmentations
from regl_app.config.model_name import ModelName
from regl_app.config.one_of import OneOf
from regl_app.config.or_auto import AUTO, may_be_auto
from regl_app.config.presets import PRESETS

TARGET = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"

INTRO = """# Configuration

<!-- Written by `make docs` from regl_app/config/run_keys.py: change it there. -->

One run is one set of keys. The same keys work everywhere:

```sh
regl run method=regl partition.beta=0.01            # values as they are
flwr run . -c "method='regl' partition.beta=0.01"   # texts in quotes, no spaces around '='
```

```python
from regl_app import RunConfig

config = RunConfig.from_flat({"method": "regl", "partition.beta": 0.01})
```

An unknown key, a wrong type, a value out of range or a contradictory pair is refused before any
work starts. `config.json` in the run folder holds the resolved values.

## Methods

A method is a preset: a point in policy x adapter x site x objective. Every key still overrides it.
"""


def allowed(field: Any) -> str:
    """Return what values a field takes, for a table cell."""
    annotation = field.annotation
    if get_origin(annotation) is Literal:
        names = ["auto"] if may_be_auto(field.metadata) else []
        return ", ".join(f"`{value}`" for value in (*names, *get_args(annotation)))
    for item in field.metadata:
        if isinstance(item, OneOf):
            return ", ".join(f"`{name}`" for name in item.names)
        if isinstance(item, Augmentations | ModelName):
            return item.words
    bounds = []
    for item in field.metadata:
        for name, sign in (("gt", "&gt;"), ("ge", "&ge;"), ("lt", "&lt;"), ("le", "&le;")):
            value = getattr(item, name, None)
            if value is not None:
                bounds.append(f"{sign} {value:g}")
    if may_be_auto(field.metadata):
        bounds.append("`auto`")
    kind = {int: "integer", float: "number", bool: "`true`, `false`", str: "text"}[annotation]
    return " ".join([kind, ", ".join(bounds)]).strip()


def shown(value: Any) -> str:
    """Return a default as it is written in TOML."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def default(field: Any) -> str:
    """Return a field's default, and what it comes to with the bundled generator."""
    if not may_be_auto(field.metadata) or field.default == AUTO:
        return shown(field.default)
    return f"{shown(AUTO)} (bundled: {shown(field.default)})"


def prose(field: Any) -> str:
    """Return a field's description, safe in Markdown."""
    return str(field.description).replace("<", "&lt;").replace("|", "\\|")


def table(fields: list[tuple[str, Any]]) -> str:
    """Return the Markdown table of some keys."""
    rows = ["| key | default | allowed | meaning |", "|---|---|---|---|"]
    rows += [
        f"| `{key}` | {default(field)} | {allowed(field)} | {prose(field)} |"
        for key, field in fields
    ]
    return "\n".join(rows)


def render() -> str:
    """Return the whole document."""
    parts = [INTRO.rstrip("\n"), ""]
    parts += ["| `method` | `supplement.policy` | `supplement.adapter` | `objective` |"]
    parts += ["|---|---|---|---|"]
    parts += [
        f"| `{name}` | `{preset.policy}` | `{preset.adapter}` | `{preset.objective}` |"
        for name, preset in PRESETS.items()
    ]
    everything = list(flat_fields(RunConfig))
    top = [(key, field) for key, field in everything if "." not in key]
    parts += ["", "## The run", "", table(top)]
    for name, field in RunConfig.model_fields.items():
        section = field.annotation
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            continue
        prefix = name.replace("_", "-") + "."
        keys = [(key, item) for key, item in everything if key.startswith(prefix)]
        parts += ["", f"## {prefix[:-1]}", "", (section.__doc__ or "").strip(), "", table(keys)]
    return "\n".join(parts) + "\n"


def main(arguments: list[str]) -> int:
    """Write the file, or with ``--check`` return 1 when it is out of date."""
    text = render()
    if "--check" in arguments:
        current = TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text
        print("docs/configuration.md is " + ("up to date" if current else "out of date: make docs"))
        return 0 if current else 1
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
