"""Does a checkpoint of full size run on a processor? `python benchmarks/full_size.py`.

Builds a pipeline of Stable Diffusion 1.5's shape with random weights, downloads nothing, and does
with it, on the processor and in bf16, what a client does: loads it, draws one image, takes one step
of LoRA and one of preference tuning, with the defaults that fit its size. Writes the seconds and
the most resident memory of each to benchmarks/results/full_size.md; ends with 1 if a part took more
than `--limit`, or if what comes out is not finite, not an image, or has learnt nothing.
"""

from __future__ import annotations

import argparse
import gc
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
from shapes import SHAPES, build, quiet
from table import machine_facts, machine_line

from regl_app.config import RunConfig
from regl_app.core.files import write_json, write_text
from regl_app.core.log import setup_logging
from regl_app.core.types import Tensors
from regl_app.data.images import ImageSet
from regl_app.generator.adaptation.dpo import tune_dpo
from regl_app.generator.adaptation.lora import tune_lora
from regl_app.generator.fitting import fitted
from regl_app.generator.foundation import Foundation
from regl_app.generator.sampling import sample
from regl_app.runs.comparison.tables import markdown_table

RESULTS = Path(__file__).resolve().parent / "results"
CONCEPTS = ("a cat", "a dog")
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_GIGABYTE = 1e9
T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """One part of the check.

    ``computed`` are the seconds of its threads together: on a machine that others use too, they and
    not ``seconds`` say how much work it is. ``peak`` is the most memory that was resident during
    it, in GB, weights and Python included; None where the system does not say.
    """

    name: str
    seconds: float
    computed: float
    peak: float | None
    seen: str


def main(argv: Sequence[str] | None = None) -> int:
    """Do all parts, print and write the table; return 1 if one took more memory than allowed."""
    options = _parser().parse_args(argv)
    machine = machine_facts()
    setup_logging()
    quiet()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / options.shape
        build(SHAPES[options.shape], folder, torch.device("cpu"))
        found = parts(folder, options.steps)
    over = [part for part in found if part.peak is not None and part.peak > options.limit]
    text = _text(found, options, machine)
    write_text(options.out / "full_size.md", text)
    content = {
        "shape": options.shape,
        "steps": options.steps,
        "threads": options.threads,
        "parts": [asdict(part) for part in found],
        "machine": machine,
    }
    write_json(options.out / "full_size.json", content)
    print(text)
    for part in over:
        print(f"{part.name}: {part.peak:.1f} GB, more than the {options.limit:g} GB of --limit")
    return 1 if over else 0


def parts(folder: Path, steps: int) -> list[Part]:
    """Load the pipeline in ``folder``, draw by ``steps`` of its solver, tune; return what was seen.

    Raises:
        SystemExit: what came out is not what it must be.
    """
    keys = {"device": "cpu", "generator.path": str(folder), "generator.precision": "bf16"}
    config = fitted(RunConfig.from_flat(keys | {"generator.steps": steps, "method": "regl"}))
    lora = config.lora.model_copy(update={"steps": 1})
    dpo = config.dpo.model_copy(update={"steps": 1})
    found: list[Part] = []

    def measured(name: str, work: Callable[[], T], seen: Callable[[T], str]) -> T:
        _forget()
        began, computed = time.perf_counter(), time.process_time()
        result = work()
        spent = time.perf_counter() - began, time.process_time() - computed
        found.append(Part(name, *spent, _peak(), seen(result)))
        return result

    foundation = measured(
        "loaded",
        lambda: Foundation.load(config.generator, CONCEPTS, "cpu"),
        lambda made: f"{_weights(made.denoiser):,} weights denoise, held in {made.held}",
    )
    side = foundation.image_size
    measured(
        "an image drawn",
        lambda: sample(foundation, [0], [0], config.generator, stream=0),
        lambda images: _image(images, side, f"{steps} steps, guidance {config.generator.guidance}"),
    )
    random = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (lora.batch_size, 3, side, side), generator=random)
    real = ImageSet(noise.byte(), torch.arange(len(noise)) % len(CONCEPTS))
    measured(
        "a step of LoRA",
        lambda: tune_lora(foundation, real, lora, seed=0),
        lambda tuned: _adapter(tuned.state, f"{len(real)} images, loss {tuned.loss:.3f}"),
    )
    latents = torch.randn((2 * dpo.batch_size, *foundation.latent_shape), generator=random)
    pairs = torch.arange(len(latents)).view(2, -1)
    labels = torch.arange(dpo.batch_size).repeat(2) % len(CONCEPTS)
    measured(
        "a step of preferences",
        lambda: tune_dpo(foundation, latents, labels, pairs, dpo, lora, seed=0),
        lambda tuned: _adapter(tuned.state, f"{dpo.batch_size} pairs, loss {tuned.loss:.3f}"),
    )
    return found


def _weights(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _image(images: torch.Tensor, side: int, how: str) -> str:
    if images.shape != (1, 3, side, side) or images.min() == images.max():
        raise SystemExit(f"the image is none: {tuple(images.shape)}, all of it {images.max()}")
    return f"{side} x {side} pixels, {how}"


def _adapter(state: Tensors, how: str) -> str:
    """Return ``how`` it was tuned, if what was tuned is finite and has learnt anything."""
    ups = [value for name, value in state.items() if ".lora_B." in name]
    if not all(value.isfinite().all() for value in state.values()):
        raise SystemExit("the adapter is not finite")
    if not ups or not all(value.any() for value in ups):
        raise SystemExit("a layer of the adapter is as it began: its B is zero")
    return f"{how}, {sum(value.numel() for value in state.values()):,} weights tuned"


def _forget() -> None:
    """Free what nobody holds any more, and measure memory from here on."""
    gc.collect()
    if _CLEAR.exists():
        _CLEAR.write_text("5")


def _peak() -> float | None:
    """Return the most GB that were resident since ``_forget``; None where nobody says."""
    if not _STATUS.exists():
        return None
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
    return int(kilobytes) * 1024 / _GIGABYTE


def _text(found: Sequence[Part], options: argparse.Namespace, machine: dict[str, str]) -> str:
    rows = [
        [
            part.name,
            f"{part.seconds:.1f}",
            f"{part.computed:.1f}",
            "" if part.peak is None else f"{part.peak:.1f}",
            part.seen,
        ]
        for part in found
    ]
    table = markdown_table(["", "s", "CPU s", "GB resident, at most", "seen"], rows)
    return f"""Shape {options.shape}, random weights, bf16; `{_command(options)}`

{table}

On {options.threads} thread(s); with all that was loaded before, Python and libraries among it.

{machine_line(machine)}
"""


def _command(options: argparse.Namespace) -> str:
    usual = vars(_parser().parse_args([]))
    given = {key: value for key, value in vars(options).items() if value != usual[key]}
    words = [f" --{key} {value}" for key, value in given.items() if key != "out"]
    return f"python benchmarks/full_size.py{''.join(words)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--shape", choices=sorted(SHAPES), default="sd15")
    add("--steps", type=int, default=4, help="solver's steps of the image")
    add("--limit", type=float, default=20.0, help="GB of resident memory that a part may take")
    add("--threads", type=int, default=1, help="CPU threads")
    add("--out", type=Path, default=RESULTS, help="folder of the result files")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
