"""Servers that the gateway starts: what they write besides messages."""

from gate import rows
from gate.client import Client
from peers.stage import Stage

NOISE = "a line for the people at the console"


def noisy(stage: Stage) -> None:
    front = stage.gateway({"noisy": stage.stdio("servers/pipe.mjs", env={"NOISE": NOISE}), "beside": stage.demo()})
    client = Client(front.endpoint, "2025-11-25", {})
    said = client.request("tools/call", {"name": "noisy__echo", "arguments": {"text": "through the noise"}})
    client.close()
    heard = said["content"][0]["text"]
    rows.tell("children/S-STDIO-02 noise on stderr and stdout is no failure", heard == "through the noise", heard)
    written = (stage.logs / "gateway-1" / "gateway.log").read_text(encoding="utf-8", errors="replace")
    lines = [line for line in written.splitlines() if NOISE in line]
    rows.tell("children/S-STDIO-02 what it says on stderr is logged with its name", any("noisy" in line for line in lines), str(lines))


PARTS = [noisy]
