"""What a device makes of checkpoints of real shape: `python benchmarks/gpu.py --shape sd15`.

Builds a pipeline of Stable Diffusion 1.5's or XL's shape with random weights (`--shape sd15`,
`sdxl`; nothing is downloaded, `--keep` keeps it for the next time) and measures ours against others
that do the same work on the same device: one client's first round, from nothing loaded to trained,
and that of the next client of its worker; then, warmed up, images against diffusers' pipeline, in
batches at equal steps and one at a time at 50; optimizer steps of LoRA and pairs of preference
tuning against the loops of diffusers' example scripts (`diffusers_loops.py`); uploads scored in one
pass against a loop. With the most memory that each took.

Each row is printed and written as soon as it is measured; `--only` measures some, and adds them to
the result in the folder `--out` of the same shape, card and code. Where a call may take 10 minutes,
by estimate for a data-centre card (none was at hand), for `sdxl` with `--tuning-steps 10` and
`--lora-steps 100`, which the result then says:

    python benchmarks/gpu.py --shape sd15 --keep P --out R --only first-round,next-client
    python benchmarks/gpu.py --shape sd15 --keep P --out R --only images,uploads
    python benchmarks/gpu.py --shape sd15 --keep P --out R --only lora
    python benchmarks/gpu.py --shape sd15 --keep P --out R --only preferences

For `sdxl` the first takes longer: by count of operations 10 minutes of an H100, more of others.

Without a GPU it runs the same code at a tiny shape, in a minute, and says so; a shape that is
named is measured wherever it is. What a processor's figures are says nothing of a GPU, so they are
written below runs/ and not beside the others, in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from gpu_sides import ROWS, Benchmark, Row
from shapes import SHAPES, build, quiet
from table import machine_facts, machine_line

from regl_app.core.devices import resolve_device
from regl_app.core.files import write_json, write_text
from regl_app.core.log import setup_logging
from regl_app.runs.comparison.tables import markdown_table

RESULTS = Path(__file__).resolve().parent / "results"
NAIVE_STEPS = 50
_PATHS = ("out", "keep")
_FITTING = "auto"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure row by row; after each print it, and write the table with every figure.

    Raises:
        SystemExit: a row is unknown, or those of ``--only`` would join others' of another card.
    """
    options = _parser().parse_args(argv)
    device = resolve_device(options.device)
    if options.shape == _FITTING:
        options.shape = "tiny" if device.type == "cpu" else "sd15"
    machine = machine_facts()
    setup_logging()
    quiet()
    torch.set_num_threads(options.threads)
    out = options.out or (RESULTS if device.type != "cpu" else Path("runs/benchmarks"))
    result = out / f"gpu-{options.shape}.json"
    rows = _rows_before(result, machine, anew=options.only is None)
    text = ""
    with tempfile.TemporaryDirectory() as scratch:
        kept = Path(scratch) if options.keep is None else options.keep
        folder = kept / options.shape
        if not (folder / "model_index.json").is_file():
            build(SHAPES[options.shape], folder, device)
        benchmark = Benchmark(folder, device, options, Path(scratch))
        for key in [key for key in ROWS if key in (options.only or ROWS)]:
            measured = benchmark.rows(key)
            told = {"command": _command(options), "repeats": options.repeats}
            rows[key] = [{**asdict(row), **told} for row in measured]
            text = _write(result, rows, options.shape, device, machine)
            for row in measured:
                print(_line(row), flush=True)
    print(text)


def _write(
    result: Path,
    by_key: Mapping[str, list[dict[str, Any]]],
    shape: str,
    device: torch.device,
    machine: dict[str, str],
) -> str:
    """Write all rows that there are, in their order, and return the table."""
    rows = [{**row, "key": key} for key in ROWS for row in by_key.get(key, [])]
    text = _text(rows, shape, device, machine)
    write_json(result, {"shape": shape, "rows": rows, "machine": machine})
    write_text(result.with_suffix(".md"), text)
    return text


def _rows_before(
    result: Path, machine: dict[str, str], *, anew: bool
) -> dict[str, list[dict[str, Any]]]:
    """Return the rows that an earlier call measured here, by key.

    Args:
        result: its file.
        machine: what is here.
        anew: all rows are measured: those of another card or code go.

    Raises:
        SystemExit: those of another card or code would stand beside some from here.
    """
    if not result.is_file():
        return {}
    content = json.loads(result.read_text(encoding="utf-8"))
    for fact, value in content["machine"].items():
        # Rows of several days may stand together, and results in git's folder make a tree dirty.
        same = value.removesuffix("-dirty") == machine.get(fact, "").removesuffix("-dirty")
        if fact == "date" or same:
            continue
        if anew:
            return {}
        raise SystemExit(
            f"{result} holds rows of {fact} {value!r}, here it is {machine.get(fact)!r}: name "
            "another folder by --out, or measure all rows anew, without --only"
        )
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in content["rows"]:
        rows.setdefault(row["key"], []).append(row)
    return rows


