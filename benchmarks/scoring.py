"""One batched pass over all uploaded models against a loop: `python benchmarks/scoring.py`.

What the server does at the sites 'download' and 'server': K classifiers answer on the same pool
(``torch.func.vmap`` against one model after the other). Both take turns, so that a busy machine
slows them alike; prints median seconds and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from regl_app.config.sections import ModelConfig
from regl_app.learning.models.build import build_model
from regl_app.supplement.batched_scoring import score_models


def main() -> None:
    """Measure every number of clients and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", default="10,100", help="comma-separated numbers of models")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--model", choices=["cnn", "resnet18"], default="cnn")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (options.images, 1, 32, 32), dtype=torch.uint8, generator=random)
    print(f"{options.model}, {options.images} images of 1x32x32, {options.device}, ", end="")
    print(f"{options.threads} thread(s), torch {torch.__version__}")
    print("| models | loop s | batched s | loop / batched |\n| ---: | ---: | ---: | ---: |")
    for count in map(int, options.clients.split(",")):
        models = [build_model(ModelConfig(name=options.model), 10, 1, 32, s) for s in range(count)]
        states = [model.state_dict() for model in models]
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for repeat in range(options.repeats + 1):
            for batched in seconds:
                started = time.perf_counter()
                score_models(states, models[0], images, options.device, batched=batched)
                if repeat:  # the first round warms up
                    seconds[batched].append(time.perf_counter() - started)
        loop, batch = (statistics.median(seconds[each]) for each in (False, True))
        print(f"| {count} | {loop:.2f} | {batch:.2f} | {loop / batch:.2f} |", flush=True)


if __name__ == "__main__":
    main()
