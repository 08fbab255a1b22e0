"""`switchyard stdio`, driven by three SDKs: from a configuration, and before a gateway that runs already."""

from gate.places import GATEWAY
from peers.stage import Stage

# Which client speaks which eras.
CLIENTS = {"clients/pipe1.mjs": ["handshake"], "clients/pipe2.mjs": ["handshake", "stateless", "auto"]}
CLIENTS["clients/pipe_mcp2.py"] = ["handshake", "stateless", "auto"]


TOOLS = {"echo": "peer__echo", "count": "peer__count", "ask": "peer__ask"}


def configured(stage: Stage) -> None:
    clients(stage, "from a configuration", ["stdio", "-c", str(stage.configuration(servers(stage)))], TOOLS)


def before_a_server(stage: Stage) -> None:
    """Names stay as the server has them."""
    _, address = stage.server(stage.script("servers/streamable.mjs"))
    clients(stage, "before a server", ["stdio", "--url", address], {"echo": "echo", "count": "count", "ask": "ask"})


def before_a_gateway(stage: Stage) -> None:
    """The one in front finds the other's stateless era: forms cross eras on their way."""
    url = stage.gateway(servers(stage)).endpoint
    clients(stage, "before a gateway", ["stdio", "--url", url], TOOLS)


def servers(stage: Stage) -> dict:
    return {"demo": stage.demo(), "peer": stage.stdio("servers/pipe.mjs")}


def clients(stage: Stage, how: str, arguments: list[str], tools: dict) -> None:
    """Each client starts a gateway of its own."""
    for script, eras in CLIENTS.items():
        for era in eras:
            who = f"{script.removeprefix('clients/')} {era} {how}"
            facts = {"who": who, "era": era, "command": str(GATEWAY), "args": arguments, "tools": tools}
            stage.client(script, facts)


PARTS = [configured, before_a_server, before_a_gateway]
