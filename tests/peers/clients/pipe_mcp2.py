"""The PyPI `mcp` 2.x client over stdio. Facts: `who`, `era`, `command`, `args`, `tools`."""

import json
import sys
import warnings
from pathlib import Path

import anyio
import mcp_types as types
from mcp import StdioServerParameters
from mcp.client.client import Client

MODES = {"handshake": "legacy", "stateless": "2026-07-28", "auto": "auto"}
SECONDS = 60

world = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))


def tell(name, ok, detail=""):
    print(json.dumps({"name": f"{world['who']}/{name}", "ok": ok, "detail": detail[:500]}), flush=True)
    return ok


def text(result):
    return "\n".join(block.text for block in result.content if block.type == "text")


async def answer(_context, _params):
    return types.ElicitResult(action="accept", content={"name": "Ada of the peers"})


async def listed(client, name):
    """A list does not wait long for a server that is slow to start."""
    with anyio.fail_after(15):
        while name not in [tool.name for tool in (await client.list_tools()).tools]:
            await anyio.sleep(0.05)


async def main():
    server = StdioServerParameters(command=world["command"], args=world["args"])
    step = "S-STDIO-10 connects in its era"
    try:
        with anyio.fail_after(SECONDS):
            async with Client(server, mode=MODES[world["era"]], elicitation_callback=answer, cache=None) as client:
                wanted = "2025-11-25" if world["era"] == "handshake" else "2026-07-28"
                tell(step, client.protocol_version == wanted, client.protocol_version)
                step = "lists the tools"
                await listed(client, world["tools"]["echo"])
                tell(step, True)
                step = "calls a tool"
                said = text(await client.call_tool(world["tools"]["echo"], {"text": "grüße 你好"}))
                tell(step, "grüße 你好" in said, said)
                if world["era"] == "handshake" and "ask" in world["tools"]:
                    step = "answers a form of a server"
                    said = text(await client.call_tool(world["tools"]["ask"], {}))
                    tell(step, "Ada of the peers" in said, said)
                step = "closes"
        return tell("closes", True)
    except Exception as error:  # noqa: BLE001: whatever went wrong is the row's detail
        # What went wrong in a task comes wrapped.
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        return tell(step, False, f"{type(error).__name__}: {error}")


warnings.simplefilter("ignore")
sys.exit(0 if anyio.run(main) else 1)
