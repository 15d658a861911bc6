"""The two ways to run a federation, by name: the real Flower runtime, or its Grid in-process."""

from __future__ import annotations

from typing import Annotated

import typer

ClientCpus = Annotated[
    int, typer.Option(min=1, help="Processors a client reserves; as many clients run as fit.")
]
ClientGpus = Annotated[
    float, typer.Option(min=0.0, help="GPU share per client (flwr), e.g. 0.2 for five at a time.")
]
