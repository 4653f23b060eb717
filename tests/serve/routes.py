"""Every route, streaming and not: the same answer to the same question, whichever way it is asked."""
import glob
import os
import re

from served import NAME, Server, chat


def openai(s):
    whole = s.post("/v1/chat/completions", chat())
    text = whole["choices"][0]["message"]["content"]
    assert whole["object"] == "chat.completion" and whole["choices"][0]["finish_reason"] == "length" and len(text) > 10
    assert whole["usage"]["completion_tokens"] == 12 and whole["usage"]["prompt_tokens"] == 12
    events = s.events("/v1/chat/completions", chat(stream=True, stream_options={"include_usage": True}))
    assert events[-1] == "[DONE]" and events[-2]["usage"]["total_tokens"] == 24 and events[-2]["choices"] == []
    parts = [c for e in events[:-2] for c in e["choices"]]
    assert "".join(c["delta"].get("content", "") for c in parts) == text
    assert parts[0]["delta"]["role"] == "assistant" and parts[-1]["finish_reason"] == "length"
    again = s.post("/v1/chat/completions", chat(long_prompt(), max_tokens=4))
    again = s.post("/v1/chat/completions", chat(long_prompt(), max_tokens=4))
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0, again

    several = s.post("/v1/chat/completions", chat(n=3, temperature=1, seed=7))["choices"]
    assert [c["index"] for c in several] == [0, 1, 2] and len({c["message"]["content"] for c in several}) > 1
    assert several[1]["message"]["content"] == s.post("/v1/chat/completions", chat(temperature=1, seed=8))["choices"][0]["message"]["content"]
    stopped = s.post("/v1/chat/completions", chat(stop=["time", "xyzzy"], max_tokens=40))["choices"][0]
    assert stopped["finish_reason"] == "stop" and stopped["message"]["content"] == text[:text.index("time")]

    first = s.post("/tokenize", {"content": text})["tokens"][0]
    banned = s.post("/v1/chat/completions", chat(logit_bias={str(first): -100}))["choices"][0]["message"]["content"]
    assert not banned.startswith(text.split()[0])
    probs = s.post("/v1/chat/completions", chat(logprobs=True, top_logprobs=3))["choices"][0]["logprobs"]["content"]
    assert len(probs) == 12 and "".join(p["token"] for p in probs) == text
    for p in probs:
        assert len(p["top_logprobs"]) == 3 and p["logprob"] <= 0 and p["top_logprobs"][0]["logprob"] == p["logprob"]
        assert bytes(p["bytes"]).decode() == p["token"]
    streamed = s.events("/v1/chat/completions", chat(logprobs=True, stream=True))[:-1]
    assert sum(len(c["logprobs"]["content"]) for e in streamed for c in e["choices"] if c["logprobs"]) == 12

    body = {"model": NAME, "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
    whole = s.post("/v1/completions", {**body, "logprobs": 2})["choices"][0]
    assert len(whole["logprobs"]["tokens"]) == 8 and whole["finish_reason"] == "length"
    events = s.events("/v1/completions", {**body, "stream": True})
    assert "".join(e["choices"][0]["text"] for e in events[:-1]) == whole["text"]
    ids = s.post("/tokenize", {"content": "Once upon a time", "add_special": True})["tokens"]
    assert s.post("/v1/completions", {**body, "prompt": ids})["choices"][0]["text"] == whole["text"]
    many = s.post("/v1/completions", {**body, "prompt": ["The cat", "Once upon a time"], "n": 2})["choices"]
    assert len(many) == 4 and many[2]["text"] == many[3]["text"] == whole["text"]
    return text


def long_prompt():
    return "Tell me a story about a dog, a cat, a bird and a fish who live in a small house near the sea and sing. " * 2


def responses(s, text):
    body = {"model": NAME, "input": "Tell me a story", "max_output_tokens": 12, "temperature": 0}
    whole = s.post("/v1/responses", body)
    assert whole["status"] == "incomplete" and whole["output"][0]["content"][0]["text"] == text
    assert whole["usage"]["output_tokens"] == 12 and whole["incomplete_details"] == {"reason": "max_output_tokens"}
    events = s.events("/v1/responses", {**body, "stream": True})
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    assert "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta") == text
    assert events[0]["type"] == "response.created" and events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == text
    items = [{"role": "user", "content": [{"type": "input_text", "text": "Tell me a story"}]}]
    assert s.post("/v1/responses", {**body, "input": items})["output"][0]["content"][0]["text"] == text
    talk = items + [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "c", "output": "ok"}]
    assert s.ask("POST", "/v1/responses", {**body, "input": talk})[0] in (200, 400)  # as the template has it


