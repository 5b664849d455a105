"""What contact probes say by MQTT."""

import logging

import pytest

from daemon.messaging.incoming import IncomingMessage
from daemon.messaging.probes import PROBE_SILENT_S, ProbeReadings, celsius_of


def message(topic: str | None, payload: bytes) -> IncomingMessage:
    return IncomingMessage(topic=topic, payload=payload, size_bytes=len(payload), retained=False)


@pytest.mark.parametrize(
    ("payload", "celsius"),
    [
        (b"23.5", 23.5),
        (b" 23 ", 23.0),
        (b'{"temperature": 30.25, "battery": 97}', 30.25),
        (b'{"value": -3}', -3.0),
        (b'{"temperature": "30"}', None),
        (b'{"humidity": 40}', None),
        (b"true", None),
        (b"NaN", None),
        (b"1e9", None),
        (b"warm", None),
        (b"\xff\xfe", None),
        (b"", None),
        (b"[" * 4000, None),
    ],
)
def test_temperatures_in_payloads(payload: bytes, celsius: float | None) -> None:
    assert celsius_of(payload) == celsius


def test_the_newest_reading_counts_until_it_is_too_old() -> None:
    probes = ProbeReadings(["lab/a", "lab/b"])
    assert probes.take(message("lab/a", b"20"), 0)
    assert probes.take(message("lab/a", b"21"), 10**9)
    assert probes.celsius("lab/a", 2 * 10**9) == 21
    assert probes.celsius("lab/b", 2 * 10**9) is None
    assert probes.celsius("lab/a", round((PROBE_SILENT_S + 2) * 10**9)) is None


def test_other_topics_are_left_to_others() -> None:
    probes = ProbeReadings(["lab/a"])
    assert not probes.take(message("vivarium/box1/command/reload", b"{}"), 0)
    assert not probes.take(message(None, b"20"), 0)


def test_nonsense_is_told_once_and_keeps_the_last_reading(caplog: pytest.LogCaptureFixture) -> None:
    probes = ProbeReadings(["lab/a"])
    probes.take(message("lab/a", b"20"), 0)
    with caplog.at_level(logging.WARNING):
        assert probes.take(message("lab/a", b"warm"), 1)
        assert probes.take(message("lab/a", b"hot"), 2)
    assert len(caplog.records) == 1
    assert probes.celsius("lab/a", 3) == 20
