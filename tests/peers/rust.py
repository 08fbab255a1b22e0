"""Step `peers-rmcp`: the Rust SDK as it was, 0.10 over HTTP+SSE and 1.8 over streamable HTTP, as server and as client.

Its package stands apart from the gateway's build: `tests/peers/rmcp`, with a lock file and a target directory of its own.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gate import gateway, processes, rows  # noqa: E402
from gate.places import INSTALLED, LOGS, ROOT  # noqa: E402
from peers.stage import Packages, Stage  # noqa: E402

TARGET = INSTALLED / "rmcp"
PLAIN = {"echo": "old__echo", "ask": "old__ask"}


def main() -> None:
    processes.stop_on_signals()
    if not build():
        return
    packages = Packages()
    root = gateway.fresh(LOGS / "peers-rmcp")
    for part in (sse, streamable):
        logs = root / part.__name__
        logs.mkdir()
        with tempfile.TemporaryDirectory(prefix="switchyard-peers-") as folder:
            try:
                with Stage(packages, Path(folder).resolve(), logs) as stage:
                    part(stage)
            except Exception as error:  # noqa: BLE001: whatever stopped it is the row's detail
                rows.tell(f"{part.__name__}/the stage stands", False, f"{type(error).__name__}: {error}"[:500])


def build() -> bool:
    """Builds the Rust peers, and says whether that went well."""
    manifest = ROOT / "tests" / "peers" / "rmcp" / "Cargo.toml"
    command = ["cargo", "build", "--locked", "--manifest-path", str(manifest), "--target-dir", str(TARGET)]
    built = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode == 0
    rows.tell("the Rust peers build", built)
    return built


def sse(stage: Stage) -> None:
    """Each side first against a peer of today, then both at once."""
    program = str(TARGET / "debug" / "sse")
    _, address = stage.server([program, "server"])
    front = stage.gateway({"old": {"url": address}, "demo": stage.demo()})
    stream = front.endpoint.removesuffix("/mcp") + "/sse"
    facts = {"who": "sdk 1.x before rmcp 0.10", "url": front.endpoint, "tools": PLAIN}
    well = stage.client("clients/http1.mjs", facts)
    rows.tell("sse/S-SSE-05 a server of rmcp 0.10 is found", well)
    for prefix in ("demo__", "old__"):
        stage.run([program, "client", stream, prefix], f"rmcp 0.10 before {prefix}")


def streamable(stage: Stage) -> None:
    program = str(TARGET / "debug" / "streamable")
    _, address = stage.server([program, "server"])
    front = stage.gateway({"old": {"url": address}, "demo": stage.demo()})
    facts = {"who": "sdk 1.x before rmcp 1.8", "url": front.endpoint, "tools": PLAIN}
    stage.client("clients/http1.mjs", facts)
    for prefix in ("demo__", "old__"):
        stage.run([program, "client", front.endpoint, prefix], f"rmcp 1.8 before {prefix}")


if __name__ == "__main__":
    main()
