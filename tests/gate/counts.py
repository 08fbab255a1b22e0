"""Counting what cargo's test runners did, from their own reports."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from .rows import Row, Tally

# A test that cannot run here prints this line and returns; it must not count as passed.
SKIPPED_LINE = re.compile(r"^\s*skipped: (.+)$", re.MULTILINE)
FAULT_ROW = re.compile(r"(?:^|::)f(\d\d)_")
IGNORE = re.compile(r'#\[ignore\s*=\s*"([^"]+)"\]\s*(?:#\[[^\]]*\]\s*)*(?:pub\s+)?(?:async\s+)?fn\s+(\w+)')
LIBTEST = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", re.MULTILINE)
LIBTEST_FAILED = re.compile(r"^test (.+) \.\.\. FAILED$", re.MULTILINE)


def from_junit(report: Path) -> Tally:
    """Reads nextest's report; tests that printed `skipped: reason` are moved to the skipped ones."""
    tally = Tally()
    faults = set()
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')} {case.get('name')}"
        printed = "\n".join(case.findtext(stream) or "" for stream in ("system-out", "system-err"))
        wrong = case.find("failure")
        wrong = case.find("error") if wrong is None else wrong
        skipped = SKIPPED_LINE.search(printed)
        if wrong is not None:
            tally.add(Row(name, False, wrong.get("message") or wrong.get("type") or "failed"))
        elif skipped:
            tally.add(Row(name, None, skipped[1]))
        else:
            tally.add(Row(name, True))
            faults.update(FAULT_ROW.findall(case.get("name") or ""))
    if faults:
        tally.notes.append(f"fault rows passed ({len(faults)}): " + " ".join(f"F{row}" for row in sorted(faults)))
    return tally


def ignored(listing: str, sources: list[Path]) -> list[Row]:
    """Tests marked `#[ignore]` in nextest's JSON listing, each with the reason its attribute gives."""
    reasons = {}
    for source in sources:
        reasons.update({name: reason for reason, name in IGNORE.findall(source.read_text(encoding="utf-8"))})
    rows = []
    for suite, content in json.loads(listing)["rust-suites"].items():
        for test, state in content["testcases"].items():
            if state["ignored"]:
                reason = reasons.get(test.rsplit("::", 1)[-1])
                # Without a reason it is a failure: nobody could tell whether it still should be ignored.
                rows.append(Row(f"{suite} {test}", None if reason else False, reason or "ignored without a reason"))
    return rows


def from_libtest(output: str) -> Tally:
    """Reads the output of `cargo test`: doc tests, or everything where nextest cannot be had (with `--show-output`)."""
    tally = Tally()
    failed = 0
    for passed, failed_here, left_out in LIBTEST.findall(output):
        tally.passed += int(passed)
        failed += int(failed_here)
        tally.skipped += [Row("an ignored test", None, "see its #[ignore] attribute")] * int(left_out)
    for reason in SKIPPED_LINE.findall(output):
        tally.passed -= 1
        tally.skipped.append(Row("a test", None, reason))
    names = LIBTEST_FAILED.findall(output)
    tally.failures = [Row(names[i] if i < len(names) else "a test", False, "see the log") for i in range(failed)]
    return tally
