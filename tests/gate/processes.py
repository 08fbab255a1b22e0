"""Child processes that always end: bounded, in groups of their own, stopped by their own ids."""

import ctypes
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


class Stopped(Exception):
    """SIGTERM or SIGINT arrived: unwinds through every `finally`."""


def stop_on_signals() -> None:
    """Turns the signals that end a run into an exception, so that servers are stopped on the way out."""

    def unwind(number, _frame):
        # A second signal must not interrupt the stopping.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise Stopped(f"stopped by {signal.Signals(number).name}")

    signal.signal(signal.SIGTERM, unwind)
    signal.signal(signal.SIGINT, unwind)


def adopt_orphans() -> None:
    """Makes what descendants leave behind our own children, so that `left_behind` sees it (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def own_children() -> dict[int, str]:
    """Living direct children of this process: id and command line. Dead ones are reaped on the way."""
    children = {}
    for task in Path("/proc/self/task").glob("*/children"):
        for text in task.read_text().split():
            pid = int(text)
            try:
                if os.waitpid(pid, os.WNOHANG)[0] == pid:
                    continue
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (ChildProcessError, FileNotFoundError):
                continue
            children[pid] = command.strip()
    return children


def left_behind(grace: float) -> list[str]:
    """Ends what a finished step left running and says what it was. Nothing is left in a good run."""
    if sys.platform != "linux":
        return []
    until = time.monotonic() + grace
    while own_children() and time.monotonic() < until:
        time.sleep(0.05)
    found = []
    # A killed parent hands its children to us, hence the rounds.
    for _ in range(20):
        children = own_children()
        if not children:
            break
        for pid, command in children.items():
            found.append(command[:160])
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.05)
    return found


def run_bounded(command: list[str], log, seconds: float, cwd: Path, env: dict[str, str]) -> int | None:
    """Runs a command into `log`. Its exit code, or `None` when the time was up and its group was ended."""
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=cwd, env=env, start_new_session=True
    )
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        end_group(child, grace=20)


def end_group(child: subprocess.Popen, grace: float) -> None:
    """TERM to the group, time to clean up, then KILL; harmless when all of it has ended."""
    for number, wait in ((signal.SIGTERM, grace), (signal.SIGKILL, 5)):
        if child.poll() is not None:
            return
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        try:
            child.wait(wait)
        except subprocess.TimeoutExpired:
            continue


class Server:
    """A server under test: started, read line by line, stopped politely."""

    def __init__(self, command: list[str], log: Path, env: dict[str, str] | None = None, cwd: Path | None = None):
        self.log = log
        self._stderr = log.open("ab")
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._child.stdout:
            self._stderr.write(b"stdout: " + line)
            self._stderr.flush()
            self._lines.put(line.decode(errors="replace").rstrip("\n"))
        self._lines.put(None)

    def expect(self, pattern: str, seconds: float) -> str:
        """Waits for a line on stdout and gives its first group."""
        until = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                raise RuntimeError(f"no line like {pattern!r} within {seconds:g} s; see {self.log}") from None
            if line is None:
                code = self._child.wait(5)
                raise RuntimeError(f"ended with code {code} before a line like {pattern!r}; see {self.log}")
            found = re.search(pattern, line)
            if found:
                return found[1]

    @property
    def pid(self) -> int:
        return self._child.pid

    def stop(self, seconds: float = 15) -> int | None:
        """SIGTERM and the exit code; `None` when it had to be killed."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(seconds)
            except subprocess.TimeoutExpired:
                end_group(self._child, grace=0.1)
                return None
        return self._child.returncode
