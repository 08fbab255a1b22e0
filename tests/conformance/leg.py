"""One leg of the official conformance suite: suite -> gateway (names as they are) -> the demo server's conformance set.

    python3 tests/conformance/leg.py 2025-http | 2025-stdio | 2025-beside | 2025-polling | 2025-06-18 | 2025-03-26 |
                                     2026-http | 2026-stdio | 2026-beside | 2025-crossed | 2026-crossed | 2026-fixture

Prints a row per scenario. Those that the suite runs without scoring count here as well, but for those that the suite does
not judge by yet: they are noted. In the crossed legs the fixture speaks the other era than the suite. In the leg of the fixture there is
no gateway: what fails there is the fixture's fault, and no other leg can be believed.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conformance import baseline  # noqa: E402
from gate import gateway, installs, processes, rows  # noqa: E402
from gate.places import GATEWAY, LOGS  # noqa: E402

HERE = Path(__file__).resolve().parent
# Scenarios of the extension for tasks, which the suite does not score: here they count.
TASKS = [
    "tasks-lifecycle",
    "tasks-capability-negotiation",
    "tasks-wire-fields",
    "tasks-request-state-removal",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-dispatch-and-envelope",
    "tasks-required-task-error",
    "tasks-mrtr-composition",
]
# The suite has these among its scenarios but does not judge by them yet.
NOT_JUDGED = ["tasks-status-notifications"]
# A client that cannot do tasks is told so, as one scenario wants it, instead of getting the result of a task driven for it.
TOLD_OF_TASKS = {"tasks": {"drive": False}}
# A note is cut by nobody if it is short.
LONGEST_NOTE = 200


@dataclass(frozen=True)
class Leg:
    """What the suite runs, and how the gateway reaches the fixture."""

    revision: str
    transport: str
    expected: str
    # A requirement set is frozen with its revision; older revisions have none, there the suite's own filter chooses.
    frozen: bool = True
    # Scenarios of this revision are run too, though the suite holds them for younger ones.
    also: str | None = None
    # Another server stands beside the fixture, with a prefix.
    beside: bool = False
    # Settings of the gateway.
    bounds: dict[str, str] = field(default_factory=dict)
    # What the fixture speaks, where that is not what the suite speaks.
    fixture: str | None = None
    # The suite meets the fixture itself.
    direct: bool = False


LEGS = {
    "2025-http": Leg("2025-11-25", "http", "expected-2025-11-25.yml"),
    "2025-stdio": Leg("2025-11-25", "stdio", "expected-2025-11-25.yml"),
    "2025-beside": Leg("2025-11-25", "http", "expected-2025-11-25.yml", beside=True),
    # Streams are primed at once and closed soon, so that the suite's client must come back for what it asked.
    "2025-polling": Leg(
        "2025-11-25",
        "http",
        "expected-2025-11-25.yml",
        bounds={"prime_after": "10ms", "stream_age": "400ms", "retry": "50ms"},
    ),
    "2025-06-18": Leg("2025-06-18", "http", "expected-2025-11-25.yml", frozen=False),
    "2025-03-26": Leg("2025-03-26", "http", "expected-2025-11-25.yml", frozen=False, also="2025-06-18"),
    "2026-http": Leg("2026-07-28", "http", "expected-2026-07-28.yml"),
    "2026-stdio": Leg("2026-07-28", "stdio", "expected-2026-07-28.yml"),
    "2026-beside": Leg("2026-07-28", "http", "expected-2026-07-28.yml", beside=True),
    "2025-crossed": Leg("2025-11-25", "http", "expected-2025-crossed.yml", fixture="2026-07-28"),
    "2026-crossed": Leg("2026-07-28", "http", "expected-2026-crossed.yml", fixture="2025-11-25"),
    "2026-fixture": Leg("2026-07-28", "http", "expected-2026-07-28.yml", direct=True),
}
# Revisions with a requirement set.
FROZEN = ["2025-11-25", "2026-07-28"]
# Elicitation came with 2025-06-18: at 2025-03-26 there is nothing to judge.
UNKNOWN_BEFORE = {"2025-03-26": ["tools-call-elicitation"]}


def main(name: str) -> None:
    leg = LEGS[name]
    processes.stop_on_signals()
    suite = Suite(installs.npm("conformance") / "node_modules")
    entries = baseline.parse((HERE / leg.expected).read_text(encoding="utf-8"))
    logs = gateway.fresh(LOGS / f"conformance-{name}")
    chosen = choose(suite, leg)
    with tempfile.TemporaryDirectory(prefix="switchyard-conformance-") as folder:
        fixture = None
        front = None
        try:
            if leg.transport == "http":
                fixture, address = start_fixture(leg, logs)
                upstream = {"url": address}
            else:
                arguments = ["demo-server", "--tools", "conformance", "--protocol", leg.fixture or leg.revision]
                upstream = {"command": "${exe}", "args": arguments}
            if not leg.direct:
                front = start_gateway(leg, upstream, Path(folder), logs)
                address = front.endpoint
            run_suite(suite, leg, chosen, address.replace("127.0.0.1", "localhost"), logs)
        finally:
            ended = front.stop() if front else None
            if fixture:
                fixture.stop()
    if front:
        rows.tell(f"{name}/the gateway drains and exits 0", ended == 0, f"exit code {ended}")
    judge(name, leg, chosen, entries, logs)


def judge(name: str, leg: Leg, chosen: "Chosen", entries: dict[str, str], logs: Path) -> None:
    """A row for every scenario, and what was spoken."""
    results = read_results(logs / "results")
    passed = 0
    counting = [*chosen.scored, *chosen.tasks]
    # What is known of scenarios that do not count is neither used nor stale.
    entries = {entry: why for entry, why in entries.items() if entry.split(":")[0] not in chosen.noted}
    for row in baseline.judge(counting, results, entries):
        rows.tell(f"{name}/{row.name}", row.ok, row.detail)
        passed += row.ok is True and row.name in chosen.scored
    statuses = [status for scenario in chosen.scored for _, status, _ in results.get(scenario, [])]
    counted = ", ".join(f"{statuses.count(status)} {status}" for status in ("SUCCESS", "FAILURE", "WARNING", "SKIPPED"))
    rows.note(f"scored {passed} of {len(chosen.scored)} scenarios; checks: {counted}")
    messages = [status for checks in results.values() for check, status, _ in checks if check.startswith("wire-schema-")]
    rows.tell(f"{name}/messages were held against the schema", "SUCCESS" in messages, "no such check ran")
    for scenario in chosen.judged:
        row = baseline.unscored(scenario, results.get(scenario, []))
        rows.tell(f"{name}/{row.name}", row.ok, row.detail)
        if row.ok and row.detail:
            rows.note(f"{scenario}: {row.detail}")
    for scenario in chosen.noted:
        row = baseline.unscored(scenario, results.get(scenario, []))
        rows.note(f"not scored: {scenario}: {row.detail or 'passes'}"[:LONGEST_NOTE])
    if leg.frozen:
        listed = [line.split("\t") for line in (HERE / "shows.tsv").read_text(encoding="utf-8").splitlines()]
        unknown = [one for side, one, _ in listed if side == "server" and one not in results and one not in chosen.elsewhere]
        rows.tell(f"{name}/shows.tsv speaks of scenarios that run", not unknown, f"did not run: {unknown}")
    if not leg.frozen:
        spoken = re.findall(r"(?m)^negotiated (\S+)", (logs / "suite.log").read_text(encoding="utf-8", errors="replace"))
        ok = bool(spoken) and set(spoken) == {leg.revision}
        rows.tell(f"{name}/every session was at {leg.revision}", ok, f"negotiated: {sorted(set(spoken))}")


class Suite:
    """The installed suite, with the Node that it needs."""

    def __init__(self, modules: Path):
        self.node = [str(modules / "node" / "bin" / "node")]
        self.program = str(modules / ".bin" / "conformance")

    def list(self, *words: str) -> dict[str, list[tuple[str, str]]]:
        """Scenarios by section (`Server`, `Client`, `Run`), each with what stands in brackets behind it."""
        done = subprocess.run(
            [*self.node, self.program, "list", *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True,
        )
        sections: dict[str, list[tuple[str, str]]] = {}
        section = None
        for line in done.stdout.splitlines():
            heading = re.match(r"([A-Z]\w+) .*:$", line)
            scenario = re.match(r"\s+- (\S+)(?: \[([\w,.-]+)\])?$", line)
            if heading:
                section = heading[1]
            elif scenario and section:
                sections.setdefault(section, []).append((scenario[1], scenario[2] or ""))
        return sections


@dataclass
class Chosen:
    """Scenarios: those that count, those outside the suite's score that count here too, and those only shown."""

    scored: list[str]
    judged: list[str]
    noted: list[str]
    # Scenarios of the extension for tasks.
    tasks: list[str]
    # The suite would leave these out at the leg's revision.
    forced: list[str]
    # Scenarios of other revisions.
    elsewhere: list[str] = field(default_factory=list)


