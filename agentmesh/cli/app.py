"""The command `agentmesh` and its verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from agentmesh.cli import (
    accounts,
    anchor,
    check,
    connect,
    dialogues,
    doctor,
    export,
    keys,
    ledger,
    models,
    pins,
    run,
    scaffold,
    serve,
    witness,
)
from agentmesh.cli.http_face import ServeCommand
from agentmesh.cli.options import DESCRIBED, example
from agentmesh.cli.version import show_version

app = typer.Typer(
    name="agentmesh",
    help="Local LLM agents that talk over MCP and leave a signed, chained record anyone can verify offline.",
    epilog=example("agentmesh run examples/desk"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=DESCRIBED,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Local LLM agents that talk over MCP and leave a signed, chained record anyone can verify offline."""


app.command("init", epilog=example("agentmesh init my-desk"))(scaffold.init)
app.command("run", epilog=example('agentmesh run examples/desk "What is 17 * 23?"'))(run.run)
app.command("show", epilog=example("agentmesh show latest --ledger examples/desk"))(dialogues.show)
app.command("log", epilog=example("agentmesh log --ledger examples/desk -n 5"))(dialogues.log)
app.command(
    "export", epilog=example("agentmesh export latest --ledger examples/desk -o desk.transcript.jsonl")
)(export.export)
app.command("replay", epilog=example("agentmesh replay desk.transcript.jsonl"))(check.replay)
app.command("verify", epilog=example("agentmesh verify examples/desk"))(check.verify)
app.add_typer(keys.app, name="keys")
app.add_typer(accounts.app, name="accounts")
app.add_typer(anchor.app, name="anchor")
app.add_typer(pins.app, name="pins")
app.add_typer(models.app, name="models")
app.add_typer(ledger.app, name="ledger")
app.add_typer(witness.app, name="witness")
app.command("serve", cls=ServeCommand, epilog=example("agentmesh serve examples/desk --http"))(serve.serve)
app.command("connect", epilog=example("agentmesh connect claude-desktop examples/desk"))(connect.connect)
app.command("doctor", epilog=example("agentmesh doctor"))(doctor.doctor)
