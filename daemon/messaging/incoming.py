"""What comes from the broker, written down and nothing more."""

from dataclasses import dataclass

MOST_PAYLOAD_BYTES = 4096
"""Of what is larger only the size is kept."""

MOST_CORRELATION_BYTES = 256
"""Longer correlation data are not echoed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingMessage:
    """One message to us."""

    topic: str | None
    """In full; None when it is no UTF-8, which a broker should never let pass."""
    payload: bytes
    """Empty when it was larger than `MOST_PAYLOAD_BYTES`."""
    size_bytes: int
    retained: bool
    """Published to stay, or found when we came: MQTT 3.1.1 tells the latter only."""
    correlation: bytes | None = None
    """Correlation data of MQTT 5, to be echoed."""
