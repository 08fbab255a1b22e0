"""One leg of the official conformance suite: suite -> gateway (names as they are) -> the demo server's conformance set.

    python3 tests/conformance/leg.py 2025-http | 2025-stdio | 2026-http

Prints a row per scored scenario. Scenarios outside the score are noted, never counted.
"""

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conformance import baseline  # noqa: E402
from gate import gateway, installs, processes, rows  # noqa: E402
from gate.places import GATEWAY, LOGS  # noqa: E402

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Leg:
    """A requirement set, and how the gateway reaches the fixture."""

    revision: str
    transport: str
    expected: str


LEGS = {
    "2025-http": Leg("2025-11-25", "http", "expected-2025-11-25.yml"),
    "2025-stdio": Leg("2025-11-25", "stdio", "expected-2025-11-25.yml"),
    "2026-http": Leg("2026-07-28", "http", "expected-2026-07-28.yml"),
}


def main(name: str) -> None:
    leg = LEGS[name]
    processes.stop_on_signals()
    suite = installs.npm("conformance") / "node_modules"
    entries = baseline.parse((HERE / leg.expected).read_text(encoding="utf-8"))
    logs = gateway.fresh(LOGS / f"conformance-{name}")
    scored, unscored = requirement_set(suite, leg.revision)
    with tempfile.TemporaryDirectory(prefix="switchyard-conformance-") as folder:
        fixture = None
        front = None
        try:
            if leg.transport == "http":
                fixture, address = start_fixture(leg, logs)
                upstream = {"url": address}
            else:
                arguments = ["demo-server", "--tools", "conformance", "--protocol", leg.revision]
                upstream = {"command": "${exe}", "args": arguments}
            front = gateway.Gateway(Path(folder), {"fixture": {**upstream, "prefix": ""}}, logs)
            run_suite(suite, leg, front.endpoint.replace("127.0.0.1", "localhost"), logs)
        finally:
            ended = front.stop() if front else None
            if fixture:
                fixture.stop()
    rows.tell(f"{name}/the gateway drains and exits 0", ended == 0, f"exit code {ended}")
    results = read_results(logs / "results")
    passed = 0
    for row in baseline.judge(scored, results, entries):
        rows.tell(f"{name}/{row.name}", row.ok, row.detail)
        passed += row.ok is True and row.name in scored
    statuses = [status for scenario in scored for _, status, _ in results.get(scenario, [])]
    counted = ", ".join(f"{statuses.count(status)} {status}" for status in ("SUCCESS", "FAILURE", "WARNING", "SKIPPED"))
    rows.note(f"scored {passed} of {len(scored)} scenarios; checks: {counted}")
    for scenario in unscored:
        checks = results.get(scenario, [])
        wrong = [f"{check}: {status} {text}" for check, status, text in checks if status in ("FAILURE", "WARNING")]
        state = "did not run" if scenario not in results else "; ".join(wrong)[:300] or "passes"
        rows.note(f"not scored: {scenario}: {state}")


def requirement_set(suite: Path, revision: str) -> tuple[list[str], list[str]]:
    """The server scenarios that count for a revision, and those that only run, as the suite lists them."""
    done = subprocess.run(
        [suite / "node" / "bin" / "node", suite / ".bin" / "conformance", "list", "--requirements", revision],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True,
    )
    scored: list[str] = []
    unscored: list[str] = []
    section = None
    for line in done.stdout.splitlines():
        if line.startswith("Server scenarios"):
            section = "server"
        elif line.startswith("Client scenarios"):
            section = "client"
        elif line.startswith("Run and reported"):
            section = "unscored"
        found = re.match(r"\s+- (\S+)(?: \[(\w+)\])?$", line)
        if found and section == "server":
            scored.append(found[1])
        elif found and section == "unscored" and found[2] == "server":
            unscored.append(found[1])
    if len(scored) < 30:
        raise RuntimeError(f"the suite lists only {len(scored)} server scenarios for {revision}")
    return scored, unscored


def start_fixture(leg: Leg, logs: Path) -> tuple[processes.Server, str]:
    """The demo server over HTTP, pinned to the leg's revision."""
    arguments = ["demo-server", "--tools", "conformance", "--protocol", leg.revision, "--http", "127.0.0.1:0"]
    server = processes.Server([str(GATEWAY), *arguments], logs / "fixture.log")
    try:
        return server, server.expect(r"^endpoint (http://\S+)", 20)
    except BaseException:
        server.stop()
        raise


def run_suite(suite: Path, leg: Leg, url: str, logs: Path) -> None:
    """The suite's own exit code is no verdict here: it knows our baseline only by whole scenarios."""
    program = [suite / "node" / "bin" / "node", suite / ".bin" / "conformance", "server", "--url", url]
    with (logs / "suite.log").open("wb") as output:
        done = subprocess.run(
            [*program, "--requirements", leg.revision, "--output-dir", logs / "results"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, timeout=600, check=False,
        )
    sys.stdout.write((logs / "suite.log").read_text(encoding="utf-8", errors="replace"))
    if done.returncode not in (0, 1):
        raise RuntimeError(f"the suite ended with code {done.returncode}")


def read_results(folder: Path) -> dict[str, list[baseline.Check]]:
    """Every check of every scenario: `server-SCENARIO-TIME/checks.json`."""
    results = {}
    for report in sorted(folder.glob("server-*/checks.json")):
        scenario = re.match(r"server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$", report.parent.name)[1]
        checks = json.loads(report.read_text(encoding="utf-8"))
        results[scenario] = [(check["id"], check["status"], str(check.get("errorMessage", ""))[:300]) for check in checks]
    return results


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in LEGS:
        sys.exit(f"usage: leg.py {' | '.join(LEGS)}")
    main(sys.argv[1])
