"""The files of systemd and udev: accepted without a word, exposing little, and two units that do not drift apart."""

import fnmatch
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from daemon.health import STALLED_AFTER_S
from daemon.installation import config_of, data_of, heartbeat_of
from drivers.usb import UsbBus

FOLDER = Path(__file__).parents[2] / "systemd"
UNIT, TEMPLATE = FOLDER / "strong-vivarium.service", FOLDER / "strong-vivarium@.service"
DEADMAN, TIMER = FOLDER / "strong-vivarium-deadman.service", FOLDER / "strong-vivarium-deadman.timer"
RULES = FOLDER / "60-strong-vivarium.rules"
MAX_EXPOSURE = 2.0
"""Of 10, as `systemd-analyze security` counts: below is what it calls OK and better."""


def program(name: str, package: str) -> str:
    """Where a program is; the test is left out without it."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt install {package})")
    return found


def output(*command: str | Path) -> str:
    """What a program says, on both ways out."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@pytest.fixture
def systemd_analyze() -> str:
    return program("systemd-analyze", "systemd")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """All units, with a program that exists on every machine in place of ours."""
    for path in (UNIT, TEMPLATE, DEADMAN, TIMER):
        text = re.sub(r"(?m)^ExecStart=/opt/\S+", f"ExecStart={shutil.which('true')}", path.read_text())
        assert ("ExecStart=/opt" in path.read_text()) == (path in (UNIT, TEMPLATE))
        (tmp_path / path.name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("name", [UNIT.name, "strong-vivarium@rack2.service", DEADMAN.name, TIMER.name])
def test_systemd_has_nothing_to_say_about_the_unit(systemd_analyze: str, units: Path, name: str) -> None:
    done = subprocess.run(
        [systemd_analyze, "verify", "--man=no", units / name], capture_output=True, text=True, timeout=60
    )
    assert (done.stderr, done.stdout, done.returncode) == ("", "", 0)  # an unknown key is a warning with code 0


@pytest.mark.parametrize("name", [UNIT.name, "strong-vivarium@rack2.service"])
def test_a_mistyped_key_would_be_noticed(systemd_analyze: str, units: Path, name: str) -> None:
    for path in (units / UNIT.name, units / TEMPLATE.name):
        path.write_text(path.read_text().replace("WatchdogSec=", "WatchdogSecs="))
    assert "WatchdogSecs" in output(systemd_analyze, "verify", "--man=no", units / name)


@pytest.mark.parametrize("name", [UNIT.name, "strong-vivarium@rack2.service"])
def test_the_unit_exposes_little(systemd_analyze: str, units: Path, name: str) -> None:
    said = output(systemd_analyze, "security", "--offline=true", "--no-pager", units / name)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found is not None, said
    print(f"{name}: exposure {found[1]} of 10, allowed {MAX_EXPOSURE}")  # noqa: T201  # the figure
    assert float(found[1]) <= MAX_EXPOSURE


def test_the_watchdog_waits_longer_than_a_stall_takes_to_be_noticed() -> None:
    watchdog = re.search(r"(?m)^WatchdogSec=(\d+)$", UNIT.read_text())
    assert watchdog is not None
    assert float(watchdog[1]) >= 2 * STALLED_AFTER_S


def test_the_service_starts_again_for_ever() -> None:
    assert {"Restart=always", "StartLimitIntervalSec=0", "Type=notify"} <= set(UNIT.read_text().splitlines())


def settings(unit: Path) -> list[str]:
    """The lines that systemd reads."""
    return [line for line in unit.read_text().splitlines() if line and not line.startswith("#")]


def test_both_units_differ_in_nothing_but_the_name_of_the_instance() -> None:
    first = "\n".join(settings(UNIT))
    further = "\n".join(settings(TEMPLATE)).replace(", camera %i", "")
    assert (
        further.replace("/%i.toml", "/config.toml")
        .replace("/%i.heartbeat", "/config.heartbeat")
        .replace("strong-vivarium/%i\n", "strong-vivarium\n")
        .replace("strong-vivarium/%i/", "strong-vivarium/")
        == first
    )
    assert further.count("%i") == 5


@pytest.mark.parametrize(("unit", "name"), [(UNIT, "config"), (TEMPLATE, "rack2")])
def test_the_units_use_the_places_that_the_installation_knows(unit: Path, name: str) -> None:
    text = unit.read_text().replace("%i", name)
    last_good = data_of(name) / "config.last-good.toml"
    assert f" --config {config_of(name)} --heartbeat {heartbeat_of(name)} --last-good {last_good}\n" in text
    assert f"\nWorkingDirectory={data_of(name)}\n" in text
    assert f"\nStateDirectory={data_of(name).relative_to('/var/lib')}\n" in text


def test_the_user_of_the_service_is_made(tmp_path: Path) -> None:
    sysusers = program("systemd-sysusers", "systemd")
    (tmp_path / "etc").mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can make a user, even below another root directory")
    said = output(sysusers, f"--root={tmp_path}", FOLDER / "strong-vivarium.sysusers.conf")
    passwd = (tmp_path / "etc" / "passwd").read_text()
    assert re.search(r"(?m)^strong-vivarium:x:\d+:\d+:Strong Vivarium:/var/lib/strong-vivarium:\S*nologin$", passwd), (
        said
    )
    assert re.search(r"(?m)^video:x:\d+:strong-vivarium$", (tmp_path / "etc" / "group").read_text())


def test_the_directories_are_made_with_their_rights(tmp_path: Path) -> None:
    sysusers, tmpfiles = program("systemd-sysusers", "systemd"), program("systemd-tmpfiles", "systemd")
    if os.geteuid() != 0:
        pytest.skip("only root can give directories to other users")
    config = tmp_path / "etc" / "strong-vivarium"
    (config / "credentials").mkdir(parents=True)
    for path in (config / "config.toml", config / "rack2.toml", config / "credentials" / "mqtt_password"):
        path.write_text("")
    said = output(sysusers, f"--root={tmp_path}", FOLDER / "strong-vivarium.sysusers.conf")
    done = subprocess.run(
        [tmpfiles, f"--root={tmp_path}", "--create", FOLDER / "strong-vivarium.tmpfiles.conf"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, ""), said
    row = re.search(r"(?m)^strong-vivarium:x:(\d+):(\d+)", (tmp_path / "etc" / "passwd").read_text())
    assert row is not None
    user, group = int(row[1]), int(row[2])

    def rights(path: str) -> tuple[str, int, int]:
        state = (tmp_path / path).stat()
        return stat.filemode(state.st_mode), state.st_uid, state.st_gid

    assert rights("etc/strong-vivarium") == ("drwxr-x---", 0, group)
    assert rights("etc/strong-vivarium/config.toml") == ("-rw-r-----", 0, group)
    assert rights("etc/strong-vivarium/rack2.toml") == ("-rw-r-----", 0, group)
    assert rights("etc/strong-vivarium/credentials") == ("drwx------", 0, 0)
    assert rights("etc/strong-vivarium/credentials/mqtt_password") == ("-rw-------", 0, 0)
    assert rights("var/lib/strong-vivarium") == ("drwxr-x---", user, group)


def test_udev_accepts_the_rules() -> None:
    udevadm = program("udevadm", "udev")
    done = subprocess.run([udevadm, "--version"], capture_output=True, text=True, timeout=60)
    if int(done.stdout) < 254:
        pytest.skip(f"udevadm {done.stdout.strip()} cannot verify rules (254 and later can)")
    done = subprocess.run([udevadm, "verify", RULES], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


PRODUCTS = [
    pytest.param("1514", "0001", "S0H-40", True, id="a v1 by its vendor"),
    pytest.param("1514", "7777", "", True, id="a v1 without a text"),
    pytest.param("04b4", "0100", "T2S+", True, id="a v2"),
    pytest.param("04b4", "0100", "T2S+_V2", True, id="a v2 with a suffix"),
    pytest.param("04b4", "0100", "T2L-A4L", True, id="its sibling"),
    pytest.param("04b4", "0100", "T2 Pro", True, id="its other sibling"),
    pytest.param("04b4", "0100", "T2", True, id="short"),
    pytest.param("04b4", "0100", "Barcode Scanner", False, id="a scanner with the same numbers"),
    pytest.param("04b4", "0100", "T20 keyboard", False, id="a keyboard with the same numbers"),
    pytest.param("04b4", "0100", "", False, id="no text"),
    pytest.param("04b4", "0101", "T2S+", False, id="another number"),
    pytest.param("046d", "0825", "Webcam", False, id="a webcam"),
]


@pytest.mark.parametrize(("vendor", "product_id", "product", "ours"), PRODUCTS)
def test_the_rules_give_us_the_cameras_that_the_driver_takes_and_no_other(
    tmp_path: Path, vendor: str, product_id: str, product: str, ours: bool
) -> None:
    attributes = {"idVendor": vendor, "idProduct": product_id, "product": product}
    device = tmp_path / "bus" / "usb" / "devices" / "1-2"
    device.mkdir(parents=True)
    for name, value in {**attributes, "busnum": "1", "devnum": "2"}.items():
        (device / name).write_text(value + "\n")
    assert bool(UsbBus(sysfs=tmp_path).cameras()) is ours
    for subsystem, key in (("usb", "ATTR"), ("video4linux", "ATTRS")):
        lines = [line for line in RULES.read_text().splitlines() if line.startswith(f'SUBSYSTEM=="{subsystem}"')]
        assert len(lines) == 2
        assert any(matches(line, key, attributes) for line in lines) is ours


def matches(rule: str, key: str, attributes: dict[str, str]) -> bool:
    """Whether udev's patterns fit; of them we use alternatives, * and sets of characters."""
    wanted = re.findall(rf'\b{key}{{(\w+)}}=="([^"]*)"', rule)
    assert wanted
    return all(
        any(fnmatch.fnmatchcase(attributes[name], pattern.replace("[^", "[!")) for pattern in patterns.split("|"))
        for name, patterns in wanted
    )


@pytest.mark.parametrize("unit", [UNIT, TEMPLATE])
def test_cameras_may_be_opened_whose_driver_comes_after_the_service(unit: Path) -> None:
    # A name of /proc/devices is looked up once, when the service starts: tests/hil cut the power and found it blind.
    assert allowed(unit) - GPU == {("char-81", "rw"), ("char-189", "rw")}


@pytest.mark.parametrize("unit", [UNIT, TEMPLATE])
def test_a_gpu_may_be_opened(unit: Path) -> None:
    assert allowed(unit) >= GPU
    assert "DevicePolicy=closed" in settings(unit)


GPU = {("char-195", "rw"), ("char-nvidia-uvm", "rw")}
"""Linux' list of devices names the first, Documentation/admin-guide/devices.txt; the other is in /proc/devices."""


def allowed(unit: Path) -> set[tuple[str, str]]:
    """Devices beside those of every program, and what may be done with them."""
    return set(re.findall(r"(?m)^DeviceAllow=(\S+) (\w+)$", unit.read_text()))
