"""A stdio child that is only a pipe: whatever comes on stdin goes to a loopback socket and back.

The test process listens on the socket and plays the MCP server, so that one script serves both transports. The first line
on the socket says who the child is. The child ends when either side closes.
"""

import json
import os
import socket
import sys
import threading


def pump(read, write, ended):
    try:
        while piece := read():
            write(piece)
    except OSError:
        pass
    finally:
        ended.set()


def write_all(descriptor, piece):
    while piece:
        piece = piece[os.write(descriptor, piece):]


def main():
    link = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    birth = {"pid": os.getpid(), "environment": dict(os.environ), "arguments": sys.argv[2:], "directory": os.getcwd()}
    link.sendall(json.dumps(birth).encode() + b"\n")
    ended = threading.Event()
    for read, write in (
        (lambda: os.read(0, 65536), link.sendall),
        (lambda: link.recv(65536), lambda piece: write_all(1, piece)),
    ):
        threading.Thread(target=pump, args=(read, write, ended), daemon=True).start()
    ended.wait()
    os._exit(0)


main()
