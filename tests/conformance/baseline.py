"""Expected failures: the file, and the verdict over a run.

The file has the suite's own form, a list `server:` of `scenario` or `scenario:check-id`, and here every entry carries its
reason as a comment on its line. Always: an entry excuses exactly what it names; an entry that names nothing that failed is
itself a failure, so the list can only shrink with the gaps.
"""

import re

from gate.rows import EXPECTED, Row

ENTRY = re.compile(r"^\s+-\s+([\w./-]+(?::[\w./-]+)?)(?:\s+#\s*(.+))?$")

# Of one check that reports more than once, the worst counts.
SEVERITY = ["INFO", "SKIPPED", "SUCCESS", "WARNING", "FAILURE"]

Check = tuple[str, str, str]


def parse(text: str) -> dict[str, str]:
    """Entries and their reasons."""
    entries = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#") or line.split("#")[0].strip() in ("server:", "server: []"):
            continue
        found = ENTRY.match(line)
        if not found:
            raise ValueError(f"line {number} is not `- scenario` or `- scenario:check-id`: {line!r}")
        if not found[2]:
            raise ValueError(f"line {number} gives no reason (`# why` at its end): {found[1]}")
        entries[found[1]] = found[2]
    return entries


def worst(checks: list[Check]) -> dict[str, tuple[str, str]]:
    """Each check once: its status and message."""
    found: dict[str, tuple[str, str]] = {}
    for name, status, message in checks:
        if name not in found or SEVERITY.index(status) > SEVERITY.index(found[name][0]):
            found[name] = (status, message)
    return found


def judge(scored: list[str], results: dict[str, list[Check]], entries: dict[str, str]) -> list[Row]:
    """One row per scored scenario, and one for each entry that is stale. A warning is a failure until it is listed."""
    rows = []
    used = set()
    for scenario in scored:
        checks = worst(results.get(scenario, []))
        if not any(status in ("SUCCESS", "WARNING", "FAILURE") for status, _ in checks.values()):
            rows.append(Row(scenario, False, "no verdict: the scenario did not run"))
            continue
        wrong = {name: f"{status} {message}" for name, (status, message) in checks.items() if status in ("WARNING", "FAILURE")}
        excuses = {name: entry for name in wrong for entry in (scenario, f"{scenario}:{name}") if entry in entries}
        used.update(excuses.values())
        open_ones = {name: text for name, text in wrong.items() if name not in excuses}
        if open_ones:
            rows.append(Row(scenario, False, "; ".join(f"{name}: {text}" for name, text in open_ones.items())))
        elif wrong:
            reasons = dict.fromkeys(entries[entry] for entry in excuses.values())
            rows.append(Row(scenario, None, f"{EXPECTED}{len(wrong)} of {len(checks)} checks: {'; '.join(reasons)}"))
        else:
            rows.append(Row(scenario, True))
    for entry in entries:
        if entry not in used:
            rows.append(Row(f"expected {entry}", False, "is listed, but did not fail: take it off the list"))
    return rows


def unscored(scenario: str, checks: list[Check]) -> Row:
    """A scenario outside the suite's score: a warning fails it, and where nothing applied it says so."""
    found = worst(checks)
    wrong = [f"{name}: {status} {text}" for name, (status, text) in found.items() if status in ("WARNING", "FAILURE")]
    told = [f"{name}: {text}" for name, (status, text) in found.items() if status in ("INFO", "SKIPPED") and text]
    if wrong:
        return Row(scenario, False, "; ".join(wrong))
    if any(status == "SUCCESS" for status, _ in found.values()):
        return Row(scenario, True, "; ".join(told))
    if told:
        return Row(scenario, None, f"not applicable: {'; '.join(told)}")
    return Row(scenario, False, "no verdict: the scenario did not run")
