"""The ``regl`` command: one module per sub-command, heavy imports only where they are used."""

from __future__ import annotations

import typer

from regl_app.cli.bundle import bundle as bundle_command
from regl_app.cli.compare import compare as compare_command
from regl_app.cli.console import ReglGroup
from regl_app.cli.doctor.command import doctor as doctor_command
from regl_app.cli.evaluate import evaluate as evaluate_command
from regl_app.cli.export import export as export_command
from regl_app.cli.generate import generate as generate_command
from regl_app.cli.keys import keys as keys_command
from regl_app.cli.partition import partition as partition_command
from regl_app.cli.predict import predict as predict_command
from regl_app.cli.pretrain import pretrain as pretrain_command
from regl_app.cli.report import report as report_command
from regl_app.cli.run import run as run_command
from regl_app.cli.watch import watch as watch_command

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
# Under other names here, so that e.g. regl_app.cli.run stays the module.
for _command in (
    run_command,
    compare_command,
    partition_command,
    generate_command,
    report_command,
    watch_command,
    predict_command,
    evaluate_command,
    export_command,
    pretrain_command,
    keys_command,
    bundle_command,
    doctor_command,
):
    app.command()(_command)
