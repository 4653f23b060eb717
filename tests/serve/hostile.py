"""Bad requests on every route: numbers, sizes, types, keys, hosts, origins. All get an answer, none gets in."""
import json
import os
import re
import socket

from served import JSON, NAME, QUICK, Server, chat

USER = [{"role": "user", "content": "Hi"}]
GENERATE = {
    "/v1/chat/completions": {"model": NAME, "messages": USER, "max_tokens": 2},
    "/v1/completions": {"model": NAME, "prompt": "Hi", "max_tokens": 2},
    "/v1/responses": {"model": NAME, "input": "Hi", "max_output_tokens": 2},
    "/v1/messages": {"model": NAME, "messages": USER, "max_tokens": 2},
    "/api/chat": {"model": NAME, "messages": USER, "stream": False, "options": {"num_predict": 2}},
    "/api/generate": {"model": NAME, "prompt": "Hi", "stream": False, "options": {"num_predict": 2}},
}
OTHER_POST = {
    "/v1/messages/count_tokens": {"model": NAME, "messages": USER},
    "/tokenize": {"content": "Hi"},
    "/detokenize": {"tokens": [5]},
    "/apply-template": {"messages": USER},
    "/api/show": {"model": NAME},
    "/v1/responses/compact": {"model": NAME, "input": "Hi"},
    "/v1/embeddings": {"model": NAME, "input": "Hi"},
    "/api/embed": {"model": NAME, "input": "Hi"},
    "/api/embeddings": {"model": NAME, "prompt": "Hi"},
}
GET = ["/health", "/ready", "/metrics", "/v1/models", "/v1/models/" + NAME, "/api/tags", "/api/ps", "/api/version", "/openapi.yaml"]
POST = {**GENERATE, **OTHER_POST}
# Every route there is, from the source: a new one that is not in the lists above fails the test.
SOURCE = re.findall(r'\{"(GET|POST)", "([^"]+)", ROUTE', open("src/serve/routes.c").read())
EXTRA = {"/v1/responses"}  # GET: a WebSocket
PULL = {"/api/pull": {"model": "a/b"}}  # off unless --allow-pull
LEAK = re.compile(r"0x[0-9a-f]{5,}|/[a-z]+/[a-z]+/|\.c:\d|errno|\.gguf")


def message_of(path, text):
    o = json.loads(text)
    return o["error"] if path.startswith("/api/") else o["error"]["message"]


def refused(s, path, body, statuses=(400,)):
    status, _, text = s.ask("POST", path, body)
    assert status in statuses, (path, body, status, text)
    message = message_of(path, text)
    assert message and len(message) < 500 and not LEAK.search(message), message
    return message


def numbers(s):
    """H1, H4: every number below, above and beside its range."""
    bad = {"temperature": [-1, 1e30, "1", True, [], {}], "top_p": [-0.1, 1.1], "min_p": [-1, 2], "typical_p": [-1, 2], "top_k": [-1, 1e18, 0.5],
           "seed": [0.5, "x"], "repeat_penalty": [-1, 0], "frequency_penalty": [1e9], "presence_penalty": [-1e9], "penalty_last_n": [-2, 2**40],
           "dry_multiplier": [-1], "dry_base": [0], "dry_allowed_length": [-1], "xtc_probability": [-1, 2], "xtc_threshold": [-1],
           "mirostat_tau": [-1], "mirostat_eta": [-1, 2]}
    for path, good in GENERATE.items():
        for name, values in bad.items():
            for value in values:
                body = {**good, "options": {**good["options"], name: value}} if "options" in good else {**good, name: value}
                assert name in refused(s, path, body), (path, name)
        for literal in ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "99999999999999999999"):
            refused(s, path, json.dumps({**good, "temperature": 7777}).replace("7777", literal))
        assert "surprise" in refused(s, path, {**good, "surprise": 1})
        assert "model" in refused(s, path, {**good, "model": None})
        refused(s, path, {**good, "model": "another"}, (404,))
        status, _, text = s.ask("POST", path, {**good, "stream": None})
        assert status == 200, text
    for path in ("/v1/chat/completions", "/v1/completions"):
        good = GENERATE[path]
        for n in (0, -1, 17, 1 << 40):
            assert "n" in refused(s, path, {**good, "n": n})
        for bias in ({"-1": 1}, {"4096": 1}, {"99999999999999999999": 1}, {"x": 1}, {"1": 101}, {"1": "a"}, [1], {str(i): 1 for i in range(1025)}):
            assert "logit_bias" in refused(s, path, {**good, "logit_bias": bias})
        for stop in ("", [""], ["x"] * 17, "x" * 257, [1], 5):
            assert "stop" in refused(s, path, {**good, "stop": stop})
        assert "best_of" in refused(s, path, {**good, "best_of": 5}) or path != "/v1/completions"
    for n in (0, -1, 1 << 33, 1.5):
        assert "max_tokens" in refused(s, "/v1/messages", {**GENERATE["/v1/messages"], "max_tokens": n})
    for ids in ([4096], [-1], [1.5], ["a", 1], [1 << 40]):
        refused(s, "/detokenize", {"tokens": ids})
        refused(s, "/v1/completions", {**GENERATE["/v1/completions"], "prompt": ids})


