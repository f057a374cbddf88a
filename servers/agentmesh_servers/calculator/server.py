"""The calculator as an MCP server."""

from __future__ import annotations

from typing import Annotated

from mcp.server import MCPServer
from mcp.types import CallToolResult
from pydantic import BaseModel, ConfigDict, Field

from agentmesh_servers.calculator.expression import evaluate as evaluate_expression
from agentmesh_servers.face import READS_ONLY, advice, answer, make_server

INSTRUCTIONS = (
    "Exact arithmetic. Call `evaluate` with an expression such as `17 * 23`, `15% of 240`, `(1/3 + 1/6) ^ 2` "
    "or `sqrt(2)`. Results are exact; where a decimal does not end, the fraction is given with an approximation. "
    "`15%` is 0.15, so a price with 15% more is `80 * (1 + 15%)`."
)


class Evaluation(BaseModel):
    """What an expression is equal to."""

    model_config = ConfigDict(title="Evaluation")

    expression: str = Field(title="Expression", description="The expression as it was given")
    result: str = Field(title="Result", description="The value: a decimal where it ends, else a fraction p/q")
    decimal: str = Field(title="Decimal", description="The value as a decimal, rounded where it does not end")
    exact: bool = Field(title="Exact", description="False where a root made the value an approximation")


def build() -> MCPServer:
    """The calculator server with its one tool, `evaluate`."""
    server = make_server("calculator", title="Calculator", instructions=INSTRUCTIONS)

    @server.tool(
        title="Evaluate", description="Evaluate an arithmetic expression exactly.", annotations=READS_ONLY
    )
    async def evaluate(
        expression: Annotated[str, Field(description="The expression, for example 17 * 23 or 15% of 240")],
    ) -> Annotated[CallToolResult, Evaluation]:
        with advice():
            value = evaluate_expression(expression)
        return answer(
            value.text,
            Evaluation(
                expression=expression,
                result=value.result,
                decimal=value.decimal,
                exact=value.exact,
            ),
        )

    return server
