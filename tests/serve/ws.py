"""Responses over a WebSocket: turns that go on from each other, frames in every cut, and everything a frame may not be."""
import base64
import hashlib
import json
import os
import signal
import socket
import struct
import time

from served import NAME, QUICK, SLOW, Server


class Ws:
    def __init__(self, s, headers=(), version="13"):
        self.sock = socket.create_connection(("127.0.0.1", s.port), timeout=30 * SLOW)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = ["GET /v1/responses HTTP/1.1", f"Host: 127.0.0.1:{s.port}", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}",
                 f"Sec-WebSocket-Version: {version}", *headers]
        self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.data = b""
        while b"\r\n\r\n" not in self.data:
            more = self.sock.recv(4096)
            assert more, "no answer"
            self.data += more
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        self.status = int(head.split()[1])
        if self.status == 101:
            want = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
            assert b"Sec-WebSocket-Accept: " + want in head, head

    def frame(self, payload, op=1, fin=True, masked=True, rsv=0, length=None):
        n = len(payload) if length is None else length
        size = bytes([n]) if n < 126 else b"\x7e" + struct.pack(">H", n) if n < 65536 else b"\x7f" + struct.pack(">Q", n)
        first = bytes([(0x80 if fin else 0) | rsv << 4 | op, size[0] | (0x80 if masked else 0)]) + size[1:]
        mask = os.urandom(4)
        return first + (mask + bytes(b ^ mask[i & 3] for i, b in enumerate(payload)) if masked else payload)

    def send(self, o, **more):
        self.sock.sendall(self.frame(o if isinstance(o, bytes) else json.dumps(o).encode(), **more))

    def take(self, n):
        while len(self.data) < n:
            more = self.sock.recv(65536)
            if not more:
                return None
            self.data += more
        out, self.data = self.data[:n], self.data[n:]
        return out

    def read(self):
        """(op, payload); None at the end."""
        head = self.take(2)
        if head is None:
            return None
        assert head[0] & 0x80 and not head[1] & 0x80
        n = head[1]
        if n > 125:
            n = int.from_bytes(self.take(2 if n == 126 else 8), "big")
        return head[0] & 15, self.take(n)

    def turn(self):
        """The events of one response."""
        events = []
        while True:
            op, payload = self.read()
            if op != 1:
                continue
            events.append(json.loads(payload))
            if events[-1]["type"] in ("response.completed", "response.incomplete", "response.failed", "error"):
                return events

    def ends(self):
        """The code it is closed with."""
        while (got := self.read()) is not None:
            if got[0] == 8:
                code = int.from_bytes(got[1][:2], "big") if got[1] else 0
                assert self.read() is None
                return code
        return None


def ask(text="Tell me a story", **more):
    return {"type": "response.create", "model": NAME, "input": text, "max_output_tokens": 12, "temperature": 0, **more}


def turns(s):
    plain = s.post("/v1/responses", {k: v for k, v in ask().items() if k != "type"})
    w = Ws(s)
    w.send(ask())
    first = w.turn()
    assert first[-1]["response"]["output"][0]["content"] == plain["output"][0]["content"]
    assert [e["sequence_number"] for e in first] == list(range(len(first)))
    # the second goes on from the first: as if the whole conversation had been sent
    w.send(ask("And then?", previous_response_id=first[-1]["response"]["id"]))
    second = w.turn()[-1]["response"]
    said = [{"role": "user", "content": "Tell me a story"}, *plain["output"], {"role": "user", "content": "And then?"}]
    whole = s.post("/v1/responses", {"model": NAME, "input": said, "max_output_tokens": 12, "temperature": 0})
    assert second["output"][0]["content"] == whole["output"][0]["content"] and second["previous_response_id"] == first[-1]["response"]["id"]
    # only the last one is known, here and nowhere else, and a turn that fails forgets it
    other = Ws(s)
    other.send(ask(previous_response_id=second["id"]))
    assert other.turn()[-1]["error"]["code"] == "previous_response_not_found"
    w.send(ask(previous_response_id=second["id"], temperature=-1))
    assert w.turn()[-1]["status"] == 400
    w.send(ask(previous_response_id=second["id"]))
    assert w.turn()[-1]["error"]["code"] == "previous_response_not_found"
    for bad in (b"{", b"[]", {"type": "response.cancel"}, {k: v for k, v in ask().items() if k != "type"}, ask(stream=True), ask(model="other"), ask(wibble=1)):
        w.send(bad)
        e = w.turn()[-1]
        assert e["type"] == "error" and e["status"] in (400, 404) and e["error"]["code"] and e["error"]["message"], e
    # many at once are answered one after the other
    for i in range(5):
        w.send(ask(f"Story {i}"))
    assert all(w.turn()[-1]["type"] == "response.incomplete" for _ in range(5))
    other.sock.close()
    return w


