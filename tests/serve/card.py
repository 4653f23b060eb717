"""larder serve with a card whose driver opens files of its own: it must have them before the server gives up its rights, and
after that nobody has. Called by tests/cli/card.test."""
import json
import os
import sys

from served import MODEL, NAME, Server

ASK = {"model": NAME, "prompt": "A cat", "max_tokens": 3, "temperature": 0}


def events(server):
    return [json.loads(line) for line in server.log().splitlines()]


def serve(device, emulated):
    os.environ["LARDER_EMULATED"] = emulated
    with Server("--device", device, parallel=2, ctx=64) as s:
        assert s.post("/v1/completions", ASK)["usage"]["completion_tokens"] == 3
        return events(s)


log = serve("cuda", "node=" + sys.argv[1])
confined = [e for e in log if e["event"] == "confined"]
files = [e for e in confined if "files" in e]
assert files or any(e["event"] == "not confined" for e in log), log
assert not files or files[0]["abi"] >= 8 or "driver" in files[0]["but"], files
assert not any(e["event"] == "note" for e in log), log

# two models, of which the card holds one: they take turns on it, and neither goes to the processor
os.environ["LARDER_EMULATED"] = "memory=100"
with Server(models=[f"a={MODEL}", f"b={MODEL}"], parallel=2, ctx=64) as s:
    for name in "ab":
        s.post("/v1/completions", {**ASK, "model": name})
    loads = [(e["event"], e["model"], e["device"]) for e in events(s) if e["event"] in ("loaded", "unloaded")]
    assert loads == [("loaded", "a", "cuda"), ("unloaded", "a", "cuda"), ("loaded", "b", "cuda")], loads
    assert s.metric("card_memory_bytes") == 100 << 20
    assert 0 < s.metric("models_card_memory_bytes") <= s.metric("models_card_memory_limit_bytes")
    assert s.metric("models_memory_bytes") < 4 << 20

log = serve("auto", "fail=taking")
notes = [e["text"] for e in log if e["event"] == "note"]
assert len(notes) == 1 and "out of memory" in notes[0], log
