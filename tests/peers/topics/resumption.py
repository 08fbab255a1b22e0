"""Streams that break, on either side: the 1.x SDK resumes from the gateway, the gateway resumes from the 1.x SDK."""

from collections.abc import Callable

from gate import rows
from gate.client import Client, Refused, events
from peers.stage import Stage


def broken(stage: Stage) -> None:
    server, address = stage.server(stage.script("servers/streamable.mjs"))
    servers = {"web": {"url": address}, "pipe": stage.stdio("servers/pipe.mjs"), "beside": stage.demo()}
    front = stage.gateway(servers)
    for name in ("pipe", "web"):
        facts = {"who": f"sdk 1.x resumes before {name}", "url": front.endpoint, "count": f"{name}__count"}
        stage.client("clients/resume1.mjs", facts)

    def polls() -> None:
        call(front.endpoint, "web__poll", "worth coming back for")
        server.expect("^(resumed)", 5)

    def survives() -> None:
        call(front.endpoint, "web__drop", "found again")
        server.expect("^(resumed)", 5)

    check("S-HTTPC-07 S-RESUM-06 a server that ends its stream early is asked again", polls)
    check("S-HTTPC-07 S-RESUM-06 a server whose stream is cut is asked again", survives)


def check(name: str, body: Callable[[], None]) -> None:
    try:
        body()
        rows.tell(f"resumption/{name}", True)
    except (AssertionError, Refused, OSError, RuntimeError) as error:
        rows.tell(f"resumption/{name}", False, f"{type(error).__name__}: {error}"[:500])


def call(url: str, tool: str, expected: str) -> None:
    """A plain client, which resumes nothing, gets both reports and the result, on one stream."""
    client = Client(url, "2025-11-25", {})
    result = client.request("tools/call", {"name": tool, "arguments": {}, "_meta": {"progressToken": "mine"}})
    assert result["content"][0]["text"] == expected, result
    reports = [heard["params"] for heard in client.heard if heard["method"] == "notifications/progress"]
    assert [report["progress"] for report in reports] == [1, 2], reports
    assert all(report["progressToken"] == "mine" for report in reports), reports
    client.close()


def primed(stage: Stage) -> None:
    """What comes first on a stream, by the revision of the session."""
    front = stage.gateway({"demo": stage.demo()})
    for revision in ("2025-03-26", "2025-06-18", "2025-11-25"):
        client = Client(front.endpoint, revision, {})
        arguments = {"name": "demo__slow", "arguments": {"seconds": 1.5, "steps": 2}, "_meta": {"progressToken": 1}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": arguments}
        seen = list(events(client.exchange(body)))
        client.close()
        ids = [event.get("id") for event in seen]
        told = [event for event in seen if event.get("data")]
        primes = len(seen) > 0 and bool(ids[0]) and not seen[0].get("data")
        check(f"S-RESUM-01 every event of {revision} has an id of its own", lambda: truth(all(ids) and len(set(ids)) == len(ids), seen))
        check(f"S-RESUM-03 a priming event comes first at 2025-11-25 alone, here {revision}",
              lambda: truth(primes == (revision == "2025-11-25") and len(told) == len(seen) - primes, seen))


def truth(held: bool, seen: object) -> None:
    assert held, seen


PARTS = [broken, primed]
