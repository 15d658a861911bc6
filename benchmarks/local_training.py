"""What bf16 and the memory layout do to one local training: `python benchmarks/local_training.py`.

Prints milliseconds per step of batch 32 at 32x32, on `--threads` CPU threads, and the ratio to
fp32 in the usual layout. The modes take turns, so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import nn
from torch.nn import functional

from regl_app.config.sections import ModelConfig
from regl_app.learning.models import build_model

MODES = [
    (bf16, layout)
    for bf16 in (False, True)
    for layout in (torch.contiguous_format, torch.channels_last)
]


def step_seconds(
    model: nn.Module, channels: int, bf16: bool, layout: torch.memory_format, steps: int
) -> float:
    """Return the seconds of one training step, averaged over ``steps``."""
    model.to(memory_format=layout)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(32, channels, 32, 32, generator=generator).contiguous(memory_format=layout)
    labels = torch.randint(0, 10, (32,), generator=generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    started = time.perf_counter()
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = functional.cross_entropy(model(images).float(), labels)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    return (time.perf_counter() - started) / steps


def main() -> None:
    """Measure every mode and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=["cnn", "resnet18"], default="cnn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20, help="steps per measurement")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    channels = 1 if options.model == "cnn" else 3
    seconds: dict[tuple[bool, torch.memory_format], list[float]] = {mode: [] for mode in MODES}
    for repeat in range(options.repeats + 1):
        for mode in MODES:
            model = build_model(ModelConfig(name=options.model), 10, channels, 32, 0)
            measured = step_seconds(model, channels, *mode, steps=options.steps)
            if repeat:  # the first round warms up
                seconds[mode].append(measured)
    base = statistics.median(seconds[MODES[0]])
    for (bf16, layout), values in seconds.items():
        median = statistics.median(values)
        print(
            f"{options.model} {'bf16' if bf16 else 'fp32'} {str(layout).removeprefix('torch.'):18}"
            f" {median * 1000:8.1f} ms/step   {base / median:4.2f}x"
        )


if __name__ == "__main__":
    main()
