"""One virtual T2S+ from its options to the end: what `vivarium camera emulate` and `python -m drivers.virtual` do."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from drivers.clock import SystemClock
from drivers.errors import ConfigError
from drivers.t2s_protocol import Variant
from drivers.usb_dump import UsbDump
from drivers.virtual.camera import VirtualT2S
from drivers.virtual.control_socket import DEFAULT_SOCKET, serve
from drivers.virtual.device import VirtualDevice, check_host
from drivers.virtual.personality import V1, V2, Personality
from drivers.virtual.reel import SEED, Reel, render

logger = logging.getLogger(__name__)

_CHEAP_PACKET_BYTES, _CHEAP_INTERVAL = 3072, 4
"""A packet in each millisecond in place of eight: an eighth of the work where the processor is emulated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulation:
    """Which camera is emulated, and how."""

    variant: Variant = Variant.V1
    descriptors: Path | None = None
    """A report or a dump of a real camera, whose identity and variant are taken."""
    port: int | None = None
    """Of vhci_hcd; the first free one by default."""
    seed: int = SEED
    """Of its pictures, and of its serial number."""
    reel: Path | None = None
    """Pictures made beforehand, in place of `seed`."""
    serial: str = ""
    """In the USB descriptors and in the frames; by default only the frames have one."""
    cold: bool = False
    """It was off for long."""
    coarse_packets: bool = False
    """v1: larger packets, one a millisecond."""
    unplugged: bool = False
    """Wait for the command to plug it in."""
    socket: Path = DEFAULT_SOCKET
    """Where commands are taken."""

    def personality(self) -> Personality:
        """What the camera says of itself.

        Raises
        ------
        MaterialError, CameraRefusedError
            If the dump cannot be used.
        ConfigError
            If options contradict each other.
        """
        if self.descriptors is not None:
            if self.coarse_packets:
                raise ConfigError("coarse packets are not those of the descriptors: give one of the two options")
            personality = Personality.of_dump(UsbDump.load(self.descriptors))
        else:
            personality = V1 if self.variant is Variant.V1 else V2
        if self.serial:
            personality = replace(personality, serial=self.serial)
        if self.coarse_packets and not personality.bulk:
            personality = replace(personality, payload_bytes=_CHEAP_PACKET_BYTES, interval=_CHEAP_INTERVAL)
        return personality


def emulate(emulation: Emulation) -> None:
    """Plug the camera in and take commands until one says quit.

    Raises
    ------
    CameraError
        If the kernel does not take it, most of all `NoPortError`, or its descriptors cannot be used.
    ConfigError
        If its options contradict each other or its socket is another's.
    MaterialError
        If the file of descriptors cannot be read.
    """
    personality = emulation.personality()
    check_host()  # before the pictures are made, which takes seconds
    reel = Reel.load(emulation.reel) if emulation.reel else render(emulation.seed)
    if emulation.serial:
        reel = reel.named(emulation.serial)
    clock = SystemClock()
    camera = VirtualT2S(reel, variant=personality.variant, clock=clock)
    device = VirtualDevice(camera, personality, clock=clock, port=emulation.port)
    try:
        if not emulation.unplugged:
            port = device.plug(cold=emulation.cold)
            logger.info("a %s is at port %d of vhci_hcd; commands at %s", personality.variant, port, emulation.socket)
        serve(device, emulation.socket)
    finally:
        device.unplug()
