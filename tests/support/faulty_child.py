"""An MCP server on stdio whose tools are faults: each tool hurts in one way when it is called.

    faulty_child.py [MODE] [--mark TEXT]

MODE changes the whole process: `mute` never answers initialize, `dies` ends at once with words on stderr, `stubborn`
ignores the end of its input and SIGTERM. `--mark` lets a test find this process and its forks by their command line.
The process ends by itself after a minute, in case nobody ends it. Standard library only.
"""

import json
import os
import signal
import sys
import threading
import time

LIFETIME = 60
TOOLS = [
    "echo", "slow", "crash", "garbage", "huge_line", "deaf", "flood_stderr", "daemons", "close_stdout", "half_line",
    "eat_memory", "spin", "eat_files", "two_replies", "wrong_id", "not_utf8", "broken_json", "deep", "storm", "surrogate",
]
writing = threading.Lock()


def write_all(descriptor, data):
    while data:
        data = data[os.write(descriptor, data):]


def say(message):
    with writing:
        write_all(1, json.dumps(message).encode() + b"\n")


def raw(data):
    with writing:
        write_all(1, data)


def live():
    time.sleep(LIFETIME)
    os._exit(99)


def text(request, words):
    say({"jsonrpc": "2.0", "id": request["id"], "result": {"content": [{"type": "text", "text": words}]}})


def echo(request, arguments):
    text(request, json.dumps(arguments))


def slow(request, arguments):
    token = request["params"].get("_meta", {}).get("progressToken")
    if token is not None:
        say({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})
    time.sleep(arguments.get("seconds", 1))
    text(request, "slow")


def crash(request, arguments):
    write_all(2, b"about to crash\n")
    os.kill(os.getpid(), signal.SIGKILL)


def garbage(request, arguments):
    raw(b"Listening on port 3000...\n\n{\"half\": \r\n\xff\xfe\x00\n[]\n7\n\"text\"\n{}\n")
    text(request, "after the garbage")


def huge_line(request, arguments):
    for _ in range(arguments.get("mebibytes", 64)):
        raw(b"x" * (1 << 20))
    live()


def deaf(request, arguments):
    # Replies still come while nothing is read any more.
    for step in range(arguments.get("steps", 5)):
        time.sleep(0.05)
        say({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "error", "data": step}})
    text(request, "deaf now")


def flood_stderr(request, arguments):
    line = b"W" * 99 + b"\n"
    for _ in range(arguments.get("mebibytes", 20) * 10):
        write_all(2, line * 1_000)
    text(request, "flooded")


def daemons(request, arguments):
    ready, tell = os.pipe()

    def leave(*steps):
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            for step in steps:
                step()
            os.write(tell, b"!")
            live()

    leave()
    leave(lambda: os.setpgid(0, 0))
    leave(os.setsid)
    leave(os.setsid, lambda: os.fork() and os._exit(0))
    for _ in range(4):
        os.read(ready, 1)
    text(request, "left")


def close_stdout(request, arguments):
    os.close(1)
    live()


def half_line(request, arguments):
    raw(b'{"jsonrpc":"2.0","id":')
    os._exit(5)


def eat_memory(request, arguments):
    kept = []
    for _ in range(arguments.get("mebibytes", 512)):
        kept.append(b"m" * (1 << 20))
        time.sleep(0.001)
    text(request, "full")


def spin(request, arguments):
    while True:
        pass


def eat_files(request, arguments):
    opened = []
    try:
        for _ in range(arguments.get("count", 100_000)):
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    count = len(opened)
    for descriptor in opened:
        os.close(descriptor)
    text(request, f"opened {count}")


def two_replies(request, arguments):
    text(request, "first")
    text(request, "second")


def wrong_id(request, arguments):
    text({"id": 987_654_321}, "for nobody")
    text({"id": "strange"}, "for nobody")
    text(request, "for you")


def not_utf8(request, arguments):
    raw(b'{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"\xff\xc0"}]}}\n'
        % json.dumps(request["id"]).encode())


def broken_json(request, arguments):
    raw(b'{"jsonrpc":"2.0","id":%s,"result":{"content":[}}\n' % json.dumps(request["id"]).encode())


def deep(request, arguments):
    nested = b"[" * 5_000 + b"]" * 5_000
    raw(b'{"jsonrpc":"2.0","id":%s,"result":{"content":[],"deep":%s}}\n' % (json.dumps(request["id"]).encode(), nested))


def surrogate(request, arguments):
    raw(b'{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"\\ud800 alone"}]}}\n'
        % json.dumps(request["id"]).encode())


def storm(request, arguments):
    line = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "debug", "data": "x"}})
    for _ in range(10):
        raw((line + "\n").encode() * 1_000)
    text(request, "after the storm")


def call(request):
    params = request.get("params") or {}
    globals()[params["name"]](request, params.get("arguments") or {})


def answer(request):
    method = request["method"]
    if method == "initialize":
        if "mute" in sys.argv[1:2]:
            return
        result = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}, "logging": {}},
            "serverInfo": {"name": "faulty", "version": "1"},
        }
    elif method == "tools/list":
        result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
    elif method in ("ping", "logging/setLevel"):
        result = {}
    elif method == "tools/call":
        threading.Thread(target=call, args=(request,), daemon=True).start()
        return
    else:
        say({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "no such method"}})
        return
    say({"jsonrpc": "2.0", "id": request["id"], "result": result})


def main():
    signal.alarm(LIFETIME)
    mode = sys.argv[1] if len(sys.argv) > 1 else ""
    if mode == "dies":
        write_all(2, b"cannot find my database\n")
        os._exit(3)
    if mode == "stubborn":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "id" in request and "method" in request:
            answer(request)
        if request.get("params", {}).get("name") == "deaf":
            live()
    if mode == "stubborn":
        live()


main()