def _line(row: Row) -> str:
    there = "" if row.other is None else f", {row.other.rate:.3g} there"
    return f"{row.name}: {row.ours.rate:.3g} a second{there}; {_memory(row.ours.peak)} GB"


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in ROWS:
            raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(ROWS)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add(
        "--shape",
        choices=[_FITTING, *sorted(SHAPES)],
        default=_FITTING,
        help="'auto': sd15 on a GPU, tiny on a processor",
    )
    add("--size", type=int, default=0, help="side of images; 0: the shape's own")
    add("--batch", type=int, default=0, help="images denoised at once; 0: as 'auto' says")
    add("--images", type=int, default=0, help="images a side, at equal steps; 0: two batches")
    add("--steps", type=int, default=0, help="solver's steps at equal steps; 0: as 'auto' says")
    add("--naive-images", type=int, default=3, help="images timed one at a time")
    add("--naive-steps", type=int, default=NAIVE_STEPS)
    add("--tuning-steps", type=int, default=50, help="optimizer steps timed")
    add("--tuning-batch", type=int, default=0, help="images and pairs a step; 0: as 'auto' says")
    add("--uploads", default="10,100", help="comma-separated numbers of models scored")
    add("--scored", type=int, default=200, help="images that they are scored on")
    add("--per-class", type=int, default=10, help="images per class in the client's round")
    add("--probe", type=int, default=20, help="images per class that models are compared on there")
    add("--lora-steps", type=int, default=0, help="of the client's round; 0: as 'auto' says")
    add("--repeats", type=int, default=3, help="of what is timed, for the median")
    add("--precision", default="auto", help="as generator.precision, for both sides")
    add("--device", default="auto", help="as the key device")
    add("--threads", type=int, default=1, help="CPU threads of both sides")
    add("--keep", type=Path, default=None, help="folder that pipelines are built in, or are in")
    add("--out", type=Path, default=None, help="folder of the result files")
    add(
        "--only",
        type=_names,
        default=None,
        metavar=",".join(ROWS),
        help="these rows, added to the result that is there",
    )
    return parser


def _command(options: argparse.Namespace) -> str:
    usual = vars(_parser().parse_args([]))
    given = {key: value for key, value in vars(options).items() if value != usual[key]}
    words = [
        f" --{key.replace('_', '-')} {','.join(value) if key == 'only' else value}"
        for key, value in given.items()
        if key not in _PATHS
    ]
    return f"python benchmarks/gpu.py{''.join(words)}"


def _text(
    rows: Sequence[Mapping[str, Any]], shape: str, device: torch.device, machine: dict[str, str]
) -> str:
    cells, parts = [], ""
    for row in rows:
        ours, other = row["ours"], row["other"]
        cells.append(
            [
                row["name"],
                f"{ours['rate']:.3g}",
                "" if other is None else f"{other['rate']:.3g}",
                "" if other is None else f"{ours['rate'] / other['rate']:.2f}",
                _memory(ours["peak"]),
                "" if other is None else _memory(other["peak"]),
                row["note"],
            ]
        )
        if row["parts"]:
            seconds = ", ".join(f"{name} {value:.1f} s" for name, value in row["parts"].items())
            parts += f"\n{row['name'].capitalize()}: {seconds}."
    headings = [
        "per second",
        "ours",
        "other",
        "ours / other",
        "GB",
        "other's GB",
        "the same work",
    ]
    commands = ", ".join(f"`{command}`" for command in dict.fromkeys(r["command"] for r in rows))
    repeats = " or ".join(map(str, sorted({row["repeats"] for row in rows})))
    warning = ""
    if device.type == "cpu":
        warning = (
            "**No GPU: the same code on a processor. These figures say nothing of a GPU.**\n\n"
        )
    return f"""{warning}Shape {shape}, random weights; {commands}

{markdown_table(headings, cells)}

Medians of {repeats} after one to warm up, clients' rounds once; memory with weights.
{parts}

{machine_line(machine)}
"""


def _memory(peak: float | None) -> str:
    return "not measured" if peak is None else f"{peak:.1f}"


if __name__ == "__main__":
    main()
