"""The unit converter as an MCP server."""

from __future__ import annotations

from typing import Annotated

from mcp.server import MCPServer
from mcp.types import CallToolResult
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from agentmesh_servers.face import READS_ONLY, advice, answer, make_server
from agentmesh_servers.units.conversion import convert as convert_units

INSTRUCTIONS = (
    "Exact conversion between units of length, mass, temperature, volume, time, speed, area, data, energy, power "
    "and pressure. Call `convert` with a value, the unit it is in and the unit it should be in; names, plurals and "
    "symbols are understood."
)


class Conversion(BaseModel):
    """A value in another unit."""

    model_config = ConfigDict(title="Conversion")

    result: str = Field(title="Result", description="The converted value as a decimal")
    unit: str = Field(title="Unit", description="Name of the unit converted to, plural")
    value: str = Field(title="Value", description="The value converted from")
    from_unit: str = Field(title="From unit", description="Name of the unit converted from, plural")
    exact: bool = Field(title="Exact", description="False where the result was rounded")


def _no_truth(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is wanted, not true or false")
    return value


def build() -> MCPServer:
    """The units server with its one tool, `convert`."""
    server = make_server("units", title="Units", instructions=INSTRUCTIONS)

    @server.tool(
        title="Convert", description="Convert a value from one unit to another.", annotations=READS_ONLY
    )
    async def convert(
        value: Annotated[
            float, Field(description="The value to convert", allow_inf_nan=False), BeforeValidator(_no_truth)
        ],
        from_unit: Annotated[str, Field(description="Unit to convert from")],
        to_unit: Annotated[str, Field(description="Unit to convert to")],
    ) -> Annotated[CallToolResult, Conversion]:
        with advice():
            done = convert_units(value, from_unit, to_unit)
        return answer(
            done.text,
            Conversion(
                result=done.result,
                unit=done.unit,
                value=done.value,
                from_unit=done.from_unit,
                exact=done.exact,
            ),
        )

    return server
