"""Tables of which each has the rows of several others; ``of`` in feddpd.toml names these.

No run is made: whoever measures a few more methods on the same splits need not measure the others
again. Runs of one seed share split and initial model, so their differences are paired as ever.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from figures import draw
from table import machine_line

from regl_app.core.files import write_json, write_text
from regl_app.runs.comparison.outcome import Outcome
from regl_app.runs.comparison.tables import Comparison
from regl_app.runs.statistics import Summary

RESULTS = Path(__file__).resolve().parent / "results"
_ALIKE = ("seeds", "clients", "settings")


def join(name: str, parts: Sequence[str], head: str, results: Path = RESULTS) -> str:
    """Write the joined table ``name`` of measured ``parts`` under ``head``; return its text.

    Raises:
        SystemExit: a part was not measured, or with other seeds, clients or settings.
    """
    contents = {part: _read(results / f"{part}.json") for part in parts}
    first, *others = contents.values()
    for part, content in contents.items():
        for key in _ALIKE:
            if content[key] != first[key]:
                raise SystemExit(f"{part}: {key} {content[key]}, {parts[0]}: {first[key]}")
    comparison = Comparison(
        methods=tuple(row for content in contents.values() for row in content["methods"]),
        seeds=tuple(first["seeds"]),
        clients=first["clients"],
        outcomes=_comparable(o for content in contents.values() for o in content["outcomes"]),
        failures=tuple(each for content in contents.values() for each in content["failures"]),
    )
    made = machine_line(first["machine"]).removesuffix(".")
    for content in others:
        machine = content["machine"]
        made += f"; {', '.join(content['methods'])}: "
        if machine["processor"] != first["machine"]["processor"]:
            made += f"{machine['processor']}; "
        made += f"{machine['date'][:10]}, revision {machine['revision']}"
    text = f"{head}\n\n{comparison.to_markdown()}\n{made}.\n"
    write_text(results / f"{name}.md", text)
    content = {
        **comparison.to_json(),
        "outcomes": [each for part in contents.values() for each in part["outcomes"]],
        "settings": first["settings"],
        "machine": [content["machine"] for content in contents.values()],
    }
    write_json(results / f"{name}.json", content)
    draw(content, results / f"{name}.svg")
    return text


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SystemExit(f"{path.name} is not there: python benchmarks/feddpd.py {path.stem}")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _comparable(held: Iterable[dict[str, Any]]) -> tuple[Outcome, ...]:
    """Return the runs, without the mean of all rounds unless all hold it: earlier files do not."""
    runs = [_outcome(each) for each in held]
    if all(run.summary.mean_accuracy is not None for run in runs):
        return tuple(runs)
    return tuple(replace(run, summary=replace(run.summary, mean_accuracy=None)) for run in runs)


def _outcome(held: dict[str, Any]) -> Outcome:
    """Return a run as a result file holds it; numbers that it does not hold are None."""
    numbers: dict[str, Any] = {each.name: held.get(each.name) for each in fields(Summary)}
    numbers |= {key: numbers[key] or 0 for key in ("bytes_down", "bytes_up")}
    return Outcome(held["method"], held["seed"], held["digest"], "", Summary(**numbers))
