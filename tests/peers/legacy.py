"""Step `peers-legacy`: the older transports and everything a session allows, judged by independent SDKs.

    python3 tests/peers/legacy.py [TOPIC...]    # batches, children, pipe, questions, resumption, sse
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gate import gateway, processes, rows  # noqa: E402
from gate.places import LOGS  # noqa: E402
from peers.stage import Packages, Stage  # noqa: E402
from peers.topics import batches, children, pipe, questions, resumption, sse  # noqa: E402

TOPICS = {
    "sse": sse,
    "pipe": pipe,
    "questions": questions,
    "resumption": resumption,
    "batches": batches,
    "children": children,
}


def main(words: list[str]) -> None:
    processes.stop_on_signals()
    packages = Packages()
    root = gateway.fresh(LOGS / "peers-legacy")
    for name in words or TOPICS:
        perform(packages, root, name, TOPICS[name])


def perform(packages: Packages, root: Path, name: str, topic: ModuleType) -> None:
    """All parts of a topic."""
    logs = root / name
    logs.mkdir()
    begun = time.monotonic()
    for part in topic.PARTS:
        play(packages, f"{name}/{part.__name__}", part, logs / part.__name__)
    written = "".join(log.read_text(encoding="utf-8", errors="replace") for log in logs.glob("**/gateway.log"))
    panics = [line for line in written.splitlines() if "panicked at" in line]
    rows.tell(f"{name}/nothing panicked", not panics, "; ".join(panics)[:300])
    rows.note(f"{name}: {time.monotonic() - begun:.0f} s")


def play(packages: Packages, name: str, part: Callable[[Stage], None], logs: Path) -> None:
    """One story; its end is no reason to leave out the others."""
    logs.mkdir()
    with tempfile.TemporaryDirectory(prefix="switchyard-peers-") as folder:
        try:
            with Stage(packages, Path(folder).resolve(), logs) as stage:
                part(stage)
        except Exception as error:  # noqa: BLE001: whatever stopped it is the row's detail
            rows.tell(f"{name}/the stage stands", False, f"{type(error).__name__}: {error}"[:500])


if __name__ == "__main__":
    main(sys.argv[1:])
