"""A proxy between a client and the name node of HDFS, which loses answers or hangs up at the calls that it is told."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections import Counter
from typing import TYPE_CHECKING, Literal

from tests.stores.proxy import Asked

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["CallFault", "rpc_proxied"]

CallFault = Literal["lost", "reset"]
"""The connection is closed when the name node has answered, without its answer; or before the call is passed on."""
_HELLO = 7
"""Bytes before the first call: `hrpc`, a version, a class of service, a way to say who one is."""
_CALL = re.compile(rb"\n.([A-Za-z0-9]+)\x12.org\.apache\.hadoop", re.DOTALL)
_PATH = re.compile(rb"/[\w.=/-]+")


class _Proxy:
    """Calls are passed on whole, one after the other, on connections of their own."""

    def __init__(self, upstream: tuple[str, int], fault: Callable[[Asked], CallFault | None]) -> None:
        self._upstream = upstream
        self._fault = fault
        self._seen = Counter[tuple[str, str]]()
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]

    def serve(self) -> None:
        """Until it is closed."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._connected, args=(client,), daemon=True).start()

    def close(self) -> None:
        """Accept nobody any more."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _connected(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._upstream) as server:
            is_deaf = threading.Event()
            back = threading.Thread(target=_pass_answers, args=(server, client, is_deaf), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                server.sendall(_exactly(client, _HELLO))
                while True:
                    size = _exactly(client, 4)
                    call = _exactly(client, struct.unpack(">i", size)[0])
                    made = self._judged(call)
                    if made == "reset":
                        break
                    if made == "lost":
                        is_deaf.set()
                    server.sendall(size + call)
                    if made == "lost":
                        back.join()
                        break
            for end in (client, server):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            back.join()

    def _judged(self, call: bytes) -> CallFault | None:
        name = _CALL.search(call)
        if name is None:
            return None
        method, paths = name[1].decode(), [found.decode() for found in _PATH.findall(call[name.end() :])]
        path = paths[-1] if paths else ""
        with self._lock:
            number = self._seen[method, path]
            self._seen[method, path] += 1
            return self._fault(Asked(method, path, number))


def _pass_answers(server: socket.socket, client: socket.socket, is_deaf: threading.Event) -> None:
    """An answer that came after the client was not to hear it ends all."""
    with contextlib.suppress(OSError):
        while (answer := server.recv(1 << 16)) and not is_deaf.is_set():
            client.sendall(answer)


def _exactly(source: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = source.recv(size - len(found))
        if not more:
            raise ConnectionResetError
        found += more
    return found


@contextlib.contextmanager
def rpc_proxied(upstream: str, fault: Callable[[Asked], CallFault | None]) -> Generator[str]:
    """The address of a proxy before a name node; `fault` says what becomes of each call, None for nothing.

    The path of a call is the last one that is in it: of a rename, the new name.
    """
    host, _, port = upstream.partition(":")
    proxy = _Proxy((host, int(port)), fault)
    threading.Thread(target=proxy.serve, daemon=True).start()
    try:
        yield f"127.0.0.1:{proxy.port}"
    finally:
        proxy.close()
