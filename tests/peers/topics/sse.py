"""HTTP+SSE of 2024-11-05, both sides, against the transport of the 1.x SDK."""

import urllib.error
import urllib.request

from gate import rows
from gate.gateway import Gateway
from peers.stage import Stage

TOOLS = {"echo": "old__echo", "count": "old__count", "ask": "old__ask"}


def pinned(stage: Stage) -> None:
    _, address = stage.server(stage.script("servers/sse.mjs"))
    front = stage.gateway({"old": {"url": address, "protocol": "sse"}, "demo": stage.demo()})
    well = stage.client("clients/http1.mjs", {"who": "sdk 1.x before a pinned SSE server", "url": front.endpoint, "tools": TOOLS})
    rows.tell("sse/S-SSE-04 a server of the old transport is served when pinned", well)


def found(stage: Stage) -> None:
    _, address = stage.server(stage.script("servers/sse.mjs"))
    front = stage.gateway({"old": {"url": address}, "demo": stage.demo()})
    well = stage.client("clients/http1.mjs", {"who": "sdk 1.x before an SSE server", "url": front.endpoint, "tools": TOOLS})
    rows.tell("sse/S-SSE-05 a server of the old transport is found without a word about it", well)
    # Old before the gateway and old behind it.
    facts = {"who": "sdk 1.x over SSE before an SSE server", "url": stream(front), "tools": TOOLS}
    stage.client("clients/sse1.mjs", facts)


def served(stage: Stage) -> None:
    front = stage.gateway({"demo": stage.demo(), "peer": stage.stdio("servers/pipe.mjs")})
    tools = {"echo": "peer__echo", "count": "peer__count", "ask": "peer__ask"}
    stage.client("clients/sse1.mjs", {"who": "sdk 1.x over SSE", "url": stream(front), "tools": tools})
    off = stage.gateway({"demo": stage.demo()}, http_sse=False)
    for path in ("/sse", "/messages?sessionId=x"):
        status = answer(off.endpoint.removesuffix("/mcp") + path)
        rows.tell(f"sse/S-SSE-06 switched off, {path} is not found", status == 404, f"status {status}")


def stream(front: Gateway) -> str:
    return front.endpoint.removesuffix("/mcp") + "/sse"


def answer(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as found:
            return found.status
    except urllib.error.HTTPError as error:
        return error.code


PARTS = [pinned, found, served]
