"""A proxy between a client and a server of S3, which loses answers, says that the server is busy, or hangs up."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Literal, NamedTuple, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["Asked", "Fault", "proxied"]

Fault = Literal["lost", "cut", "busy", "error", "racing", "reset"]
"""The answer is lost after the server did what it was asked, or half of it is; the server says 503, 500 or 409; the
connection is closed at once.
"""
_SAID = {
    "busy": (503, b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"),
    "racing": (409, b"<Error><Code>ConditionalRequestConflict</Code><Message>A conflict.</Message></Error>"),
    "error": (500, b"<Error><Code>InternalError</Code><Message>We encountered an error.</Message></Error>"),
}


class Asked(NamedTuple):
    """A request."""

    method: str
    path: str
    """With its query."""
    number: int
    """How often the same was asked before."""
    condition: str = ""
    """If-None-Match."""


class _Proxy(ThreadingHTTPServer):
    """Passes requests on, as they are."""

    daemon_threads = True

    def __init__(self, upstream: str, fault: Callable[[Asked], Fault | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.host = urlsplit(upstream).netloc
        self._fault = fault
        self._seen = Counter[tuple[str, str]]()
        self._lock = threading.Lock()

    def judge(self, method: str, path: str, condition: str = "") -> Fault | None:
        """What becomes of a request."""
        with self._lock:
            number = self._seen[method, path]
            self._seen[method, path] += 1
            return self._fault(Asked(method, path, number, condition))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_request(self) -> None:
        proxy = cast("_Proxy", self.server)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        made = proxy.judge(self.command, self.path, self.headers.get("If-None-Match", ""))
        if made in _SAID:
            status, data = _SAID[made]
            self.answer(status, {}, data)
            return
        if made == "reset":
            self.hang_up()
            return
        with contextlib.closing(http.client.HTTPConnection(proxy.host, timeout=60)) as upstream:
            upstream.request(self.command, self.path, body, dict(self.headers))
            found = upstream.getresponse()
            data = found.read()
        if made == "lost":
            self.hang_up()
            return
        self.answer(found.status, dict(found.getheaders()), data[: len(data) // 2] if made == "cut" else data)
        if made == "cut":
            self.hang_up()

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        """The size is the one that was told, whatever is sent."""
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", headers.get("Content-Length") or str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_request  # noqa: N815  as the base class calls them

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Say nothing."""


@contextlib.contextmanager
def proxied(upstream: str, fault: Callable[[Asked], Fault | None]) -> Generator[str]:
    """The URL of a proxy before a server; `fault` says what becomes of each request, None for nothing."""
    proxy = _Proxy(upstream, fault)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_address[1]}"
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