def anthropic(s, text):
    body = {"model": NAME, "max_tokens": 12, "temperature": 0, "messages": [{"role": "user", "content": "Tell me a story"}]}
    whole = s.post("/v1/messages", body)
    assert whole["content"] == [{"type": "text", "text": text}] and whole["stop_reason"] == "max_tokens"
    events = s.events("/v1/messages", {**body, "stream": True})
    kinds = [e["type"] for e in events]
    assert kinds[:2] == ["message_start", "content_block_start"] and kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert "".join(e["delta"]["text"] for e in events if e["type"] == "content_block_delta") == text
    stopped = s.post("/v1/messages", {**body, "max_tokens": 40, "stop_sequences": ["time", "zz"]})
    assert stopped["stop_reason"] == "stop_sequence" and stopped["stop_sequence"] == "time"
    count = {k: body[k] for k in ("model", "messages")}
    assert s.post("/v1/messages/count_tokens", count) == {"input_tokens": 12}
    blocks = [{"role": "user", "content": [{"type": "text", "text": "Tell me a story", "cache_control": {"type": "ephemeral"}}]}]
    assert s.post("/v1/messages", {**body, "messages": blocks})["content"][0]["text"] == text
    assert s.post("/v1/messages", {**body, "max_tokens": None}, 400)["type"] == "error"
    image = [{"role": "user", "content": [{"type": "image", "source": {}}]}]
    assert "image" in s.post("/v1/messages", {**body, "messages": image}, 400)["error"]["message"]


def ollama(s, text):
    options = {"num_predict": 12, "temperature": 0}
    body = {"model": NAME, "messages": [{"role": "user", "content": "Tell me a story"}], "options": options}
    whole = s.post("/api/chat", {**body, "stream": False})
    assert whole["message"]["content"] == text and whole["done_reason"] == "length" and whole["eval_count"] == 12
    lines = s.lines_of("/api/chat", {**body, "model": NAME + ":latest"})
    assert "".join(line["message"]["content"] for line in lines) == text and [line["done"] for line in lines][-2:] == [False, True]
    body = {"model": NAME, "prompt": "Tell me a story", "options": options}
    assert s.post("/api/generate", {**body, "stream": False})["response"] == text
    assert "".join(line["response"] for line in s.lines_of("/api/generate", body)) == text
    assert s.post("/api/generate", {**body, "raw": True, "stream": False})["response"] != text
    assert s.post("/api/generate", {"model": NAME})["done_reason"] == "load"
    status, headers, _ = s.ask("POST", "/api/generate", {**body, "keep_alive": "5m"})
    assert status == 200 and "keep_alive" in headers["Larder-Note"]
    assert "256" in s.post("/api/chat", {**body, "prompt": None, "messages": [{"role": "user", "content": "x"}],
                                         "options": {"num_ctx": 4096}}, 400)["error"]
    assert s.get("/api/tags")["models"][0]["name"] == NAME and s.get("/api/ps")["models"][0]["context_length"] == 256
    assert "llama.context_length" in s.post("/api/show", {"model": NAME})["model_info"] and s.get("/api/version")["version"]


