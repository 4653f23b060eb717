"""Answers of a given form, and calls of tools, on every API that has them: enforced or refused, never ignored."""
import json
import os
import tempfile

from gguf import changed
from served import NAME, Server, chat

SCHEMA = {"type": "object", "properties": {"name": {"enum": ["Lily", "Tom"]}, "age": {"type": "integer", "minimum": 3, "maximum": 9}},
          "required": ["name", "age"], "additionalProperties": False}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {"place": {"enum": ["sea", "hill"]}},
                                                                        "required": ["place"], "additionalProperties": False}}}
         for name in ("go", "look")]
MESSAGES = [{"role": "user", "content": "Go to the sea"}]


def fits(text):
    o = json.loads(text)
    assert list(o) == ["name", "age"] and o["name"] in ("Lily", "Tom") and 3 <= o["age"] <= 9, o


def content(answer):
    return answer["choices"][0]["message"]["content"]


def forms(s):
    wanted = {"type": "json_schema", "json_schema": {"name": "child", "schema": SCHEMA, "strict": True}}
    for seed in range(8):
        body = chat(temperature=1, seed=seed, max_tokens=100, response_format=wanted)
        whole = content(s.post("/v1/chat/completions", body))
        fits(whole)
        events = s.events("/v1/chat/completions", {**body, "stream": True})
        assert "".join(c["delta"].get("content", "") for e in events[:-1] for c in e["choices"]) == whole
    for c in s.post("/v1/chat/completions", chat(n=4, temperature=1, max_tokens=100, response_format=wanted))["choices"]:
        fits(c["message"]["content"])
    json.loads(content(s.post("/v1/chat/completions", chat(max_tokens=200, response_format={"type": "json_object"}, logit_bias={}))) or "{}")
    assert content(s.post("/v1/chat/completions", chat(guided_choice=["red", "blue"]))) in ("red", "blue")
    assert len(content(s.post("/v1/chat/completions", chat(guided_regex="[a-c]{5}")))) == 5
    assert content(s.post("/v1/chat/completions", chat(grammar='root ::= "yes" | "no"'))) in ("yes", "no")
    done = s.post("/v1/completions", {"model": NAME, "prompt": "A child: ", "max_tokens": 60, "json_schema": SCHEMA})
    fits(done["choices"][0]["text"])
    done = s.post("/v1/responses", {"model": NAME, "input": "A child", "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}})
    fits(done["output"][0]["content"][0]["text"])
    done = s.post("/v1/messages", {"model": NAME, "max_tokens": 60, "messages": MESSAGES,
                                   "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}})
    fits(done["content"][0]["text"])
    fits(s.post("/api/chat", {"model": NAME, "messages": MESSAGES, "format": SCHEMA, "stream": False})["message"]["content"])
    fits(s.post("/api/generate", {"model": NAME, "prompt": "A child", "format": SCHEMA, "stream": False})["response"])

    for bad, word in (({"uniqueItems": True, "type": "array"}, "uniqueItems"), ({"type": "thing"}, "type"), ({"$ref": "http://x/"}, "$ref"), (5, "Schema")):
        o = s.post("/v1/chat/completions", chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": bad}}), 400)
        assert word in o["error"]["message"] and o["error"]["param"] == "response_format", o
        assert word in s.post("/api/chat", {"model": NAME, "messages": MESSAGES, "format": bad}, 400)["error"]
    for more in ({"response_format": {"type": "xml"}}, {"grammar": "root ::= ("}, {"guided_regex": "(a"}, {"guided_choice": []}, {"guided_regex": "(?=a)"},
                 {"grammar": 'root ::= "a"', "guided_regex": "a"}, {"response_format": {"type": "json_object"}, "tools": TOOLS}):
        s.post("/v1/chat/completions", chat(**more), 400)


def args_fit(name, args):
    assert name in ("go", "look") and json.loads(args)["place"] in ("sea", "hill"), (name, args)


def tools(s):
    body = chat(tools=TOOLS, tool_choice="required", max_tokens=100, temperature=1)
    for seed in range(6):
        m = s.post("/v1/chat/completions", {**body, "seed": seed})["choices"][0]
        assert m["finish_reason"] == "tool_calls" and m["message"]["content"] is None, m
        args_fit(m["message"]["tool_calls"][0]["function"]["name"], m["message"]["tool_calls"][0]["function"]["arguments"])
        events = s.events("/v1/chat/completions", {**body, "seed": seed, "stream": True})
        calls = [t for e in events[:-1] for c in e["choices"] for t in c["delta"].get("tool_calls", [])]
        want = m["message"]["tool_calls"][0]["function"]
        assert calls[0]["function"]["name"] == want["name"] and "".join(t["function"]["arguments"] for t in calls) == want["arguments"]
    named = {"type": "function", "function": {"name": "look"}}
    assert s.post("/v1/chat/completions", {**body, "tool_choice": named})["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "look"
    s.post("/v1/chat/completions", {**body, "tool_choice": {"type": "function", "function": {"name": "fly"}}}, 400)
    s.post("/v1/chat/completions", {**body, "tool_choice": "sometimes"}, 400)
    # "#" in a tool's parameters is those parameters, wherever they end up
    own = {"type": "object", "properties": {"to": {"$ref": "#/$defs/where"}}, "required": ["to"], "additionalProperties": False,
           "$defs": {"where": {"enum": ["up", "down"]}}}
    go = [{"type": "function", "function": {"name": n, "parameters": own}} for n in ("go", "run")]
    made = s.post("/v1/chat/completions", {**body, "tools": go})["choices"][0]["message"]["tool_calls"][0]["function"]
    assert json.loads(made["arguments"])["to"] in ("up", "down"), made
    assert "tool_calls" not in s.post("/v1/chat/completions", {**body, "tool_choice": "none"})["choices"][0]["message"]
    strict = [{"type": "function", "function": {**TOOLS[0]["function"], "strict": True}}]
    why = s.post("/v1/chat/completions", chat(tools=strict), 400)["error"]["message"]
    assert "strict" in why and "template has no mark" in why, why
    s.post("/v1/chat/completions", {**body, "tools": strict})

    flat = [{"type": "function", **t["function"]} for t in TOOLS]
    o = s.post("/v1/responses", {"model": NAME, "input": "Go", "tools": flat, "tool_choice": "required"})["output"][0]
    args_fit(o["name"], o["arguments"])
    events = s.events("/v1/responses", {"model": NAME, "input": "Go", "tools": flat, "tool_choice": "required", "stream": True})
    kinds = [e["type"] for e in events]
    assert "response.function_call_arguments.delta" in kinds and kinds[-1] == "response.completed"
    theirs = [{"name": t["function"]["name"], "input_schema": t["function"]["parameters"]} for t in TOOLS]
    body = {"model": NAME, "max_tokens": 100, "messages": MESSAGES, "tools": theirs, "tool_choice": {"type": "any"}}
    o = s.post("/v1/messages", body)
    assert o["stop_reason"] == "tool_use" and o["content"][0]["type"] == "tool_use"
    args_fit(o["content"][0]["name"], json.dumps(o["content"][0]["input"]))
    events = s.events("/v1/messages", {**body, "stream": True})
    args_fit("go", "".join(e["delta"]["partial_json"] for e in events if e["type"] == "content_block_delta"))
    o = s.post("/v1/messages", {**body, "tool_choice": {"type": "tool", "name": "look"}})
    assert o["content"][0]["name"] == "look"


# How templates write calls: one that begins with a mark can be held from there on.
CALLS = ("{%- for m in messages -%}{{- m['role'] + ': ' -}}{%- for c in m['tool_calls'] or [] -%}CALL{%- endfor -%}{{- m['content'] + '\n' -}}"
         "{%- endfor -%}{{- 'assistant: ' -}}")
BODY = "{\"name\": \"' + c['function']['name'] + '\", \"arguments\": ' + (c['function']['arguments'] | tojson) + '}"
HELD = {"hermes": "{{- '<tool_call>\n" + BODY + "\n</tool_call>' -}}", "mistral": "{{- '[TOOL_CALLS] [" + BODY + "]' -}}"}
NOT_HELD = {"llama": "{{- '" + BODY.replace("arguments\"", "parameters\"") + "' -}}",
            "xml": "{{- '<tool_call>\n<function=' + c['function']['name'] + '>\n</function>\n</tool_call>' -}}",
            "names": "{{- '[TOOL_CALLS]' + c['function']['name'] + '[ARGS]' + (c['function']['arguments'] | tojson) -}}"}


def strict_by_choice(folder):
    """strict where the model chooses: taken where calls begin with a mark, and refused elsewhere; bad schemas by name."""
    strict = [{"type": "function", "function": {**TOOLS[0]["function"], "strict": True}}, TOOLS[1]]
    bad = [{"type": "function", "function": {"name": "go", "strict": True, "parameters": {"type": "object", "properties": {"a": {"$dynamicRef": "#x"}}}}}]
    flat = [{"type": "function", **t["function"]} for t in strict]
    for name, call in {**HELD, **NOT_HELD}.items():
        with Server(ctx=512, model=changed(os.path.join(folder, NAME + ".gguf"), template=CALLS.replace("CALL", call))) as s:
            status = 200 if name in HELD else 400
            got = s.post("/v1/chat/completions", chat(tools=strict, max_tokens=20, seed=3, temperature=1), status)
            s.post("/v1/responses", {"model": NAME, "input": "Go", "tools": flat, "max_output_tokens": 8}, status)
            s.post("/api/chat", {"model": NAME, "messages": MESSAGES, "tools": strict, "stream": False, "options": {"num_predict": 8}}, status)
            if status == 400:
                assert "template has no mark" in got["error"]["message"], (name, got)
                continue
            free = s.post("/v1/chat/completions", chat(tools=TOOLS, max_tokens=20, seed=3, temperature=1))
            assert content(got) == content(free) and content(got), (got, free)
            assert "$dynamicRef" in s.post("/v1/chat/completions", chat(tools=bad), 400)["error"]["message"]
            s.post("/v1/chat/completions", chat(tools=strict, response_format={"type": "json_object"}), 400)
            args_fit("go", s.post("/v1/chat/completions", chat(tools=strict, max_tokens=100, tool_choice="required"))["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"])
            s.quiet()


def a_model_that_calls(folder, source):
    """Shown calls that its tool's schema does not allow, a model makes such a call itself; of a strict tool it cannot."""
    wants = {"type": "object", "properties": {"where": {"enum": ["north", "south"]}, "steps": {"type": "integer", "minimum": 3, "maximum": 7}},
             "required": ["where", "steps"], "additionalProperties": False}
    template = "{%- for m in messages -%}{{- '<|' + m['role'] + '|>\n' -}}{%- for c in m['tool_calls'] or [] -%}" + HELD["hermes"] + (
        "{%- endfor -%}{{- (m['content'] or '') + '</s>\n' -}}{%- endfor -%}{{- '<|assistant|>\n' -}}")
    said = []
    for place in ("sea", "hill", "town", "river"):
        call = {"id": place, "type": "function", "function": {"name": "go", "arguments": json.dumps({"place": place})}}
        said += [{"role": "user", "content": f"Go to the {place}"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    said.append({"role": "user", "content": "Go to the wood"})
    with Server("--no-store", "--name", NAME, ctx=1024, model=changed(os.path.join(folder, "calls.gguf"), template=template, source=source)) as s:
        for strict in (False, True):
            tools = [{"type": "function", "function": {"name": "go", "strict": strict, "parameters": wants}}]
            body = {"model": NAME, "messages": said, "tools": tools, "max_tokens": 60, "temperature": 0}
            call = s.post("/v1/chat/completions", body)["choices"][0]["message"]["tool_calls"][0]["function"]
            args = json.loads(call["arguments"])
            if strict:
                assert list(args) == ["where", "steps"] and args["where"] in ("north", "south") and 3 <= args["steps"] <= 7, args
            else:
                assert "place" in args, args


with Server(ctx=512) as server:
    forms(server)
    tools(server)
    server.quiet()
with tempfile.TemporaryDirectory() as scratch:
    strict_by_choice(scratch)
    if os.path.exists(os.environ.get("LARDER_TINYLLAMA", "")):
        a_model_that_calls(scratch, os.environ["LARDER_TINYLLAMA"])
