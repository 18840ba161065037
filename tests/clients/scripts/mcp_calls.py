"""An agent's side of MCP: makes the tool calls it is told to, one per line of JSON, and prints what came back.

The argument is a JSON object: `{"command": ..., "env": {...}}` starts a server that speaks over its pipes,
`{"url": ..., "redirect_uri": ...}` speaks to one over HTTP, for which it finds out where to sign in, registers itself, prints
`{"open": ...}` for somebody with a browser, and reads the `code` and `state` that the browser was sent back with.
"""

from __future__ import annotations

import asyncio
import json
import sys

from fastmcp import Client
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import OAuthClientMetadata


def say(answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def next_line():
    return await asyncio.to_thread(sys.stdin.readline)


class Memory:
    """Keeps the registration and the tokens as long as the process lives."""

    registration = None
    tokens = None

    async def get_client_info(self):
        return self.registration

    async def set_client_info(self, registration):
        self.registration = registration

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens


def sign_in(given):
    async def redirect(address):
        say({"open": address})

    async def callback():
        answer = json.loads(await next_line())
        return answer["code"], answer["state"]

    program = OAuthClientMetadata(client_name="Field agent", redirect_uris=[given["redirect_uri"]])
    return OAuthClientProvider(given["url"], program, Memory(), redirect, callback)


def transport(given):
    if "command" in given:
        return StdioTransport(given["command"], [], env=given["env"])
    return StreamableHttpTransport(given["url"], auth=sign_in(given))


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
        while line := await next_line():
            question = json.loads(line)
            answer = await (tools(client) if question.get("tool") is None else called(client, question))
            say(answer)


asyncio.run(main())
