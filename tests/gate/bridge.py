"""Step `bridge`: the bridge matrix as a table, and what the last run of the tests made of each cell.

    python3 tests/gate/bridge.py            # checks the tables; prints the matrix of the last `tests` step, if there is one
    python3 tests/gate/bridge.py --write    # writes tests/bridge.md and the table in README.md anew

The rows are told in `tests/gateway/bridge`: each names the columns in which it has a test, and for the others why not. What
is known to fail stands in `tests/bridge-expected.tsv`: `row::column` (or `row::*`), a tab, the reason.

Always: every row says something of all eight columns, and of each once. Not here: whether a cell passes; the step `tests`
says that, and fails for a cell that was expected to fail and does not.
"""

import re
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gate import rows  # noqa: E402
from gate.places import JUNIT, ROOT  # noqa: E402

SOURCES = ROOT / "tests" / "gateway" / "bridge"
EXPECTED = ROOT / "tests" / "bridge-expected.tsv"
TABLE = ROOT / "tests" / "bridge.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- bridge: written by tests/gate/bridge.py -->", "<!-- bridge: end -->"

PAIRINGS = ["l_to_l", "l_to_m", "m_to_l", "m_to_m"]
COLUMNS = [f"{pairing}_{transport}" for pairing in PAIRINGS for transport in ("http", "stdio")]
# The order of the sources in the table; rows stand as they do in their file.
FILES = ["calls", "questions", "states", "leaving", "resources", "listening", "outages", "tasks", "crowds"]
ROW = re.compile(r"^row!\((\w+): \[([\w\s]*)\](?:\s*\{(.*?)\})?\s*\);", re.MULTILINE | re.DOTALL)
ABSENT = re.compile(r'(\w+):\s*"([^"]*)"')
CELL = re.compile(r"^bridge::\w+::(\w+)::(\w+)$")


@dataclass
class Cell:
    """What is said of one row in one column."""

    word: str  # `ok`, `n.a.`, `fails`
    reason: str = ""


Matrix = dict[str, dict[str, Cell]]


def spread(word: str) -> list[str]:
    """The columns that a word stands for: all, those of a pairing, or one."""
    if word == "every":
        return COLUMNS
    return [word] if word in COLUMNS else [column for column in COLUMNS if column.startswith(word + "_")]


def read_rows(text: str) -> tuple[Matrix, list[str]]:
    """The rows of one source, and what is wrong with them."""
    matrix: Matrix = {}
    wrong = []
    for name, there, absent in ROW.findall(text):
        said = [(column, Cell("ok")) for word in there.split() for column in spread(word)]
        reason = ""
        for word, why in ABSENT.findall(absent):
            reason = reason if why == "as before" else why
            said += [(column, Cell("n.a.", reason)) for column in spread(word)]
        if sorted(column for column, _ in said) != sorted(COLUMNS):
            wrong.append(f"{name} does not say something of each column once")
        if name in matrix:
            wrong.append(f"{name} is there twice")
        matrix[name] = dict(said)
    return matrix, wrong


def expect(matrix: Matrix, text: str) -> list[str]:
    """Notes what is known to fail; gives what is wrong with the list."""
    wrong = []
    for line in filter(str.strip, text.splitlines()):
        name, _, reason = line.partition("\t")
        row, _, column = name.partition("::")
        cells = matrix.get(row, {})
        columns = [one for one in cells if cells[one].word == "ok"] if column == "*" else [column]
        for one in columns:
            if one in cells and cells[one].word == "ok" and reason:
                cells[one] = Cell("fails", reason)
            else:
                wrong.append(f"{name} is no cell that could fail, or has no reason")
    return wrong


def collect() -> tuple[Matrix, list[str]]:
    """The whole matrix from the sources."""
    matrix: Matrix = {}
    wrong = [f"{file.name} is not in FILES" for file in SOURCES.glob("*.rs") if ROW.search(file.read_text("utf-8")) and file.stem not in FILES]
    for name in FILES:
        found, faults = read_rows((SOURCES / f"{name}.rs").read_text(encoding="utf-8"))
        wrong += faults + [f"{row} is in two files" for row in found if row in matrix]
        matrix |= found
    return matrix, wrong + expect(matrix, EXPECTED.read_text(encoding="utf-8"))


def count(matrix: Matrix) -> str:
    words = [cell.word for cells in matrix.values() for cell in cells.values()]
    return f"{len(matrix)} rows, {len(words)} cells: {words.count('ok')} ok, {words.count('n.a.')} n.a., {words.count('fails')} expected failures"


def titled(row: str) -> str:
    return row.replace("_", " ")


def heading(column: str) -> str:
    client, _, server, *transport = column.split("_")
    return f"{client.upper()}→{server.upper()}" + (f" {transport[0]}" if transport else "")


