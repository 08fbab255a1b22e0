"""What the topics of step `peers-legacy` share: packages, gateways, servers and clients that come and go with a topic.

Always: what a stage started is stopped when the stage is left, and each client prints its own rows. Not here: what is checked.
"""

import json
import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

from gate import gateway, installs, processes, rows
from gate.places import GATEWAY, ROOT

HERE = ROOT / "tests" / "peers"
CLIENT_SECONDS = 120


class Packages:
    """The installed SDKs; our scripts are put beside them, because modules are found from where a script lies."""

    def __init__(self):
        self.place = installs.npm("peers")
        self.python = installs.python() / "python"
        for folder in ("clients", "servers"):
            shutil.rmtree(self.place / folder, ignore_errors=True)
            shutil.copytree(HERE / folder, self.place / folder)


class Stage:
    """A place for one topic's story."""

    def __init__(self, packages: Packages, folder: Path, logs: Path):
        self.packages = packages
        self.folder = folder
        self.logs = logs
        self._started = ExitStack()
        self._count = 0

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_) -> None:
        self._started.close()

    def script(self, path: str) -> list[str]:
        """The command of one of our scripts, for a configuration: `servers/pipe.mjs`."""
        return ["node", str(self.packages.place / path)]

    def stdio(self, path: str, **more) -> dict:
        """A configured server that is one of our scripts."""
        command, *args = self.script(path)
        return {"command": command, "args": args, **more}

    def demo(self, **more) -> dict:
        """The gateway's own demo server over stdio, to stand beside; of the handshake era, so that it can ask."""
        return {"command": "${exe}", "args": ["demo-server", "--protocol", "2025-11-25"], **more}

    def server(self, command: list[str]) -> tuple[processes.Server, str]:
        """A server that prints `endpoint URL`, and that URL."""
        server = self.listening(command)
        return server, server.expect(r"^endpoint (http://\S+)", 30)

    def listening(self, command: list[str], says: str | None = None) -> processes.Server:
        """A server that says in words of its own, if any are given, that it listens."""
        self._count += 1
        server = processes.Server(command, self.logs / f"server-{self._count}.log")
        self._started.callback(server.stop)
        if says:
            server.expect(says, 30)
        return server

    def configuration(self, servers: dict, **sections) -> Path:
        """A file for gateways that are not started here."""
        self._count += 1
        file = self.folder / f"configuration-{self._count}.yaml"
        file.write_text(json.dumps({"servers": servers, **sections}, indent=2), encoding="utf-8")
        return file

    def gateway(self, servers: dict, **sections) -> gateway.Gateway:
        self._count += 1
        folder, logs = self.folder / f"gateway-{self._count}", self.logs / f"gateway-{self._count}"
        folder.mkdir()
        logs.mkdir()
        front = gateway.Gateway(folder, servers, logs, **sections)
        self._started.callback(front.stop)
        return front

    def client(self, script: str, facts: dict) -> bool:
        """Runs a client to its end; its rows come from itself. Whether all was well."""
        self._count += 1
        world = self.folder / f"world-{self._count}.json"
        world.write_text(json.dumps({"gateway": str(GATEWAY), **facts}), encoding="utf-8")
        if script.endswith(".py"):
            command = [str(self.packages.python), str(HERE / script)]
        else:
            command = self.script(script)
        return self.run([*command, str(world)], facts.get("who", script))

    def run(self, command: list[str], who: str) -> bool:
        sys.stdout.flush()
        code = processes.run_bounded(command, sys.stdout, CLIENT_SECONDS, ROOT, dict(os.environ))
        ending = "its time was up" if code is None else f"ended with code {code}"
        rows.tell(f"{who}/came to its end", code in (0, 1), ending)
        return code == 0
