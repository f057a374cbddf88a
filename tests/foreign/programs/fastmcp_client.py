"""One conversation of a host with a mesh, by the client of fastmcp. Prints what it saw as one JSON object.

    python fastmcp_client.py TARGET [QUESTION...]

TARGET is an address, or the JSON of {command, args, env} for a server to start.
"""

from __future__ import annotations

import asyncio
import json
import sys

from fastmcp import Client
from fastmcp.client.transports import StdioTransport


async def main(target: str, questions: list[str]) -> None:
    """Have the conversation."""
    progress: list[float] = []

    async def watch(done: float, total: float | None, message: str | None) -> None:
        progress.append(done)

    address = target if target.startswith("http") else StdioTransport(**json.loads(target), keep_alive=False)
    async with Client(address, progress_handler=watch) as client:
        tools = await client.list_tools()
        answers = [
            await client.call_tool("ask_front", {"question": each}, raise_on_error=False)
            for each in questions
        ]
        refused = await client.call_tool("ask_front", {}, raise_on_error=False)
        resources = await client.list_resources()
        templates = await client.list_resource_templates()
        read = await client.read_resource("ledger://checkpoint")
        prompts = await client.list_prompts()
        prompt = await client.get_prompt("sum", {"a": "2", "b": "3"})
        seen = {
            "protocol": client.protocol_version,
            "server": client.server_info.name,
            "tools": [each.name for each in tools],
            "answers": [
                {
                    "text": "".join(part.text for part in each.content),
                    "structured": each.structured_content,
                    "error": each.is_error,
                }
                for each in answers
            ],
            "refused": refused.is_error,
            "progress": progress,
            "resources": [str(each.uri) for each in resources],
            "templates": [each.uri_template for each in templates],
            "checkpoint": read[0].text,
            "prompts": [each.name for each in prompts],
            "prompt": prompt.messages[0].content.text,
        }
    print(json.dumps(seen))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
