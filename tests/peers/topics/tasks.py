"""Tasks: clients and servers of three SDKs in two dialects, first without the gateway, then in every pairing through it.

The dialects: the core tasks of 2025-11-25, and the extension of 2026-07-28. All servers have jobs under the names that the demo
server gives them, so every client can tell its story to each. What a server cannot play, or plays in its own way, is left out
where it is met directly and named beside it; through the gateway a client sees what the specification says.
"""

import shlex
import socket
from collections.abc import Iterable

from gate.places import GATEWAY
from peers.rust import TARGET
from peers.stage import Stage

CORE, EXTENSION = "2025-11-25", "2026-07-28"
ELICIT = "elicitation/create"
# The 1.x SDK keeps results of tools, never errors of requests.
NO_CRASH = ["crash"]
# The Rust SDK 1.8: ids of requests, results once, tools that fail complete, cancelled ones show as failed, no metadata.
STRAYS = ["S-TASK-11", "fail", "ask", "cancel"]


def rust(name: str) -> str:
    return str(TARGET / "debug" / name)


def demo(stage: Stage, revision: str) -> dict:
    """The demo server over stdio."""
    return stage.demo(args=["demo-server", "--protocol", revision])


def core_servers(stage: Stage) -> dict:
    """Servers of 2025-11-25: the 1.x SDK over both transports, the Rust SDK 1.8, the demo server."""
    _, sdk = stage.server(stage.script("servers/tasks1.mjs"))
    _, old = stage.server([rust("core"), "server"])
    command, *arguments = stage.script("servers/tasks1.mjs")
    return {
        "sdk": {"url": sdk},
        "pipe": {"command": command, "args": [*arguments, "pipe"]},
        "old": {"url": old},
        "demo": demo(stage, CORE),
    }


def extension_servers(stage: Stage) -> dict:
    """Servers of 2026-07-28: the Rust SDK 3.11, the PyPI SDK, the demo server."""
    _, new = stage.server([rust("extension"), "server"])
    _, snake = stage.server([str(stage.packages.python), str(stage.packages.place / "servers/tasks_mcp2.py")])
    return {
        "new": {"url": new, "protocol": EXTENSION},
        "snake": {"url": snake, "protocol": EXTENSION},
        "modern": demo(stage, EXTENSION),
    }


def everyone(stage: Stage) -> dict:
    """All of them behind one gateway."""
    return {**core_servers(stage), **extension_servers(stage)}


def without(server: str) -> list[str]:
    """What a server cannot be asked for through the gateway either."""
    return NO_CRASH if server in ("sdk", "pipe") else []


def visit(stage: Stage, program: str, who: str, url: str, prefix: str, left_out: Iterable[str]) -> None:
    """A client of the Rust SDKs."""
    stage.run([rust(program), "client", url, prefix, who, *left_out], who)


def direct(stage: Stage) -> None:
    """Without the gateway: what does not hold here is a fault of a peer or of the demo server."""
    core = {name: one["url"] for name, one in core_servers(stage).items() if "url" in one}
    extension = {name: one["url"] for name, one in extension_servers(stage).items() if "url" in one}
    for served, revision in ((core, CORE), (extension, EXTENSION)):
        command = [str(GATEWAY), "demo-server", "--http", "127.0.0.1:0", "--protocol", revision]
        _, served["demo"] = stage.server(command)
    for name, url in core.items():
        left_out = {"sdk": NO_CRASH, "old": [*STRAYS, "S-TASK-10"]}.get(name, [])
        facts = {"url": url, "prefix": "", "without": left_out}
        stage.client("clients/tasks1.mjs", {"who": f"sdk 1.x to {name}", **facts})
        visit(stage, "core", f"rmcp 1.8 to {name}", url, "", left_out)
    for name, url in extension.items():
        facts = {"url": url, "prefix": "", "without": []}
        stage.client("clients/tasks_mcp2.py", {"who": f"mcp 2.x to {name}", **facts})
        visit(stage, "extension", f"rmcp 3.11 to {name}", url, "", [])


def core_clients(stage: Stage) -> None:
    servers = everyone(stage)
    front = stage.gateway(servers)
    for name in servers:
        facts = {"url": front.endpoint, "prefix": f"{name}__", "without": without(name)}
        stage.client("clients/tasks1.mjs", {"who": f"sdk 1.x before {name}", **facts})
        visit(stage, "core", f"rmcp 1.8 before {name}", front.endpoint, f"{name}__", without(name))


