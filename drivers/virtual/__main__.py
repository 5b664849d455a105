"""Plug a virtual T2S+ into this machine's kernel: `modprobe vhci_hcd uvcvideo; python -m drivers.virtual`."""

import argparse
import logging
import sys
from pathlib import Path

from drivers.errors import VivariumError
from drivers.t2s_protocol import Variant
from drivers.virtual.control_socket import DEFAULT_SOCKET, HELP
from drivers.virtual.emulation import Emulation, emulate
from drivers.virtual.reel import SEED


def _emulation() -> Emulation:
    parser = argparse.ArgumentParser(prog="drivers.virtual", description=__doc__, epilog=f"Commands: {HELP}")
    parser.add_argument("--variant", type=Variant, choices=list(Variant), default=Variant.V1)
    parser.add_argument("--descriptors", type=Path, help="be the camera of this report or dump")
    parser.add_argument("--port", type=int, help="of vhci_hcd; the first free one by default")
    parser.add_argument("--seed", type=int, default=SEED, help="of the pictures")
    parser.add_argument("--reel", type=Path, help="pictures made beforehand; made now by default")
    parser.add_argument("--serial", default="", help="in the USB descriptors and in the frames")
    parser.add_argument("--cold", action="store_true", help="it was off for long")
    parser.add_argument("--coarse-packets", action="store_true", help="v1: larger packets, one a millisecond")
    parser.add_argument("--unplugged", action="store_true", help="wait for the command to plug it in")
    parser.add_argument("--socket", type=Path, default=DEFAULT_SOCKET, help="where commands are taken")
    return Emulation(**vars(parser.parse_args()))


def main() -> int:
    """Serve until told to quit."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        emulate(_emulation())
    except VivariumError as error:
        logging.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
