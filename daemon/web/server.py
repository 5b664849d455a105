"""uvicorn in a thread of its own."""

import logging
import socket
import threading
from types import TracebackType
from typing import Self

import uvicorn
from fastapi import FastAPI

from drivers.errors import ConfigError

logger = logging.getLogger(__name__)

_STOP_S = 3


def why_not(error: OSError) -> str:
    """Why a port cannot be listened on, without the address that Python appends."""
    return (error.strerror or str(error)).partition(" (while attempting")[0]


class WebServer:
    """Serves an application from enter to exit.

    Parameters
    ----------
    host, port : str, int
        Where to listen; port 0 takes a free one, see `port` once entered.
    """

    def __init__(self, api: FastAPI, *, host: str, port: int) -> None:
        self._host, self._wanted_port = host, port
        config = uvicorn.Config(
            api, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=_STOP_S, workers=1
        )
        self._server = uvicorn.Server(config)
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """Whether the thread is there."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def port(self) -> int:
        """The port in use."""
        return self._wanted_port if self._socket is None else int(self._socket.getsockname()[1])

    def __enter__(self) -> Self:
        try:
            self._socket = socket.create_server((self._host, self._wanted_port))
        except OSError as error:
            raise ConfigError(
                f"web.port: cannot listen on {self._host}:{self._wanted_port}: {why_not(error)}; "
                "stop the other program or choose another port"
            ) from error
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="web", daemon=True
        )
        self._thread.start()
        logger.info("status page at http://%s:%d/", self._host, self.port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=_STOP_S + 1)
        if self._socket is not None:
            self._socket.close()
