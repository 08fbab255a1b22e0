"""Sampling with tools, forms, URLs and roots: a low-level server of the 1.x SDK asks, a client of the 1.x SDK answers."""

from gate import rows
from peers.stage import Stage

VISIT = "https://example.com/visit?token=not-for-the-log"


def asked(stage: Stage) -> None:
    _, address = stage.server(stage.script("servers/streamable.mjs"))
    servers = {
        "pipe": stage.stdio("servers/pipe.mjs", title="The Pipe"),
        "web": {"url": address},
        "home": {"url": address, "title": "Home", "ask": {"roots": True}},
        "beside": stage.demo(),
    }
    front = stage.gateway(servers)
    for name, title, roots in (("pipe", "The Pipe", True), ("web", "web", False), ("home", "Home", True)):
        facts = {"who": f"questions of {name}", "url": front.endpoint, "prefix": f"{name}__", "title": title}
        stage.client("clients/questions1.mjs", {**facts, "visit": VISIT, "roots": roots})
    written = "".join(log.read_text(encoding="utf-8", errors="replace") for log in stage.logs.glob("gateway-*/gateway.log"))
    rows.tell("questions/S-ELIC-07 no URL's query is in the log", "not-for-the-log" not in written)


PARTS = [asked]
