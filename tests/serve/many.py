"""Many at once: the same tokens as alone, whoever leaves; slow readers; a full queue; draining; sleeping."""
import json
import random
import signal
import socket
import threading
import time

from served import NAME, SLOW, Server, chat

random.seed(5)


def request(i, **more):
    words = ["dog", "cat", "boat", "tree", "star", "bird", "rain", "king"]
    body = chat(f"Tell me a story about a {words[i % 8]} and number {i}", max_tokens=10 + i % 30, temperature=[0, 0.8, 1.2][i % 3], seed=i)
    return {**body, **([{}, {"top_k": 5}, {"min_p": 0.1, "repeat_penalty": 1.1}, {"mirostat_tau": 4}][i % 4]), **more}


def text_of(answer):
    return answer["choices"][0]["message"]["content"]


def send(s, body, path="/v1/chat/completions"):
    """A request whose answer is left alone."""
    data = json.dumps(body).encode()
    c = socket.create_connection(("127.0.0.1", s.port), timeout=30 * SLOW)
    c.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    return c


def at_once(jobs):
    failures = []

    def run(job):
        try:
            job()
        except BaseException as e:  # a thread's failure is the test's
            failures.append(repr(e)[:500])

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures[:3]


def same_alone_and_together(s, n):
    alone = [text_of(s.post("/v1/chat/completions", request(i))) for i in range(n)]

    def ask(i):
        time.sleep(random.random() * 0.2)
        if i % 2:
            got = text_of(s.post("/v1/chat/completions", request(i)))
        else:
            events = s.events("/v1/chat/completions", request(i, stream=True))
            got = "".join(c["delta"].get("content", "") for e in events[:-1] for c in e["choices"])
        assert got == alone[i], (i, got, alone[i])

    def leave(i):
        c = send(s, request(i, stream=bool(i % 2), max_tokens=200, ignore_eos=True))
        time.sleep(random.random() * 0.1)
        if i % 3:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, as a killed client's may be
        c.close()

    at_once([lambda i=i: ask(i) for i in range(n)] + [lambda i=i: leave(i) for i in range(n // 2)])
    s.quiet()
    assert s.metric('answers_total{finish="error"}'.replace("{", r"\{").replace("}", r"\}")) == 0


def leaving_frees_the_place(s):
    for stream in (False, True):
        waiting = [send(s, request(i, stream=stream, max_tokens=240, ignore_eos=True)) for i in range(20)]
        end = time.time() + 20 * SLOW
        while s.metric("calls") == 0 and time.time() < end:
            time.sleep(0.01)
        for c in waiting:
            c.close()
        began = time.time()
        s.quiet()
        assert time.time() - began < 2 * SLOW, "a client that left is still served"
    assert s.metric("kv_blocks_used") == 0


def slow_readers(s):
    """They take nothing; everybody else is served meanwhile, and memory stays where it is."""
    slow = []
    for i in range(12):
        c = socket.socket()
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        c.connect(("127.0.0.1", s.port))
        data = json.dumps(request(i, stream=True, n=8, max_tokens=200, ignore_eos=True, logprobs=True, top_logprobs=20)).encode()
        c.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        slow.append(c)
    before = s.resident()
    assert s.post("/v1/chat/completions", request(1))["usage"]["completion_tokens"] > 0
    assert s.resident() - before < 64 << 20 or SLOW > 1
    for c in slow:
        c.close()
    s.quiet()


def sleeps(s):
    s.quiet()
    time.sleep(0.3)
    before = s.cpu()
    time.sleep(2)
    used = s.cpu() - before
    assert used <= 0.02, f"{used} s of cpu in 2 s of nothing to do"


def full_queue():
    with Server("--queue", "3", parallel=1) as s:
        held = [send(s, request(i, stream=True, max_tokens=240, ignore_eos=True)) for i in range(3)]
        end = time.time() + 20 * SLOW
        seen = None
        while time.time() < end:
            status, headers, text = s.ask("POST", "/v1/messages", {"model": NAME, "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]})
            if status == 429:
                seen = headers
                assert json.loads(text)["error"]["type"] == "rate_limit_error"
                break
            held += [send(s, request(i, stream=True, max_tokens=240, ignore_eos=True)) for i in range(3)]
        assert seen and int(seen["Retry-After"]) >= 1
        for c in held:
            c.close()
        s.quiet()
        s.post("/v1/chat/completions", request(1))


def drains():
    with Server(parallel=1) as s:
        body = request(3, stream=True, max_tokens=200, ignore_eos=True)
        whole = s.events("/v1/chat/completions", body)
        c = send(s, body)
        first = c.recv(100)
        assert first.startswith(b"HTTP/1.1 200"), first
        s.process.send_signal(signal.SIGTERM)
        got = first
        while True:
            part = c.recv(65536)
            if not part:
                break
            got += part
        assert b"[DONE]" in got and got.count(b"data: ") == len(whole), "an answer was cut by the drain"
        assert s.process.wait(20 * SLOW) == 0


def killed():
    with Server(parallel=2) as s:
        send(s, request(1, max_tokens=200, ignore_eos=True))
        s.process.kill()
        s.process.wait()
        s.process = type("gone", (), {"poll": lambda self: 0, "wait": lambda self, t=0: 0})()
    with Server(parallel=2) as s:
        s.post("/v1/chat/completions", request(1))


def read_once(s):
    """n choices read their prompt once, but for what is behind its last whole block of the cache."""
    def read():
        return s.metric("prompt_tokens_total") - s.metric("prompt_tokens_cached_total")
    for i, path in enumerate(("/v1/chat/completions", "/v1/completions")):
        text = f"{i} The dog and the cat went to the sea. " * 10
        body = {"model": NAME, "n": 4, "max_tokens": 3, **({"prompt": text} if i else {"messages": [{"role": "user", "content": text}]})}
        before = read()
        got = s.post(path, body)
        n = got["usage"]["prompt_tokens"]
        assert n > 100 and len(got["choices"]) == 4
        assert n <= read() - before <= n + 3 * 32, (n, read() - before)


with Server("--queue", "64", parallel=6) as server:
    read_once(server)
    same_alone_and_together(server, 20)
    leaving_frees_the_place(server)
    slow_readers(server)
    if SLOW == 1:
        sleeps(server)
full_queue()
drains()
killed()
