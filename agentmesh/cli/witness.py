"""`agentmesh witness`: to be a witness of others' logs."""

from __future__ import annotations

import typer

from agentmesh.cli import witness_serve
from agentmesh.cli.options import DESCRIBED, example

app = typer.Typer(
    help="Witness logs: run a witness of your own.",
    epilog=example("agentmesh witness serve w1 --listen 127.0.0.1:8780"),
    no_args_is_help=True,
    rich_markup_mode=DESCRIBED,
)

app.command("serve", epilog=example("agentmesh witness serve w1 --listen 127.0.0.1:8780"))(
    witness_serve.serve
)
app.command("trust", epilog=example("agentmesh witness trust w1 agentmesh.local/desk+4cf2d8a1+AT..."))(
    witness_serve.trust
)
app.command("key", epilog=example("agentmesh witness key w1"))(witness_serve.key)
