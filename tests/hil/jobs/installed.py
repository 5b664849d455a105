"""The installed service as it is seen from outside: systemctl, the journal, its status page, /proc, and its files."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

UNIT = "strong-vivarium.service"
CONFIG = Path("/etc/strong-vivarium/config.toml")
STATE = Path("/var/lib/strong-vivarium")
DATABASE = STATE / "vivarium.db"
RECORDINGS = STATE / "recordings"

PROGRAM = Path("/opt/strong-vivarium")
VIVARIUM = PROGRAM / "bin" / "vivarium"
FULL_RATE_HZ = 25.0
VERSION = "0.1.0"
READY_S = 240.0
"""An emulated processor takes half a minute for the imports alone, a busy host several times that."""

_CODE = Path("/code")
_SITE = PROGRAM / "lib" / "python3.11" / "site-packages"
_LIBRARIES = "/opt/site"
_LAUNCHER = f"#!{PROGRAM}/bin/python3\nimport sys\n\nfrom daemon.cli import main\n\nsys.exit(main())\n"
_METADATA = "Metadata-Version: 2.1\nName: strong-vivarium\nVersion: {version}\n"

_PLACES = ("/etc", "/usr/lib", "/lib", "/var/lib", "/run", "/opt")
_NOT_OURS = (
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/subuid",
    "/etc/subgid",
    "/run/",
    "/var/lib/systemd/",
    "/var/lib/dpkg/",
    "/var/lib/apt/",
    "/var/lib/hil-broker",
    "/opt/strong-vivarium/",
)
"""Kept by the system itself, or put there by the test; the program is the business of whoever put it there."""

_READ_AGAIN = ("the config was read again", "runs with /etc")
"""What the service says when it goes on with another config, with its parts as they were or begun anew."""

_STATUS_URL = "http://127.0.0.1:8080/api/status"
_HTTP_S = 10.0
_LOOK_S = 0.02
STATUS_LOOK_S = 0.5
_US_PER_S = 1_000_000


def put_program(version: str) -> None:
    """Make /opt/strong-vivarium what `make install` makes of it; the guest has no network for pip."""
    for name in ("drivers", "daemon", "export", "training"):
        shutil.copytree(_CODE / name, _SITE / name, dirs_exist_ok=True)
    shutil.copytree(_CODE / "systemd", _SITE / "daemon" / "systemd", dirs_exist_ok=True)
    (_SITE / "libraries.pth").write_text(f"{_LIBRARIES}\n", encoding="ascii")
    facts = _SITE / f"strong_vivarium-{version}.dist-info"
    facts.mkdir(exist_ok=True)
    (facts / "METADATA").write_text(_METADATA.format(version=version), encoding="ascii")
    (PROGRAM / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n", encoding="ascii")
    VIVARIUM.parent.mkdir(exist_ok=True)
    python = VIVARIUM.with_name("python3")
    python.unlink(missing_ok=True)
    python.symlink_to("/usr/bin/python3.11")
    VIVARIUM.write_text(_LAUNCHER, encoding="ascii")
    VIVARIUM.chmod(0o755)


def vivarium(*arguments: str) -> str:
    """What the installed command says; raises CalledProcessError when it fails."""
    return subprocess.run([VIVARIUM, *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


def running(text: str) -> None:
    """Have the service installed, and ready with this config; one that runs reads it again."""
    if not VIVARIUM.exists():
        put_program(VERSION)
    if not CONFIG.exists():
        vivarium("service", "install", "--no-start")
    CONFIG.write_text(text, encoding="utf-8")
    os.sync()  # as an editor does; the program, as dpkg does
    if is_ready():
        with Journal() as journal:
            since_s = time.monotonic()
            systemctl("reload", UNIT)
            journal.when(*_READ_AGAIN, since_s=since_s, timeout_s=READY_S)
    else:
        systemctl("restart", UNIT)
    await_that(is_ready, "the service to be ready", READY_S)


def systemctl(*arguments: str) -> str:
    """What systemctl says; raises CalledProcessError when it fails."""
    return subprocess.run(["systemctl", *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def unit_property(name: str) -> str:
    """A property of the unit, as `systemctl show` has it."""
    return systemctl("show", UNIT, f"--property={name}", "--value")


def main_pid() -> int:
    """Process number of the service; 0 while it does not run."""
    return int(unit_property("MainPID"))


def is_ready() -> bool:
    """Whether systemd was told READY."""
    return unit_property("SubState") == "running"


def await_that(condition: Callable[[], bool], what: str, timeout_s: float, *, look_each_s: float = _LOOK_S) -> float:
    """Wait until it holds, and how long that took; raises TimeoutError.

    The status page is asked rarely: whoever asks it without a pause keeps an emulated processor from anything else.
    """
    started_s = time.monotonic()
    while not condition():
        if time.monotonic() - started_s > timeout_s:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(look_each_s)
    return round(time.monotonic() - started_s, 3)


def status() -> dict[str, Any]:
    """What the status page knows; raises OSError while there is none."""
    with urllib.request.urlopen(_STATUS_URL, timeout=_HTTP_S) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def camera_state() -> str:
    """Of the camera, as the status page has it; empty while there is no page."""
    try:
        return str(status()["camera"]["state"])
    except OSError:
        return ""


def resources() -> dict[str, int]:
    """What the kernel knows of the service's process."""
    process = Path("/proc", str(main_pid()))
    lines = (process / "status").read_text(encoding="ascii").splitlines()
    facts = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    return {
        "pid": int(process.name),
        "open_files": sum(1 for _ in (process / "fd").iterdir()),
        "threads": int(facts["Threads"][0]),
        "resident_kib": int(facts["VmRSS"][0]),
    }


