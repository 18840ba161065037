"""An agent's side of MCP: makes the tool calls it is told to, one per line of JSON, and prints what came back.

The argument is a JSON object: `{"command": ..., "env": {...}}` starts a server that speaks over its pipes,
`{"url": ..., "headers": {...}}` speaks to one over HTTP.
"""

from __future__ import annotations

import asyncio
import json
import sys

from fastmcp import Client
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport


def transport(given):
    if "command" in given:
        return StdioTransport(given["command"], [], env=given["env"])
    return StreamableHttpTransport(given["url"], headers=given["headers"])


async def tools(client):
    listed = await client.list_tools()
    return [
        {
            "name": tool.name,
            "arguments": sorted(tool.inputSchema.get("properties", {})),
            "reads": tool.annotations.readOnlyHint,
            "destroys": tool.annotations.destructiveHint,
            "typed": tool.outputSchema is not None,
        }
        for tool in listed
    ]


async def called(client, question):
    result = await client.call_tool_mcp(question["tool"], question.get("arguments", {}))
    text = "\n".join(getattr(block, "text", "") for block in result.content)
    return {"failed": result.isError, "content": result.structuredContent, "text": text}


async def main():
    async with Client(transport(json.loads(sys.argv[1]))) as client:
        while line := await asyncio.to_thread(sys.stdin.readline):
            question = json.loads(line)
            answer = await (tools(client) if question.get("tool") is None else called(client, question))
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


asyncio.run(main())
