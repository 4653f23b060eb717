"""What the tests of the server share: a server of its own on a free port, and short ways to ask it.

A failed check raises; the test ends with a traceback and status 1. Owns no claims about any route."""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

LARDER = os.environ["LARDER_BIN"]
MODEL = "models/teller-18m-q8_0.gguf"
NAME = "teller-18m-q8_0"
SLOW = {"asan": 4, "ubsan": 3, "tsan": 15}.get(os.environ.get("LARDER_MODE", ""), 1)
QUICK = os.environ.get("LARDER_QUICK") == "1"  # fewer rounds, for sanitizers
JSON = {"Content-Type": "application/json"}


class Server:
    def __init__(self, *options, parallel=8, ctx=256, model=MODEL, models=None):
        self.file = tempfile.TemporaryFile("a+b")  # appending: reading moves no writer
        self.process = subprocess.Popen([LARDER, "serve", *((model,) if models is None else models), "--port", "0", "--threads", "1", "--ctx", str(ctx), "--parallel",
                                         str(parallel), *options], stderr=self.file, stdin=subprocess.DEVNULL)
        end = time.time() + 60 * SLOW
        while not (found := re.search(r'"url":"https?://.*:(\d+)"', self.log())):
            assert self.process.poll() is None and time.time() < end, "the server does not start: " + self.log()
            time.sleep(0.02)
        self.port = int(found.group(1))

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(60 * SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("the server does not stop")
        if status != 0 or "Sanitizer" in self.log():
            print(self.log()[-6000:], file=sys.stderr)
            assert kind is not None, f"the server ended with {status}"

    def log(self):
        """What it has said so far."""
        self.file.seek(0)
        return self.file.read().decode()

    def connect(self, timeout=60):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout * SLOW)

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, body as text)"""
        c = self.connect()
        text = json.dumps(body) if isinstance(body, (dict, list)) else body
        c.request(method, path, text, {**(JSON if method == "POST" else {}), **(headers or {})})
        r = c.getresponse()
        text = r.read().decode()
        c.close()
        return r.status, r.headers, text

    def get(self, path):
        status, _, text = self.ask("GET", path)
        assert status == 200, (path, status, text)
        return json.loads(text)

    def post(self, path, body, want=200):
        status, _, text = self.ask("POST", path, body)
        assert status == want, (path, body, status, text)
        return json.loads(text)

    def events(self, path, body):
        """The data of a stream's events; with a "[DONE]" if it says so."""
        status, headers, text = self.ask("POST", path, body)
        assert status == 200 and headers["Content-Type"].startswith("text/event-stream"), (status, text)
        data = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
        return [d if d == "[DONE]" else json.loads(d) for d in data]

    def lines_of(self, path, body):
        status, headers, text = self.ask("POST", path, body)
        assert status == 200 and headers["Content-Type"] == "application/x-ndjson", (status, text)
        return [json.loads(line) for line in text.splitlines()]

    def raw(self, data, timeout=3):
        """The start of what comes back for these bytes."""
        s = socket.create_connection(("127.0.0.1", self.port), timeout=timeout * SLOW)
        try:
            s.sendall(data)
        except OSError:
            pass
        try:
            return s.recv(4096)
        except OSError:
            return b""
        finally:
            s.close()

    def cpu(self):
        f = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self):
        return int(open(f"/proc/{self.process.pid}/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def metric(self, name):
        status, _, text = self.ask("GET", "/metrics")
        assert status == 200
        return float(re.search(rf"^larder_{name} (\S+)$", text, re.M).group(1))

    def quiet(self):
        """Waits until nothing runs."""
        end = time.time() + 30 * SLOW
        while self.metric("calls") or self.metric("requests_running"):
            assert time.time() < end, "something still runs"
            time.sleep(0.05)


def chat(text="Tell me a story", **more):
    return {"model": NAME, "messages": [{"role": "user", "content": text}], "max_tokens": 12, "temperature": 0, **more}
