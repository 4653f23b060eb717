"""Several models: loaded when asked for, sent away for others or by time, pinned, refused with the figures; the store's."""
import json
import os
import shutil
import threading
import time

from served import MODEL, SLOW, Server


def ask(s, model, want=200, **more):
    body = {"model": model, "messages": [{"role": "user", "content": "Tell me a story"}], "max_tokens": 6, "temperature": 0, **more}
    return s.post("/v1/chat/completions", body, want)


def text_of(answer):
    return answer["choices"][0]["message"]["content"]


def state(s):
    return {m["id"]: m["state"] for m in s.get("/v1/models")["data"]}


def wait_for(what, seconds=20):
    end = time.time() + seconds * SLOW
    while not what():
        assert time.time() < end, "it does not happen"
        time.sleep(0.05)


def loaded_when_asked():
    with Server("--no-store", models=("a=" + MODEL, "b=" + MODEL)) as s:
        assert state(s) == {"a": "loaded", "b": "unloaded"}
        assert [m["name"] for m in s.get("/api/ps")["models"]] == ["a"] and len(s.get("/api/tags")["models"]) == 2
        one = s.metric("models_memory_bytes")
        first = ask(s, "a")
        other = ask(s, "b")
        assert first["model"] == "a" and other["model"] == "b" and text_of(first) == text_of(other)
        assert state(s) == {"a": "loaded", "b": "loaded"} and s.metric("models_memory_bytes") == 2 * one
        assert ask(s, "b:latest")["model"] == "b"
        assert "model" in ask(s, "c", 404)["error"]["message"]
        for bad in ("../a", MODEL, "/etc/passwd", "a=b", "", "a/../b"):
            ask(s, bad, 404)
        # options of the engine are not changed by asking
        body = {"model": "b", "prompt": "x", "stream": False, "options": {"num_ctx": 4096}}
        assert "--ctx" in s.post("/api/generate", body, 400)["error"]
        # both at once
        failures = []

        def many(name):
            for _ in range(6):
                if text_of(ask(s, name)) != text_of(first):
                    failures.append(name)

        threads = [threading.Thread(target=many, args=(n,)) for n in "abab"]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert not failures
        return one


def take_turns(one):
    """Room for one only: each goes for the other, nobody starves, and no answer suffers."""
    with Server("--no-store", "--memory", str(int(one * 1.5)), models=("a=" + MODEL, "b=" + MODEL)) as s:
        want = text_of(ask(s, "a"))
        assert text_of(ask(s, "b")) == want and state(s) == {"a": "unloaded", "b": "loaded"}
        wrong = []

        def many(name, n):
            for i in range(n):
                got = text_of(ask(s, name, max_tokens=6 + i % 3))
                if not got.startswith(want):
                    wrong.append((name, got))

        threads = [threading.Thread(target=many, args=(n, 4)) for n in "ababab"]
        [t.start() for t in threads]
        for _ in range(10):
            assert s.metric("models_memory_bytes") <= s.metric("models_memory_limit_bytes")
            time.sleep(0.02)
        [t.join() for t in threads]
        assert not wrong, wrong[:2]
        assert s.metric("models_unloaded_total") >= 2
        s.quiet()


def pinned(one):
    with Server("--no-store", "--memory", str(int(one * 1.5)), "--pin", "a", models=("a=" + MODEL, "b=" + MODEL)) as s:
        why = ask(s, "b", 400)["error"]["message"]
        assert "does not fit" in why and why.count("GiB") >= 2 and "/" not in why, why
        assert state(s)["a"] == "loaded" and ask(s, "a")["model"] == "a"


def idle():
    with Server("--no-store", "--idle-unload", "1") as s:
        before = s.metric("models_memory_bytes")
        wait_for(lambda: not s.get("/api/ps")["models"])
        assert before > 0 and s.metric("models_memory_bytes") == 0
        assert text_of(ask(s, "teller-18m-q8_0"))
        assert len(s.get("/api/ps")["models"]) == 1


def of_the_store():
    folder = os.environ["XDG_DATA_HOME"] + "/larder/models/some/teller/Q8_0"
    os.makedirs(folder)
    shutil.copy(MODEL, folder + "/teller.gguf")
    name = "some/teller:Q8_0"
    with Server(models=()) as s:
        assert state(s) == {name: "unloaded"} and "landlock" in s.log()
        assert s.post("/api/show", {"model": name})["model_info"]["general.architecture"] == "llama"
        assert state(s) == {name: "unloaded"}, "showing it loaded it"
        chat = {"model": name, "messages": [{"role": "user", "content": "Hi"}], "stream": False, "options": {"num_predict": 2}}
        assert s.post("/api/chat", chat)["model"] == name
        left = s.get("/api/ps")["models"][0]
        assert left["context_length"] == 256 and not left["expires_at"].startswith("9999")
        s.post("/api/chat", {**chat, "keep_alive": -1})
        assert s.get("/api/ps")["models"][0]["expires_at"].startswith("9999")
        for bad in ("5 apples", "m", "", True, "1x"):
            assert "keep_alive" in s.post("/api/chat", {**chat, "keep_alive": bad}, 400)["error"]
        s.post("/api/chat", {**chat, "model": "some/teller", "keep_alive": "0s"})
        wait_for(lambda: state(s) == {name: "unloaded"})
        ask(s, "some/other", 404)
        # one that comes while the server runs is there; one that cannot be read says so without its path
        os.rename(folder, folder[:-4] + "Q4_0")
        with open(folder[:-4] + "Q4_0/teller.gguf", "r+b") as f:
            f.truncate(5000)
        why = ask(s, "some/teller:Q4_0", 503)["error"]["message"]
        assert "could not be loaded" in why and os.sep + "models" not in why, why
        ask(s, name, 503)


one = loaded_when_asked()
take_turns(one)
pinned(one)
idle()
of_the_store()
