"""The evil stdio child: one way to hurt a gateway per mode. Python 3.11, standard library only.

    evil_child.py MODE [ARGUMENT] [--mark TEXT]

`--mark` does nothing; it lets a test find this process and its forks in /proc by their command line.
Every mode ends by itself after a minute, in case nobody ends it.
"""

import json
import os
import resource
import signal
import sys
import threading
import time

LIFETIME = 60


def say(text):
    """Writes one line to stdout, past all buffers."""
    os.write(1, text.encode() + b"\n")


def live():
    """Stays alive, doing nothing."""
    time.sleep(LIFETIME)
    os._exit(99)


def echo(_=None):
    """Answers every line with itself."""
    for line in sys.stdin.buffer:
        write_all(1, line)


def write_all(fd, data):
    while data:
        data = data[os.write(fd, data):]


def exit_with(code):
    """Leaves with this code when the first line arrives."""
    sys.stdin.readline()
    os._exit(int(code))


def die_by(number):
    """F14: dies by this signal when the first line arrives."""
    sys.stdin.readline()
    os.kill(os.getpid(), int(number))
    live()


def say_and_exit(count):
    """Writes lines as fast as it can and leaves at once."""
    write_all(1, b"".join(b"%d\n" % n for n in range(int(count))))
    os._exit(0)


def garbage(_=None):
    """F16: what must never be on stdout, between things that may."""
    write_all(1, b"Listening on port 3000...\n\n{\"jsonrpc\":\"2.0\"}\r\n\r\n\xff\xfe not text\n[1,\x00")
    time.sleep(0.05)
    write_all(1, b"2]\n")
    echo()


def huge_line(size):
    """F17: a line of that many bytes, and no newline."""
    chunk = b"x" * (1 << 20)
    for _ in range(int(size) >> 20):
        write_all(1, chunk)
    live()


def deaf(_=None):
    """F18: reads nothing and talks."""
    deadline = time.monotonic() + LIFETIME
    while time.monotonic() < deadline:
        say("tick")
        time.sleep(0.02)


def flood_stderr(size):
    """F19: writes that much to stderr, and answers lines all the while."""
    def flood():
        line = b"W" * 99 + b"\n"
        left = int(size)
        while left > 0:
            write_all(2, line * 500)
            left -= 500 * len(line)
        say("flooded")
    threading.Thread(target=flood, daemon=True).start()
    echo()


def deafen_to_signals():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def daemonise(_=None):
    """F20: leaves processes in every place a killer may forget to look, then says "ready" and answers lines."""
    ready, tell = os.pipe()

    def leave(*steps):
        if os.fork() == 0:
            for step in steps:
                if step == "fork":
                    if os.fork() != 0:
                        os._exit(0)
                else:
                    step()
            deafen_to_signals()
            os.write(tell, b"!")
            if "keep pipes" not in sys.argv:
                for fd in (0, 1, 2):
                    os.close(fd)
            live()

    leave()                                # a plain child
    leave(lambda: os.setpgid(0, 0))        # in another group
    leave(os.setsid)                       # in another session
    leave(os.setsid, "fork")               # a daemon by the book
    leave("fork", os.setsid, "fork", lambda: os.chdir("/"))
    for _ in range(5):
        os.read(ready, 1)
    say("ready")


def daemonise_and_echo(_=None):
    daemonise()
    echo()


def daemonise_and_defy(_=None):
    """As above, and cares for neither EOF nor SIGTERM itself."""
    deafen_to_signals()
    daemonise()
    live()


def daemonise_and_exit(_=None):
    """The command itself is done; its daemons still hold the pipes."""
    sys.argv.append("keep pipes")
    daemonise()
    os._exit(7)


def stubborn(_=None):
    """F21: cares for neither EOF nor SIGTERM."""
    deafen_to_signals()
    say("ready")
    while sys.stdin.buffer.read(1):
        pass
    live()


def polite(_=None):
    """Finishes its work on EOF, and says so."""
    for line in sys.stdin.buffer:
        write_all(1, line)
    say("goodbye")


def ends_on_term(_=None):
    """Ignores EOF but not SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: (say("term"), os._exit(0)))
    say("ready")
    live()


def eat_memory(size):
    """F23: keeps that many bytes, in a grandchild."""
    if os.fork() == 0:
        kept = []
        for _ in range(int(size) >> 20):
            kept.append(b"m" * (1 << 20))
            time.sleep(0.001)
        say("full")
        live()
    echo()


def eat_cpu(_=None):
    """F23: computes."""
    while True:
        pass


def eat_files(count):
    """F23: opens files until refused; says how many and why."""
    opened = []
    try:
        for _ in range(int(count)):
            opened.append(os.open("/dev/null", os.O_RDONLY))
        say(f"opened {len(opened)}")
    except OSError as error:
        say(f"refused at {len(opened)}: {error.strerror}")
    echo()


def close_stdout(_=None):
    """F24: closes stdout and lives."""
    say("last words")
    os.close(1)
    live()


def half_line(_=None):
    """F24: dies within a line."""
    write_all(1, b"whole\nhal")
    os._exit(5)


def kill_parent(_=None):
    """Kills whoever watches over it; a child in another group stays behind."""
    if os.fork() == 0:
        os.setpgid(0, 0)
        deafen_to_signals()
        say("ready")
        live()
    sys.stdin.readline()
    os.kill(os.getppid(), signal.SIGKILL)
    live()


def surroundings(_=None):
    """Tells what it was given."""
    with open("/proc/self/environ", "rb") as file:
        environment = dict(entry.decode().split("=", 1) for entry in file.read().split(b"\0") if entry)
    listed = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
    fds = [fd for fd in listed if is_open(fd)]  # without the listing itself
    say(json.dumps({
        "environment": environment,
        "fds": fds,
        "cwd": os.getcwd(),
        "arguments": sys.argv[2:],
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "cpu": resource.getrlimit(resource.RLIMIT_CPU),
        "has_terminal": has_terminal(),
        "session": os.getsid(0),
        "group_is_own": os.getpgid(0) == os.getpid(),
    }))
    echo()


def is_open(fd):
    try:
        os.fstat(fd)
        return True
    except OSError:
        return False


def has_terminal():
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
        return True
    except OSError:
        return False


def forge(_=None):
    """Pretends to be its own warden."""
    write_all(2, b"switchyard-warden: memory 1\n")
    sys.stdin.readline()
    write_all(2, b"switchyard-warden: exited 42")
    os._exit(6)


def main():
    signal.alarm(LIFETIME)
    globals()[sys.argv[1]](*sys.argv[2:3])


main()