def cuts(w):
    """A message in any number of frames, with pings between; bytes in any number of packets."""
    text = json.dumps(ask()).encode()
    w.send(text[:10], fin=False)
    w.send(b"hello", op=9)
    assert w.read() == (10, b"hello")
    w.send(text[10:20], op=0, fin=False)
    w.send(b"", op=0, fin=False)
    for b in w.frame(text[20:], op=0):
        w.sock.sendall(bytes([b]))
    assert w.turn()[-1]["type"] == "response.incomplete"
    long = json.dumps(ask("x " * 40000)).encode()  # 64-bit length; more than the context
    w.send(long)
    assert "256" in w.turn()[-1]["error"]["message"]
    w.send(struct.pack(">H", 1000), op=8)
    assert w.ends() == 1000


def refused(s):
    good = json.dumps(ask()).encode()
    for code, more in ((1002, {"masked": False}), (1002, {"rsv": 4}), (1002, {"op": 3}), (1002, {"op": 11}), (1003, {"op": 2}), (1002, {"op": 0}),
                       (1009, {"length": 1 << 40}), (1009, {"length": (1 << 63) - 1}), (1002, {"op": 9, "length": 200}), (1002, {"op": 9, "fin": False})):
        w = Ws(s)
        w.send(good, **more)
        assert w.ends() == code, (code, more)
    w = Ws(s)
    w.send(b"{", fin=False)
    w.send(b"}")  # a new message inside one
    assert w.ends() == 1002
    w = Ws(s)
    try:
        for i in range(20):
            w.send(ask(max_output_tokens=200, ignore=i))
    except OSError:
        pass  # the server had enough of it before we had
    w.sock.close()
    host = f"Host: 127.0.0.1:{s.port}\r\n"
    base = "GET /v1/responses HTTP/1.1\r\n" + host
    up = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    for status, head in ((426, ""), (426, "Upgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Key: " + "A" * 22 + "==\r\nSec-WebSocket-Version: 13\r\n"),
                         (426, up + "Sec-WebSocket-Version: 8\r\n"), (400, up + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: A\r\n"),
                         (400, up + "Sec-WebSocket-Version: 13\r\n")):
        got = s.raw((base + head + "\r\n").encode())
        assert got.startswith(b"HTTP/1.1 %d" % status), (status, got)
    assert Ws(s, ["Origin: http://evil.example"]).status == 403  # B5
    assert Ws(s, [f"Origin: http://127.0.0.1:{s.port}"]).status == 101


def leaving(s):
    """Clients that go in the middle of a turn leave nothing behind."""
    for _ in range(3 if QUICK else 10):
        w = Ws(s)
        w.send(ask(max_output_tokens=200))
        w.read()
        w.sock.close()
    s.quiet()
    silent = Ws(s)  # drained: told to go
    s.process.send_signal(signal.SIGTERM)
    assert silent.ends() == 1001
    s.process.wait(30 * SLOW)


with Server() as server:
    first = turns(server)
    cuts(first)
    refused(server)
    leaving(server)
with Server("--api-key", "sesame-sesame") as server:
    assert Ws(server).status == 401
    keyed = Ws(server, ["Authorization: Bearer sesame-sesame"])
    keyed.send(ask())
    assert keyed.turn()[-1]["type"] == "response.incomplete"
    keyed.send(ask(max_output_tokens=200))
    time.sleep(0.01)