def full(matrix: Matrix) -> str:
    """The whole of tests/bridge.md."""
    lines = [
        "# The bridge matrix",
        "",
        "Written by `python3 tests/gate/bridge.py --write` from `tests/gateway/bridge`; the step `bridge` compares. L is a peer of",
        "the handshake era (2025-11-25 here), M one of the stateless era (2026-07-28); before the arrow stands the client, behind it",
        "the server, and how the server is reached. Each `ok` is a test of its own, `bridge::…::ROW::COLUMN`.",
        "",
        f"{count(matrix)}.",
        "",
        "| row | " + " | ".join(heading(column) for column in COLUMNS) + " |",
        "|---|" + "---|" * len(COLUMNS),
    ]
    lines += [f"| {titled(row)} | " + " | ".join(cells[column].word for column in COLUMNS) + " |" for row, cells in matrix.items()]
    for word, says in (("n.a.", "What does not exist"), ("fails", "What is known to fail")):
        told = [line for row, cells in matrix.items() for line in reasons(row, cells, word)]
        lines += ["", f"## {says}", "", *(told or ["Nothing."])]
    return "\n".join(lines) + "\n"


def reasons(row: str, cells: dict[str, Cell], word: str) -> list[str]:
    """One line for each reason, with the columns that it is for."""
    found: dict[str, list[str]] = {}
    for column in COLUMNS:
        if cells[column].word == word:
            found.setdefault(cells[column].reason, []).append(column)
    return [f"- {titled(row)}, {', '.join(map(heading, columns))}: {reason}" for reason, columns in found.items()]


def short(matrix: Matrix) -> str:
    """The table of the README: a pairing in a cell."""
    lines = ["| feature | " + " | ".join(map(heading, PAIRINGS)) + " |", "|---|" + "---|" * len(PAIRINGS)]
    for row, cells in matrix.items():
        lines.append(f"| {titled(row)} | " + " | ".join(pair(cells, pairing) for pairing in PAIRINGS) + " |")
    return "\n".join(lines)


def pair(cells: dict[str, Cell], pairing: str) -> str:
    http, stdio = (cells[f"{pairing}_{transport}"].word for transport in ("http", "stdio"))
    words = {"ok": "yes", "n.a.": "–", "fails": "not yet"}
    if http == stdio or "n.a." in (http, stdio):
        return words[http if http != "n.a." else stdio]
    return f"{words[http]}; stdio {words[stdio]}"


def in_readme(text: str, matrix: Matrix) -> str:
    """The README with the table between its markers."""
    if BEGIN not in text or END not in text:
        raise SystemExit(f"README.md lacks the markers {BEGIN} and {END}")
    before, rest = text.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{short(matrix)}\n{END}{rest.split(END, 1)[1]}"


def results(report: Path) -> dict[tuple[str, str], str]:
    """What the last run of the tests made of each cell."""
    found = {}
    if report.exists():
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            cell = CELL.match(case.get("name") or "")
            if cell:
                bad = case.find("failure") is not None or case.find("error") is not None
                excused = "skipped: expected failure" in (case.findtext("system-out") or "")
                found[cell[1], cell[2]] = "FAIL" if bad else "known" if excused else "ok"
    return found


def tell(matrix: Matrix, found: dict[tuple[str, str], str]) -> None:
    """Prints the matrix as it was run: for each pairing, first over HTTP, then over stdio."""
    rows.note(f"{'bridge matrix, HTTP and stdio':42}" + "".join(f"{heading(pairing):10}" for pairing in PAIRINGS).rstrip())
    missing = []
    for row, cells in matrix.items():
        words = []
        for column in COLUMNS:
            ran = found.get((row, column))
            words.append(ran or ("-" if cells[column].word == "n.a." else "?"))
            if (ran is None) != (cells[column].word == "n.a."):
                missing.append(f"{row}::{column}")
        pairs = (" ".join(words[at : at + 2]) for at in range(0, len(words), 2))
        rows.note(f"{titled(row):42}" + "".join(f"{pair:10}" for pair in pairs).rstrip())
    rows.tell("every cell of the matrix was run, and no other", not missing, ", ".join(missing[:20]))


def main(words: list[str]) -> None:
    matrix, wrong = collect()
    readme = README.read_text(encoding="utf-8")
    if words == ["--write"]:
        TABLE.write_text(full(matrix), encoding="utf-8")
        README.write_text(in_readme(readme, matrix), encoding="utf-8")
        return
    rows.tell("every row of the bridge says something of every column", not wrong, "; ".join(wrong))
    again = "run `python3 tests/gate/bridge.py --write` and commit it"
    rows.tell("tests/bridge.md is current", TABLE.exists() and TABLE.read_text(encoding="utf-8") == full(matrix), again)
    rows.tell("the README's matrix is current", readme == in_readme(readme, matrix), again)
    rows.note(count(matrix))
    found = results(JUNIT)
    if found:
        tell(matrix, found)


if __name__ == "__main__":
    main(sys.argv[1:])
