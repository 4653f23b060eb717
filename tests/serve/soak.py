"""Requests of every kind from clients of every kind, many at once: no crash, no wrong answer, no stuck place, memory flat.

Two models that do not fit together, so that they are swapped all the time. Among the clients are some that leave at any
moment, send rubbish, read nothing, or are killed."""
import json
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

from served import LARDER, MODEL, SLOW, Server

TOTAL = int(sys.argv[1])
WORKERS = 12
WORDS = ["dog", "cat", "boat", "tree", "star", "bird", "rain", "king"]


def body(i, model, **more):
    return {"model": model, "messages": [{"role": "user", "content": f"Tell me about a {WORDS[i % 8]}"}], "max_tokens": 4 + i % 9,
            "temperature": [0, 0.9][i % 2], "seed": i % 8, **more}


def post(path, data, length=None):
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data) if length is None else length}\r\n\r\n").encode() + data


class Client:
    def __init__(self, s, expected, seed):
        self.s, self.expected, self.r = s, expected, random.Random(seed)
        self.n, self.wrong, self.statuses = 0, [], {}

    def connect(self):
        c = socket.create_connection(("127.0.0.1", self.s.port), timeout=60 * SLOW)
        return c

    def good(self, stream):
        i, model = self.r.randrange(16), self.r.choice("aaab")
        status, headers, text = self.s.ask("POST", "/v1/chat/completions", body(i, model, stream=stream))
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == 429:
            return
        if status != 200:
            self.wrong.append((status, text[:200]))
        elif stream:
            events = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
            got = "".join(c["delta"].get("content") or "" for e in events[:-1] for c in json.loads(e).get("choices", []))
            if events[-1] != "[DONE]" or got != self.expected[i]:
                self.wrong.append((i, model, got))
        elif json.loads(text)["choices"][0]["message"]["content"] != self.expected[i]:
            self.wrong.append((i, model, text[:200]))

    def leaves(self):
        c = self.connect()
        data = post("/v1/chat/completions", json.dumps(body(self.r.randrange(16), "a", stream=self.r.random() < 0.5, max_tokens=200, ignore_eos=True)).encode())
        c.sendall(data[:self.r.randrange(1, len(data))] if self.r.random() < 0.3 else data)
        time.sleep(self.r.random() * 0.05)
        if self.r.random() < 0.5:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.close()

    def rubbish(self):
        c = self.connect()
        data = json.dumps(body(1, "a")).encode()
        kind = self.r.randrange(6)
        if kind == 0:
            c.sendall(post("/v1/chat/completions", data[:self.r.randrange(len(data))]))
        elif kind == 1:
            c.sendall(bytes(self.r.randrange(256) for _ in range(200)) + b"\r\n\r\n")
        elif kind == 2:
            c.sendall(post("/v1/messages", b'{"model":"a","max_tokens":-1,"messages":[]}'))
        elif kind == 3:
            c.sendall(post("/api/chat", b"[" * 5000))
        elif kind == 4:
            c.sendall(post("/v1/chat/completions", data, 1 << 40))
        else:
            c.sendall(post("/v1/chat/completions", json.dumps(body(1, "nobody")).encode()))
        c.settimeout(10 * SLOW)
        try:
            got = c.recv(4096)
            status = int(got[9:12]) if got.startswith(b"HTTP/1.1 ") else 0
            if status in (200, 500):
                self.wrong.append(("rubbish", kind, got[:300]))
        except ConnectionError:
            pass
        c.close()

    def slow(self):
        c = socket.socket()
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        c.connect(("127.0.0.1", self.s.port))
        c.sendall(post("/v1/chat/completions", json.dumps(body(3, "a", stream=True, n=4, max_tokens=60, ignore_eos=True, logprobs=True, top_logprobs=5)).encode()))
        time.sleep(0.1 + self.r.random() * 0.2)
        c.close()

    def killed(self):
        p = subprocess.Popen([LARDER, "bench", "serve", f"http://127.0.0.1:{self.s.port}", "--model", "a", "--users", "3", "-n", "30", "-p", "30", "-a", "30"],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(self.r.random() * 0.3)
        p.send_signal(signal.SIGKILL)
        p.wait()

    def others(self):
        path = self.r.choice(["/health", "/metrics", "/v1/models", "/api/ps", "/api/tags"])
        if self.s.ask("GET", path)[0] != 200:
            self.wrong.append(path)

    def run(self, n):
        ways = [(60, lambda: self.good(False)), (25, lambda: self.good(True)), (25, self.leaves), (20, self.rubbish), (4, self.slow), (1, self.killed), (8, self.others)]
        for _ in range(n):
            self.n += 1
            try:
                self.r.choices([w for _, w in ways], [k for k, _ in ways])[0]()
            except Exception as e:
                self.wrong.append(repr(e)[:300])


def mix(s, expected, n, seed):
    clients = [Client(s, expected, seed + i) for i in range(WORKERS)]
    threads = [threading.Thread(target=c.run, args=(n // WORKERS,)) for c in clients]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    wrong = [w for c in clients for w in c.wrong]
    assert not wrong, (len(wrong), wrong[:3])
    s.quiet()
    assert s.metric("kv_blocks_used") == 0 and s.metric("requests_waiting") == 0, "a place is stuck"
    statuses = {}
    for c in clients:
        for k, v in c.statuses.items():
            statuses[k] = statuses.get(k, 0) + v
    return statuses


def settled(s):
    """Resident bytes with one model loaded and nothing going on."""
    s.post("/v1/chat/completions", body(0, "b"))
    s.post("/v1/chat/completions", body(0, "a"))
    s.quiet()
    time.sleep(0.3)
    return s.resident()


with Server("--no-store", parallel=6, models=("a=" + MODEL,)) as server:
    one = server.metric("models_memory_bytes")
with Server("--no-store", "--memory", str(int(one * 1.5)), "--queue", "64", parallel=6, models=("a=" + MODEL, "b=" + MODEL)) as server:
    expected = [json.loads(server.ask("POST", "/v1/chat/completions", body(i, "a"))[2])["choices"][0]["message"]["content"] for i in range(16)]
    mix(server, expected, min(max(TOTAL // 5, 240), TOTAL), 1)  # until every pool and cache has been used once
    before, began, n = settled(server), time.time(), 0
    while n < TOTAL:
        part = min(TOTAL - n, 4000)
        statuses = mix(server, expected, part, 100 + n)
        n += part
        print(f"{n} requests, {time.time() - began:.0f} s, resident {settled(server) / 1e6:.1f} MB ({before / 1e6:.1f}), "
              f"loads {server.metric('models_loaded_total'):.0f}, answers {statuses}", flush=True)
    grown = settled(server) / before - 1
    print(f"resident {100 * grown:+.2f}%")
    assert grown < 0.01 or TOTAL < 5000 or SLOW > 1, grown
    assert grown < 0.05 or SLOW > 1, grown
    assert server.metric("models_unloaded_total") > 2
    assert server.metric('answers_total{finish="error"}'.replace("{", r"\{").replace("}", r"\}")) == 0
