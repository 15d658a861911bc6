"""What a device makes of checkpoints of real shape: `python benchmarks/gpu.py --shape sd15`.

Builds a pipeline of Stable Diffusion 1.5's or XL's shape with random weights (`--shape sd15`,
`sdxl`; nothing is downloaded, `--keep` keeps it for the next time) and measures, warmed up, ours
against others that do the same work on the same device: images against diffusers' pipeline, in
batches at equal steps and one at a time at 50; optimizer steps of LoRA and pairs of preference
tuning against the loops of diffusers' example scripts (`diffusers_loops.py`); uploads scored in one
pass against a loop; and one client's first round, from nothing loaded to trained. With the most
memory that each took.

Without a GPU it runs the same code at a tiny shape, in a minute, and says so; a shape that is named
is measured wherever it is. What a processor's figures are says nothing of a GPU, so they are
written below runs/ and not beside the others.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from gpu_sides import Benchmark, Row
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
    """Measure, print the table and write it with every figure."""
    options = _parser().parse_args(argv)
    device = resolve_device(options.device)
    if options.shape == _FITTING:
        options.shape = "tiny" if device.type == "cpu" else "sd15"
    machine = machine_facts()
    setup_logging()
    quiet()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        kept = Path(scratch) if options.keep is None else options.keep
        folder = kept / options.shape
        if not (folder / "model_index.json").is_file():
            build(SHAPES[options.shape], folder, device)
        rows, seconds = Benchmark(folder, device, options).rows(Path(scratch))
    text = _text(rows, seconds, options, device, machine)
    out = options.out or (RESULTS if device.type != "cpu" else Path("runs/benchmarks"))
    write_text(out / f"gpu-{options.shape}.md", text)
    content = {
        "options": {key: value for key, value in vars(options).items() if key not in _PATHS},
        "rows": [asdict(row) for row in rows],
        "round_seconds": seconds,
        "machine": machine,
    }
    write_json(out / f"gpu-{options.shape}.json", content)
    print(text)


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
    return parser


def _command(options: argparse.Namespace) -> str:
    usual = vars(_parser().parse_args([]))
    given = {key: value for key, value in vars(options).items() if value != usual[key]}
    words = [
        f" --{key.replace('_', '-')} {value}" for key, value in given.items() if key not in _PATHS
    ]
    return f"python benchmarks/gpu.py{''.join(words)}"


def _text(
    rows: Sequence[Row],
    seconds: dict[str, float],
    options: argparse.Namespace,
    device: torch.device,
    machine: dict[str, str],
) -> str:
    cells = []
    for row in rows:
        other = row.other
        cells.append(
            [
                row.name,
                f"{row.ours.rate:.3g}",
                "" if other is None else f"{other.rate:.3g}",
                "" if other is None else f"{row.ours.rate / other.rate:.2f}",
                _memory(row.ours.peak),
                "" if other is None else _memory(other.peak),
                row.note,
            ]
        )
    headings = [
        "per second",
        "ours",
        "other",
        "ours / other",
        "GB",
        "other's GB",
        "the same work",
    ]
    parts = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    warning = ""
    if device.type == "cpu":
        warning = (
            "**No GPU: the same code on a processor. These figures say nothing of a GPU.**\n\n"
        )
    return f"""{warning}Shape {options.shape}, random weights; `{_command(options)}`

{markdown_table(headings, cells)}

Medians of {options.repeats} after one to warm up; memory with weights. The client's first round:
{parts}.

{machine_line(machine)}
"""


def _memory(peak: float | None) -> str:
    return "not measured" if peak is None else f"{peak:.1f}"


if __name__ == "__main__":
    main()