def prompts(s):
    """H2, H3: empty, blank, too long, too many, too deep."""
    for text in ("", " ", "\n\n", "<|im_end|>", "\u0001", "é" * 50):
        assert s.ask("POST", "/v1/chat/completions", chat(text, max_tokens=1))[0] == 200
    refused(s, "/v1/completions", {**GENERATE["/v1/completions"], "prompt": ""})
    refused(s, "/v1/completions", {**GENERATE["/v1/completions"], "prompt": ["a"] * 33})
    refused(s, "/v1/completions", {**GENERATE["/v1/completions"], "prompt": []})
    too_long = refused(s, "/v1/chat/completions", chat("word " * 2000))
    assert "256" in too_long, too_long
    for messages in ([], None, "x", [1], [{}], [{"role": "emperor", "content": "x"}], [{"role": "user", "content": 5}],
                     [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/"}}]}],
                     [{"role": "user", "content": "x", "spell": "y"}]):
        for path in ("/v1/chat/completions", "/api/chat" if messages else "/v1/messages", "/apply-template"):
            body = {**GENERATE.get(path, {}), "messages": messages}
            refused(s, path, body)
    refused(s, "/v1/chat/completions", chat(tools=[{"type": "function", "function": {"name": "f"}}] * 129))
    refused(s, "/v1/chat/completions", chat(chat_template_kwargs={"messages": []}))
    for path in [*GENERATE, *OTHER_POST]:
        for text in ("", "{", "[]", "5", '"x"', "null", "{}x", '{"a":1,"a":2}', "\xff\xfe", "[" * 100000, '{"a":' * 100000, '{"model":"\\u0000"}'):
            refused(s, path, text.encode("latin-1"))


def sizes(s):
    """Headers and bodies are refused before they are taken in."""
    before = s.resident()
    host = f"Host: 127.0.0.1:{s.port}\r\n".encode()
    for flood in (b"A" * 4_000_000, b"a: b\r\n" * 500_000):
        got = s.raw(b"GET /health HTTP/1.1\r\n" + host + flood)
        assert not got.startswith(b"HTTP/1.1 2"), got
    post = b"POST /v1/completions HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\n"
    for length in (b"33554433", b"99999999999999999999999", b"-1", b"x"):
        got = s.raw(post + b"Content-Length: " + length + b"\r\n\r\n")
        assert re.match(rb"HTTP/1.1 4(13|00)", got) or not got, (length, got)
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    got = s.raw(post + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 40)
    assert not got.startswith(b"HTTP/1.1 2"), got
    got = s.raw(post + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}")
    assert got.startswith(b"HTTP/1.1 415"), got
    for junk in (b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET /%00%ff HTTP/1.1\r\n" + host + b"\r\n"):
        assert not s.raw(junk, 2).startswith(b"HTTP/1.1 2")
    assert os.environ.get("LARDER_MODE", "release") not in ("release", "debug") or s.resident() - before < 80 << 20


def forms(s):
    """S1, S2, S3, S4: what an answer must look like, as nobody should ask; on every route that takes it."""
    deep = 20000
    bad = {"JSON": '{"type":"object","properties":{"a":' * deep + "{}" + "}}" * deep, "refs": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
           "away": {"$ref": "http://127.0.0.1:1/x"}, "pattern": {"type": "string", "pattern": "(" * deep}, "type": {"type": "thing"}, "unique": {"type": "array", "uniqueItems": True, "minItems": 2, "maxItems": 9},
           "wide": {"type": "string", "pattern": "((a{1,900}){1,900}){1,900}"}}
    for schema in bad.values():
        raw = schema if isinstance(schema, str) else json.dumps(schema)
        for path, around in (("/v1/chat/completions", '"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":%s}}'), ("/v1/completions", '"json_schema":%s'),
                             ("/v1/responses", '"text":{"format":{"type":"json_schema","name":"x","schema":%s}}'), ("/v1/messages", '"output_config":{"format":{"type":"json_schema","schema":%s}}'),
                             ("/api/chat", '"format":%s'), ("/api/generate", '"format":%s')):
            refused(s, path, (json.dumps(GENERATE[path])[:-1] + "," + around % raw + "}").encode())
    for more in ({"grammar": "root ::= " + "(" * deep}, {"grammar": "root ::= root root"}, {"grammar": "root ::= missing"}, {"guided_regex": "(" * deep}, {"guided_regex": "((a{1,900}){1,900}){1,900}"},
                 {"guided_choice": ["x"] * 100000 + [1]}):
        for path in ("/v1/chat/completions", "/v1/completions"):
            refused(s, path, {**GENERATE[path], **more})
    s.quiet()
    before = s.resident()
    for i in range(20 if QUICK else 150):  # nothing of them stays
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [f"{i}-{k}" for k in range(200)]}}}
        assert s.ask("POST", "/v1/chat/completions", chat(response_format=form, max_tokens=20))[0] == 200
    assert os.environ.get("LARDER_MODE", "release") not in ("release", "debug") or s.resident() - before < 24 << 20