def choose(suite: Suite, leg: Leg) -> Chosen:
    if leg.frozen:
        listed = suite.list("--requirements", leg.revision)
        scored = [scenario for scenario, _ in listed["Server"]]
        unscored = [scenario for scenario, side in listed["Run"] if side == "server"]
        if len(scored) < 30:
            raise RuntimeError(f"the suite lists only {len(scored)} server scenarios for {leg.revision}")
        extensions = [scenario for scenario in unscored if scenario.startswith("tasks-")]
        if leg.revision == "2026-07-28" and sorted(extensions) != sorted([*TASKS, *NOT_JUDGED]):
            raise RuntimeError(f"the suite lists other scenarios of tasks: {extensions}")
        tasks = [scenario for scenario in extensions if scenario in TASKS]
        noted = [scenario for scenario in extensions if scenario not in tasks]
        others = [suite.list("--requirements", revision) for revision in FROZEN if revision != leg.revision]
        elsewhere = [scenario for other in others for scenario, _ in [*other["Server"], *other["Run"]]]
        judged = [scenario for scenario in unscored if scenario not in extensions]
        return Chosen(scored, judged, noted, tasks, [], elsewhere)
    scored = [scenario for scenario, _ in suite.list("--spec-version", leg.revision)["Server"]]
    younger = [scenario for scenario, _ in suite.list("--spec-version", leg.also)["Server"]] if leg.also else []
    forced = [scenario for scenario in younger if scenario not in [*scored, *UNKNOWN_BEFORE.get(leg.revision, [])]]
    if len(scored) + len(forced) < 25:
        raise RuntimeError(f"the suite lists only {len(scored)} and {len(forced)} server scenarios for {leg.revision}")
    return Chosen([*scored, *forced], [], [], [], forced)


