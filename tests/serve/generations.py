"""Generations of 100 different schemas, every answer checked by Ajv: see generations.mjs."""
import os
import subprocess

from served import SLOW, Server

count = "100" if os.environ.get("LARDER_QUICK") == "1" else os.environ.get("LARDER_GENERATIONS", "200")
with Server(ctx=1024) as server:
    subprocess.run(["node", "tests/serve/generations.mjs", os.environ["LARDER_CACHE"], f"http://127.0.0.1:{server.port}", count], check=True, timeout=500 * SLOW)
    server.quiet()
