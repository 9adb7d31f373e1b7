"""Events of OpenLineage in a file, or to a server that takes them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from openlineage.client.transport.file import FileConfig, FileTransport
from openlineage.client.transport.http import HttpConfig, HttpTransport

from jobs.monitoring.openlineage_events import event_of_end, event_of_start

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent

    from jobs.monitoring.settings import OpenLineage
    from jobs.monitoring.sinks import Ended
    from jobs.record import RunRecord

__all__ = ["API_KEY", "OpenLineageSink"]

API_KEY = "OPENLINEAGE_API_KEY"
"""The variable that holds the server's key, if it wants one."""


class OpenLineageSink:
    """The client's own transports, and not the client: that would also read `openlineage.yml` of whatever folder."""

    name = "openlineage"

    def __init__(self, settings: OpenLineage, timeout: float) -> None:
        """`timeout` in seconds is that of one request. Nothing is asked yet."""
        self._settings = settings
        self._transport: FileTransport | HttpTransport
        if settings.file is not None:
            self._transport = FileTransport(FileConfig(log_file_path=settings.file, append=True))
        else:
            self._transport = HttpTransport(HttpConfig.from_dict(_http(settings, timeout)))

    def start(self, begun: RunRecord) -> None:
        """Tell that a run has begun; of one that begins again, once more."""
        self._emit(event_of_start(begun, self._settings.namespace))

    def finish(self, ended: Ended) -> None:
        """Tell what it ended in."""
        self._emit(event_of_end(ended, self._settings.namespace))

    def _emit(self, event: RunEvent) -> None:
        try:
            self._transport.emit(event)
        finally:
            self._transport.close()


def _http(settings: OpenLineage, timeout: float) -> dict[str, Any]:
    key = os.environ.get(API_KEY)
    return {
        "url": settings.url,
        "endpoint": settings.endpoint or "api/v1/lineage",
        "timeout": timeout,
        "auth": {"type": "api_key", "apiKey": key} if key else {},
        # Whoever asks asks again.
        "retry": {"total": 0, "read": 0, "connect": 0},
    }
