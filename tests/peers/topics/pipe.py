"""`switchyard stdio`, driven by three SDKs: from a configuration, and before a gateway that runs already."""

from gate.places import GATEWAY
from peers.stage import Stage

# Which client speaks which eras.
CLIENTS = {"clients/pipe1.mjs": ["handshake"], "clients/pipe2.mjs": ["handshake", "stateless", "auto"]}
CLIENTS["clients/pipe_mcp2.py"] = ["handshake", "stateless", "auto"]


def configured(stage: Stage) -> None:
    clients(stage, "from a configuration", ["stdio", "-c", str(stage.configuration(servers(stage)))])


def remote(stage: Stage) -> None:
    # Names stay as the remote gateway has them.
    clients(stage, "before a URL", ["stdio", "--url", stage.gateway(servers(stage)).endpoint])


def servers(stage: Stage) -> dict:
    return {"demo": stage.demo(), "peer": stage.stdio("servers/pipe.mjs")}


def clients(stage: Stage, how: str, arguments: list[str]) -> None:
    """Each client starts a gateway of its own."""
    tools = {"echo": "peer__echo", "count": "peer__count", "ask": "peer__ask"}
    for script, eras in CLIENTS.items():
        for era in eras:
            who = f"{script.removeprefix('clients/')} {era} {how}"
            facts = {"who": who, "era": era, "command": str(GATEWAY), "args": arguments, "tools": tools}
            stage.client(script, facts)


PARTS = [configured, remote]