def start_gateway(leg: Leg, upstream: dict, folder: Path, logs: Path) -> gateway.Gateway:
    """A gateway that shows the fixture's names as they are."""
    servers = {"fixture": {**upstream, "prefix": "", "ask": {"roots": True}}}
    if leg.beside:
        servers["beside"] = {"command": "${exe}", "args": ["demo-server"]}
    return gateway.Gateway(folder, servers, logs, bounds=leg.bounds, **TOLD_OF_TASKS)


def start_fixture(leg: Leg, logs: Path) -> tuple[processes.Server, str]:
    """The demo server over HTTP, pinned to one revision."""
    arguments = ["demo-server", "--tools", "conformance", "--protocol", leg.fixture or leg.revision, "--http", "127.0.0.1:0"]
    server = processes.Server([str(GATEWAY), *arguments], logs / "fixture.log")
    try:
        return server, server.expect(r"^endpoint (http://\S+)", 20)
    except BaseException:
        server.stop()
        raise


def run_suite(suite: Suite, leg: Leg, chosen: Chosen, url: str, logs: Path) -> None:
    """The suite's own exit code is no verdict here: it knows our baseline only by whole scenarios."""
    if leg.frozen:
        runs = [["--requirements", leg.revision]]
    else:
        version = ["--spec-version", leg.revision]
        runs = [["--suite", "all", *version], *(["--scenario", one, "--force", *version] for one in chosen.forced)]
    # What a requirement set is run at is the suite's business; elsewhere it is told which revision to ask for.
    node = suite.node if leg.frozen else [*suite.node, "--import", (HERE / "revision.mjs").as_uri()]
    env = {**os.environ, "SUITE_REVISION": leg.revision}
    with (logs / "suite.log").open("wb") as output:
        for words in runs:
            done = subprocess.run(
                [*node, suite.program, "server", "--url", url, *words, "--output-dir", logs / "results"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, timeout=600, check=False, env=env,
            )
            if done.returncode not in (0, 1):
                raise RuntimeError(f"the suite ended with code {done.returncode}: {words}")
    sys.stdout.write((logs / "suite.log").read_text(encoding="utf-8", errors="replace"))


def read_results(folder: Path) -> dict[str, list[baseline.Check]]:
    """Every check of every scenario: `server-SCENARIO-TIME/checks.json`."""
    results = {}
    for report in sorted(folder.glob("server-*/checks.json")):
        scenario = re.match(r"server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$", report.parent.name)[1]
        checks = json.loads(report.read_text(encoding="utf-8"))
        results[scenario] = [(check["id"], check["status"], message(check)[:300]) for check in checks]
    return results


def message(check: dict) -> str:
    """What a check says: its error, or what it found not to apply."""
    return str(check.get("errorMessage") or (check.get("details") or {}).get("message", ""))


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in LEGS:
        sys.exit(f"usage: leg.py {' | '.join(LEGS)}")
    main(sys.argv[1])
