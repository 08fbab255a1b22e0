"""Step `peers`: five independent servers behind one gateway, and three independent clients in front of it.

    python3 tests/peers/peers.py [--url URL]    # with a URL: the clients alone, against what runs there

Prints the clients' rows and a few of its own about the gateway as a whole.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gate import gateway, installs, processes, rows  # noqa: E402
from gate.places import LOGS, ROOT  # noqa: E402

CLIENTS = ROOT / "tests" / "peers" / "clients"
CLIENT_SECONDS = 240
HELLO = "hello from the yard"
COMMIT = "Lay the first track"
CANARY = "canary-that-no-server-may-see"
GIVEN = "given-by-the-configuration"
TOOLS = [
    "everything__echo",
    "files__read_text_file",
    "memory__create_entities",
    "time__convert_time",
    "git__git_log",
]


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--url")
    url = arguments.parse_args().url
    processes.stop_on_signals()
    packages = installs.npm("peers")
    python = installs.python()
    logs = gateway.fresh(LOGS / "peers")
    with tempfile.TemporaryDirectory(prefix="switchyard-peers-") as name:
        # Some systems reach their temporary directory through a link; servers compare real paths.
        folder = Path(name).resolve()
        world = build_world(folder, packages)
        if url:
            run_clients({**world, "url": url}, folder, packages, python)
            return
        front = gateway.Gateway(folder, servers(world, folder, packages, python), logs, env={"SWITCHYARD_CANARY": CANARY})
        try:
            run_clients({**world, "url": front.endpoint}, folder, packages, python)
            check_admin(front)
        finally:
            ended = front.stop()
        rows.tell("gateway/drains and exits 0", ended == 0, f"exit code {ended}")
        check_logs(logs / "gateway.log")


def build_world(folder: Path, packages: Path) -> dict:
    """Files, a repository with one commit, and the facts that the clients compare with."""
    files = folder / "files"
    files.mkdir()
    (files / "hello.txt").write_text(HELLO + "\n")
    for number in range(4):
        (files / f"{number}.txt").write_text(f"file {number}\n")
    repository = folder / "repository"
    repository.mkdir()
    (repository / "README").write_text("a repository\n")
    # Nothing of the machine's own git settings: no hooks, no signing, no templates.
    env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    person = ["-c", "user.name=Peer", "-c", "user.email=peer@example.com"]
    for words in (["init", "-q", "-b", "main"], ["add", "README"], [*person, "commit", "-q", "-m", COMMIT]):
        subprocess.run(["git", *words], cwd=repository, env=env, check=True, timeout=30, stdin=subprocess.DEVNULL)
    document = packages / "node_modules/@modelcontextprotocol/server-everything/dist/docs/features.md"
    return {
        "folder": str(files),
        "repository": str(repository),
        "hello": HELLO,
        "commit": COMMIT,
        "canary": CANARY,
        "given": GIVEN,
        "tools": TOOLS,
        "resource": "demo://resource/static/document/features.md",
        "document": document.read_text(encoding="utf-8"),
    }


def servers(world: dict, folder: Path, packages: Path, python: Path) -> dict:
    """The `servers` section: all five over stdio, as a client's own configuration would start them."""
    modules = packages / "node_modules" / "@modelcontextprotocol"
    program = str(python / "python")
    return {
        "everything": {
            "command": "node",
            "args": [str(modules / "server-everything/dist/index.js"), "stdio"],
            "env": {"GIVEN": GIVEN},
        },
        "files": {"command": "node", "args": [str(modules / "server-filesystem/dist/index.js"), world["folder"]]},
        "memory": {
            "command": "node",
            "args": [str(modules / "server-memory/dist/index.js")],
            "env": {"MEMORY_FILE_PATH": str(folder / "memory.jsonl")},
        },
        "time": {"command": program, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"]},
        "git": {"command": program, "args": ["-m", "mcp_server_git", "--repository", world["repository"]]},
    }


def run_clients(world: dict, folder: Path, packages: Path, python: Path) -> None:
    """Every client in every era it speaks, one after the other."""
    facts = folder / "world.json"
    facts.write_text(json.dumps(world), encoding="utf-8")
    # Modules are found from where a script lies, so the scripts go beside the packages.
    scripts = packages / "clients"
    shutil.rmtree(scripts, ignore_errors=True)
    shutil.copytree(CLIENTS, scripts)
    for script, eras in (("sdk1.mjs", [None]), ("client2.mjs", ["handshake", "stateless", "auto"])):
        for era in eras:
            run_client(["node", str(scripts / script), str(facts), *([era] if era else [])], era)
    for era in ("handshake", "stateless", "auto"):
        run_client([str(python / "python"), str(CLIENTS / "mcp2.py"), str(facts), era], era)


def run_client(command: list[str], era: str | None) -> None:
    """A client prints its own rows; here only that it came to its end."""
    name = f"{Path(command[1]).name} {era or 'handshake'}"
    sys.stdout.flush()
    code = processes.run_bounded(command, sys.stdout, CLIENT_SECONDS, ROOT, dict(os.environ))
    ending = "its time was up" if code is None else f"ended with code {code}"
    rows.tell(f"{name}/came to its end", code in (0, 1), ending)


def check_admin(front: gateway.Gateway) -> None:
    """The admin listener after a day's work."""
    for path in ("/healthz", "/readyz"):
        try:
            front.ask(path)
            rows.tell(f"gateway/{path} is well", True)
        except OSError as error:
            rows.tell(f"gateway/{path} is well", False, str(error))
    try:
        listed = json.dumps(front.ask("/api/v1/servers"))
        missing = [name for name in ("everything", "files", "memory", "time", "git") if f'"{name}"' not in listed]
        rows.tell("gateway/the admin listener shows all five servers", not missing, f"missing: {missing}")
    except OSError as error:
        rows.tell("gateway/the admin listener shows all five servers", False, str(error))


def check_logs(log: Path) -> None:
    """Arguments, results and environment stay out of the logs."""
    written = log.read_text(encoding="utf-8", errors="replace")
    leaked = [secret for secret in (CANARY, GIVEN, HELLO, "through the gateway") if secret in written]
    rows.tell("gateway/the logs hold no argument, result or secret", not leaked, f"found: {leaked}")
    panics = [line for line in written.splitlines() if "panicked at" in line]
    rows.tell("gateway/nothing panicked", not panics, "; ".join(panics)[:300])


if __name__ == "__main__":
    main()
