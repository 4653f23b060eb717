"""/api/pull by a helper: off by default; progress, sharing, giving up, errors; then the model is there. The hub is our own."""
import glob
import hashlib
import http.server
import json
import os
import re
import socket
import threading
import time

from served import MODEL, SLOW, Server

DATA = open(MODEL, "rb").read()
hold = threading.Event()  # while clear, the slow repository's file stops half way
seen = []


class Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seen.append(self.path)
        if self.path.startswith("/api/models/some/"):
            repo = self.path.split("/")[4]
            if repo == "nothing":
                return self.send_error(404)
            digest = "0" * 64 if repo == "damaged" else hashlib.sha256(DATA).hexdigest()
            body = json.dumps([{"type": "file", "path": "teller-Q8_0.gguf", "size": len(DATA), "lfs": {"oid": digest, "size": len(DATA)}}]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        first = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, "0"])[1])
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(DATA) - first))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(DATA) - 1}/{len(DATA)}")
        self.end_headers()
        try:
            if "/slow/" in self.path:
                half = max(len(DATA) // 2, first)
                self.wfile.write(DATA[first:half])
                while not hold.is_set():  # a little all the time: alive, but far from done
                    time.sleep(0.05)
                    self.wfile.write(DATA[half:half + 100])
                    half += 100
                first = half
            self.wfile.write(DATA[first:])
        except OSError:
            pass

    def log_message(self, *a):
        pass


hub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=hub.serve_forever, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{hub.server_port}"


def names(s):
    return [m["id"] for m in s.get("/v1/models")["data"]]


def off():
    with Server() as s:
        assert "--allow-pull" in s.post("/api/pull", {"model": "some/model"}, 403)["error"]
    assert not seen


def pulls(s):
    lines = s.lines_of("/api/pull", {"model": "some/teller:Q8_0"})
    assert lines[0] == {"status": "pulling manifest"} and lines[-1] == {"status": "success"}, lines
    steps = [x for x in lines if "completed" in x]
    assert all(x["completed"] <= x["total"] for x in steps)
    assert "some/teller:Q8_0" in names(s)
    answer = s.post("/v1/chat/completions", {"model": "some/teller", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3})
    assert answer["usage"]["completion_tokens"] == 3
    assert s.post("/api/pull", {"name": "hf.co/some/teller:Q8_0", "stream": False}) == {"status": "success"}  # it is there


def refuses(s):
    for bad in ("", "x", "some/../other", "/some/x", "https://evil.example/x.gguf", "http://127.0.0.1/x", "some/x/y", "some/x:a:b", "some/x\n", "some/ü", 5, None, "a/" + "b" * 300):
        assert "owner/repo" in s.post("/api/pull", {"model": bad}, 400)["error"], bad
    s.post("/api/pull", {"model": "some/teller", "insecure": True}, 400)
    s.post("/api/pull", {"model": "some/teller", "surprise": 1}, 400)
    s.post("/api/pull", "[]", 400)
    s.post("/api/pull", "{", 400)
    s.post("/api/pull", {"model": "a/b", "x": "y" * 10000}, 400)
    assert s.ask("POST", "/api/pull", '{"model":"some/teller"}', {"Content-Type": "text/plain"})[0] == 415
    before = len(seen)
    lines = s.lines_of("/api/pull", {"model": "some/nothing"})
    assert "error" in lines[-1] and "success" not in str(lines), lines
    assert "error" in s.post("/api/pull", {"model": "some/damaged", "stream": False}, 502)
    assert len(seen) > before and not any("damaged" in n for n in names(s))


def shares_and_gives_up(s):
    data = b'{"model":"some/slow"}'
    head = b"POST /api/pull HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data)

    def ask():
        c = socket.create_connection(("127.0.0.1", s.port), timeout=30 * SLOW)
        c.sendall(head + data)
        got = b""
        while b"completed" not in got:
            part = c.recv(4096)
            assert part, got
            got += part
        return c

    a, b = ask(), ask()
    assert "another" in s.post("/api/pull", {"model": "some/other"}, 503)["error"]
    assert s.get("/health")["status"] == "ok"
    a.close()
    assert b.recv(4096), "it was given up though somebody waits"
    b.close()
    end = time.time() + 30 * SLOW
    while s.ask("POST", "/api/pull", {"model": "some/nothing", "stream": False})[0] == 503:
        assert time.time() < end, "a pull nobody waits for goes on"
        time.sleep(0.1)
    hold.set()
    assert s.lines_of("/api/pull", {"model": "some/slow"})[-1] == {"status": "success"}


def helper_of(s):
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            fields = open(stat).read().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[1]) == s.process.pid:
            return int(stat.split("/")[2])
    raise AssertionError("there is no helper")


off()
with Server("--allow-pull", "--allow-origin", "http://page.example") as server:
    helper = helper_of(server)
    pulls(server)
    refuses(server)
    shares_and_gives_up(server)
    # the helper is walled in too; when it is gone, that is said
    status = open(f"/proc/{helper}/status").read()
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
    os.kill(helper, 9)
    time.sleep(0.2)
    assert server.ask("POST", "/api/pull", {"model": "some/teller"})[0] in (403, 503)
    assert server.get("/health")["status"] == "ok"
with Server("--allow-pull") as server:
    helper = helper_of(server)
end = time.time() + 10 * SLOW
while os.path.exists(f"/proc/{helper}"):
    assert time.time() < end, "the helper outlives the server"
    time.sleep(0.05)
