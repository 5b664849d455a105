"""uvicorn in a thread of its own, with as many visitors as it can serve."""

import asyncio
import errno
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

RETRY_S = 30.0
"""How often a port is tried that cannot be listened on."""

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
    """Serves an application from enter to exit, and waits for its port as long as another program has it.

    Parameters
    ----------
    host, port : str, int
        Where to listen; port 0 takes a free one, see `port` once entered.
    stalled_s, retry_s : float, optional
        In place of `STALLED_S` and `RETRY_S`.
    """

    def __init__(
        self, api: FastAPI, *, host: str, port: int, stalled_s: float = STALLED_S, retry_s: float = RETRY_S
    ) -> None:
        self._host, self._wanted_port = host, port
        self._stalled_s, self._retry_s = stalled_s, retry_s
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
        self._why_none: str | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """Whether the thread is there."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def port(self) -> int:
        """The port in use, or the one that is waited for."""
        return self._wanted_port if self._socket is None else int(self._socket.getsockname()[1])

    @property
    def why_none(self) -> str | None:
        """Why nobody is served; None while all is well."""
        return self._why_none

    def __enter__(self) -> Self:
        logging.getLogger(_QUIET_LOGGER).setLevel(logging.ERROR)  # it warns of each visitor who talks nonsense
        first = self._listen()
        self._thread = threading.Thread(target=self._serve, args=(first,), name="web", daemon=True)
        self._thread.start()
        return self

    def _serve(self, listening: socket.socket | None) -> None:
        while listening is None:
            if self._stopping.wait(self._retry_s):
                return
            listening = self._listen()
        self._server.run(sockets=[listening])

    def _listen(self) -> socket.socket | None:
        """Take the port; None when it cannot be had, which is said once for each reason."""
        try:
            listening = socket.create_server((self._host, self._wanted_port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            remedy = "stop the other program or choose another port" if taken else "see web.host and web.port"
            why = f"web.port: cannot listen on {self._host}:{self._wanted_port}: {why_not(error)}; {remedy}"
            if why != self._why_none:
                logger.error("there is no status page, all else goes on: %s; tried every %g s", why, self._retry_s)
            self._why_none = why
            return None
        # Inherited by each connection: what is taken by nobody ends it, also when the other machine is asleep.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(self._stalled_s * 1000))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket, self._why_none = listening, None
        logger.info("status page at http://%s:%d/", self._host, self.port)
        return listening

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=_STOP_S + 1)
        if self._socket is not None:
            self._socket.close()
