"""A plain client of the stateless era, for scripts: each request is a POST that says everything about itself.

Always: headers are made from the body that is sent; one connection per exchange, every wait bounded. Not here: sessions
(`client`), judging messages.
"""

import base64
import http.client
import json
import urllib.parse
from collections.abc import Callable

from .client import SECONDS, Refused, events

REVISION = "2026-07-28"
PREFIX = "io.modelcontextprotocol/"
# What `Mcp-Name` repeats.
TARGETS = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
ROUNDS = 8


class Stateless:
    """A caller without a session; `answer` is asked what a server needs to know and gives a result."""

    def __init__(self, url: str, capabilities: dict, answer: Callable[[str, dict], dict] | None = None):
        self._url = urllib.parse.urlsplit(url)
        self._capabilities = capabilities
        self._answer = answer
        self._id = 0
        # Tool parameters that headers repeat, by tool: header name and path into the arguments.
        self._mirrored: dict[str, list[tuple[str, list[str]]]] = {}
        self.heard: list[dict] = []

    def request(self, method: str, params: dict | None = None) -> dict:
        """A complete result; what the server asks for in between is answered, round by round."""
        for _ in range(ROUNDS):
            result = self.ask(method, params)
            if result.get("resultType") != "input_required":
                return result
            asked = result.get("inputRequests", {})
            params = {key: value for key, value in (params or {}).items() if key != "requestState"}
            params["inputResponses"] = {key: self._answer(one["method"], one.get("params", {})) for key, one in asked.items()}
            if "requestState" in result:
                params["requestState"] = result["requestState"]
        raise Refused(f"{method}: more than {ROUNDS} rounds")

    def ask(self, method: str, params: dict | None = None) -> dict:
        """One request, one result."""
        own = self._id = self._id + 1
        params = {**(params or {}), "_meta": self._meta()}
        body = {"jsonrpc": "2.0", "id": own, "method": method, "params": params}
        connection = http.client.HTTPConnection(self._url.hostname, self._url.port, timeout=SECONDS)
        connection.request("POST", self._url.path, json.dumps(body), {**self.headers(method, params), "connection": "close"})
        answer = connection.getresponse()
        for message in self._messages(answer):
            if message.get("id") == own and "method" not in message:
                if "result" not in message:
                    raise Refused(f"{method}: {message.get('error')}")
                if method == "tools/list":
                    self._note_annotations(message["result"]["tools"])
                return message["result"]
            self.heard.append(message)
        raise Refused(f"{method}: status {answer.status} and no answer")

    def headers(self, method: str, params: dict) -> dict[str, str]:
        """What mirrors the body."""
        found = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": REVISION,
            "mcp-method": method,
        }
        if method in TARGETS:
            found["mcp-name"] = header_value(params[TARGETS[method]])
        for header, path in self._mirrored.get(params.get("name", ""), []) if method == "tools/call" else []:
            value = params.get("arguments", {})
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None:
                found[f"mcp-param-{header}"] = header_value(value if isinstance(value, str) else json.dumps(value))
        return found

    def close(self) -> None:
        """There is nothing to end."""

    def _meta(self) -> dict:
        return {
            f"{PREFIX}protocolVersion": REVISION,
            f"{PREFIX}clientCapabilities": self._capabilities,
            f"{PREFIX}clientInfo": {"name": "plain", "version": "1"},
        }

    @staticmethod
    def _messages(answer: http.client.HTTPResponse):
        if answer.getheader("content-type", "").startswith("text/event-stream"):
            yield from (json.loads(event["data"]) for event in events(answer) if event.get("data"))
        else:
            body = answer.read()
            if body:
                yield json.loads(body)

    def _note_annotations(self, tools: list[dict]) -> None:
        for tool in tools:
            self._mirrored[tool["name"]] = list(annotations(tool.get("inputSchema", {}), []))


def annotations(schema: dict, path: list[str]):
    """Header names and paths of the annotated properties."""
    for name, one in schema.get("properties", {}).items():
        if isinstance(one, dict):
            if "x-mcp-header" in one:
                yield one["x-mcp-header"], [*path, name]
            yield from annotations(one, [*path, name])


def header_value(text: str) -> str:
    """As it is where a header can carry it, else in the Base64 sentinel."""
    plain = all(" " <= sign <= "~" for sign in text) and text == text.strip() and not text.startswith("=?base64?")
    return text if plain else f"=?base64?{base64.b64encode(text.encode()).decode()}?="
