"""uvicorn in a thread of its own, with as many visitors as it can serve."""

import asyncio
import json
import logging
import socket
import threading
from types import TracebackType
from typing import Self

import anyio.to_thread
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from drivers.errors import ConfigError

logger = logging.getLogger(__name__)

MOST_CONNECTIONS = 100
"""Open at once and answered; a browser opens up to six. One more is told to come again."""

MOST_TOLD = 50
"""How many beyond that are told; the next ones are hung up on, so that no one uses up the descriptors."""

SILENT_S = 10.0
"""A visitor who has asked nothing after so long is hung up on."""

STALLED_S = 20.0
"""A visitor who takes nothing of an answer for so long is hung up on, by the kernel."""

WORKERS = 4
"""Threads that make answers: more would only stand in the way of the capture thread."""

COME_AGAIN_S = 5

_STOP_S = 3

_QUIET_LOGGER = "uvicorn.error"

_LATE = "late"
"""Marks a connection that came when all were taken."""


def why_not(error: OSError) -> str:
    """Why a port cannot be listened on, without the address that Python appends."""
    return (error.strerror or str(error)).partition(" (while attempting")[0]


class _Visitor(H11Protocol):
    """One connection, which must ask for something soon, and for the next thing soon after it has begun to."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base has it
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS + MOST_TOLD:
            transport.abort()
            return
        self.app_state = {**self.app_state, _LATE: len(self.connections) > MOST_CONNECTIONS}
        self._watch_for_a_question()

    def connection_lost(self, exc: Exception | None) -> None:
        self._be_patient()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_answered():
            self._be_patient()
        elif self._patience is None:  # half a question after an answer keeps uvicorn waiting for ever
            self._watch_for_a_question()

    def _is_answered(self) -> bool:
        """Whether an answer is being made: the visitor has done its part."""
        return self.cycle is not None and not self.cycle.response_complete

    def _watch_for_a_question(self) -> None:
        self._patience = self.loop.call_later(SILENT_S, self._hang_up_on_the_silent)

    def _be_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _hang_up_on_the_silent(self) -> None:
        self._patience = None
        if not self._is_answered() and not self.transport.is_closing():
            self.transport.abort()


class _Door:
    """Lets in as many as can be served; whoever is in stays in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = WORKERS
        if not scope["state"][_LATE]:
            await self._app(scope, receive, send)
            return
        why = f"{MOST_CONNECTIONS} connections are open, which is all that are served; try again in {COME_AGAIN_S} s"
        body = json.dumps({"error": why}).encode()
        headers = {
            b"content-type": b"application/json",
            b"content-length": b"%d" % len(body),
            b"retry-after": b"%d" % COME_AGAIN_S,
            b"connection": b"close",
        }
        await send({"type": "http.response.start", "status": 503, "headers": list(headers.items())})
        await send({"type": "http.response.body", "body": body})


class WebServer:
    """Serves an application from enter to exit.

    Parameters
    ----------
    host, port : str, int
        Where to listen; port 0 takes a free one, see `port` once entered.
    stalled_s : float, optional
        In place of `STALLED_S`.
    """

    def __init__(self, api: FastAPI, *, host: str, port: int, stalled_s: float = STALLED_S) -> None:
        self._host, self._wanted_port = host, port
        self._stalled_s = stalled_s
        config = uvicorn.Config(
            _Door(api),
            http=_Visitor,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_STOP_S,
            workers=1,
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
        logging.getLogger(_QUIET_LOGGER).setLevel(logging.ERROR)  # it warns of each visitor who talks nonsense
        try:
            self._socket = socket.create_server((self._host, self._wanted_port))
        except OSError as error:
            raise ConfigError(
                f"web.port: cannot listen on {self._host}:{self._wanted_port}: {why_not(error)}; "
                "stop the other program or choose another port"
            ) from error
        # Inherited by each connection: what is taken by nobody ends it, also when the other machine is asleep.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(self._stalled_s * 1000))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
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
