"""Where things are: the tree, what is built, what is installed, the logs."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
LOGS = TARGET / "test-logs"
INSTALLED = TARGET / "peers"
# Another build can be judged as well: SWITCHYARD=target/release/switchyard tests/peers/peers.py
GATEWAY = Path(os.environ.get("SWITCHYARD") or TARGET / "debug" / "switchyard").resolve()
JUNIT = TARGET / "nextest" / "gate" / "junit.xml"
