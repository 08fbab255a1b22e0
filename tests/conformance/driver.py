"""The client that the official suite judges: a gateway in front of the suite's mock server, and a plain client in front of it.

    python3 tests/conformance/driver.py [--beside] [--pinned] [--handshake] URL      # started by the suite, see client_leg.py

`--beside` puts another server next to the mock, `--pinned` tells the gateway the mock's revision, `--handshake` makes the
client one of the handshake era whatever the mock speaks. The suite watches its mock alone, so nothing here talks to it but
the gateway. Exit code 0 when the story went to its end.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gate import gateway, processes  # noqa: E402
from gate.client import Client, Refused  # noqa: E402
from gate.places import LOGS  # noqa: E402
from gate.stateless import REVISION, Stateless  # noqa: E402

# The revision of a client of the handshake era in front of a stateless mock.
HANDSHAKE = "2025-11-25"
Caller = Client | Stateless


def initialize(client: Caller) -> None:
    client.request("tools/list")


def tools_call(client: Caller) -> None:
    tool(client, "add_numbers")
    result = client.request("tools/call", {"name": "add_numbers", "arguments": {"a": 2, "b": 3}})
    assert "5" in result["content"][0]["text"], result


def elicitation_defaults(client: Caller) -> None:
    tool(client, "test_client_elicitation_defaults")
    client.request("tools/call", {"name": "test_client_elicitation_defaults", "arguments": {}})


def sse_retry(client: Caller) -> None:
    tool(client, "test_reconnection")
    result = client.request("tools/call", {"name": "test_reconnection", "arguments": {}})
    assert "completed" in result["content"][0]["text"], result


def schema_preservation(client: Caller) -> None:
    schema = tool(client, "json_schema_2020_12_tool")["inputSchema"]
    client.request("tools/call", {"name": "json_schema_echo", "arguments": {"schema": schema}})


def request_metadata(client: Caller) -> None:
    # The mock declares no tools, and judges the requests that the gateway makes to find that out.
    try:
        client.request("tools/list")
    except Refused as refusal:
        # What nobody declares is no method of the gateway's either (S-DISC-02).
        assert "-32601" in str(refusal), refusal


def request_state(client: Caller) -> None:
    tool(client, "test_mrtr_echo_state")
    expected = {"echo_state": "echo-state-ok", "no_state": "no-state-ok", "no_result_type": "no-result-type-test-ok"}
    for name, text in expected.items():
        # Another call goes out while the first awaits its answer.
        MEANWHILE.append(lambda: call(client, "test_mrtr_unrelated", {}))
        result = call(client, f"test_mrtr_{name}", {})
        assert result["content"][0]["text"] == text, result


def standard_headers(client: Caller) -> None:
    tool(client, "test_headers")
    for name in ("test_headers", "my-hyphenated-tool"):
        call(client, name, {})
    for resource in client.request("resources/list")["resources"]:
        client.request("resources/read", {"uri": resource["uri"]})
    for prompt in own(client.request("prompts/list")["prompts"]):
        client.request("prompts/get", {"name": prompt["name"]})


def custom_headers(client: Caller) -> None:
    for one in context()["toolCalls"]:
        tool(client, one["name"])
        call(client, one["name"], one["arguments"])


def invalid_tool_headers(client: Caller) -> None:
    tool(client, "valid_tool")
    for listed in own(client.request("tools/list")["tools"]):
        call(client, listed["name"], {"region": "eu", "value": "x", "field1": "x", "field2": "y"})


def no_dereferencing(client: Caller) -> None:
    tool(client, "lookup_user")


STORIES = {
    "initialize": initialize,
    "tools_call": tools_call,
    "elicitation-sep1034-client-defaults": elicitation_defaults,
    "sse-retry": sse_retry,
    "json-schema-2020-12-preservation": schema_preservation,
    "request-metadata": request_metadata,
    "sep-2322-client-request-state": request_state,
    "http-standard-headers": standard_headers,
    "http-custom-headers": custom_headers,
    "http-invalid-tool-headers": invalid_tool_headers,
    "json-schema-ref-no-deref": no_dereferencing,
}
# What else the client does before it answers what it is asked next.
MEANWHILE: list[Callable[[], object]] = []


def call(client: Caller, name: str, arguments: dict) -> dict:
    return client.request("tools/call", {"name": name, "arguments": arguments})


def own(listed: list[dict]) -> list[dict]:
    """What is the mock's, which has no prefix."""
    return [one for one in listed if not one["name"].startswith("beside__")]


def context() -> dict:
    """What the scenario wants to be done."""
    return json.loads(os.environ["MCP_CONFORMANCE_CONTEXT"])


def tool(client: Caller, name: str) -> dict:
    """A listed tool. A list does not wait long for a slow server, so it is asked for until the tool is there."""
    until = time.monotonic() + 10
    while True:
        for listed in client.request("tools/list")["tools"]:
            if listed["name"] == name:
                return listed
        assert time.monotonic() < until, f"{name} is not listed"
        time.sleep(0.1)


def answer(method: str, params: dict) -> dict:
    """As a person who accepts a form as it stands: the defaults of its schema are the content, and yes to what has none."""
    assert method == "elicitation/create", method
    while MEANWHILE:
        MEANWHILE.pop()()
    properties = params["requestedSchema"]["properties"]
    known = {key: value.get("default", True) for key, value in properties.items() if "default" in value or value["type"] == "boolean"}
    return {"action": "accept", "content": known}


def main(words: list[str]) -> None:
    processes.stop_on_signals()
    options, url = words[:-1], words[-1]
    scenario, revision = os.environ["MCP_CONFORMANCE_SCENARIO"], os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"]
    mock = {"url": url, "prefix": ""}
    if "--pinned" in options:
        mock["protocol"] = revision
    servers = {"mock": mock}
    if "--beside" in options:
        servers["beside"] = {"command": "${exe}", "args": ["demo-server"]}
    logs = gateway.fresh(LOGS / "conformance-client-gateways" / "-".join([scenario, revision, *options]))
    with tempfile.TemporaryDirectory(prefix="switchyard-driver-") as folder:
        front = gateway.Gateway(Path(folder), servers, logs)
        try:
            client = connect(front.endpoint, HANDSHAKE if "--handshake" in options else revision)
            STORIES[scenario](client)
            client.close()
        finally:
            front.stop()


def connect(url: str, revision: str) -> Caller:
    """A client of the era of this revision, which can be asked what that era knows."""
    if revision == REVISION:
        return Stateless(url, {"elicitation": {"form": {}}}, answer)
    return Client(url, revision, {"elicitation": {}} if revision >= "2025-06-18" else {}, answer)


if __name__ == "__main__":
    main(sys.argv[1:])
