"""The official clients of OpenAI, Anthropic and Ollama against larder serve; see sdk.mjs."""
import os
import subprocess

from served import SLOW, Server

with Server(ctx=512) as server:
    subprocess.run(["node", "tests/serve/sdk.mjs", os.environ["LARDER_CACHE"], f"http://127.0.0.1:{server.port}"], check=True, timeout=100 * SLOW)
    server.quiet()
