"""A proxy between a client and a server of S3, which loses answers, says that the server is busy, or hangs up."""

from __future__ import annotations

import contextlib
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["Asked", "Fault", "proxied"]

Fault = Literal["lost", "busy", "error", "reset"]
"""The answer is lost after the server did what it was asked; it says 503 or 500; the connection is closed at once."""
_BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_BROKEN = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>We encountered an error.</Message></Error>"


class Asked(NamedTuple):
    """A request."""

    method: str
    path: str
    """With its query."""
    number: int
    """How often the same was asked before."""


@contextlib.contextmanager
def proxied(upstream: str, fault: Callable[[Asked], Fault | None]) -> Generator[str]:
    """The URL of a proxy before a server; `fault` says what becomes of each request, None for nothing."""
    seen: dict[tuple[str, str], int] = {}
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_request(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                key = (self.command, self.path)
                asked = Asked(self.command, self.path, seen.get(key, 0))
                seen[key] = asked.number + 1
            made = fault(asked)
            if made in {"busy", "error"}:
                self.answer(503 if made == "busy" else 500, {}, _BUSY if made == "busy" else _BROKEN)
                return
            if made == "reset":
                self.close_connection = True
                self.connection.close()
                return
            found = http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=60)
            with contextlib.closing(found):
                found.request(self.command, self.path, body, dict(self.headers))
                answer = found.getresponse()
                data = answer.read()
                if made == "lost":
                    self.close_connection = True
                    self.connection.close()
                    return
                self.answer(answer.status, dict(answer.getheaders()), data)

        def answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                    self.send_header(name, value)
            size = headers.get("Content-Length") if self.command == "HEAD" else str(len(data))
            self.send_header("Content-Length", size or "0")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_request  # noqa: N815  as the base class calls them

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
