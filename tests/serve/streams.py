"""What streams carry: calls of tools in parts, thoughts and their budget, errors in the middle, how far a prompt is."""
import json
import os
import re
import tempfile
import threading

from gguf import ALWAYS, THINKS, changed
from served import JSON, NAME, QUICK, SLOW, Server, chat

PARAMETERS = {"type": "object", "properties": {"place": {"enum": ["the sea", "the green hill"]}, "days": {"type": "integer", "minimum": 1, "maximum": 99}},
              "required": ["place", "days"], "additionalProperties": False}
TOOLS = [{"type": "function", "function": {"name": name, "description": "Goes", "parameters": PARAMETERS}} for name in ("go", "look")]
FLAT = [{"type": "function", **t["function"]} for t in TOOLS]
THEIRS = [{"name": t["function"]["name"], "input_schema": PARAMETERS} for t in TOOLS]
MESSAGES = [{"role": "user", "content": "Go to the sea"}]


def fits(name, args):
    o = json.loads(args)
    assert name in ("go", "look") and o["place"] in ("the sea", "the green hill") and 1 <= o["days"] <= 99, (name, args)


def gather_openai(events):
    """Calls as a client puts them together: by index, arguments in parts."""
    calls, parts = [], 0
    for e in events[:-1]:
        for c in e["choices"]:
            for t in c["delta"].get("tool_calls", []):
                if t["index"] == len(calls):
                    calls.append({"id": t["id"], "name": t["function"]["name"], "arguments": ""})
                else:
                    assert t["index"] == len(calls) - 1 and "id" not in t and "name" not in t["function"]
                    parts += 1
                calls[-1]["arguments"] += t["function"]["arguments"]
    return calls, parts


def openai_tools(s):
    body = chat(tools=TOOLS, tool_choice="required", max_tokens=200, temperature=1)
    for seed in range(1 if QUICK else 4):
        whole = s.post("/v1/chat/completions", {**body, "seed": seed})["choices"][0]
        events = s.events("/v1/chat/completions", {**body, "seed": seed, "stream": True})
        calls, parts = gather_openai(events)
        f = whole["message"]["tool_calls"][0]["function"]
        assert len(calls) == 1 and parts > 2 and {"name": calls[0]["name"], "arguments": calls[0]["arguments"]} == f
        fits(**{"name": f["name"], "args": f["arguments"]})
        assert events[-2]["choices"][0]["finish_reason"] == whole["finish_reason"] == "tool_calls"
    most = 0
    for seed in range(6):
        many = {**body, "parallel_tool_calls": True, "seed": seed, "max_tokens": 400}
        whole = s.post("/v1/chat/completions", many)["choices"][0]
        calls, _ = gather_openai(s.events("/v1/chat/completions", {**many, "stream": True}))
        assert [c["arguments"] for c in calls] == [t["function"]["arguments"] for t in whole["message"]["tool_calls"]]
        assert len({c["id"] for c in calls}) == len(calls) <= 16
        for c in calls if whole["finish_reason"] == "tool_calls" else calls[:-1]:
            fits(c["name"], c["arguments"])
        most = max(most, len(calls))
    assert most > 1, "never more than one call"
    # cut off in the middle: what there is, and why
    cut = s.post("/v1/chat/completions", {**body, "max_tokens": 12})["choices"][0]
    assert cut["finish_reason"] == "length", cut
    for choice in ("auto", "none"):
        o = s.post("/v1/chat/completions", {**body, "tool_choice": choice, "parallel_tool_calls": False})["choices"][0]
        assert o["finish_reason"] in ("stop", "length")


