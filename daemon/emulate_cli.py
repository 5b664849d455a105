"""`vivarium camera emulate` and `operate`: a virtual T2S+ for this machine's kernel, and a hand on it."""

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from drivers.errors import ConfigError
from drivers.t2s_protocol import Variant
from drivers.virtual.control_socket import DEFAULT_SOCKET, HELP, Operator
from drivers.virtual.emulation import Emulation, emulate
from drivers.virtual.reel import SEED

SocketOption = Annotated[Path, typer.Option("--socket", help="Where the virtual camera takes commands.")]


def emulate_command(
    variant: Annotated[Variant, typer.Option(help="Corrects its picture itself (v1) or leaves it to us (v2).")] = (
        Variant.V1
    ),
    descriptors: Annotated[
        Path | None, typer.Option(help="Be the camera of this report of `camera selftest`, or dump of sysfs.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Of vhci_hcd; the first free one by default.", min=0, max=7)] = None,
    seed: Annotated[int, typer.Option(help="Of pictures and serial number.", min=0, max=99_999)] = SEED,
    serial: Annotated[str, typer.Option(help="In USB descriptors and frames; else in the frames only.")] = "",
    cold: Annotated[bool, typer.Option("--cold/--warm", help="It was off for long: it warms up and drifts.")] = False,
    coarse_packets: Annotated[
        bool, typer.Option("--coarse-packets", help="v1: one packet a millisecond, for slow machines.")
    ] = False,
    unplugged: Annotated[bool, typer.Option("--unplugged", help="Wait for `camera operate plug`.")] = False,
    socket: SocketOption = DEFAULT_SOCKET,
) -> None:
    """Plug a virtual T2S+ into this machine's kernel, until `camera operate quit` or Ctrl-C.

    It needs root and the kernel's modules: modprobe -a vhci_hcd uvcvideo
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    emulate(
        Emulation(
            variant=variant,
            descriptors=descriptors,
            port=port,
            seed=seed,
            serial=serial,
            cold=cold,
            coarse_packets=coarse_packets,
            unplugged=unplugged,
            socket=socket,
        )
    )


def operate_command(
    command: Annotated[list[str], typer.Argument(help=f"One of: {HELP}")],
    socket: SocketOption = DEFAULT_SOCKET,
) -> None:
    """Plug, unplug or disturb a virtual T2S+ that is running, and print its answer."""
    try:
        answer = Operator(socket)(" ".join(command))
    except OSError as error:
        raise ConfigError(f"{socket}: no virtual camera takes commands there: {error.strerror or error}") from error
    except RuntimeError as error:
        raise ConfigError(str(error)) from error
    typer.echo(json.dumps(answer))
