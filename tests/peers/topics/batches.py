"""Batches of 2025-03-26, from a plain client that sends arrays as they are."""

import json
import subprocess

from gate import rows
from gate.client import Client
from gate.places import GATEWAY
from peers.stage import Stage


def arrays(stage: Stage) -> None:
    front = stage.gateway({"demo": stage.demo(), "pipe": stage.stdio("servers/pipe.mjs")})
    client = Client(front.endpoint, "2025-03-26", {})
    check(client, "S-HTTPS-14 every request of a batch is answered, each by itself", mixed)
    check(client, "S-HTTPS-14 one slow call does not hold up the batch's others", concurrent)
    check(client, "S-HTTPS-04 a batch of notifications is accepted", silent)
    check(client, "S-HTTPS-14 an empty batch is refused", empty)
    check(client, "S-BASE-06 a batch does not initialize", initializing)
    client.close()
    for revision in ("2025-06-18", "2025-11-25"):
        other = Client(front.endpoint, revision, {})
        check(other, f"S-BASE-07 an array is refused at {revision}", refused)
        other.close()


def check(client: Client, name: str, body) -> None:
    try:
        body(client)
        rows.tell(f"batches/{name}", True)
    except (AssertionError, OSError, ValueError, KeyError) as error:
        rows.tell(f"batches/{name}", False, f"{type(error).__name__}: {error}"[:500])


def request(number: object, method: str, params: dict | None = None) -> dict:
    return {"jsonrpc": "2.0", "id": number, "method": method, **({"params": params} if params else {})}


def call(number: object, tool: str, **arguments: object) -> dict:
    return request(number, "tools/call", {"name": tool, "arguments": arguments})


def answers(client: Client, batch: list) -> tuple[int, list[dict]]:
    """Status and messages, whether they come one by one or in arrays."""
    answer = client.exchange(batch)
    found = []
    for message in client.messages(answer):
        found.extend(message if isinstance(message, list) else [message])
    return answer.status, found


def mixed(client: Client) -> None:
    told = {"jsonrpc": "2.0", "method": "notifications/nothing"}
    batch = [request("a", "ping"), told, call(2, "demo__echo", text="two"), call("2", "no-such-tool"), request(4, "tools/list")]
    status, found = answers(client, batch)
    by_id = {json.dumps(message["id"]): message for message in found}
    assert status == 200 and len(found) == 4, (status, found)
    assert by_id['"a"']["result"] == {}, by_id
    assert "two" in by_id["2"]["result"]["content"][0]["text"], by_id
    assert by_id['"2"']["error"]["code"] == -32602, by_id
    assert by_id["4"]["result"]["tools"], by_id


def concurrent(client: Client) -> None:
    status, found = answers(client, [call(1, "demo__slow", seconds=1), call(2, "demo__slow", seconds=1), request(3, "ping")])
    assert status == 200, status
    results = [message for message in found if "result" in message]
    assert sorted(message["id"] for message in results) == [1, 2, 3], found


def silent(client: Client) -> None:
    told = {"jsonrpc": "2.0", "method": "notifications/nothing"}
    status, found = answers(client, [told, told])
    assert (status, found) == (202, []), (status, found)


def empty(client: Client) -> None:
    _, found = answers(client, [])
    assert [message["error"]["code"] for message in found] == [-32600], found


def initializing(client: Client) -> None:
    about = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "plain", "version": "1"}}
    _, found = answers(client, [request(1, "initialize", about)])
    assert [message["error"]["code"] for message in found] == [-32600], found


def refused(client: Client) -> None:
    status, found = answers(client, [request(1, "ping")])
    assert status == 400 and [message["error"]["code"] for message in found] == [-32600], (status, found)


def lines(stage: Stage) -> None:
    """The same on a pipe, where an array is one line."""
    file = stage.configuration({"demo": stage.demo()})
    about = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "plain", "version": "1"}}
    batch = [request(1, "ping"), {"jsonrpc": "2.0", "method": "notifications/nothing"}, request("two", "ping")]
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    written = "".join(json.dumps(line) + "\n" for line in (request(0, "initialize", about), ready, batch))
    # The pipe is closed after the last line: what was asked before is answered nevertheless.
    done = subprocess.run(
        [str(GATEWAY), "stdio", "-c", str(file)], input=written, capture_output=True, text=True, timeout=30, check=False
    )
    found = []
    for line in done.stdout.splitlines():
        message = json.loads(line)
        found.extend(message if isinstance(message, list) else [message])
    ids = sorted(str(message["id"]) for message in found if "result" in message)
    rows.tell("batches/S-STDIO-06 an array on a line is answered", ids == ["0", "1", "two"], f"answered: {ids}; {done.stderr[-200:]}")
    rows.tell("batches/the gateway ends with its input", done.returncode == 0, f"exit code {done.returncode}")


PARTS = [arrays, lines]
