"""Sampling with tools, forms, URLs and roots: a low-level server of the 1.x SDK asks, a client of the 1.x SDK answers."""

import json
from collections.abc import Callable

from gate import rows
from gate.client import Client, Refused
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


def older(stage: Stage) -> None:
    """The same server behind a client of 2025-06-18, which knows neither URLs nor all of the forms."""
    front = stage.gateway({"pipe": stage.stdio("servers/pipe.mjs"), "beside": stage.demo()})
    seen: list[dict] = []

    def answer(_method: str, params: dict) -> dict:
        seen.append(params)
        return {"action": "accept", "content": {"name": "Grace", "titledSingle": "g", "agreed": True}}

    client = Client(front.endpoint, "2025-06-18", {"elicitation": {}}, answer)
    client.listen()

    def call(tool: str) -> dict:
        seen.clear()
        result = client.request("tools/call", {"name": f"pipe__{tool}", "arguments": {}})
        return json.loads(result["content"][0]["text"])

    def plain() -> None:
        assert call("ask") == {"action": "accept", "content": seen and {"name": "Grace", "titledSingle": "g", "agreed": True}}
        assert "mode" not in seen[0] and "elicitationId" not in seen[0], seen

    def titles() -> None:
        call("ask_titles")
        field = seen[0]["requestedSchema"]["properties"]["titledSingle"]
        assert field.get("enum") == ["r", "g"] and field.get("enumNames") == ["Red", "Green"], field
        assert "oneOf" not in field and "default" not in field, field
        assert seen[0]["requestedSchema"]["properties"]["agreed"].get("default") is True, seen

    def several() -> None:
        assert call("ask_everything")["action"] == "cancel" and seen == [], seen

    def unknown_error() -> None:
        try:
            result = client.request("tools/call", {"name": "pipe__must_visit", "arguments": {}})
            assert result.get("isError") is True, result
        except Refused as error:
            assert "-32042" not in str(error), error

    check("S-ELIC-02 2025-06-18 is asked without a mode", plain)
    check("S-ELIC-05 titles become names there, and what has no default loses it", titles)
    check("S-ELIC-05 a choice of several is cancelled without asking", several)
    check("S-ELIC-09 the error that names URLs does not get there", unknown_error)
    client.close()


def check(name: str, body: Callable[[], None]) -> None:
    try:
        body()
        rows.tell(f"questions/{name}", True)
    except (AssertionError, Refused, OSError, ValueError, KeyError, IndexError) as error:
        rows.tell(f"questions/{name}", False, f"{type(error).__name__}: {error}"[:500])


PARTS = [asked, older]
