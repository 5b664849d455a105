"""Control requests to a USB video camera: which there are and what they mean."""

import struct
from dataclasses import dataclass
from enum import Enum, auto

from drivers.virtual.personality import Personality

_SETUP = struct.Struct("<BBHHH")
_TYPE_MASK, _STANDARD, _CLASS = 0x60, 0x00, 0x20
_GET_STATUS, _CLEAR_FEATURE, _SET_ADDRESS, _GET_DESCRIPTOR = 0, 1, 5, 6
_GET_CONFIGURATION, _SET_CONFIGURATION, _GET_INTERFACE, _SET_INTERFACE = 8, 9, 10, 11
_SET_CUR, _GET_CUR, _GET_MIN, _GET_MAX, _GET_RES, _GET_LEN, _GET_INFO, _GET_DEF = 0x01, *range(0x81, 0x88)
_READ_AND_WRITE = b"\x03"
_PROBE, _COMMIT = 1, 2
_FOCUS, _ZOOM = 0x06, 0x0B


class Deed(Enum):
    """What a request does besides being answered."""

    NOTHING = auto()
    START_STREAM = auto()
    STOP_STREAM = auto()
    COMMAND = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to answer, and what to do."""

    data: bytes | None
    """To the host; None refuses the request."""
    deed: Deed = Deed.NOTHING
    word: int = 0
    """Of a command."""


_DONE = Answer(data=b"")
_REFUSED = Answer(data=None)


class ControlRequests:
    """Answers the control requests of one camera.

    Parameters
    ----------
    personality : Personality
        What it says of itself.
    """

    def __init__(self, personality: Personality) -> None:
        self._personality = personality
        self._values = {_FOCUS: 0, _ZOOM: 0}

    def answer(self, setup: bytes, data: bytes) -> Answer:
        """The answer to one request with what the host sent along."""
        kind, request, value, index, length = _SETUP.unpack(setup)
        if kind & _TYPE_MASK == _STANDARD:
            answer = self._standard(request, value, index)
        elif kind & _TYPE_MASK == _CLASS:
            answer = self._video(request, value >> 8, index & 0xFF, index >> 8, data)
        else:
            answer = _REFUSED
        return answer if answer.data is None else Answer(data=answer.data[:length], deed=answer.deed, word=answer.word)

    def is_command(self, setup: bytes) -> bool:
        """Whether the request is for the control that takes commands."""
        kind, _request, value, index, _length = _SETUP.unpack(setup)
        return kind & _TYPE_MASK == _CLASS and (value >> 8, index & 0xFF, index >> 8) == (
            _ZOOM,
            self._personality.control_interface,
            self._personality.camera_terminal,
        )

    def _standard(self, request: int, value: int, index: int) -> Answer:
        if request == _GET_DESCRIPTOR:
            return Answer(data=self._personality.descriptor(value >> 8, value & 0xFF))
        if request == _SET_INTERFACE:
            streaming = index == self._personality.streaming_interface and not self._personality.bulk
            deed = Deed.START_STREAM if value else Deed.STOP_STREAM
            return Answer(data=b"", deed=deed if streaming else Deed.NOTHING)
        if request == _CLEAR_FEATURE:
            return Answer(data=b"", deed=Deed.STOP_STREAM if self._personality.bulk else Deed.NOTHING)
        fixed = {_GET_STATUS: b"\0\0", _GET_CONFIGURATION: b"\1", _GET_INTERFACE: b"\0"}
        if request in (_SET_ADDRESS, _SET_CONFIGURATION):
            return _DONE
        return Answer(data=fixed.get(request))

    def _video(self, request: int, selector: int, interface: int, entity: int, data: bytes) -> Answer:
        if interface == self._personality.streaming_interface and selector in (_PROBE, _COMMIT):
            return self._stream_settings(request, selector)
        if (interface, entity) == (
            self._personality.control_interface,
            self._personality.camera_terminal,
        ) and selector in self._values:
            return self._camera_control(request, selector, data)
        return _REFUSED

    def _stream_settings(self, request: int, selector: int) -> Answer:
        settings = self._personality.stream_settings()
        if request == _SET_CUR:
            starts = selector == _COMMIT and self._personality.bulk
            return Answer(data=b"", deed=Deed.START_STREAM if starts else Deed.NOTHING)
        return Answer(
            data={_GET_LEN: struct.pack("<H", len(settings)), _GET_INFO: _READ_AND_WRITE}.get(request, settings)
        )

    def _camera_control(self, request: int, selector: int, data: bytes) -> Answer:
        if request == _SET_CUR:
            if len(data) != 2:
                return _REFUSED
            word = int.from_bytes(data, "little")
            self._values[selector] = word
            return Answer(data=b"", deed=Deed.COMMAND if selector == _ZOOM else Deed.NOTHING, word=word)
        zoom = self._personality.zoom
        values = {
            _GET_CUR: self._values[selector],
            _GET_MIN: zoom.minimum,
            _GET_MAX: zoom.maximum,
            _GET_RES: zoom.step,
            _GET_LEN: 2,
            _GET_DEF: zoom.default,
        }
        if request == _GET_INFO:
            return Answer(data=_READ_AND_WRITE)
        return Answer(data=struct.pack("<H", values[request]) if request in values else None)
