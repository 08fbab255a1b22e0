"""Questions across the eras: SDKs of both on both sides of one gateway, over both transports of the server."""

import shlex
import socket

from peers.stage import Stage

ELICIT, SAMPLE, ROOTS = "elicitation/create", "sampling/createMessage", "roots/list"


def two_rounds(server: str) -> dict:
    says = r"^Rome \(How to get to Rome\?\)$"
    return {"name": "S-MRTR-04 two rounds, the second from the first", "tool": f"{server}__plan", "says": says, "asked": [ELICIT, SAMPLE]}


def three_at_once(server: str) -> dict:
    says = r"^Rome \(How\?\) yard$"
    return {"name": "S-MRTR-02 three questions at once", "tool": f"{server}__all", "says": says, "asked": [ELICIT, SAMPLE, ROOTS]}


def stateless_servers(stage: Stage) -> dict:
    """Servers of 2026-07-28 alone: the npm SDK over stdio and HTTP, the PyPI SDK over HTTP."""
    _, web = stage.server([*stage.script("servers/rounds2.mjs"), "http"])
    _, snake = stage.server([str(stage.packages.python), str(stage.packages.place / "servers/rounds_mcp2.py")])
    ask = {"roots": True}
    return {
        "pipe": stage.stdio("servers/rounds2.mjs", ask=ask),
        "web": {"url": web, "ask": ask},
        "snake": {"url": snake, "protocol": "2026-07-28", "ask": ask},
    }


def handshake_servers(stage: Stage) -> dict:
    """Servers of 2025-11-25: server-everything and our own of the 1.x SDK, over stdio and HTTP each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    everything = str(stage.packages.place / "node_modules/@modelcontextprotocol/server-everything/dist/index.js")
    # It says on stderr that it listens.
    run = f"PORT={port} exec node {shlex.quote(everything)} streamableHttp 2>&1"
    stage.listening(["sh", "-c", run], r"(listening) on port")
    _, tools = stage.server(stage.script("servers/streamable.mjs"))
    ask = {"roots": True}
    return {
        "everything": {"command": "node", "args": [everything, "stdio"], "ask": ask},
        "everyweb": {"url": f"http://127.0.0.1:{port}/mcp", "ask": ask},
        "pipe": stage.stdio("servers/pipe.mjs", ask=ask),
        "web": {"url": tools, "ask": ask},
    }


def to_stateless_servers(stage: Stage) -> None:
    front = stage.gateway(stateless_servers(stage))
    calls = [two_rounds(server) for server in ("pipe", "web", "snake")] + [three_at_once(server) for server in ("pipe", "web")]
    for script, who in (("clients/bridge1.mjs", "bridge 1.x to 2.x"), ("clients/bridge2.mjs", "bridge 2.x to 2.x")):
        stage.client(script, {"who": who, "url": front.endpoint, "calls": calls})


def to_handshake_servers(stage: Stage) -> None:
    front = stage.gateway(handshake_servers(stage))
    calls = []
    for server in ("everything", "everyweb"):
        form = {"name": "a form", "tool": f"{server}__trigger-elicitation-request", "says": "Ada of the bridge", "asked": [ELICIT]}
        words = {"prompt": "what is a yard?"}
        model = {"name": "a sample", "tool": f"{server}__trigger-sampling-request", "arguments": words, "says": "what is a yard", "asked": [SAMPLE]}
        calls += [form, model]
    for server in ("pipe", "web"):
        both = {"name": "a form and a sample in one call", "tool": f"{server}__plan", "says": "^Rome .*to Rome", "asked": [ELICIT, SAMPLE]}
        calls.append(both)
    for script, who in (("clients/bridge1.mjs", "bridge 1.x to 1.x"), ("clients/bridge2.mjs", "bridge 2.x to 1.x")):
        stage.client(script, {"who": who, "url": front.endpoint, "calls": calls})


PARTS = [to_stateless_servers, to_handshake_servers]
