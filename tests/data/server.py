"""A host on the loopback that hands out a folder, and fails as hosts do, by path; and a disk that fails."""

import builtins
import socket
import struct
import threading
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Host:
    """A context manager; `url` is its address.

    Attributes:
        faults: by file name: "404" and other numbers, "truncated", "reset", "hanging" before the first byte, "stalled"
            half-way, "altered", "page" of another kind, "labelled" as compressed for the way, "unsized".
        once: names whose fault goes away after one request.
        requests: how often each file was asked for.
        gate: "hanging" and "stalled" wait for it.
    """

    def __init__(self, folder):
        self.folder = folder
        self.faults, self.once, self.requests, self.gate = {}, set(), Counter(), threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answer", (Answer,), {"host": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Answer(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def handle(self):
        with suppress(ConnectionError):  # whoever asked has given up
            super().handle()

    def do_GET(self):
        name = self.path.split("?")[0].lstrip("/")
        self.host.requests[name] += 1
        fault = self.host.faults.pop(name, "") if name in self.host.once else self.host.faults.get(name, "")
        if fault.isdigit():
            self.send_error(int(fault))
            return
        content = (self.host.folder / name).read_bytes()
        half = len(content) // 2
        if fault == "hanging":
            self.host.gate.wait(10)
        if fault == "altered":
            content = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        if fault == "page":
            content = b"<html>Please log in</html>"
        self.send_response(200)
        if fault != "unsized":
            self.send_header("Content-Length", str(len(content)))
        if fault == "labelled":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(content[:half])
        if fault == "stalled":
            self.host.gate.wait(10)
        if fault == "reset":
            # With no time to linger, closing sends a reset; the reader holds the socket, too.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()
        elif fault != "truncated":
            self.wfile.write(content[half:])


def fail_writes(monkeypatch, name, number):
    """Files whose path ends so take half of what is written first, then fail with an errno."""
    really_open = builtins.open

    def opening(file, mode="r", *args, **options):
        stream = really_open(file, mode, *args, **options)
        if "w" in mode and str(file).endswith(name):

            def write(block):
                type(stream).write(stream, block[: len(block) // 2])
                raise OSError(number, "on purpose")

            stream.write = write
        return stream

    monkeypatch.setattr("builtins.open", opening)
    monkeypatch.setattr("io.open", opening)
    monkeypatch.setattr("tarfile.bltn_open", opening)
