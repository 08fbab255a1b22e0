"""Runs the chosen steps one after the other and prints the one summary at the end."""

import os
import time

from . import processes
from .installs import INSTALLED
from .places import LOGS, ROOT
from .rows import EXPECTED, Row, Tally
from .steps import NEEDS, STEPS, Step, chosen, environment

# All steps together; each step's own bound is cut to what is left of it.
WHOLE_RUN_SECONDS = 85 * 60
TAIL_LINES = 60


def main(words: list[str]) -> int:
    """Exit code of `tests/run`."""
    if words == ["--list"]:
        for step in STEPS:
            print(f"{step.name:24} {step.says}")
        return 0
    if any(word.startswith("-") for word in words):
        print("usage: tests/run [--list | STEP...]")
        return 2
    steps = chosen(words)
    os.environ["PATH"] = f"{INSTALLED / 'cargo' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    LOGS.mkdir(parents=True, exist_ok=True)
    processes.adopt_orphans()
    processes.stop_on_signals()
    done: list[tuple[Step, Tally, float]] = []
    until = time.monotonic() + WHOLE_RUN_SECONDS
    interrupted = None
    try:
        for step in steps:
            begun = time.monotonic()
            print(f"== {step.name}: {step.says}", flush=True)
            tally = perform(step, done, until)
            done.append((step, tally, time.monotonic() - begun))
            report(step, tally)
    except processes.Stopped as stopped:
        interrupted = str(stopped)
    finally:
        processes.left_behind(grace=1)
    return summary(done, interrupted)


def perform(step: Step, done: list[tuple[Step, Tally, float]], until: float) -> Tally:
    """One step, unless what it needs has failed or the whole run's time is up."""
    broken = [other.name for other, tally, _ in done if tally.failures and other.name in NEEDS.get(step.name, [])]
    left = until - time.monotonic()
    if broken or left < 5:
        tally = Tally()
        reason = f"needs {', '.join(broken)}, which failed" if broken else "the time of the whole run was up"
        # A step that could not run proves nothing: it must not look like one that was left out.
        tally.add(Row(step.name, False, reason))
        return tally
    log = LOGS / f"{step.name}.log"
    log.write_bytes(b"")

    def run(command: list[str]) -> int | None:
        with log.open("ab") as output:
            return processes.run_bounded(command, output, min(step.seconds, left), ROOT, environment())

    tally = step.action(run, log)
    for orphan in processes.left_behind(grace=3):
        tally.add(Row("nothing left running", False, orphan))
    return tally


def report(step: Step, tally: Tally) -> None:
    """What is worth reading at once: failures with the end of the log, expected failures, notes."""
    for row in tally.skipped:
        print(f"   skipped  {row.name}: {row.detail}")
    for text in tally.notes:
        print(f"   {text}")
    for row in tally.failures:
        print(f"   FAILED   {row.name}: {row.detail}")
    log = LOGS / f"{step.name}.log"
    if tally.failures and log.exists():
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        print(f"   -- end of {log.relative_to(LOGS.parent)}:")
        for line in lines[-TAIL_LINES:]:
            print(f"   | {line[:400]}")
    print(end="", flush=True)


def summary(done: list[tuple[Step, Tally, float]], interrupted: str | None) -> int:
    """The closing table and the exit code."""
    print("\n== summary")
    print(f"{'step':24} {'passed':>7} {'failed':>7} {'skipped':>8} {'seconds':>8}")
    passed = failed = skipped = expected = 0
    for step, tally, seconds in done:
        print(f"{step.name:24} {tally.passed:7} {len(tally.failures):7} {len(tally.skipped):8} {seconds:8.1f}")
        passed += tally.passed
        failed += len(tally.failures)
        skipped += len(tally.skipped)
        expected += sum(row.detail.startswith(EXPECTED) for row in tally.skipped)
    for step, tally, _ in done:
        for row in tally.failures:
            print(f"failed: {step.name}: {row.name}: {row.detail[:300]}")
    if expected:
        print(f"{expected} of the skipped are expected failures, each listed above with its reason")
    if interrupted:
        print(interrupted)
        failed += 1
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0
