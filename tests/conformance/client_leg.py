"""Steps `conformance-client-…`: the official suite judges the gateway as a client, scenario by scenario, through `driver.py`.

    python3 tests/conformance/client_leg.py 2025 | 2026

Each scenario in several arrangements: the suite's mock alone behind the gateway, another server beside it, and, for the
stateless revision, the mock's revision pinned and a client of the handshake era. A row fails on a failed check, on a warning,
and when the driver did not come to its end. Scenarios of authorization are left out: the gateway has none yet.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conformance import baseline  # noqa: E402
from conformance.leg import HERE, Suite, message  # noqa: E402
from gate import gateway, installs, processes, rows  # noqa: E402
from gate.places import LOGS  # noqa: E402

# The suite's own list is checked below: a scenario that is neither here nor of authorization is a failure.
LEGS = {
    "2025": {
        "2025-11-25": [
            "initialize",
            "tools_call",
            "elicitation-sep1034-client-defaults",
            "sse-retry",
            "json-schema-2020-12-preservation",
        ],
        "2025-06-18": ["initialize", "tools_call"],
    },
    "2026": {
        "2026-07-28": [
            "tools_call",
            "request-metadata",
            "sep-2322-client-request-state",
            "http-standard-headers",
            "http-custom-headers",
            "http-invalid-tool-headers",
            "json-schema-ref-no-deref",
            "json-schema-2020-12-preservation",
        ],
    },
}
# What the driver is told, and how a row says it.
ARRANGEMENTS = {
    "2025": {"": "", "--beside": " beside another server"},
    "2026": {
        "": "",
        "--beside": " beside another server",
        "--pinned": " with its revision pinned",
        "--handshake": " for a client of the handshake era",
    },
}


def main(leg: str) -> None:
    processes.stop_on_signals()
    suite = Suite(installs.npm("conformance") / "node_modules")
    logs = gateway.fresh(LOGS / f"conformance-client-{leg}")
    every = {scenario for revisions in LEGS.values() for scenarios in revisions.values() for scenario in scenarios}
    shown = [line.split("\t") for line in (HERE / "shows.tsv").read_text(encoding="utf-8").splitlines()]
    unknown = [scenario for side, scenario, _ in shown if side == "client" and scenario not in every]
    rows.tell("shows.tsv speaks of scenarios that run", not unknown, f"do not run: {unknown}")
    for revision, scenarios in LEGS[leg].items():
        listed = [name for name, _ in suite.list("--spec-version", revision)["Client"] if not name.startswith("auth/")]
        rows.tell(f"{revision}/all that need no authorization", sorted(listed) == sorted(scenarios), f"listed: {listed}")
        for scenario in scenarios:
            for option, words in ARRANGEMENTS[leg].items():
                run(suite, scenario, revision, (option, words), logs)


def run(suite: Suite, scenario: str, revision: str, arrangement: tuple[str, str], logs: Path) -> None:
    """One scenario; the suite's own verdict is in its checks."""
    option, words = arrangement
    name = f"{revision}/{scenario}{words}"
    results = logs / "results" / f"{revision}{option}"
    driver = shlex.join([sys.executable, str(HERE / "driver.py"), *([option] if option else [])])
    words = ["client", "--command", driver, "--scenario", scenario, "--spec-version", revision, "--output-dir", str(results)]
    done = subprocess.run(
        [*suite.node, suite.program, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90, check=False
    )
    print(done.stdout, done.stderr, flush=True)
    reports = list(results.glob(f"{scenario}-20*/checks.json"))
    checks = [check for report in reports for check in json.loads(report.read_text(encoding="utf-8"))]
    row = baseline.unscored(name, [(check["id"], check["status"], message(check)[:300]) for check in checks])
    ended = [line for report in reports for line in last_lines(report.parent / "stderr.txt")]
    if row.ok and done.returncode != 0:
        row = baseline.Row(name, False, f"the suite ended with {done.returncode}: {' '.join(ended)}")
    elif not row.ok:
        row.ok, row.detail = False, f"{row.detail} {' '.join(ended)}"
    rows.tell(row.name, row.ok, row.detail)


def last_lines(file: Path) -> list[str]:
    """How the driver ended, if it did not end well."""
    return file.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] if file.exists() else []


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in LEGS:
        sys.exit(f"usage: client_leg.py {' | '.join(LEGS)}")
    main(sys.argv[1])
