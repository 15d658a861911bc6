"""Put the results into their documentation pages: `python benchmarks/page.py [--check]`.

Between ``<!-- NAME -->`` and ``<!-- /NAME -->`` in ``PAGES`` go picture and table of
``results/NAME.md``, so that no figure is copied by hand; the README has the first columns alone.
``--check`` only says whether it is so.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from differences import as_markdown

from regl_app.core.files import write_text

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
_MEASURED = ("feddpd-results", "methods", "teaching-results", "data", "checkpoints")
PAGES = (
    *(HERE.parent / "docs" / f"{name}.md" for name in _MEASURED),
    README,
)
COLUMNS = 5  # of a README's table
_BLOCK = re.compile(r"<!-- ([\w.-]+) -->\n.*?<!-- /\1 -->", flags=re.S)


def main() -> int:
    """Write the pages, or return 1 if one is not what the results say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    differences = HERE / "results" / "differences.md"
    if not options.check:
        write_text(differences, as_markdown())
    differs = differences.read_text(encoding="utf-8") != as_markdown()
    for page in PAGES:
        held = page.read_text(encoding="utf-8")
        filled = _BLOCK.sub(_short if page == README else _block, held)
        differs |= filled != held
        if not options.check:
            write_text(page, filled)
    return int(differs) if options.check else 0


def _short(found: re.Match[str]) -> str:
    """Return the block of one comparison in the README."""
    name = found[1]
    head, rest, machine = _parts(name)
    lines = rest.partition("\n\n")[0].splitlines()
    table = "\n".join(f"|{'|'.join(line.strip('|').split('|')[:COLUMNS])}|" for line in lines)
    full = f"[all figures](benchmarks/results/{name}.md)"
    table = table.replace("](../../docs/", "](docs/")
    made = _command(name, head)
    return f"<!-- {name} -->\n{table}\n\n`{made}`; {full}; {machine}\n<!-- /{name} -->"


def _parts(name: str) -> tuple[str, str, str]:
    """Return what a result file holds: what it is of, the tables, the machine."""
    result = HERE / "results" / f"{name}.md"
    if not result.is_file():
        raise SystemExit(f"{result.name} is not there: measure it, or take {name} off the page")
    head, rest = result.read_text(encoding="utf-8").strip().split("\n\n", 1)
    body, machine = rest.rsplit("\n\n", 1)
    return head, body, machine


def _command(name: str, head: str) -> str:
    """Return the command of one comparison, by the name that it has in feddpd.toml today."""
    command: str = re.findall("`(.+?)`", head)[-1]
    return command if "table.py" not in command else f"python benchmarks/feddpd.py {name}"


def _block(found: re.Match[str]) -> str:
    """Return the block of one result: picture, table, what made it and where."""
    name = found[1]
    head, body, machine = _parts(name)
    table, more, _ = body.partition("\n\nMean ± half width")
    command, picture, link = _command(name, head), "", ""
    if more:  # a comparison
        picture = f"![{name}](../benchmarks/results/{name}.svg)\n\n"
        link = f"[all figures and paired differences](../benchmarks/results/{name}.md); "
        if not (HERE / "results" / f"{name}.svg").is_file():
            raise SystemExit(f"{name}.svg is not there: run benchmarks/figures.py")
    return f"<!-- {name} -->\n{picture}{table}\n\n`{command}`; {link}{machine}\n<!-- /{name} -->"


if __name__ == "__main__":
    raise SystemExit(main())
