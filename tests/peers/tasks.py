"""Step `peers-tasks`: independent SDKs that know tasks, of either dialect, against each other and through the gateway.

    python3 tests/peers/tasks.py [PART...]    # direct, core_clients, extension_clients, plain_clients, hosting_clients
"""

import sys
from pathlib import Path
from types import SimpleNamespace

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gate import gateway, processes  # noqa: E402
from gate.places import LOGS  # noqa: E402
from peers import rust  # noqa: E402
from peers.legacy import perform  # noqa: E402
from peers.stage import Packages  # noqa: E402
from peers.topics import tasks  # noqa: E402

if __name__ == "__main__":
    processes.stop_on_signals()
    parts = [part for part in tasks.PARTS if part.__name__ in (sys.argv[1:] or [part.__name__])]
    if rust.build():
        perform(Packages(), gateway.fresh(LOGS / "peers-tasks"), "tasks", SimpleNamespace(PARTS=parts))
