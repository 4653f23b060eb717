"""Requests and answers held to docs/openapi.yaml: see openapi.mjs."""
import os
import subprocess

from served import SLOW, Server

with Server(ctx=512) as server:
    subprocess.run(["node", "tests/serve/openapi.mjs", os.environ["LARDER_CACHE"], f"http://127.0.0.1:{server.port}"], check=True, timeout=200 * SLOW)
    server.quiet()
