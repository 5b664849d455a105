"""The control socket of a virtual T2S+: one line for a command, one line of JSON for the answer."""

import json
import socket
from pathlib import Path
from typing import Any

from drivers.errors import ConfigError
from drivers.virtual.camera import PictureFault
from drivers.virtual.device import NoPortError, VirtualDevice
from drivers.virtual.payloads import WireFault

DEFAULT_SOCKET = Path("/run/virtual-t2s.sock")

_SWITCHES = {
    "freeze": {"frozen": True},
    "thaw": {"frozen": False},
    "hang": {"hung": True},
    "unhang": {"hung": False},
    "hangctl": {"control_hung": True},
    "unhangctl": {"control_hung": False},
}

HELP = (
    "plug [cold] | unplug | state | words | freeze | thaw | hang | unhang | hangctl | unhangctl | stallctl N | "
    "slow SECONDS | fps HZ | stuck SECONDS | "
    + " | ".join(f"{fault} N" for fault in (*WireFault, *PictureFault))
    + " | quit"
)


class UnknownCommandError(ValueError):
    """Not in `HELP`."""


def execute(device: VirtualDevice, line: str) -> dict[str, Any]:
    """Do one command and say what came of it.

    Raises
    ------
    UnknownCommandError
        If there is no such command.
    ValueError
        If its number is none.
    NoPortError
        If the kernel does not take the device.
    """
    name, _, argument = line.strip().partition(" ")
    if name in _SWITCHES:
        device.disturb(**_SWITCHES[name])
    elif name == "plug":
        return {"port": device.plug(cold=argument == "cold")}
    elif name == "unplug":
        device.unplug()
    elif name == "stallctl":
        device.disturb(stalls=int(argument))
    elif name == "slow":
        device.disturb(late_s=float(argument))
    elif name == "fps":
        device.camera.set_rate(float(argument))
    elif name == "stuck":
        device.camera.hold_picture(float(argument))
    elif name in set(WireFault):
        device.damage(WireFault(name), int(argument))
    elif name in set(PictureFault):
        device.camera.disturb(PictureFault(name), int(argument))
    elif name == "words":
        return {"words": [[received.word, received.at_ns] for received in device.camera.words]}
    elif name == "state":
        counts = device.counts
        return {
            "plugged": device.plugged,
            "frames": counts.frames,
            "lost": counts.lost,
            "transfers": counts.transfers,
            "plugs": counts.plugs,
            **device.camera.state(),
        }
    else:
        raise UnknownCommandError(f"expected one of: {HELP}; got {line.strip()!r}")
    return {}


def serve(device: VirtualDevice, path: Path) -> None:
    """Take commands, one connection after the other, until one says quit.

    Raises
    ------
    ConfigError
        If another virtual camera takes its commands there.
    """
    if _is_served(path):
        raise ConfigError(f"{path}: another virtual camera takes its commands there; give this one a socket of its own")
    unready = path.with_name(f"{path.name}.new")
    unready.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(unready))
        listener.listen()
        unready.replace(path)  # whoever finds the name can connect
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("rw") as lines:
                for line in lines:
                    if line.strip() == "quit":
                        device.unplug()
                        lines.write("{}\n")
                        return
                    lines.write(json.dumps(_answered(device, line)) + "\n")
                    lines.flush()


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as line:
        return line.connect_ex(str(path)) == 0


def _answered(device: VirtualDevice, line: str) -> dict[str, Any]:
    try:
        return execute(device, line)
    except (ValueError, NoPortError) as error:
        return {"error": str(error)}


class Operator:
    """The other side of the socket.

    Parameters
    ----------
    path : Path
        Of the socket.
    """

    def __init__(self, path: Path = DEFAULT_SOCKET) -> None:
        self._path = path

    def __call__(self, command: str) -> dict[str, Any]:
        """Send one command and wait for its answer.

        Raises
        ------
        OSError
            If no virtual camera listens there.
        RuntimeError
            If the device refuses.
        """
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(20)
            line.connect(str(self._path))
            with line.makefile("rw") as lines:
                lines.write(command + "\n")
                lines.flush()
                answer: dict[str, Any] = json.loads(lines.readline())
        if "error" in answer:
            raise RuntimeError(f"{command}: {answer['error']}")
        return answer