def extension_clients(stage: Stage) -> None:
    servers = everyone(stage)
    front = stage.gateway(servers)
    for name in servers:
        facts = {"url": front.endpoint, "prefix": f"{name}__", "without": without(name)}
        stage.client("clients/tasks_mcp2.py", {"who": f"mcp 2.x before {name}", **facts})
        visit(stage, "extension", f"rmcp 3.11 before {name}", front.endpoint, f"{name}__", without(name))


def plain_clients(stage: Stage) -> None:
    """Clients that know no tasks get results, though the servers may know nothing else than tasks."""
    everything = str(stage.packages.place / "node_modules/@modelcontextprotocol/server-everything/dist/index.js")
    servers = {**everyone(stage), "everything": {"command": "node", "args": [everything, "stdio"]}}
    front = stage.gateway(servers)
    calls = []
    for name in servers:
        # The questions of the old one name no call, so they can be put while one call runs there and no other.
        if name not in ("everything", "old"):
            calls.append({"name": "S-TX-15 a job", "tool": f"{name}__job", "says": "^Done", "asked": []})
        # This one has another tool of that name for who can do no tasks; the 1.x SDK puts a question of a job that can be a task
        # only to those who fetch the result of a task, and others wait in vain, without the gateway too.
        if name not in ("everything", "snake", "sdk", "pipe"):
            asking = {"name": "S-TX-15 a job that asks", "tool": f"{name}__job_asking", "says": "^Done for Ada", "asked": [ELICIT]}
            calls.append(asking)
    research = {"topic": "yards", "ambiguous": True}
    only = {"name": "a task and nothing else", "tool": "everything__simulate-research-query", "arguments": research}
    driven = [*calls, {**only, "says": "Research Report", "asked": [ELICIT]}]
    stage.client("clients/bridge2.mjs", {"who": "client 2.x without tasks", "url": front.endpoint, "calls": driven})
    stage.client("clients/bridge1.mjs", {"who": "sdk 1.x without tasks", "url": front.endpoint, "calls": calls})


def later(everything: str, demo_server: str) -> list[dict]:
    """Tools that ask and let the client take its time."""
    sample = {"tool": f"{everything}trigger-sampling-request-async", "arguments": {"prompt": "what is a yard?"}}
    form = {"tool": f"{everything}trigger-elicitation-request-async", "arguments": {}}
    return [
        {**sample, "says": r"COMPLETED.*sampled later"},
        {**form, "says": r"COMPLETED.*Ada of the peers"},
        {"tool": f"{demo_server}ask_later", "arguments": {}, "says": "^Ada of the peers, after"},
    ]


def hosting_clients(stage: Stage) -> None:
    """Clients that make tasks of what they are asked: each server by itself, then both behind the gateway."""
    everyweb, everything = everything_over_http(stage)
    _, asking = stage.server([str(GATEWAY), "demo-server", "--http", "127.0.0.1:0", "--protocol", CORE])
    samples, forms, demo_asks = later("", "")
    for who, url, calls in (("everything", everyweb, [samples, forms]), ("the demo server", asking, [demo_asks])):
        stage.client("clients/hosting1.mjs", {"who": f"sdk 1.x hosting for {who}", "url": url, "there": [], "calls": calls})
    servers = {"everything": {"command": "node", "args": [everything, "stdio"]}, "everyweb": {"url": everyweb}, "demo": demo(stage, CORE)}
    front = stage.gateway(servers)
    calls = [*later("everything__", "demo__"), *later("everyweb__", "demo__")[:2]]
    # Tools that server-everything shows to such clients alone are in no merged list, yet they can be called.
    facts = {"there": ["everything__echo", "everyweb__echo", "demo__echo"], "calls": calls}
    stage.client("clients/hosting1.mjs", {"who": "sdk 1.x hosting behind the gateway", "url": front.endpoint, **facts})


def everything_over_http(stage: Stage) -> tuple[str, str]:
    """server-everything over HTTP: its URL, and its program."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = str(stage.packages.place / "node_modules/@modelcontextprotocol/server-everything/dist/index.js")
    # It says on stderr that it listens.
    stage.listening(["sh", "-c", f"PORT={port} exec node {shlex.quote(program)} streamableHttp 2>&1"], r"(listening) on port")
    return f"http://127.0.0.1:{port}/mcp", program


PARTS = [direct, core_clients, extension_clients, plain_clients, hosting_clients]
