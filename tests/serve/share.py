"""Calls share the machine: a cache too small for all of them, a swap, priorities, deadlines, salts, drafts."""
import concurrent.futures

from served import MODEL, Server, chat


def body(i, **more):
    return chat(f"Tell me a story about {i} little dogs", max_tokens=100, temperature=0.8, seed=i, user=f"user {i % 3}", **more)


def text_of(answer):
    return answer["choices"][0]["message"]["content"]


with Server(ctx=256, parallel=4) as s:
    alone = [text_of(s.post("/v1/chat/completions", body(i))) for i in range(8)]
    assert s.metric("preemptions_total") == 0

    # what is asked for is checked, and named
    for wrong in ({"priority": 101}, {"priority": "high"}, {"deadline_s": 0}, {"deadline_s": "soon"}, {"cache_salt": ""}, {"cache_salt": "x" * 257}):
        error = s.post("/v1/chat/completions", body(0, **wrong), 400)["error"]
        assert error["param"] == next(iter(wrong)), error

    # a deadline ends it, and says so
    error = s.post("/v1/chat/completions", body(0, deadline_s=0.001, ignore_eos=True), 504)["error"]
    assert "deadline" in error["message"], error
    assert s.metric("deadlines_total") == 1

    # the same prompt comes from the cache, unless its salt is another
    long = chat("word " * 120)
    cached = [s.post("/v1/chat/completions", {**long, **more})["usage"]["prompt_tokens_details"]["cached_tokens"]
              for more in ({}, {}, {"cache_salt": "a"}, {"cache_salt": "a"}, {"cache_salt": "b"})]
    assert cached[0] < 32 and cached[1] > 64 and cached[2] == 0 and cached[3] == cached[1] and cached[4] == 0, cached

# with room for one and a half of four, all of them say what they said alone
with Server("--cache-tokens", "384", "--swap", "4M", "--draft", MODEL, ctx=256, parallel=4) as s:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: text_of(s.post("/v1/chat/completions", body(i, priority=i % 3))), range(8)))
    assert answers == alone
    assert s.metric("preemptions_total") > 0 and s.metric("drafted_tokens_total") > 0
    assert s.metric("swap_blocks") > 0 and s.metric("kv_blocks") == 12
