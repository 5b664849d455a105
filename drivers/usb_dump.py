"""What a USB camera says of itself, kept so that a virtual one can say the same: descriptors, texts, control range."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from drivers.errors import MaterialError

LARGEST_WORD = 0x80FF
"""The control must take every command word, or the kernel would quietly send its nearest allowed value."""


@dataclass(frozen=True, slots=True)
class ControlRange:
    """What a control takes."""

    minimum: int
    maximum: int
    step: int
    default: int

    @property
    def passes_every_word(self) -> bool:
        """Whether the kernel hands each command word on as it is: it rounds and clamps to this range, silently."""
        return self.minimum <= 0 and self.maximum >= LARGEST_WORD and self.step <= 1


EVERY_WORD = ControlRange(0, 0xFFFF, 1, 0)
"""What a camera must take that is given commands through a control."""

SECTION = "usb"
"""Key of a report in which the dump stands."""

_DEVICE_DESCRIPTOR = b"\x12\x01"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbDump:
    """Enough to enumerate as the same camera."""

    descriptors: bytes
    """Device descriptor and then the configuration descriptors, as the file `descriptors` of sysfs has them."""
    manufacturer: str = ""
    product: str = ""
    serial: str = ""
    zoom: ControlRange | None = None
    """Of the control that takes commands; None when it was not read."""

    def __post_init__(self) -> None:
        if not self.descriptors.startswith(_DEVICE_DESCRIPTOR):
            raise ValueError(
                f"descriptors begin with a device descriptor, {_DEVICE_DESCRIPTOR.hex(' ')}, "
                f"these with {self.descriptors[:2].hex(' ') or 'nothing'}"
            )

    @property
    def vendor_and_product(self) -> tuple[int, int]:
        """The identity on the bus."""
        return int.from_bytes(self.descriptors[8:10], "little"), int.from_bytes(self.descriptors[10:12], "little")

    def as_json(self) -> dict[str, Any]:
        """For a report."""
        return {
            "descriptors_hex": self.descriptors.hex(),
            "manufacturer": self.manufacturer,
            "product": self.product,
            "serial": self.serial,
            "zoom": None if self.zoom is None else asdict(self.zoom),
        }

    @classmethod
    def from_json(cls, section: dict[str, Any]) -> Self:
        """From what `as_json` gave.

        Raises
        ------
        ValueError
            If it is something else.
        """
        try:
            zoom = section["zoom"]
            return cls(
                descriptors=bytes.fromhex(section["descriptors_hex"]),
                manufacturer=str(section["manufacturer"]),
                product=str(section["product"]),
                serial=str(section["serial"]),
                zoom=None if zoom is None else ControlRange(**zoom),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"expected what a report has under {SECTION!r}, got {error!r}") from error

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a report of `vivarium camera selftest`, or the file `descriptors` of a device in sysfs.

        Raises
        ------
        MaterialError
            If it is neither.
        """
        try:
            content = path.read_bytes()
            if content.startswith(_DEVICE_DESCRIPTOR):
                return cls(descriptors=content)
            report = json.loads(content)
            if not isinstance(report, dict) or not isinstance(report.get(SECTION), dict):
                raise ValueError(f"it has no section {SECTION!r}")
            return cls.from_json(report[SECTION])
        except (OSError, ValueError) as error:
            raise MaterialError(
                f"{path}: expected a report of `vivarium camera selftest` or the file `descriptors` of sysfs: {error}"
            ) from error
