"""Contact probes that publish a temperature by MQTT: the known side of a reference patch."""

import json
import logging
import threading
from collections.abc import Iterable

from daemon.messaging.incoming import IncomingMessage
from drivers.clock import NS_PER_S

logger = logging.getLogger(__name__)

PROBE_SILENT_S = 600.0
"""A probe that has said nothing for so long says nothing. Battery-driven ones speak every few minutes."""

_KEYS = ("temperature", "celsius", "value")
"""Of a JSON object, the first that is there counts: Zigbee2MQTT and Home Assistant call it temperature."""

_COLDEST_CELSIUS, _HOTTEST_CELSIUS = -40.0, 125.0


class ProbeReadings:
    """The newest reading of each probe; filled by the publisher's thread, read by the worker's.

    Parameters
    ----------
    topics : iterable of str
        Whole topics that are listened to.
    """

    def __init__(self, topics: Iterable[str]) -> None:
        self.topics = tuple(dict.fromkeys(topics))
        self._lock = threading.Lock()
        self._readings: dict[str, tuple[int, float]] = {}
        self._complained: set[str] = set()

    def take(self, message: IncomingMessage, monotonic_ns: int) -> bool:
        """Take what a probe says; whether the message came on one of their topics."""
        topic = message.topic
        if topic is None or topic not in self.topics:
            return False
        celsius = celsius_of(message.payload)
        if celsius is None:
            if topic not in self._complained:
                self._complained.add(topic)
                logger.warning("%s: expected a temperature in °C, got %r; told once", topic, message.payload[:80])
            return True
        with self._lock:
            self._readings[topic] = monotonic_ns, celsius
        return True

    def celsius(self, topic: str, monotonic_ns: int) -> float | None:
        """What the probe of a topic said last, °C; None where that is too long ago."""
        with self._lock:
            reading = self._readings.get(topic)
        if reading is None or monotonic_ns - reading[0] > PROBE_SILENT_S * NS_PER_S:
            return None
        return reading[1]


def celsius_of(payload: bytes) -> float | None:
    """The temperature in a payload: a number, or a JSON object with one; None where there is none, or an absurd one."""
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError):  # ValueError: no JSON, no UTF-8
        return None
    if isinstance(content, dict):
        content = next((content[key] for key in _KEYS if key in content), None)
    if isinstance(content, bool) or not isinstance(content, (int, float)):
        return None
    return float(content) if _COLDEST_CELSIUS <= content <= _HOTTEST_CELSIUS else None  # NaN is not, either