def media(s):
    """G: nothing is fetched, and nothing but text is taken."""
    url = "http://127.0.0.1:1/x.png"
    for path, body in (("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}),
                       ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA"}}]}]}),
                       ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]}),
                       ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": url}]}]}),
                       ("/v1/responses/compact", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]}),
                       ("/v1/messages", {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": url}}]}]}),
                       ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "url", "url": url}}]}]}),
                       ("/api/chat", {"messages": [{"role": "user", "content": "x", "images": ["AAAA"]}]}), ("/api/generate", {"images": ["AAAA"]}),
                       ("/apply-template", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]})):
        refused(s, path, {**POST[path], **body})
    for path, body in (("/v1/responses", {"tools": [{"type": "web_search"}]}), ("/v1/responses", {"tools": [{"type": "mcp", "server_url": url}]}),
                       ("/v1/messages", {"tools": [{"type": "bash_20250124", "name": "bash"}]}), ("/v1/chat/completions", {"web_search_options": {}})):
        refused(s, path, {**POST[path], **body})  # J: no tool runs here


def routes(s):
    assert {p for _, p in SOURCE} == set(POST) | set(PULL) | {p.replace("models/" + NAME, "models/*") for p in GET} | EXTRA, "a route is not in the lists of this test"
    assert s.ask("GET", "/nowhere")[0] == 404 and s.ask("GET", "/v1/completions")[0] == 405 and s.ask("POST", "/health")[0] == 405
    assert s.ask("GET", "/v1/models/x%0d%0aSet-Cookie:a")[0] == 404  # A5
    assert s.ask("GET", "/../../etc/passwd")[0] == 404
    for path in POST:  # B3: no type that a page may send without asking
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx", ""):
            assert s.ask("POST", path, "{}", {"Content-Type": kind})[0] == 415
    assert all(line.startswith("{") and json.loads(line) for line in s.log().splitlines()), "a log line is not one object"


def hosts(s):
    """B1, B2: a page that is not ours gets nothing."""
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1", "localhost.evil.example"):
        for path in [*GET, *EXTRA, *POST, *PULL]:
            status, headers, _ = s.ask("POST", path, "{}", {"Host": host}) if path in {**POST, **PULL} else s.ask("GET", path, headers={"Host": host})
            assert status in (400, 403) and not headers["Access-Control-Allow-Origin"], (host, path, status)
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:80", "192.168.7.7", "box.example"):
        assert s.ask("GET", "/health", headers={"Host": host})[0] == 200, host
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "https://good.example.evil"):
        for path in {**POST, **PULL}:
            status, headers, _ = s.ask("POST", path, "{}", {"Origin": origin})
            assert status == 403 and not headers["Access-Control-Allow-Origin"], (origin, path, status)
        assert s.ask("OPTIONS", "/v1/models", headers={"Origin": origin})[0] == 403
    own = f"http://127.0.0.1:{s.port}"
    assert s.ask("GET", "/v1/models", headers={"Origin": own})[0] == 200
    status, headers, _ = s.ask("OPTIONS", "/v1/chat/completions", headers={"Origin": "https://good.example"})
    assert status == 204 and headers["Access-Control-Allow-Origin"] == "https://good.example"
    assert headers["Access-Control-Allow-Headers"] == "authorization, *" and headers["Access-Control-Expose-Headers"] == "*"


