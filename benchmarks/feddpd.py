"""Tables of two pages by name: `python benchmarks/feddpd.py [NAME...] [--data ROOT]`.

Those of docs/feddpd-results.md and docs/teaching-results.md; what each compares is in feddpd.toml:
without a name, all of theirs. A name may be a pattern: ``'grid-digits-*'``. Finished runs are not
repeated. Without --data only those of the digits are made; that another was named is a failure.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import table
from join import join

HERE = Path(__file__).resolve().parent
SEEDS = 3


def main() -> int:
    """Make the named tables one after the other; return 1 if a run failed or one was not made."""
    tables = read_tables()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="see feddpd.toml; without: all of the page"
    )
    parser.add_argument("--seeds", type=int, help="how many, from 0; without: the table's, or 3")
    parser.add_argument("--data", help="root of the torchvision data sets")
    options = parser.parse_args()
    wanted = options.names or [key for key, each in tables.items() if "on-demand" not in each]
    chosen = [name for name in tables if any(fnmatchcase(name, each) for each in wanted)]
    if unknown := [each for each in wanted if not any(fnmatchcase(n, each) for n in chosen)]:
        parser.error(f"no table {', '.join(unknown)}; there are {', '.join(tables)}")
    failed = 0
    for name in chosen:
        each = tables[name]
        if needs := _needs(each, options.data):
            print(f"{name}: not made, it needs {needs}", file=sys.stderr)
            failed |= bool(options.names)
            continue
        command = _command(name, each)
        if "of" in each:
            print(join(name, each["of"], _head(each, command)))
            continue
        # The digits need no data: their runs are the same with and without.
        data = ["--data", options.data] if options.data and each["source"] != "digits" else []
        settings = [f"{key}={value}" for key, value in each.get("settings", {}).items()]
        seeds = options.seeds or each.get("seeds", SEEDS)
        varied = ["--vary-data"] if each.get("vary-data") else []
        clients = ["--clients", str(each["clients"])] if "clients" in each else []
        failed |= table.main(
            [
                *(each["source"], "--beta", f"{each['beta']:g}", "--seeds", str(seeds)),
                *(*varied, *clients),
                *("--methods", ",".join(each["rows"]), "--name", name),
                *("--reuse", each.get("runs", name), *data, *settings),
            ],
            command=command,
        )
    return failed


def _needs(each: dict[str, Any], data: str | None) -> str:
    """Return what a table cannot be made without and is not there, or ''."""
    if "of" in each:
        results = (HERE / "results" / f"{part}.json" for part in each["of"])
        return ", ".join(path.stem for path in results if not path.is_file())
    if each["source"] != "digits" and not data:
        return f"--data <root>, with {each['source']} in it"
    base = table.SOURCES[each["source"]] | each.get("settings", {})
    generator = str(base.get("generator.path", ""))
    if generator and not Path(generator).is_dir():
        return f"{generator} (make {generator} DATA=<root>)"
    return ""


def _command(name: str, each: dict[str, Any]) -> str:
    """Return what makes a table from nothing: of a joined one the parts, which measure, first."""
    names = " ".join([*each.get("of", ()), name])
    data = "" if each["source"] == "digits" else " --data <root>"
    return f"python benchmarks/feddpd.py {names}{data}"


def _head(each: dict[str, Any], command: str) -> str:
    return (
        f"{each['source']}, {each.get('clients', 10)} clients, Dirichlet {each['beta']:g}, "
        f"{'another split per seed' if each.get('vary-data') else 'one split'}; `{command}`"
    )


def read_tables() -> dict[str, dict[str, Any]]:
    """Return the tables of feddpd.toml by name, the grid spread out."""
    tables: dict[str, dict[str, Any]] = tomllib.loads(
        (HERE / "feddpd.toml").read_text(encoding="utf-8")
    )
    grid = tables.pop("grid")
    for source, beta, factor in itertools.product(grid["source"], grid["beta"], grid["factor"]):
        tail = f"-tail{factor:g}" if factor > 1 else ""
        tables[f"grid-{source}-beta{beta:g}{tail}"] = {
            "on-demand": True,
            "source": source,
            "beta": beta,
            "settings": {"long-tail.factor": factor},
            "rows": grid["rows"],
        }
    for each in tables.values():
        if "of" in each:
            parts = [tables[part] for part in each["of"]]
            for key in ("source", "beta", "vary-data"):
                assert len({part.get(key) for part in parts}) == 1, (each["of"], key)
            each |= parts[0] | {"rows": [row for part in parts for row in part["rows"]]}
    return tables


if __name__ == "__main__":
    raise SystemExit(main())
