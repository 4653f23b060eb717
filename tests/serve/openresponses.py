"""The OpenResponses compliance suite: see openresponses.mjs."""
import os
import subprocess

from served import SLOW, Server

with Server("--api-key", "sesame-sesame", ctx=512) as server:
    subprocess.run(["node", "tests/serve/openresponses.mjs", os.environ["LARDER_SUITE"], os.environ["LARDER_CACHE"], f"http://127.0.0.1:{server.port}"],
                   check=True, timeout=100 * SLOW)
