"""`vivarium camera emulate` and `operate`, with a file in place of the kernel's."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.camera_cli import camera_app
from drivers.clock import SystemClock
from drivers.errors import ConfigError, MaterialError
from drivers.t2s_protocol import Variant
from drivers.virtual import device as virtual_device
from drivers.virtual.camera import VirtualT2S
from drivers.virtual.control_socket import Operator, serve
from drivers.virtual.device import NoPortError, VirtualDevice
from drivers.virtual.emulation import Emulation, emulate
from drivers.virtual.personality import V1
from drivers.virtual.reel import Reel

Operate = Callable[..., str]


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What vhci_hcd would be told."""
    attach = tmp_path / "attach"
    monkeypatch.setattr(virtual_device, "_ATTACH", attach)
    return attach


@pytest.fixture
def operate(reel: Reel, tmp_path: Path) -> Iterator[Operate]:
    """The command `operate` on a virtual camera that is not plugged in; it gives what was printed."""
    clock, path = SystemClock(), tmp_path / "socket"
    device = VirtualDevice(VirtualT2S(reel, variant=Variant.V1, clock=clock), V1, clock=clock)
    server = threading.Thread(target=serve, args=(device, path))
    server.start()
    while not path.exists():
        SystemClock().wait(0.01)

    def run(*words: str) -> str:
        result = CliRunner().invoke(camera_app, ["operate", "--socket", str(path), *words])
        if result.exception is not None:
            raise result.exception
        return result.stdout

    yield run
    Operator(path)("quit")
    server.join()


def test_a_kernel_without_the_module_is_told_how_to_get_it(kernel: Path) -> None:
    result = CliRunner().invoke(camera_app, ["emulate"])
    assert isinstance(result.exception, NoPortError)
    assert "as root, modprobe -a vhci_hcd uvcvideo" in str(result.exception)


def test_an_operator_sees_and_changes_the_camera(operate: Operate) -> None:
    assert json.loads(operate("state"))["plugged"] is False
    assert json.loads(operate("fps", "9")) == {}
    assert json.loads(operate("slow", "0.5")) == {}
    assert json.loads(operate("state"))["rate_hz"] == 9


@pytest.mark.parametrize(
    ("words", "why"), [(("fps", "30"), "at most 25, got 30"), (("dance",), "expected one of: plug")]
)
def test_a_command_that_is_none_is_answered_with_the_reason(operate: Operate, words: tuple[str, ...], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        operate(*words)


def test_an_operator_without_a_camera_is_told_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(camera_app, ["operate", "--socket", str(tmp_path / "none"), "unplug"])
    assert isinstance(result.exception, ConfigError)
    assert "no virtual camera takes commands there" in str(result.exception)


def test_a_socket_in_use_is_not_taken_from_the_other_camera(operate: Operate, reel: Reel, tmp_path: Path) -> None:
    clock = SystemClock()
    other = VirtualDevice(VirtualT2S(reel, variant=Variant.V1, clock=clock), V1, clock=clock)
    with pytest.raises(ConfigError, match="give this one a socket of its own"):
        serve(other, tmp_path / "socket")
    assert json.loads(operate("state"))["plugged"] is False


def test_a_camera_is_offered_to_the_port_that_was_asked_for(kernel: Path, reel: Reel, tmp_path: Path) -> None:
    kernel.touch()
    reel.save(tmp_path / "reel.npz")
    path = tmp_path / "socket"
    emulation = Emulation(port=3, reel=tmp_path / "reel.npz", serial="KA1213", socket=path)
    thread = threading.Thread(target=emulate, args=(emulation,))
    thread.start()
    while not path.exists():
        SystemClock().wait(0.01)
    words = kernel.read_text(encoding="ascii").split()
    Operator(path)("quit")
    thread.join()
    assert (words[0], words[2], words[3]) == ("3", str(0x10002 + 3), "3")


def test_a_dump_that_is_none_is_named_by_the_command(kernel: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(camera_app, ["emulate", "--descriptors", str(tmp_path / "none.json")])
    assert isinstance(result.exception, MaterialError)
