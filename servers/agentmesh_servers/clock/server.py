"""The clock as an MCP server."""

from __future__ import annotations

from typing import Annotated

from mcp.server import MCPServer
from mcp.types import CallToolResult
from pydantic import BaseModel, ConfigDict, Field

from agentmesh_servers.clock.moments import Clock, convert, moment, system_clock
from agentmesh_servers.face import READS_ONLY, advice, answer, make_server

INSTRUCTIONS = (
    "Dates and times around the world. `now` tells the current date and time of a zone or city; `convert_time` "
    "turns a time of day in one place into the time in another, for today's date. Places are IANA names such as "
    "`Europe/Paris` or city names such as `Tokyo`."
)


class Now(BaseModel):
    """The date and time in one place."""

    model_config = ConfigDict(title="Now")

    timezone: str = Field(title="Time zone", description="IANA name of the time zone")
    date: str = Field(title="Date", description="The date there, YYYY-MM-DD")
    time: str = Field(title="Time", description="The time of day there, HH:MM")
    weekday: str = Field(title="Weekday", description="The day of the week there")
    iso: str = Field(title="ISO 8601", description="Date, time and offset from UTC, to the second")


class ConvertedTime(BaseModel):
    """A time of day in one place, and what the clock shows then in another."""

    model_config = ConfigDict(title="Converted time")

    time: str = Field(title="Time", description="The time in the place converted to, HH:MM")
    timezone: str = Field(title="Time zone", description="IANA name of the place converted to")
    day: str = Field(title="Day", description="same day, next day, previous day or 2 days earlier")
    from_time: str = Field(title="From time", description="The time converted from, HH:MM")
    from_timezone: str = Field(title="From time zone", description="IANA name of the place converted from")
    remark: str = Field(title="Remark", description="What is unusual about that time, or empty")


def build(*, clock: Clock = system_clock) -> MCPServer:
    """The clock server with its tools `now` and `convert_time`; `clock` tells the time in UTC."""
    server = make_server("clock", title="Clock", instructions=INSTRUCTIONS)

    @server.tool(
        title="Now", description="The current date and time in a time zone or city.", annotations=READS_ONLY
    )
    async def now(
        timezone: Annotated[str, Field(description="Time zone or city, for example Europe/Paris or Tokyo")],
    ) -> Annotated[CallToolResult, Now]:
        with advice():
            here = moment(timezone, clock=clock)
        return answer(
            here.text,
            Now(
                timezone=here.zone,
                date=here.date,
                time=here.time,
                weekday=here.weekday,
                iso=here.iso,
            ),
        )

    @server.tool(
        title="Convert time",
        description="Convert a time of day from one time zone or city to another.",
        annotations=READS_ONLY,
    )
    async def convert_time(
        time: Annotated[str, Field(description="The time, for example 14:30")],
        from_timezone: Annotated[str, Field(description="Time zone or city of that time")],
        to_timezone: Annotated[str, Field(description="Time zone or city to convert to")],
    ) -> Annotated[CallToolResult, ConvertedTime]:
        with advice():
            there = convert(time, from_timezone, to_timezone, clock=clock)
        return answer(
            there.text,
            ConvertedTime(
                time=there.time,
                timezone=there.zone,
                day=there.day,
                from_time=there.from_time,
                from_timezone=there.from_zone,
                remark=there.remark,
            ),
        )

    return server
