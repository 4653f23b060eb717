"""A hub of one model and a plain server: parts if asked for, or everything whatever is asked. Prints its port; the bytes
sent so far lie at /sent."""
import http.server
import json
import re
import sys

data = open(sys.argv[1], "rb").read()
sent = 0


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, code, body, headers=()):
        global sent
        self.send_response(code)
        for k, v in headers:
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for i in range(0, len(body), 1 << 16):
            try:
                self.wfile.write(body[i:i + (1 << 16)])
            except OSError:
                return
            sent += len(body[i:i + (1 << 16)]) if self.path != "/sent" else 0

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/sent":
            return self.answer(200, str(sent).encode())
        if path == "/api/models/own/er/tree/main":
            return self.answer(200, json.dumps([{"type": "file", "path": "m-Q8_0.gguf", "size": len(data)}]).encode())
        if path == "/cut/m-Q8_0.gguf":
            return self.answer(200, data[:5000])
        if not path.endswith("m-Q8_0.gguf"):
            return self.answer(404, b"no")
        part = re.match(r"bytes=0-(\d+)$", self.headers.get("Range", ""))
        if part and not path.startswith("/whole/"):
            last = min(int(part.group(1)), len(data) - 1)
            return self.answer(206, data[:last + 1], [("Content-Range", f"bytes 0-{last}/{len(data)}")])
        self.answer(200, data)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
