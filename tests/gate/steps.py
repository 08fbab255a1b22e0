"""The steps of the gate, in their order, and how each is run and counted.

Always: a step runs as a child process with a time bound, writes one log, and gives a `Tally`. Not here: what the step
scripts check (`conformance/leg.py`, `peers/legacy.py`, `deploy/check.py`), and the summary (`runner`).
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import counts, rows
from .places import JUNIT, ROOT
from .rows import Row, Tally

# Runs a command into the step's log: exit code, or `None` when its time was up.
Run = Callable[[list[str]], int | None]


@dataclass
class Step:
    """One line of the summary."""

    name: str
    says: str
    seconds: float
    action: Callable[[Run, Path], Tally]


def verdict(name: str, code: int | None) -> Row:
    """A command that is one check by itself."""
    if code is None:
        return Row(name, False, "its time was up")
    return Row(name, code == 0, "" if code == 0 else f"ended with code {code}")


def command(name: str, *words: str, env: dict[str, str] | None = None) -> Callable[[Run, Path], Tally]:
    """A step that passes when its command does."""

    def action(run: Run, _log: Path) -> Tally:
        tally = Tally()
        prefix = ["env", *(f"{key}={value}" for key, value in (env or {}).items())] if env else []
        tally.add(verdict(name, run([*prefix, *words])))
        return tally

    return action


def script(path: str, *words: str) -> Callable[[Run, Path], Tally]:
    """A step script that prints rows; one that prints none, or ends badly without a failed row, has failed."""

    def action(run: Run, log: Path) -> Tally:
        code = run([sys.executable, str(ROOT / "tests" / path), *words])
        tally = rows.read(log.read_text(encoding="utf-8", errors="replace"))
        if code is None or (code != 0 and not tally.failures):
            tally.add(verdict(path, code))
        elif tally.total == 0:
            tally.add(Row(path, False, "checked nothing"))
        return tally

    return action


def nextest(*filters: str, every: bool) -> Callable[[Run, Path], Tally]:
    """Rust tests with cargo-nextest, or with `cargo test` on a machine where it cannot be installed."""

    def action(run: Run, log: Path) -> Tally:
        if not available():
            return plain(run, log)
        JUNIT.unlink(missing_ok=True)
        code = run(["cargo", "nextest", "run", "--profile", "gate", *filters])
        if not JUNIT.exists():
            tally = Tally()
            tally.add(Row("cargo nextest", False, "ended before a test ran" if code is not None else "its time was up"))
            return tally
        tally = counts.from_junit(JUNIT)
        if every:
            for row in ignored():
                tally.add(row)
        if code != 0 and not tally.failures:
            tally.add(verdict("cargo nextest", code))
        return tally

    def available() -> bool:
        return subprocess.run(["cargo", "nextest", "--version"], capture_output=True, check=False).returncode == 0

    def plain(run: Run, log: Path) -> Tally:
        targets = ["--lib", "--bins", "--tests"] if every else ["--test", "layering"]
        code = run(["cargo", "test", "--no-fail-fast", *targets, "--", "--show-output"])
        tally = counts.from_libtest(log.read_text(encoding="utf-8", errors="replace"))
        tally.notes.append("cargo-nextest could not be installed: ran with `cargo test`")
        if code != 0 and not tally.failures:
            tally.add(verdict("cargo test", code))
        return tally

    def ignored() -> list[Row]:
        listing = subprocess.run(
            ["cargo", "nextest", "list", "--message-format", "json"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        sources = [*ROOT.glob("src/**/*.rs"), *ROOT.glob("tests/**/*.rs"), *ROOT.glob("benches/**/*.rs")]
        return counts.ignored(listing.stdout, sources)

    return action


def doc_tests(run: Run, log: Path) -> Tally:
    """`cargo test --doc`, counted from its own lines."""
    code = run(["cargo", "test", "--doc"])
    tally = counts.from_libtest(log.read_text(encoding="utf-8", errors="replace"))
    if code != 0 and not tally.failures:
        tally.add(verdict("cargo test --doc", code))
    return tally


def leg(name: str, says: str) -> Step:
    """One run of the official suite against the gateway as a server."""
    return Step(f"conformance-{name}", f"official suite, {says}", 900, script("conformance/leg.py", name))


# The bounds are for a first run on two cores, where clippy and the tests each build every dependency.
STEPS = [
    Step("gate", "the gate's own tests", 60, script("gate/selftest.py")),
    Step("coverage", "every requirement has a test or a reason", 60, script("gate/coverage.py")),
    Step("fmt", "formatting", 60, command("cargo fmt", "cargo", "fmt", "--check")),
    Step("tools", "cargo-nextest, and what apt gives", 1500, script("gate/tools.py")),
    Step(
        "clippy",
        "lints, warnings are errors",
        1200,
        command("cargo clippy", "cargo", "clippy", "--all-targets", "--", "-D", "warnings"),
    ),
    Step("layering", "modules use only what lies below them", 1200, nextest("--test", "layering", every=False)),
    Step("tests", "all other Rust tests", 1800, nextest("-E", "not binary(layering)", every=True)),
    Step("bridge", "the bridge matrix: its tables, and how each cell ended", 60, script("gate/bridge.py")),
    Step("doctests", "examples in the documentation", 600, doc_tests),
    Step(
        "docs",
        "the documentation builds without warnings",
        600,
        command("cargo doc", "cargo", "doc", "--no-deps", env={"RUSTDOCFLAGS": "-Dwarnings"}),
    ),
    Step("build", "the gateway's binary", 900, command("cargo build", "cargo", "build", "--bin", "switchyard")),
    Step("readme", "the README against the program", 60, script("gate/readme.py")),
    Step("deploy", "container, compose file, systemd unit, sample configuration", 120, script("deploy/check.py")),
    leg("2025-http", "2025-11-25, upstream over HTTP"),
    leg("2025-stdio", "2025-11-25, upstream over stdio"),
    leg("2025-beside", "2025-11-25, another server beside the fixture"),
    leg("2025-polling", "2025-11-25, every stream closed early and taken up again"),
    leg("2025-06-18", "all of 2025-06-18, upstream over HTTP"),
    leg("2025-03-26", "what holds at 2025-03-26, upstream over HTTP"),
    Step(
        "conformance-client-2025",
        "official suite, the gateway as client at 2025-11-25 and 2025-06-18",
        900,
        script("conformance/client_leg.py", "2025"),
    ),
    Step(
        "conformance-client-2026",
        "official suite, the gateway as client at 2026-07-28",
        900,
        script("conformance/client_leg.py", "2026"),
    ),
    leg("2026-fixture", "2026-07-28, the fixture by itself"),
    leg("2026-http", "2026-07-28, upstream over HTTP"),
    leg("2026-stdio", "2026-07-28, upstream over stdio"),
    leg("2026-beside", "2026-07-28, another server beside the fixture"),
    leg("2025-crossed", "2025-11-25, the upstream speaks 2026-07-28"),
    leg("2026-crossed", "2026-07-28, the upstream speaks 2025-11-25"),
    Step("peers", "independent servers and clients through one gateway", 1200, script("peers/peers.py")),
    Step(
        "peers-legacy",
        "older transports, questions, broken streams and batches, by the SDKs of others",
        900,
        script("peers/legacy.py"),
    ),
    Step("peers-bridge", "questions across the eras, by the SDKs of others on both sides", 600, script("peers/crossing.py")),
    Step("peers-rmcp", "the Rust SDK as it was, before and behind the gateway", 1200, script("peers/rust.py")),
    Step("peers-tasks", "tasks of both dialects, by the SDKs of others on both sides", 1200, script("peers/tasks.py")),
]

# Steps that start the gateway need its binary; steps of Rust tests need their runner.
NEEDS = {
    "layering": ["tools"],
    "tests": ["tools"],
    "readme": ["build"],
    "deploy": ["build"],
    "peers": ["build", "tools"],
    "peers-legacy": ["build"],
    "peers-bridge": ["build"],
    "peers-rmcp": ["build"],
    "peers-tasks": ["build"],
    **{step.name: ["build"] for step in STEPS if step.name.startswith("conformance-")},
}


def chosen(words: list[str]) -> list[Step]:
    """The steps that these words name, and those they need; all when there is no word."""
    if not words:
        return STEPS
    names = set()
    for word in words:
        found = [step.name for step in STEPS if step.name == word or step.name.startswith(word + "-")]
        if not found:
            raise SystemExit(f"no step {word!r}; `tests/run --list` shows them")
        names.update(found)
    for name in list(names):
        names.update(NEEDS.get(name, []))
    return [step for step in STEPS if step.name in names]


def environment() -> dict[str, str]:
    """What every step sees: no colours, no prompts, no compiled Python beside the sources."""
    # The gate judges what it has built.
    inherited = {name: value for name, value in os.environ.items() if name != "SWITCHYARD"}
    return {
        **inherited,
        "CI": "true",
        "CARGO_TERM_COLOR": "never",
        "NO_COLOR": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }
