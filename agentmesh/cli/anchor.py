"""`agentmesh anchor`: a log's checkpoints where nobody takes them back."""

from __future__ import annotations

import typer

from agentmesh.cli import anchor_ots, anchor_place, anchor_push
from agentmesh.cli.options import DESCRIBED, example

_CALENDAR = "--calendar https://calendar.example"

app = typer.Typer(
    help="Anchor a log's checkpoints on an EVM chain, or in Bitcoin through OpenTimestamps.",
    epilog=example("agentmesh anchor push examples/witnessed"),
    no_args_is_help=True,
    rich_markup_mode=DESCRIBED,
)

app.command(
    "deploy", epilog=example("agentmesh anchor deploy --rpc http://127.0.0.1:8545 --key-env ANCHOR_KEY")
)(anchor_place.deploy)
app.command("push", epilog=example("agentmesh anchor push examples/witnessed --within 60"))(anchor_push.push)
app.command("status", epilog=example("agentmesh anchor status examples/witnessed"))(anchor_place.status)
app.command("watch", epilog=example("agentmesh anchor watch examples/witnessed --every 60s"))(
    anchor_push.watch
)
app.command("stamp", epilog=example(f"agentmesh anchor stamp examples/desk {_CALENDAR}"))(anchor_ots.stamp)
app.command("upgrade", epilog=example(f"agentmesh anchor upgrade examples/desk {_CALENDAR}"))(
    anchor_ots.upgrade
)
