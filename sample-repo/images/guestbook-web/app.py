"""The guestbook: one page, its entries in Redis. Standard library only.

GET  /          the page                 POST /entries   sign it (form field "text")
GET  /api       the entries as JSON      GET  /healthz   200 when Redis answers, for the readiness probe
"""

import html
import http.server
import json
import os
import signal
import socket
import sys
import threading
import urllib.parse

import redis_client

VERSION = os.environ.get("GUESTBOOK_VERSION", "unknown")
GREETING = os.environ.get("GREETING", "Welcome")
MAX_BODY_BYTES = 4096
MAX_TEXT_LENGTH = 280

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Guestbook</title>
<style>body{{font:16px/1.5 system-ui;max-width:40em;margin:3em auto;padding:0 1em}}li{{margin:.3em 0}}
footer{{color:#777;margin-top:2em}}input{{font:inherit;width:75%}}</style>
<h1>{greeting}</h1>
<form method="post" action="/entries">
<input name="text" maxlength="280" autofocus> <button>Sign</button></form>
<ul>{entries}</ul>
<footer>version {version} · answered by {pod}</footer></html>
"""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self.with_redis(lambda redis: self.answer(200, "text/plain", redis.command("PING")))
        elif self.path == "/api":
            self.with_redis(lambda redis: self.answer(200, "application/json", json.dumps(self.state(redis))))
        elif self.path == "/":
            self.with_redis(lambda redis: self.answer(200, "text/html; charset=utf-8", self.page(redis)))
        else:
            self.answer(404, "text/plain", "nothing here\n")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if self.path != "/entries" or not 0 < length <= MAX_BODY_BYTES:
            self.answer(400, "text/plain", "post a form with the field text to /entries\n")
            return
        fields = urllib.parse.parse_qs(self.rfile.read(length).decode("utf-8", "replace"))
        text = fields.get("text", [""])[0].strip()[:MAX_TEXT_LENGTH]
        if text:
            self.with_redis(lambda redis: self.sign(redis, text))
        else:
            self.answer(400, "text/plain", "an entry needs some text\n")

    def sign(self, redis: redis_client.Redis, text: str) -> None:
        redis.command("LPUSH", "entries", text)
        redis.command("LTRIM", "entries", "0", "99")
        self.send_response(303)
        self.send_header("Location", "/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def with_redis(self, work) -> None:
        try:
            with redis_client.Redis.from_environment() as redis:
                work(redis)
        except OSError as error:
            self.answer(503, "text/plain", f"redis does not answer: {error}\n")

    def state(self, redis: redis_client.Redis) -> dict:
        return {
            "version": VERSION,
            "pod": socket.gethostname(),
            "entries": redis.command("LRANGE", "entries", "0", "19"),
        }

    def page(self, redis: redis_client.Redis) -> str:
        entries = redis.command("LRANGE", "entries", "0", "19")
        items = "".join(f"<li>{html.escape(entry)}</li>" for entry in entries)
        return PAGE.format(
            greeting=html.escape(GREETING),
            entries=items,
            version=html.escape(VERSION),
            pod=socket.gethostname(),
        )

    def answer(self, status: int, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: object) -> None:
        if self.path != "/healthz":
            print(self.address_string(), format % values, flush=True)


def main() -> None:
    server = http.server.ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Handler)
    server.daemon_threads = True
    # shutdown() waits for the loop that this very thread runs, so it must come from another one.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"guestbook {VERSION} listens on port {server.server_port}", flush=True)
    server.serve_forever(poll_interval=0.1)
    sys.exit(0)


if __name__ == "__main__":
    main()