def other_tools(s):
    body = {"model": NAME, "input": "Go", "tools": FLAT, "tool_choice": "required", "max_output_tokens": 200, "temperature": 0}
    whole = s.post("/v1/responses", body)["output"]
    events = s.events("/v1/responses", {**body, "stream": True})
    deltas = [e for e in events if e["type"] == "response.function_call_arguments.delta"]
    done = next(e for e in events if e["type"] == "response.function_call_arguments.done")
    assert len(deltas) > 2 and "".join(e["delta"] for e in deltas) == done["arguments"] == whole[0]["arguments"]
    assert events[-1]["response"]["output"][0]["arguments"] == done["arguments"] and events[-1]["response"]["tools"][0]["strict"] is False
    o = s.post("/v1/responses", {**body, "parallel_tool_calls": True, "max_output_tokens": 400, "temperature": 1, "seed": 3})
    assert o["parallel_tool_calls"] is True and all(i["type"] == "function_call" for i in o["output"])
    assert s.post("/v1/responses", {**body, "tool_choice": {"type": "function", "name": "look"}})["output"][0]["name"] == "look"

    body = {"model": NAME, "max_tokens": 200, "messages": MESSAGES, "tools": THEIRS, "tool_choice": {"type": "any"}, "temperature": 0}
    whole = s.post("/v1/messages", body)
    events = s.events("/v1/messages", {**body, "stream": True})
    parts = [e["delta"]["partial_json"] for e in events if e["type"] == "content_block_delta"]
    assert len(parts) > 2 and json.loads("".join(parts)) == whole["content"][0]["input"] and whole["stop_reason"] == "tool_use"
    starts = [e for e in events if e["type"] == "content_block_start"]
    assert starts[0]["content_block"]["type"] == "tool_use" and starts[0]["content_block"]["input"] == {}
    many = s.post("/v1/messages", {**body, "tool_choice": {"type": "any", "disable_parallel_tool_use": False}, "max_tokens": 400})
    assert all(b["type"] == "tool_use" for b in many["content"])
    assert s.post("/v1/messages", {**body, "tool_choice": {"type": "none"}})["stop_reason"] in ("end_turn", "max_tokens")
    s.post("/v1/messages", {**body, "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}})
    s.post("/v1/messages", {**body, "tool_choice": {"type": "tool", "name": "fly"}}, 400)


def thoughts(s):
    """The template opens a thought and this model never ends one: the budget does."""
    for budget in (30,) if QUICK else (1, 7, 30):
        body = chat(max_tokens=60, reasoning_budget=budget)
        o = s.post("/v1/chat/completions", body)
        m = o["choices"][0]["message"]
        assert m["content"] and m["reasoning_content"], m
        assert o["usage"]["completion_tokens_details"]["reasoning_tokens"] in (budget, budget + 1), (budget, o["usage"])
        assert o["usage"]["completion_tokens"] == 60 and o["usage"]["prompt_tokens"] < 40
        events = s.events("/v1/chat/completions", {**body, "stream": True})[:-1]
        for key in ("content", "reasoning_content"):
            assert "".join(c["delta"].get(key, "") for e in events for c in e["choices"]) == m[key]
    free = s.post("/v1/chat/completions", chat(max_tokens=60))["choices"][0]["message"]
    assert not free["content"] and free["reasoning_content"].startswith(m["reasoning_content"].rstrip())
    # the whole answer is thought: it ends with the length
    o = s.post("/v1/chat/completions", chat(max_tokens=20, reasoning_budget=20))["choices"][0]
    assert o["finish_reason"] == "length" and not o["message"]["content"]
    for more in ({"reasoning_effort": "none"}, {"reasoning_budget": 0}):
        m = s.post("/v1/chat/completions", chat(max_tokens=30, **more))["choices"][0]["message"]
        assert m["content"] and "reasoning_content" not in m, m
    for effort in ("low",) if QUICK else ("minimal", "low", "medium", "high", "xhigh"):
        assert "reasoning_content" in s.post("/v1/chat/completions", chat(reasoning_effort=effort))["choices"][0]["message"]
    for more in ({"reasoning_effort": "huge"}, {"reasoning_budget": -1}, {"reasoning_budget": 1.5}):
        assert next(iter(more)) in s.post("/v1/chat/completions", chat(**more), 400)["error"]["message"]
    several = s.post("/v1/chat/completions", chat(max_tokens=40, reasoning_budget=5, n=3, temperature=1, seed=4))["choices"]
    assert all(c["message"]["content"] for c in several) and len({c["message"]["content"] for c in several}) > 1
    again = s.post("/v1/chat/completions", chat(max_tokens=40, reasoning_budget=5, n=3, temperature=1, seed=4))["choices"]
    assert again == several, "another answer to the same question"

    body = {"model": NAME, "max_tokens": 60, "temperature": 0, "messages": MESSAGES, "thinking": {"type": "enabled", "budget_tokens": 12}}
    o = s.post("/v1/messages", body)
    assert [b["type"] for b in o["content"]] == ["thinking", "text"]
    events = s.events("/v1/messages", {**body, "stream": True})
    for kind, key in (("thinking_delta", "thinking"), ("text_delta", "text")):
        said = "".join(e["delta"][key] for e in events if e["type"] == "content_block_delta" and e["delta"]["type"] == kind)
        assert said == next(b for b in o["content"] if b["type"] == key)[key]
    assert [b["type"] for b in s.post("/v1/messages", {**body, "thinking": {"type": "disabled"}})["content"]] == ["text"]
    s.post("/v1/messages", {**body, "output_config": {"effort": "low"}})
    for bad in ({"type": "enabled", "budget_tokens": 60}, {"type": "enabled", "budget_tokens": 0}, {"type": "disabled", "budget_tokens": 5}, {"type": "x"}, {}):
        assert "thinking" in s.post("/v1/messages", {**body, "thinking": bad}, 400)["error"]["message"]

    body = {"model": NAME, "messages": MESSAGES, "options": {"num_predict": 30, "temperature": 0}}
    m = s.post("/api/chat", {**body, "think": False, "stream": False})["message"]
    assert m["content"] and "thinking" not in m
    assert s.post("/api/chat", {**body, "think": "low", "stream": False})["message"]["thinking"]
    assert any(line["message"].get("thinking") for line in s.lines_of("/api/chat", {**body, "think": True}))
    s.post("/api/chat", {**body, "think": "huge"}, 400)

    body = {"model": NAME, "input": "Go", "max_output_tokens": 30, "temperature": 0}
    o = s.post("/v1/responses", {**body, "reasoning": {"effort": "low"}})
    assert o["output"][0]["type"] == "reasoning" and o["reasoning"]["effort"] == "low"
    kinds = [e["type"] for e in s.events("/v1/responses", {**body, "stream": True})]
    assert kinds.index("response.content_part.added") < kinds.index("response.reasoning_text.delta") < kinds.index("response.reasoning_text.done")
    assert s.post("/v1/responses", {**body, "reasoning": {"effort": "none"}})["output"][0]["type"] == "message"


def stubborn(s):
    """A template that opens a thought whatever it is told: with no budget it is ended at once."""
    m = s.post("/v1/chat/completions", chat(max_tokens=20, reasoning_effort="none"))["choices"][0]["message"]
    assert m["content"] and "reasoning_content" not in m


def last_data(text):
    return json.loads([line[6:] for line in text.split("\n") if line.startswith("data: {")][-1])


def errors(s):
    """The model's numbers are damaged: the stream has begun when it turns out."""
    ask = lambda path, body: s.ask("POST", path, body)
    status, _, text = ask("/v1/chat/completions", chat(stream=True))
    assert status == 200 and last_data(text)["error"]["type"] == "server_error" and text.endswith("data: [DONE]\n\n"), text
    assert "event:" not in text and "NaN" not in text
    status, _, text = ask("/v1/completions", {"model": NAME, "prompt": "a", "stream": True})
    assert status == 200 and last_data(text)["error"]["message"]
    status, _, text = ask("/v1/responses", {"model": NAME, "input": "a", "stream": True})
    e = last_data(text)
    assert status == 200 and e["type"] == "response.failed" and e["response"]["status"] == "failed" and e["sequence_number"] == 2
    assert e["response"]["error"]["code"] == "server_error" and e["response"]["error"]["message"] and "event: response.failed\n" in text
    status, _, text = ask("/v1/messages", {"model": NAME, "messages": MESSAGES, "max_tokens": 5, "stream": True})
    assert status == 200 and last_data(text) == {"type": "error", "error": {"type": "api_error", "message": last_data(text)["error"]["message"]}}
    assert text.rstrip().split("\n")[-2] == "event: error"
    status, _, text = ask("/api/chat", {"model": NAME, "messages": MESSAGES})
    assert status == 200 and list(json.loads(text.splitlines()[-1])) == ["error"]
    for path, body in (("/v1/chat/completions", chat()), ("/v1/responses", {"model": NAME, "input": "a"}),
                       ("/v1/messages", {"model": NAME, "messages": MESSAGES, "max_tokens": 5}), ("/api/chat", {"model": NAME, "messages": MESSAGES, "stream": False})):
        s.post(path, body, 500)
    s.quiet()


def progress(s):
    """How far a prompt is and how long it takes: comments in events, fields in lines."""
    long = "A dog, a cat, a bird and a fish live in a small house near the sea. " * 12
    for path, body in (("/v1/chat/completions", chat("One: " + long, stream=True)), ("/v1/completions", {"model": NAME, "prompt": "Two: " + long, "stream": True}),
                       ("/v1/responses", {"model": NAME, "input": "Three: " + long, "stream": True, "max_output_tokens": 3}),
                       ("/v1/messages", {"model": NAME, "messages": [{"role": "user", "content": "Four: " + long}], "max_tokens": 3, "stream": True})):
        text = s.ask("POST", path, body)[2]
        told = [int(n) for n in re.findall(r"^: prompt (\d+)/\d+", text, re.M)]
        assert len(told) >= 2 and told == sorted(told) and "s left" in text, (path, text[:300])
    for path, body in (("/api/chat", {"messages": [{"role": "user", "content": "Oh, " + long}]}), ("/api/generate", {"prompt": "So " + long})):
        lines = s.lines_of(path, {"model": NAME, "options": {"num_predict": 3}, **body})
        told = [line["prompt_progress"] for line in lines if "prompt_progress" in line]
        assert len(told) >= 2 and told == sorted(told, key=lambda p: p["done"]) and told[-1]["seconds_left"] > 0 and not lines[0]["done"]
        assert all(p["done"] < p["total"] for p in told)


def alive(s):
    """While a call waits for its turn its stream gives a sign of life every few seconds, of its API's own kind."""
    begun, left = threading.Event(), threading.Event()

    def hold():
        c = s.connect()
        c.request("POST", "/v1/completions", json.dumps({"model": NAME, "prompt": "Once", "max_tokens": 30000, "ignore_eos": True, "stream": True}), JSON)
        r = c.getresponse()
        r.readline()
        begun.set()
        left.wait(60 * SLOW)
        c.close()

    def listen(path, body, sign):
        c = s.connect()
        c.request("POST", path, json.dumps({"model": NAME, "stream": True, **body}), JSON)
        r, text = c.getresponse(), b""
        while sign not in text:
            line = r.readline()
            assert line, (path, text)
            text += line
        signs.append(path)
        if len(signs) == len(asked):
            left.set()
        text += r.read()
        assert b"[DONE]" in text or b"message_stop" in text or b"response.incomplete" in text or b'"done":true' in text, (path, text)
        ended.append(path)

    said = [{"role": "user", "content": "Hello"}]
    asked = [("/v1/chat/completions", {"messages": said, "max_tokens": 2}, b": keep-alive\n"), ("/v1/completions", {"prompt": "So", "max_tokens": 2}, b": keep-alive\n"),
             ("/v1/responses", {"input": "Hi", "max_output_tokens": 2}, b": keep-alive\n"), ("/v1/messages", {"messages": said, "max_tokens": 2}, b'{"type":"ping"}'),
             ("/api/chat", {"messages": said, "options": {"num_predict": 2}}, b'"content":""'), ("/api/generate", {"prompt": "So", "options": {"num_predict": 2}}, b'"response":""')]
    signs, ended = [], []
    threads = [threading.Thread(target=hold)]
    threads[0].start()
    assert begun.wait(60 * SLOW)
    threads += [threading.Thread(target=listen, args=a) for a in asked]
    for t in threads[1:]:
        t.start()
    for t in threads:
        t.join(90 * SLOW)
    assert sorted(ended) == sorted(a[0] for a in asked), (signs, ended)


folder = tempfile.TemporaryDirectory()
if not QUICK:  # sanitizers see what makes new ways between threads: budgets of thoughts
    with Server(ctx=512) as server:
        openai_tools(server)
        other_tools(server)
        server.quiet()
    with Server("--batch", "16", ctx=512) as server:
        progress(server)
    with Server(parallel=1, ctx=32768) as server:
        alive(server)
    with Server(model=changed(os.path.join(folder.name, NAME + ".gguf"), template=ALWAYS)) as server:
        stubborn(server)
    with Server(model=changed(os.path.join(folder.name, NAME + ".gguf"), damage="output_norm.weight")) as server:
        errors(server)
with Server(model=changed(os.path.join(folder.name, NAME + ".gguf"), template=THINKS)) as server:
    thoughts(server)
    server.quiet()
