"""The client that the official suite judges: a gateway in front of the suite's mock server, and a plain client in front of it.

    python3 tests/conformance/driver.py [--beside] URL      # started by the suite, see client_leg.py

The suite watches its mock alone, so nothing here talks to it but the gateway. Exit code 0 when the story went to its end.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gate import gateway, processes  # noqa: E402
from gate.client import Client  # noqa: E402
from gate.places import LOGS  # noqa: E402


def initialize(client: Client) -> None:
    client.request("tools/list")


def tools_call(client: Client) -> None:
    tool(client, "add_numbers")
    result = client.request("tools/call", {"name": "add_numbers", "arguments": {"a": 2, "b": 3}})
    assert "5" in result["content"][0]["text"], result


def elicitation_defaults(client: Client) -> None:
    tool(client, "test_client_elicitation_defaults")
    client.request("tools/call", {"name": "test_client_elicitation_defaults", "arguments": {}})


def sse_retry(client: Client) -> None:
    tool(client, "test_reconnection")
    result = client.request("tools/call", {"name": "test_reconnection", "arguments": {}})
    assert "completed" in result["content"][0]["text"], result


def schema_preservation(client: Client) -> None:
    schema = tool(client, "json_schema_2020_12_tool")["inputSchema"]
    client.request("tools/call", {"name": "json_schema_echo", "arguments": {"schema": schema}})


STORIES = {
    "initialize": initialize,
    "tools_call": tools_call,
    "elicitation-sep1034-client-defaults": elicitation_defaults,
    "sse-retry": sse_retry,
    "json-schema-2020-12-preservation": schema_preservation,
}


def tool(client: Client, name: str) -> dict:
    """A listed tool. A list does not wait long for a slow server, so it is asked for until the tool is there."""
    until = time.monotonic() + 10
    while True:
        for listed in client.request("tools/list")["tools"]:
            if listed["name"] == name:
                return listed
        assert time.monotonic() < until, f"{name} is not listed"
        time.sleep(0.1)


def answer(method: str, params: dict) -> dict:
    """As a person who accepts a form as it stands: the defaults of its schema are the content."""
    assert method == "elicitation/create", method
    properties = params["requestedSchema"]["properties"]
    return {"action": "accept", "content": {key: value["default"] for key, value in properties.items() if "default" in value}}


def main(words: list[str]) -> None:
    processes.stop_on_signals()
    beside, url = words[:-1] == ["--beside"], words[-1]
    scenario, revision = os.environ["MCP_CONFORMANCE_SCENARIO"], os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"]
    servers = {"mock": {"url": url, "prefix": ""}}
    if beside:
        servers["beside"] = {"command": "${exe}", "args": ["demo-server"]}
    logs = gateway.fresh(LOGS / "conformance-client-2025" / f"{scenario}-{revision}{'-beside' if beside else ''}")
    with tempfile.TemporaryDirectory(prefix="switchyard-driver-") as folder:
        front = gateway.Gateway(Path(folder), servers, logs)
        try:
            capabilities = {"elicitation": {}} if revision >= "2025-06-18" else {}
            client = Client(front.endpoint, revision, capabilities, answer)
            STORIES[scenario](client)
            client.close()
        finally:
            front.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
