"""What a machine with only Rust, Node 20, Python 3.11 and apt still needs; everything lands under `target/peers`.

Each function prints what it does and raises `Missing` when it cannot be had.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .places import INSTALLED, ROOT

NEXTEST = "0.9.151"


class Missing(Exception):
    """Something cannot be installed; the message says what and how to help."""


def run(command: list[str], seconds: float, cwd: Path | None = None) -> None:
    """Runs an installer with a time bound, its output into ours."""
    print("+ " + " ".join(command), flush=True)
    try:
        code = subprocess.run(command, stdin=subprocess.DEVNULL, cwd=cwd, timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        raise Missing(f"`{' '.join(command)}` took longer than {seconds:g} s") from None
    except FileNotFoundError:
        raise Missing(f"`{command[0]}` is not installed") from None
    if code != 0:
        raise Missing(f"`{' '.join(command)}` ended with code {code}")


def apt(package: str) -> None:
    """Installs a Debian package; asks the index anew only because something is missing."""
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    run([*root, "apt-get", "update", "-q"], 300)
    run([*root, *environment, "apt-get", "install", "-q", "-y", "--no-install-recommends", package], 600)


def command(name: str, package: str) -> None:
    """Makes sure that a program is there."""
    if shutil.which(name) is None:
        apt(package)


def _fresh(kind: str, sources: list[Path], runtime: str) -> tuple[Path, bool]:
    """Directory for an installation of exactly these lock files, and whether it is complete already."""
    digest = hashlib.sha256(runtime.encode())
    for source in sources:
        digest.update(source.read_bytes())
    place = INSTALLED / f"{kind}-{digest.hexdigest()[:16]}"
    if (place / "complete").exists():
        return place, True
    # Half an installation, or one of another lock file: neither is of use any more.
    for old in INSTALLED.glob(f"{kind}-*"):
        shutil.rmtree(old)
    place.mkdir(parents=True)
    return place, False


def npm(folder: str) -> Path:
    """`npm ci` from `tests/FOLDER`'s lock file; the directory that holds `node_modules`."""
    sources = [ROOT / "tests" / folder / name for name in ("package.json", "package-lock.json", ".npmrc")]
    runtime = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    place, complete = _fresh(f"npm-{folder}", sources, runtime)
    if not complete:
        for source in sources:
            shutil.copy(source, place)
        run(["npm", "ci", "--no-audit", "--no-fund"], 600, cwd=place)
        (place / "complete").touch()
    return place


def python() -> Path:
    """A virtual environment with exactly `tests/peers/requirements.txt`; its `bin` directory."""
    requirements = ROOT / "tests" / "peers" / "requirements.txt"
    place, complete = _fresh("python", [requirements], sys.version)
    programs = place / "venv" / "bin"
    if not complete:
        try:
            run([sys.executable, "-m", "venv", str(place / "venv")], 120)
        except Missing:
            # Debian ships venv's installer apart.
            apt(f"python3.{sys.version_info.minor}-venv")
            run([sys.executable, "-m", "venv", "--clear", str(place / "venv")], 120)
        pip = [str(programs / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
        run([*pip, "install", "-q", "--no-deps", "-r", str(requirements)], 600)
        run([*pip, "check"], 60)
        (place / "complete").touch()
    return programs


def nextest() -> bool:
    """Makes sure of cargo-nextest; `False` when it cannot be had, so that `cargo test` must do."""
    os.environ["PATH"] = f"{INSTALLED / 'cargo' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    present = subprocess.run(["cargo", "nextest", "--version"], capture_output=True, check=False).returncode == 0
    if present:
        return True
    # A debug build of the runner: it compiles in a fraction of the time and runs the same tests.
    lean = ["--debug", "--no-default-features", "--features", "default-no-update"]
    place = ["--root", str(INSTALLED / "cargo")]
    try:
        run(["cargo", "install", "cargo-nextest", "--version", NEXTEST, "--locked", *lean, *place], 1200)
        return True
    except Missing as missing:
        print(f"cargo-nextest: {missing}", flush=True)
        return False