def two_minds(s):
    """A request that two programs could read as two different ones is refused, whatever route it is for."""
    body = json.dumps({"prompt": "x", "max_tokens": 1, "model": NAME}).encode()
    length = f"Content-Length: {len(body)}".encode()
    for path in [*GET, *EXTRA, *POST, *PULL]:
        method = b"POST" if path in {**POST, **PULL} else b"GET"
        for headers in ((b"Host: localhost", b"Host: evil.example", length), (b"Host: localhost", b"Host: localhost", length),
                        (b"Host: localhost", length, b"Content-Length: 3"), (b"Host: localhost", length, b"Transfer-Encoding: chunked"),
                        (b"Host: localhost", b"Origin: https://good.example", b"Origin: http://evil.example"),
                        (b"Host: localhost", b"x-api-key: a", b"X-API-Key: b", length)):
            got = s.raw(method + b" " + path.encode() + b" HTTP/1.1\r\nContent-Type: application/json\r\n" + b"\r\n".join(headers) + b"\r\n\r\n" + body)
            assert got.startswith(b"HTTP/1.1 400 ") and got.count(b"HTTP/1.1") == 1, (path, headers, got)


def methods(s):
    """HEAD is GET without the body; a wrong method is told the right ones."""
    for path in GET:
        status, headers, text = s.ask("HEAD", path)
        assert status == 200 and not text and headers["Content-Length"] != "0", (path, status)
        status, headers, _ = s.ask("DELETE", path)
        assert status == 405 and headers["Allow"] == "GET, HEAD", (path, status, headers["Allow"])
    for path in POST:
        want = "POST, GET, HEAD" if path == "/v1/responses" else "POST"
        assert s.ask("PUT", path, "{}", {"Content-Type": "application/json"})[1]["Allow"] == want, path


def keys(s):
    """A2: every route but health asks for the key, and unknown ones do too."""
    for path in GET[1:] + ["/nowhere", *EXTRA]:
        for headers in ({}, {"Authorization": "Bearer wrong-key-1"}, {"x-api-key": "sesame-sesam"}, {"Authorization": "sesame-sesame"},
                        {"Authorization": "Bearer "}, {"Authorization": "Bearer sesame-sesamesesame-sesame"}):
            status, answer, _ = s.ask("GET", path, headers=headers)
            assert status == 401 and answer["WWW-Authenticate"], (path, headers, status)
    for path, body in {**GENERATE, **OTHER_POST}.items():
        assert s.ask("POST", path, body)[0] == 401
        assert s.ask("POST", path, body, {"x-api-key": "sesame-sesame"})[0] == 200
        assert s.ask("POST", path, body, {"Authorization": "Bearer second-key-2"})[0] == 200
    for path, body in PULL.items():
        assert s.ask("POST", path, body)[0] == 401 and s.ask("POST", path, body, {"x-api-key": "sesame-sesame"})[0] == 403
    assert s.ask("GET", "/health")[0] == 200
    # a body that nobody may send is not waited for
    host = f"Host: 127.0.0.1:{s.port}\r\n".encode()
    got = s.raw(b"POST /v1/completions HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\nContent-Length: 30000000\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 401"), got
    assert "sesame" not in s.log(), "a key is in the log"  # A4


with Server("--allow-origin", "https://good.example", "--allow-host", "box.example") as server:
    numbers(server)
    prompts(server)
    sizes(server)
    forms(server)
    media(server)
    routes(server)
    hosts(server)
    two_minds(server)
    methods(server)
    server.quiet()
    assert server.ask("POST", "/v1/chat/completions", chat())[0] == 200
with Server("--api-key", "sesame-sesame", "--api-key", "second-key-2") as server:
    keys(server)
