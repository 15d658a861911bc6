"""The ``regl`` command: one module per sub-command, heavy imports only where they are used."""

from __future__ import annotations

import typer

from regl_app.cli.compare import compare
from regl_app.cli.console import ReglGroup
from regl_app.cli.doctor import doctor
from regl_app.cli.generate import generate
from regl_app.cli.partition import partition
from regl_app.cli.pretrain import pretrain
from regl_app.cli.report import report
from regl_app.cli.run import run

app = typer.Typer(
    cls=ReglGroup,
    name="regl",
    help="Federated learning that generates the data each client lacks (ReGL, FedDPD).",
    epilog="Keys and their meaning: docs/configuration.md. Start with: regl doctor",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (run, compare, partition, generate, report, pretrain, doctor):
    app.command()(_command)
