"""Plug a virtual T2S+ into this machine's kernel: `modprobe vhci_hcd uvcvideo; python -m drivers.virtual`."""

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

from drivers.clock import SystemClock
from drivers.t2s_protocol import Variant
from drivers.virtual.camera import VirtualT2S
from drivers.virtual.control_socket import DEFAULT_SOCKET, HELP, serve
from drivers.virtual.device import NoPortError, VirtualDevice
from drivers.virtual.personality import V1, V2
from drivers.virtual.reel import Reel, render

_CHEAP_PACKET_BYTES, _CHEAP_INTERVAL = 3072, 4
"""A packet in each millisecond in place of eight: an eighth of the work where the processor is emulated."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="drivers.virtual", description=__doc__, epilog=f"Commands: {HELP}")
    parser.add_argument("--variant", choices=[variant.value for variant in Variant], default=Variant.V1.value)
    parser.add_argument("--reel", type=Path, help="pictures made beforehand; made now by default")
    parser.add_argument("--socket", type=Path, default=DEFAULT_SOCKET, help="where commands are taken")
    parser.add_argument("--serial", default="", help="serial number in the USB descriptors; none by default")
    parser.add_argument("--device-id", type=int, default=0x10002, help="another number for a second device")
    parser.add_argument("--coarse-packets", action="store_true", help="v1: larger packets, one a millisecond")
    parser.add_argument("--unplugged", action="store_true", help="wait for the command to plug it in")
    return parser.parse_args()


def main() -> int:
    """Serve until told to quit."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    variant = Variant(arguments.variant)
    personality = replace(V1 if variant is Variant.V1 else V2, serial=arguments.serial)
    if arguments.coarse_packets and not personality.bulk:
        personality = replace(personality, payload_bytes=_CHEAP_PACKET_BYTES, interval=_CHEAP_INTERVAL)
    reel = Reel.load(arguments.reel) if arguments.reel else render()
    clock = SystemClock()
    device = VirtualDevice(
        VirtualT2S(reel, variant=variant, clock=clock), personality, clock=clock, device_id=arguments.device_id
    )
    try:
        if not arguments.unplugged:
            device.plug()
    except NoPortError as error:
        logging.error("%s", error)
        return 1
    serve(device, arguments.socket)
    return 0


if __name__ == "__main__":
    sys.exit(main())
