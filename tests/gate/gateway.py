"""A gateway for step scripts: a configuration in a temporary directory, free ports, a polite stop."""

import json
import os
import shutil
import urllib.request
from pathlib import Path

from .places import GATEWAY
from .processes import Server


def fresh(folder: Path) -> Path:
    """An empty directory for this run's logs."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


class Gateway:
    """A running gateway in front of `servers`; ready to serve when the constructor returns."""

    def __init__(self, folder: Path, servers: dict, logs: Path, env: dict[str, str] | None = None, **sections):
        # JSON is YAML; nothing here needs quoting rules of our own.
        settings = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "servers": servers, **sections}
        file = folder / "gateway.yaml"
        file.write_text(json.dumps(settings, indent=2), encoding="utf-8")
        command = [str(GATEWAY), "serve", "-c", str(file)]
        self._server = Server(command, logs / "gateway.log", env={**os.environ, **(env or {})}, cwd=folder)
        try:
            self.endpoint = self._server.expect(r"^endpoint (http://\S+)", 30)
            self.admin = self._server.expect(r"^admin (http://\S+)", 10)
        except BaseException:
            self._server.stop()
            raise

    @property
    def pid(self) -> int:
        return self._server.pid

    def ask(self, path: str):
        """JSON of the admin listener, or the plain text where it is not JSON."""
        with urllib.request.urlopen(self.admin + path, timeout=10) as answer:
            text = answer.read().decode()
        try:
            return json.loads(text)
        except ValueError:
            return text

    def stop(self) -> int | None:
        """SIGTERM; the exit code, or `None` when it did not end by itself."""
        return self._server.stop(seconds=40)
