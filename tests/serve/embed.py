"""Texts as vectors, on the three routes that give them: the same ones, of length 1, whoever else is served."""
import base64
import json
import struct
import threading

from served import NAME, QUICK, Server, chat

TEXTS = ["A dog", "The cat sat on the mat and looked at the sea.", "word " * 100, "é", " "]
ROUNDS = 3 if QUICK else 40
OPENAI, OLLAMA, OLD = "/v1/embeddings", "/api/embed", "/api/embeddings"


def openai(s, given, **more):
    return s.post(OPENAI, {"model": NAME, "input": given, **more})


def vectors(answer):
    assert [d["index"] for d in answer["data"]] == list(range(len(answer["data"])))
    return [d["embedding"] for d in answer["data"]]


def length(v):
    return sum(x * x for x in v) ** 0.5


def near(a, b):
    assert len(a) == len(b) and all(abs(x - y) < 1e-5 for x, y in zip(a, b)), (a[:4], b[:4])


def shapes(s):
    whole = openai(s, TEXTS)
    many = vectors(whole)
    assert whole["object"] == "list" and len(many) == len(TEXTS) and all(abs(length(v) - 1) < 1e-5 for v in many)
    counts = [len(s.post("/tokenize", {"content": t, "add_special": True})["tokens"]) for t in TEXTS]
    assert whole["usage"] == {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}
    for i, text in enumerate(TEXTS):
        assert vectors(openai(s, text)) == [many[i]], "alone it is another"
        packed = openai(s, text, encoding_format="base64")["data"][0]["embedding"]
        near(struct.unpack(f"<{len(many[i])}f", base64.b64decode(packed)), many[i])
    ids = [s.post("/tokenize", {"content": t, "add_special": True})["tokens"] for t in TEXTS[:2]]
    assert vectors(openai(s, ids)) == many[:2] and vectors(openai(s, ids[1])) == many[1:2]
    for n in (1, 7, 8, 9, len(many[1])):
        cut = vectors(openai(s, TEXTS[1], dimensions=n))[0]
        near(cut, [x / length(many[1][:n]) for x in many[1][:n]])
        packed = openai(s, TEXTS[1], dimensions=n, encoding_format="base64")["data"][0]["embedding"]
        assert len(base64.b64decode(packed)) == 4 * n
    last = vectors(openai(s, TEXTS[1], pooling="last"))[0]
    assert last != many[1] and abs(length(last) - 1) < 1e-5
    return many


def ollama(s, many):
    o = s.post(OLLAMA, {"model": NAME, "input": TEXTS})
    assert o["embeddings"] == many and o["model"] == NAME and o["prompt_eval_count"] > 100 and o["total_duration"] > 0
    assert s.post(OLLAMA, {"model": NAME, "input": TEXTS[0]})["embeddings"] == many[:1]
    assert s.post(OLLAMA, {"model": NAME, "input": []})["embeddings"] == []
    raw = s.post(OLD, {"model": NAME, "prompt": TEXTS[0]})["embedding"]
    near([x / length(raw) for x in raw], many[0])
    assert abs(length(raw) - 1) > 0.01  # as Ollama has it: as the model gave it
    assert s.post(OLD, {"model": NAME, "prompt": ""})["embedding"] == []
    long = "word " * 600
    status, headers, text = s.ask("POST", OLLAMA, {"model": NAME, "input": long, "keep_alive": "5m"})
    assert status == 200 and "cut" in headers["Larder-Note"] and json.loads(text)["prompt_eval_count"] == 256
    assert "256" in s.post(OLLAMA, {"model": NAME, "input": long, "truncate": False}, 400)["error"]
    assert "256" in s.post(OPENAI, {"model": NAME, "input": ["a", long]}, 400)["error"]["message"]


def refusals(s):
    n = len(vectors(openai(s, "a"))[0])
    for more in ({"input": ""}, {"input": []}, {"input": ["a", ""]}, {"input": None}, {"input": 5}, {"input": [[]]}, {"input": [["a"]]}, {"input": [1.5]},
                 {"input": [4096]}, {"input": [-1]}, {"input": [[1 << 40]]}, {"input": ["a", 1]}, {"input": {}}, {"input": ["a"] * 2049}, {"dimensions": 0},
                 {"dimensions": n + 1}, {"dimensions": -1}, {"dimensions": 1.5}, {"encoding_format": "int8"}, {"pooling": "max"}, {"surprise": 1}):
        message = s.post(OPENAI, {"model": NAME, "input": "a", **more}, 400)["error"]["message"]
        assert next(iter(more)) in message, (more, message)
    s.post(OPENAI, {"model": "other", "input": "a"}, 404)
    for path, key in ((OLLAMA, "input"), (OLD, "prompt")):
        for bad in (5, {}, [[1]], None):
            s.post(path, {"model": NAME, key: bad}, 400)
        s.post(path, {"model": NAME, key: "a", "options": 5}, 400)
        s.post(path, {"model": "other", key: "a"}, 404)


def company(s, many):
    """Answers and vectors at once: neither waits for all of the other, neither changes."""
    alone = s.post("/v1/chat/completions", chat(max_tokens=100))["choices"][0]["message"]["content"]
    got, bad = [], []

    def batch():
        try:
            got.append(vectors(openai(s, TEXTS * ROUNDS)))
        except AssertionError as e:
            bad.append(e)

    def answer():
        try:
            assert s.post("/v1/chat/completions", chat(max_tokens=100))["choices"][0]["message"]["content"] == alone
        except AssertionError as e:
            bad.append(e)

    threads = [threading.Thread(target=f) for f in [batch, *[answer] * 8, batch]]
    for t in threads:
        t.start()
    assert vectors(openai(s, TEXTS[0])) == many[:1]
    for t in threads:
        t.join()
    assert not bad and got == [many * ROUNDS] * 2, bad
    c = s.connect()  # one that leaves
    c.request("POST", OPENAI, json.dumps({"model": NAME, "input": TEXTS * 400}), {"Content-Type": "application/json"})
    c.close()
    s.quiet()


with Server(parallel=4) as server:
    found = shapes(server)
    ollama(server, found)
    refusals(server)
    company(server, found)
