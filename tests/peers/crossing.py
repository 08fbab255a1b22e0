"""Step `peers-bridge`: independent SDKs of both eras on both sides, where servers ask and clients answer.

    python3 tests/peers/crossing.py
"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gate import gateway, processes  # noqa: E402
from gate.places import LOGS  # noqa: E402
from peers.legacy import perform  # noqa: E402
from peers.stage import Packages  # noqa: E402
from peers.topics import crossing  # noqa: E402

if __name__ == "__main__":
    processes.stop_on_signals()
    perform(Packages(), gateway.fresh(LOGS / "peers-bridge"), "bridge", crossing)
