"""A server of the PyPI `mcp` 2.x SDK over HTTP: a tool of two rounds that keeps the first answer in its request state.

Prints `endpoint URL`. Speaks both eras; who configures it pins it to the stateless one.
"""

import socket
import warnings

import anyio
import mcp_types as types
import uvicorn
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("peer-rounds")
PLACE = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}


@server.tool()
async def echo(text: str) -> str:
    """Give the text back."""
    return text


@server.tool()
async def plan(ctx: Context) -> str | types.InputRequiredResult:
    """Ask where to go, then ask the model how."""
    answers = ctx.input_responses or {}
    if ctx.request_state is None:
        if "where" not in answers:
            ask = types.ElicitRequest(params=types.ElicitRequestFormParams(message="Where to?", requested_schema=PLACE))
            return types.InputRequiredResult(input_requests={"where": ask})
        place = answers["where"].content["place"]
        words = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=f"How to get to {place}?"))
        ask = types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[words], max_tokens=50))
        return types.InputRequiredResult(input_requests={"how": ask}, request_state=place)
    return f"{ctx.request_state} {answers['how'].content.text}"


async def main() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(f"endpoint http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    await uvicorn.Server(uvicorn.Config(server.streamable_http_app(), log_level="warning")).serve(sockets=[listener])


# Sampling is deprecated in the 2.x SDK and used here on purpose.
warnings.simplefilter("ignore")
anyio.run(main)
