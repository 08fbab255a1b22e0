"""One row per check: how step scripts tell `tests/run` what they saw.

A script prints rows as JSON lines on stdout: `{"name": …, "ok": true | false | null, "detail": …}`. `null` is neither
passed nor failed: skipped, or expected to fail; the detail says why.
"""

import json
from dataclasses import dataclass, field

EXPECTED = "expected failure: "


@dataclass
class Row:
    """One check and how it ended."""

    name: str
    ok: bool | None
    detail: str = ""


@dataclass
class Tally:
    """What a step counted; `notes` are the lines worth showing even when all is well."""

    passed: int = 0
    failures: list[Row] = field(default_factory=list)
    skipped: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, row: Row) -> None:
        if row.ok is None:
            self.skipped.append(row)
        elif row.ok:
            self.passed += 1
        else:
            self.failures.append(row)

    @property
    def total(self) -> int:
        return self.passed + len(self.failures) + len(self.skipped)


def tell(name: str, ok: bool | None, detail: str = "") -> None:
    """Prints one row; what is flushed survives a kill."""
    print(json.dumps({"name": name, "ok": ok, "detail": detail}), flush=True)


def note(text: str) -> None:
    """Prints a line that the summary repeats."""
    print(json.dumps({"note": text}), flush=True)


def read(output: str) -> Tally:
    """Counts the rows in a script's output; other lines are only for the log."""
    tally = Tally()
    for line in output.splitlines():
        if not line.startswith("{"):
            continue
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if "note" in value:
            tally.notes.append(str(value["note"]))
        elif "name" in value and "ok" in value:
            tally.add(Row(str(value["name"]), value["ok"], str(value.get("detail", ""))))
    return tally
