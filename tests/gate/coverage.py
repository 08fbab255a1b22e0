"""Step `coverage`: which test shows which requirement.

    python3 tests/gate/coverage.py            # checks, one row per requirement
    python3 tests/gate/coverage.py --write    # writes tests/coverage.md anew
    python3 tests/gate/coverage.py --open     # the requirements that still lack both test and reason

`tests/requirements.tsv` lists the requirements. A test says in its name what it shows: `s_resum_02_…` in Rust (also
`f20_s_stdio_03_…`, `s_page_01_02_…`), `S-RESUM-02 …` at the head of a row's name in a script. Scenarios of the official
suite are told apart in `tests/conformance/shows.tsv`. What has no test needs its reason in `tests/coverage-reasons.yml`.

Always: a reason counts only as long as there is no test, and a test that is ignored shows nothing. Not here: whether the
tests pass; their own steps say.
"""

import csv
import re
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gate import counts, rows  # noqa: E402
from gate.places import ROOT  # noqa: E402

TESTS = ROOT / "tests"
TABLE = TESTS / "coverage.md"
LISTED = TESTS / "requirements.tsv"
REASONS = TESTS / "coverage-reasons.yml"
SHOWS = TESTS / "conformance" / "shows.tsv"

FUNCTION = re.compile(r"\bfn ((?:[a-z0-9]\w*_)?s_[a-z]+_\d\d\w*)")
IN_NAME = re.compile(r"(?:^|_)s_([a-z]+)_(\d\d(?:_\d\d)*)(?![0-9])")
# A row's name begins its string, perhaps after `who/`.
ROW = re.compile(r"""(["'`])(?:(?:(?!\1).)*/)?((?:S-[A-Z]+-\d\d[ ,]+)+(?:(?!\1).)+)\1""")
IN_ROW = re.compile(r"S-[A-Z]+-\d\d")
REASON = re.compile(r"^(S-[A-Z]+-\d\d): (\S.*)$")

Tests = dict[str, list[str]]


def listed() -> list[dict[str, str]]:
    """The requirements, in their order."""
    with LISTED.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def identifiers(function: str) -> list[str]:
    """What a Rust test's name speaks of: `f20_s_stdio_03_04_x` gives S-STDIO-03 and S-STDIO-04."""
    return [f"S-{family.upper()}-{number}" for family, numbers in IN_NAME.findall(function) for number in numbers.split("_")]


def rust_tests(sources: list[Path], found: Tests) -> None:
    for source in sources:
        text = source.read_text(encoding="utf-8")
        ignored = {name for _, name in counts.IGNORE.findall(text)}
        for function in FUNCTION.findall(text):
            for one in identifiers(function) if function not in ignored else []:
                found.setdefault(one, []).append(f"{source.relative_to(ROOT)}: {function}")


def script_rows(sources: list[Path], found: Tests) -> None:
    for source in sources:
        for _, name in ROW.findall(source.read_text(encoding="utf-8")):
            for one in IN_ROW.findall(name):
                found.setdefault(one, []).append(f"{source.relative_to(ROOT)}: {name.strip()}")


def scenarios(found: Tests) -> None:
    """Scenarios of the official suite and what they show; the legs name their rows after the same table."""
    if not SHOWS.exists():
        return
    with SHOWS.open(encoding="utf-8", newline="") as file:
        for scenario in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            for one in scenario["shows"].split():
                found.setdefault(one, []).append(f"official suite, {scenario['side']}: {scenario['scenario']}")


def collect() -> Tests:
    """Every test by the requirement that it names."""
    found: Tests = {}
    # The demo server has the same duties, but what it does shows nothing about the gateway.
    sources = [file for file in [*(ROOT / "src").glob("**/*.rs"), *TESTS.glob("**/*.rs")] if "demo" not in file.relative_to(ROOT).parts]
    rust_tests(sorted(sources), found)
    scripts = [*TESTS.glob("peers/**/*"), *TESTS.glob("conformance/*"), *TESTS.glob("deploy/*")]
    script_rows(sorted(file for file in scripts if file.suffix in (".py", ".mjs", ".rs") and file.is_file()), found)
    scenarios(found)
    return {one: sorted(set(tests)) for one, tests in found.items()}


def reasons(text: str) -> dict[str, str]:
    """Why a requirement has no test; the file is a flat mapping, each reason on one line."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            entry = REASON.match(line)
            if not entry:
                raise ValueError(f"line {number} is not `S-NAME-00: reason`: {line!r}")
            found[entry[1]] = entry[2]
    return found


def judge(one: str, tests: list[str], reason: str | None) -> tuple[bool, str]:
    """A requirement has tests or a reason, and not both."""
    if tests and reason:
        return False, "has a test now: take its reason off tests/coverage-reasons.yml"
    if not tests and not reason:
        return False, f"no test is named after it, and tests/coverage-reasons.yml gives no reason ({one})"
    return True, ""


def count(requirements: list[dict[str, str]], tests: Tests, why: dict[str, str]) -> str:
    """How many have what."""
    shown = sum(one["id"] in tests for one in requirements)
    return f"{shown} of {len(requirements)} requirements have a test, {len(why)} a reason"


def table(requirements: list[dict[str, str]], tests: Tests, why: dict[str, str]) -> str:
    """The whole of tests/coverage.md."""
    lines = [
        "# What shows which requirement",
        "",
        "Written by `python3 tests/gate/coverage.py --write` from the names of the tests; the step `coverage` compares.",
        "Sides: S the gateway as server, C as client, B both. `all` are the five revisions, `handshake` the four before",
        "2026-07-28. Not listed: tasks (S-TASK, S-TX), authorization (S-RS, S-OC) and the installation of servers (S-LOC),",
        "which are not served yet; S-TRUST and S-SEC, which tests name all the same.",
        "",
        f"{count(requirements, tests, why)}.",
    ]
    family = None
    for one in requirements:
        if one["id"].rsplit("-", 1)[0] != family:
            family = one["id"].rsplit("-", 1)[0]
            lines += ["", f"## {family}", ""]
        lines.append(f"- **{one['id']}** ({one['level']}, {one['revisions']}, {one['side']}): {one['words']}")
        lines += [f"  - `{test}`" for test in tests.get(one["id"], [])]
        if one["id"] in why:
            lines.append(f"  - no test: {why[one['id']]}")
    return "\n".join(lines) + "\n"


def main(words: list[str]) -> None:
    requirements, tests, why = listed(), collect(), reasons(REASONS.read_text(encoding="utf-8"))
    known = {one["id"] for one in requirements}
    written = table(requirements, tests, why)
    if words == ["--write"]:
        TABLE.write_text(written, encoding="utf-8")
        return
    if words == ["--open"]:
        print("\n".join(f"{r['id']}\t{r['words']}" for r in requirements if r["id"] not in tests and r["id"] not in why))
        return
    for one in requirements:
        rows.tell(one["id"], *judge(one["id"], tests.get(one["id"], []), why.get(one["id"])))
    strangers = sorted(set(why) - known)
    rows.tell("reasons are given for listed requirements alone", not strangers, ", ".join(strangers))
    current = TABLE.exists() and TABLE.read_text(encoding="utf-8") == written
    rows.tell("tests/coverage.md is current", current, "run `python3 tests/gate/coverage.py --write` and commit it")
    rows.note(count(requirements, tests, why))


if __name__ == "__main__":
    main(sys.argv[1:])
