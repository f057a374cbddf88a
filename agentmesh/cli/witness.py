"""`agentmesh witness`: to be a witness of others' logs, and to have one's own witnessed."""

from __future__ import annotations

import typer

from agentmesh.cli import witness_gather, witness_serve
from agentmesh.cli.options import DESCRIBED, example

app = typer.Typer(
    help="Have a log witnessed, or witness others' logs.",
    epilog=example("agentmesh witness gather examples/desk"),
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
app.command("add", epilog=example("agentmesh witness add w1 http://127.0.0.1:8780 --ledger examples/desk"))(
    witness_gather.add
)
app.command("gather", epilog=example("agentmesh witness gather examples/desk --within 5"))(
    witness_gather.gather
)
app.command("status", epilog=example("agentmesh witness status examples/desk"))(witness_gather.status)
