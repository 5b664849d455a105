"""One connection to the broker, to see whether it takes us."""

import socket

from daemon.messaging import topics
from daemon.messaging.connection import (
    BrokerAwayError,
    BrokerSilentError,
    MqttConnection,
    ProtocolVersion,
    VersionRefusedError,
    Will,
)
from daemon.messaging.payloads import status_payload
from daemon.settings import MqttSettings
from drivers.clock import SystemClock


def probe_broker(settings: MqttSettings, *, password: str | None, box: str) -> str:
    """Connect and say goodbye; nothing is published.

    Returns
    -------
    str
        The newest version of MQTT that both sides speak.

    Raises
    ------
    VivariumError
        Why the broker cannot be used.
    """
    versions = [version for version in ProtocolVersion if settings.protocol in ("auto", version.value)]
    wake, other = socket.socketpair()
    with wake, other:
        for version in versions:
            connection = MqttConnection(
                settings,
                password=password,
                client_id=f"vivarium-{box}-doctor",
                version=version,
                will=Will(
                    topic=topics.absolute(f"{box}-doctor", topics.STATUS),
                    payload=status_payload("offline", "connection_lost"),
                ),
                wake=wake,
                clock=SystemClock(),
            )
            try:
                connection.connect(cancelled=lambda: False)
            except (BrokerSilentError, VersionRefusedError):
                if version is versions[-1]:
                    raise
                continue
            connection.close(goodbye=True)
            return version.value
    raise BrokerAwayError("no version of MQTT to try")
