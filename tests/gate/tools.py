"""Step `tools`: installs the test runner and the programs that the later steps call."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gate import installs, rows  # noqa: E402

if __name__ == "__main__":
    runner = installs.nextest()
    rows.tell("cargo-nextest", True if runner else None, "" if runner else "cannot be installed; `cargo test` instead")
    for name, package in (("git", "git"), ("cc", "build-essential")):
        try:
            installs.command(name, package)
            rows.tell(name, True)
        except installs.Missing as missing:
            rows.tell(name, False, str(missing))