def files() -> set[str]:
    """Everything that an installation might leave behind."""
    found = subprocess.run(["find", *_PLACES, "-xdev"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return {line for line in found.splitlines() if not line.startswith(_NOT_OURS)}


@contextlib.contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """The service's database, to be read."""
    with contextlib.closing(sqlite3.connect(f"file:{DATABASE}?mode=ro", uri=True, timeout=_HTTP_S)) as connection:
        yield connection


@contextlib.contextmanager
def closing_copy(path: Path) -> Iterator[sqlite3.Connection]:
    """A new database for a copy of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        yield connection


def capabilities() -> int:
    """The rights of root that the process has, as the kernel's bits."""
    lines = Path(f"/proc/{main_pid()}/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("CapEff")), 16)


def config(
    *,
    rate_hz: float = FULL_RATE_HZ,
    block_minutes: int = 120,
    starts: tuple[str, ...] = (),
    networks: bool = False,
    more: str = "",
) -> str:
    """A config with the virtual camera, and with blocks that begin at these times; without any one that begins now.

    The networks are off unless asked for: they take an emulated processor seconds a frame.
    """
    model = "shipped" if networks else "off"
    now = datetime.now(UTC)
    times = ", ".join(f'"{start}"' for start in starts or (f"{now:%H:%M:%S}",))
    return f"""
[box]
name = "hil"
data_dir = "{STATE}"
time_zone = "UTC"

[camera]
kind = "t2s_plus"
environment = {{ distance_m = 1.0 }}

[schedule]
block_minutes = {block_minutes}
rate_hz = {rate_hz}
strata = {{ hil{now:%H%M%S} = [{times}] }}

[measure]
animals = 2

[vision]
unet = "{model}"
panoptic = "{model}"

[mqtt]
broker = "external"
{more}"""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the journal."""

    monotonic_s: float
    """When the journal took it."""
    text: str


class Journal:
    """The service's lines of the journal since the start of the machine, and those to come; ended by `with`."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def __enter__(self) -> "Journal":
        command = ["journalctl", "--follow", "--boot", "--lines=all", "--output=json", f"--unit={UNIT}"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join()

    def when(self, *texts: str, since_s: float, timeout_s: float) -> float:
        """How long after a moment of monotonic time a line with one of these texts came.

        Raises
        ------
        TimeoutError
            If none does.
        """
        found: list[float] = []

        def come() -> bool:
            found[:] = [
                line.monotonic_s
                for line in self.lines
                if line.monotonic_s > since_s and any(text in line.text for text in texts)
            ]
            return bool(found)

        await_that(come, f"the journal to say {' or '.join(texts)}", timeout_s)
        return round(found[0] - since_s, 3)

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            entry = json.loads(line)
            message = entry.get("MESSAGE")
            text = message if isinstance(message, str) else bytes(message or b"").decode(errors="replace")
            self.lines.append(Line(int(entry["__MONOTONIC_TIMESTAMP"]) / _US_PER_S, text))
