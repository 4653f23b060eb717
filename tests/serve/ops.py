"""As a service: configuration, socket activation, readiness, traces, the log's fields, figures of energy."""
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time

from served import LARDER, MODEL, NAME, SLOW, Server, chat


def lines(s):
    return [json.loads(line) for line in s.log().splitlines()]


def configuration():
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
        f.write(f"# a server\nmodel = story={MODEL}\nqueue = 1\nno-store = true\nmax-body = \"1000\"\n")
        f.flush()
        with Server("--config", f.name, models=()) as s:
            assert [m["id"] for m in s.get("/v1/models")["data"]] == ["story"]
            assert s.ask("POST", "/tokenize", {"content": "x" * 2000})[0] == 413
            assert s.metric("requests_running") == 0
        with Server("--config", f.name, "--max-body", "1M") as s:  # the command line has the last word
            assert [m["id"] for m in s.get("/v1/models")["data"]] == [NAME]
            assert s.ask("POST", "/tokenize", {"content": "x" * 2000})[0] == 200


def traces(s):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    status, headers, text = s.ask("POST", "/v1/chat/completions", chat("Tell me a secret", max_tokens=3), {"traceparent": parent})
    back = headers["traceparent"]
    assert status == 200 and re.fullmatch(r"00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-01", back) and back != parent
    for bad in ("", "00-0", parent.replace("-b7", "-B7"), "00-" + "0" * 32 + parent[35:], parent + "0", parent[:36] + "0" * 16 + "-01", "01" + parent[2:]):
        assert "traceparent" not in s.ask("GET", "/api/version", headers={"traceparent": bad})[1], bad
    end = time.time() + 10 * SLOW
    while not (found := [x for x in lines(s) if x.get("id") == headers["x-request-id"]]):
        assert time.time() < end
        time.sleep(0.02)
    line = found[0]
    assert line["trace_id"] == parent[3:35] and line["span_id"] == back[36:52] and line["parent_id"] == parent[36:52]
    usage = json.loads(text)["usage"]
    assert (line["model"], line["prompt"], line["generated"], line["finish"]) == (NAME, usage["prompt_tokens"], 3, "length")
    assert 0 < line["ttft_ms"] <= line["ms"]
    assert "secret" not in s.log() and "story" not in s.log(), "contents in the log"


def figures(s):
    text = s.ask("GET", "/metrics")[2]
    for name in ("time_to_first_token_seconds", "inter_token_seconds", "queue_seconds", "prefill_seconds", "decode_seconds", "request_seconds"):
        assert f'larder_{name}_bucket{{le="+Inf"}}' in text and f"larder_{name}_count" in text, name
    assert s.metric("decode_read_bytes_total") > 0
    known = s.metric("energy_known")
    joules = re.findall(r'^larder_energy_joules_total\{phase="(\w+)"\} (\S+)$', text, re.M)
    assert known in (0, 1) and (sorted(p for p, _ in joules) == ["decode", "prefill"]) == (known == 1)
    for line in text.splitlines():  # the text format: a name, maybe labels, a number
        assert line.startswith("# ") or re.fullmatch(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[0-9.e+-]+', line), line


def as_a_service():
    """systemd's ways: the socket is descriptor 3; news go to NOTIFY_SOCKET."""
    folder = tempfile.mkdtemp()
    news = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    news.bind(folder + "/notify")
    news.settimeout(30 * SLOW)

    def start(listener, *options):
        def become():
            os.dup2(listener.fileno(), 3)
            os.set_inheritable(3, True)

        line = 'export LISTEN_PID=$$; exec "$@"'
        return subprocess.Popen(["sh", "-c", line, "sh", LARDER, "serve", MODEL, "--no-store", "--ctx", "128", "--parallel", "1", *options],
                                env={**os.environ, "LISTEN_FDS": "1", "NOTIFY_SOCKET": folder + "/notify"}, preexec_fn=become,
                                close_fds=False, stderr=subprocess.PIPE, text=True)

    l = socket.create_server(("127.0.0.1", 0))
    p = start(l)
    c = socket.create_connection(l.getsockname(), timeout=30 * SLOW)  # before it is ready: it waits, and is answered
    c.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert news.recv(100) == b"READY=1"
    assert c.recv(100).startswith(b"HTTP/1.1 200")
    c.close()
    p.send_signal(signal.SIGTERM)
    assert news.recv(100) == b"STOPPING=1"
    log = p.communicate(timeout=30 * SLOW)[1]
    assert p.returncode == 0 and f':{l.getsockname()[1]}"' in log, log
    l.close()
    # the rule about keys goes by where the socket is, not by --host
    l = socket.create_server(("0.0.0.0", 0))
    p = start(l, "--host", "127.0.0.1")
    log = p.communicate(timeout=30 * SLOW)[1]
    assert p.returncode == 2 and "without a key" in log, log
    l.close()
    # no listening socket at all
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    p = start(u)
    log = p.communicate(timeout=30 * SLOW)[1]
    assert p.returncode == 2 and "no listening" in log, log


def energy():
    """Meters that count up while answers are made, and wrap: their joules are put down to prefill and decode."""
    folder = tempfile.mkdtemp()
    os.mkdir(folder + "/intel-rapl:0")
    meter, most = folder + "/intel-rapl:0/energy_uj", 10**9
    open(folder + "/intel-rapl:0/max_energy_range_uj", "w").write(str(most))
    open(meter, "w").write(str(most - 3 * 10**6))
    os.environ["LARDER_POWERCAP"] = folder
    with Server("--no-store") as s:
        del os.environ["LARDER_POWERCAP"]

        def joules():
            text = s.ask("GET", "/metrics")[2]
            return {p: float(v) for p, v in re.findall(r'^larder_energy_joules_total\{phase="(\w+)"\} (\S+)$', text, re.M)}

        assert s.metric("energy_known") == 1 and joules() == {"prefill": 0, "decode": 0}
        c = s.connect()
        c.request("POST", "/v1/chat/completions", json.dumps(chat(max_tokens=200, stream=True, ignore_eos=True)), {"Content-Type": "application/json"})
        r = c.getresponse()
        r.read(300)
        with open(meter, "r+") as f:  # 5 J on, past the end; in one write, as the reader may come at any time
            f.write(f"{2 * 10**6:010d}")
        r.read()
        s.quiet()
        j = joules()
        assert abs(j["prefill"] + j["decode"] - 5) < 0.01 and j["decode"] > 0, j
        with open(meter, "r+") as f:  # nobody was served meanwhile: nobody's
            f.write(f"{9 * 10**6:010d}")
        s.post("/v1/chat/completions", chat())
        s.quiet()
        after = joules()
        assert abs(after["prefill"] + after["decode"] - 5) < 0.01, after


configuration()
energy()
with Server("--no-store") as server:
    traces(server)
    figures(server)
as_a_service()
