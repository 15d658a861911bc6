"""One table of the README, by one command; see ``--help``.

Runs methods x seeds (or goes on where it was interrupted), prints the Markdown table with the
machine and the date, and writes it, with a picture and every figure, to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from figures import draw

from regl_app.config.parsing import parse_settings, parse_variants
from regl_app.config.presets import PRESETS
from regl_app.core.files import write_json, write_text
from regl_app.core.log import setup_logging
from regl_app.core.types import Scalar
from regl_app.flower.engines.engine import EngineName, make_engine
from regl_app.runs.comparison.compare import compare
from regl_app.runs.comparison.tables import Comparison
from regl_app.runs.environment import describe_environment

HERE = Path(__file__).resolve().parent
METHODS = "fedavg,regl-free,regl,regl-dpd,central"

# What differs from the defaults, per source: enough images to learn from, few enough for a CPU.
SOURCES: dict[str, dict[str, Scalar]] = {
    "digits": {},
    "mnist": {"data.max-train": 10000, "data.max-test": 2000},
    "fashion-mnist": {
        "data.max-train": 5000,
        "data.max-test": 1000,
        "data.public-fraction": 0.2,
        "generator.path": "runs/generators/garments",
    },
    "cifar10": {
        "data.max-train": 5000,
        "data.max-test": 1000,
        "data.public-fraction": 0.2,
        "generator.path": "runs/generators/objects",
    },
}


def main(argv: Sequence[str] | None = None, command: str = "") -> int:
    """Run the comparison, print and write the table; return 1 if a run failed.

    ``command`` is what to print as having made it, if it is not the one of ``argv``.
    """
    parser = _parser()
    arguments = parser.parse_intermixed_args(argv)
    usual = ("methods", "clients")
    if not arguments.name and (
        arguments.settings or any(getattr(arguments, o) != parser.get_default(o) for o in usual)
    ):
        parser.error("a variant needs a --name: the usual one is that of a table in the README")
    machine = machine_facts()  # before a result file makes the working tree dirty
    setup_logging()
    base = SOURCES[arguments.source] | {
        "data.source": arguments.source,
        "partition.beta": arguments.beta,
        "report": False,
        "tensorboard": False,
        **parse_settings(arguments.settings),
    }
    if arguments.data:
        base["data.path"] = str(Path(arguments.data).resolve())
    varied = "-varied" if arguments.vary_data else ""
    name = arguments.name or f"{arguments.source}-beta{arguments.beta:g}{varied}"
    comparison = compare(
        base,
        parse_variants(rows_of(arguments.methods)),
        range(arguments.seeds),
        clients=arguments.clients,
        out_dir=Path(arguments.runs) / (arguments.reuse or name),
        engine=make_engine(EngineName(arguments.engine), client_cpus=arguments.client_cpus),
        vary_data=arguments.vary_data,
    )
    text = _document(comparison, arguments, machine, command or _command(arguments))
    write_text(HERE / "results" / f"{name}.md", text)
    # Where the runs lay is of no interest to a reader, and names this machine.
    content = comparison.to_json() | {"settings": _published(base), "machine": machine}
    content["outcomes"] = [
        {key: value for key, value in outcome.to_json().items() if key != "folder"}
        for outcome in comparison.outcomes
    ]
    write_json(HERE / "results" / f"{name}.json", content)
    if comparison.outcomes:
        draw(content, HERE / "results" / f"{name}.svg")
    print(text)
    return 1 if comparison.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", choices=sorted(SOURCES))
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="further keys")
    parser.add_argument("--beta", type=float, default=0.01, help="Dirichlet concentration")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--vary-data", action="store_true", help="another split for every seed")
    parser.add_argument("--data", help="root of the torchvision data sets")
    parser.add_argument("--engine", choices=[e.value for e in EngineName], default="in-process")
    parser.add_argument("--client-cpus", type=int, default=1, help="processors per client")
    parser.add_argument("--runs", default="runs/benchmarks", help="folder of the run folders")
    parser.add_argument("--name", help="name of the result files")
    parser.add_argument("--reuse", help="folder below --runs whose finished runs count; name's own")
    return parser


def rows_of(text: str) -> list[str]:
    """Return the rows that ``text`` lists; a comma in a setting's value separates none."""
    rows: list[str] = []
    for part in text.split(","):
        method = re.sub(r"^[^:=]+:", "", part).partition("+")[0]
        if rows and "=" in rows[-1] and method not in PRESETS:
            rows[-1] += f",{part}"
        else:
            rows.append(part)
    return rows


def _published(base: dict[str, Scalar]) -> dict[str, Scalar]:
    return {key: value for key, value in base.items() if key not in {"data.path", "cache-dir"}}


@cache
def machine_facts() -> dict[str, str]:
    """Return what figures depend on beside the code: processor, versions, date, revision.

    Asked once per process: the results that it writes make the working tree dirty.
    """
    facts = describe_environment("auto")
    kept = ("date", "revision", "python", "processors", "device", "flwr", "torch", "diffusers")
    return {"processor": _processor(), **{key: facts[key] for key in kept}}


def measured_before(result: Path) -> tuple[Any, dict[str, str]]:
    """Return the figures beside ``result``, by seed, and their machine; both may be empty."""
    path = result.with_suffix(".json")
    if not path.is_file():
        return {}, {}
    held = json.loads(path.read_text(encoding="utf-8"))
    return held["by_seed"], held["machine"]


def machine_line(machine: dict[str, str]) -> str:
    """Return ``machine_facts`` in one line."""
    where = f"{machine['processor']}, {machine['processors']} cores, {machine['device']}"
    return (
        f"{where}; torch {machine['torch']}, flwr {machine['flwr']}; {machine['date'][:10]}, "
        f"revision {machine['revision']}."
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _command(arguments: argparse.Namespace) -> str:
    command = f"python benchmarks/table.py {arguments.source} --beta {arguments.beta:g}"
    command += f" --seeds {arguments.seeds}{' --vary-data' if arguments.vary_data else ''}"
    if arguments.methods != METHODS:
        command += f" --methods {arguments.methods}"
    if arguments.clients != _parser().get_default("clients"):
        command += f" --clients {arguments.clients}"
    if arguments.name:
        command += f" --name {arguments.name}"
    if arguments.source != "digits":  # which scikit-learn brings along
        command += " --data <root>"
    return " ".join([command, *arguments.settings])


def _document(
    comparison: Comparison, arguments: argparse.Namespace, machine: dict[str, str], command: str
) -> str:
    splits = "another split per seed" if arguments.vary_data else "one split"
    return (
        f"{arguments.source}, {comparison.clients} clients, Dirichlet {arguments.beta:g}, "
        f"{splits}; `{command}`\n\n{comparison.to_markdown()}\n"
        f"{machine_line(machine)}\n"
    )


if __name__ == "__main__":
    raise SystemExit(main())
