"""A plain client of the streamable HTTP transport, for scripts: it sends what it is told and keeps every header and event.

Always: one session, one connection per exchange, every wait bounded. Not here: resuming, redirects, judging messages; a client
that forgives nothing shows more.
"""

import http.client
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator

SECONDS = 30


class Refused(Exception):
    """The answer is a JSON-RPC error, or no answer at all."""


class Client:
    """A session of one revision; `answer` is asked what the server asks and gives a result."""

    def __init__(self, url: str, revision: str, capabilities: dict, answer: Callable[[str, dict], dict] | None = None):
        self._url = urllib.parse.urlsplit(url)
        self._answer = answer
        self._id = 0
        self.revision = revision
        self.session: str | None = None
        self.heard: list[dict] = []
        about = {"protocolVersion": revision, "capabilities": capabilities, "clientInfo": {"name": "plain", "version": "1"}}
        self.server = self.request("initialize", about)
        if self.server["protocolVersion"] != revision:
            raise Refused(f"asked for {revision}, got {self.server['protocolVersion']}")
        self.notify("notifications/initialized")

    def headers(self) -> dict[str, str]:
        """What goes along with every exchange."""
        found = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        if self.session:
            found |= {"mcp-session-id": self.session, "mcp-protocol-version": self.revision}
        return found

    def exchange(self, body: object, method: str = "POST", **headers: str) -> http.client.HTTPResponse:
        """One HTTP exchange; reading the body is the caller's."""
        connection = http.client.HTTPConnection(self._url.hostname, self._url.port, timeout=SECONDS)
        text = None if body is None else json.dumps(body)
        connection.request(method, self._url.path, text, {**self.headers(), **headers, "connection": "close"})
        answer = connection.getresponse()
        self.session = self.session or answer.getheader("mcp-session-id")
        return answer

    def messages(self, answer: http.client.HTTPResponse) -> Iterator[dict | list]:
        """Every message of an answer, be it one object or a stream."""
        if answer.getheader("content-type", "").startswith("text/event-stream"):
            for event in events(answer):
                if event.get("data"):
                    yield json.loads(event["data"])
        else:
            body = answer.read()
            if body:
                yield json.loads(body)

    def request(self, method: str, params: dict | None = None) -> dict:
        """A result; what the server says or asks before it is kept or answered."""
        # Its own: whoever answers a question may ask something in between.
        own = self._id = self._id + 1
        body = {"jsonrpc": "2.0", "id": own, "method": method, **({"params": params} if params is not None else {})}
        answer = self.exchange(body)
        for message in self.messages(answer):
            if message.get("id") == own and "method" not in message:
                if "result" not in message:
                    raise Refused(f"{method}: {message.get('error')}")
                return message["result"]
            self.hear(message)
        raise Refused(f"{method}: status {answer.status} and no answer")

    def hear(self, message: dict) -> None:
        """Notifications are kept; requests are answered at once, on an exchange of their own."""
        if "method" in message and "id" in message and self._answer:
            result = self._answer(message["method"], message.get("params", {}))
            answer = self.exchange({"jsonrpc": "2.0", "id": message["id"], "result": result})
            answer.read()
        else:
            self.heard.append(message)

    def notify(self, method: str, params: dict | None = None) -> None:
        body = {"jsonrpc": "2.0", "method": method, **({"params": params} if params else {})}
        answer = self.exchange(body)
        answer.read()
        if answer.status != 202:
            raise Refused(f"{method}: status {answer.status}")

    def listen(self) -> threading.Thread:
        """Opens the standalone stream: what comes there is heard too, until the session ends."""
        answer = self.exchange(None, "GET", accept="text/event-stream")
        if answer.status != 200:
            raise Refused(f"GET: status {answer.status}")

        def read() -> None:
            try:
                for message in self.messages(answer):
                    self.hear(message)
            except OSError:
                # Nothing came for as long as a wait may last, or the gateway ended.
                return

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        self.exchange(None, "DELETE").read()


def events(answer: http.client.HTTPResponse) -> Iterator[dict[str, str]]:
    """Server-sent events as they come: their fields, `data` joined."""
    event: dict[str, str] = {}
    for line in answer:
        text = line.decode().rstrip("\r\n")
        if not text:
            if event:
                yield event
            event = {}
        elif not text.startswith(":"):
            field, _, value = text.partition(":")
            value = value.removeprefix(" ")
            event[field] = f"{event[field]}\n{value}" if field == "data" and "data" in event else value