def words(s):
    ids = s.post("/tokenize", {"content": "Hello, wörld"})["tokens"]
    assert s.post("/detokenize", {"tokens": ids}) == {"content": "Hello, wörld"}
    typed = s.post("/tokenize", {"content": "<|im_end|>"})["tokens"]
    control = s.post("/tokenize", {"content": "<|im_end|>", "parse_special": True})["tokens"]
    assert len(control) == 1 and len(typed) > 1
    assert s.post("/tokenize", {"content": "<|im_end|>", "model": NAME})["tokens"] == typed
    s.post("/detokenize", {"tokens": ids, "model": "another"}, 404)
    prompt = s.post("/apply-template", {"model": NAME, "messages": [{"role": "user", "content": "Hi"}]})["prompt"]
    assert "has no content" in s.post("/apply-template", {"messages": [{"role": "user"}]}, 400)["error"]["message"]
    assert "Hi" in prompt and prompt.endswith("assistant\n")
    # what a user types never becomes a control token, on any route
    plain, sly = "x" * 10, "<|im_end|>"
    for path, body in (("/v1/messages/count_tokens", lambda t: {"model": NAME, "messages": [{"role": "user", "content": t}]}),):
        few = s.post(path, body(""))["input_tokens"]
        assert s.post(path, body(sly))["input_tokens"] - few == len(typed), plain


def figures(s):
    s.quiet()
    text = s.ask("GET", "/metrics")[2]
    for name in ("time_to_first_token", "inter_token", "queue", "prefill", "decode", "request"):
        buckets = [int(n) for n in re.findall(rf'^larder_{name}_seconds_bucket\{{le="[^"]*"\}} (\d+)$', text, re.M)]
        assert len(buckets) == 16 and buckets == sorted(buckets) and buckets[-1] > 0, name
    assert s.metric("kv_blocks_used") == 0 and s.metric("generated_tokens_total") > 100


def confined(s):
    """Every thread has its filter and no way to more; where the kernel can."""
    if '"calls":"seccomp' in s.log():
        for t in os.listdir(f"/proc/{s.process.pid}/task"):
            status = open(f"/proc/{s.process.pid}/task/{t}/status").read()
            assert re.search(r"^Seccomp:\s*2$", status, re.M) and re.search(r"^NoNewPrivs:\s*1$", status, re.M)
    else:
        assert '"event":"not confined"' in s.log(), "it does not say that it is not confined"


def described():
    """Every parameter that the source takes is in the description of the routes."""
    names = set()
    for path in glob.glob("src/serve/*.c"):
        names |= set(re.findall(r'\b(?:take\w*|form_\w+|think_\w+|prompt_messages|prompt_tools)\(\s*&?\w+,\s*"(\w+)"', open(path).read()))
    text = open("docs/openapi.yaml").read()
    assert len(names) > 90 and {"priority", "deadline_s", "cache_salt"} <= names
    assert not (missing := [n for n in names if not re.search(rf"\b{n}:", text)]), missing


def progress():
    """A stream says how far its prompt is, in comments that clients skip."""
    with Server("--batch", "16") as s:
        text = s.ask("POST", "/v1/chat/completions", chat(long_prompt(), stream=True))[2]
        told = [int(n) for n in re.findall(r"^: prompt (\d+)/\d+", text, re.M)]
        assert len(told) >= 2 and told == sorted(told) and "s left" in text, text[:500]


described()
progress()
with Server() as server:
    confined(server)
    assert server.get("/health") == {"status": "ok"} and server.get("/ready") == {"status": "ready"}
    assert [m["id"] for m in server.get("/v1/models")["data"]] == [NAME] and server.get("/v1/models/" + NAME)["id"] == NAME
    answer = openai(server)
    responses(server, answer)
    anthropic(server, answer)
    ollama(server, answer)
    words(server)
    figures(server)
    assert "story" not in server.log() and "Once" not in server.log(), "the log tells contents"
