"""Tables of docs/feddpd-results.md by name: `python benchmarks/feddpd.py [NAME...] [--data ROOT]`.

What each compares is in feddpd.toml; without a name, all of the page's. Finished runs are not
repeated. Without --data only those of the digits are made.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

import table

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Make the named tables one after the other; return 1 if a run failed."""
    tables = tomllib.loads((HERE / "feddpd.toml").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(tables))
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0")
    parser.add_argument("--data", help="root of the torchvision data sets")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in tables]:
        parser.error(f"no table {', '.join(unknown)}; there are {', '.join(tables)}")
    failed = 0
    for name in options.names or [key for key, each in tables.items() if "on-demand" not in each]:
        each = tables[name]
        if each["source"] != "digits" and not options.data:
            print(f"{name}: passed over, it needs --data with {each['source']}")
            continue
        # The digits need no data: their runs are the same with and without.
        data = ["--data", options.data] if options.data and each["source"] != "digits" else []
        settings = [f"{key}={value}" for key, value in each.get("settings", {}).items()]
        failed |= table.main(
            [
                *(each["source"], "--beta", f"{each['beta']:g}", "--seeds", str(options.seeds)),
                *("--methods", ",".join(each["rows"]), "--name", name),
                *("--reuse", each.get("runs", name), *data, *settings),
            ],
            command=f"python benchmarks/feddpd.py {name}{' --data <root>' if data else ''}",
        )
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
