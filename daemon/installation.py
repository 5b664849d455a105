"""What an installed service consists of: which file goes where, and what is left to do. Nothing here changes a machine.

The program itself is in /opt/strong-vivarium, put there by `make install` or a package; config and data are the user's.
"""

import hashlib
import importlib.metadata
import importlib.resources
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

from drivers.errors import ConfigError

PROGRAM = PurePosixPath("/opt/strong-vivarium")
CONFIG = PurePosixPath("/etc/strong-vivarium")
DATA = PurePosixPath("/var/lib/strong-vivarium")
DEADMAN_STATE = PurePosixPath("/var/lib/strong-vivarium-deadman")
HEARTBEATS = PurePosixPath("/run/strong-vivarium")
MANIFEST = PROGRAM / "installed.json"
"""What was installed, so that exactly that is undone."""
USER = "strong-vivarium"

UNIT = "strong-vivarium.service"
TIMER = "strong-vivarium-deadman.timer"
FIRST = "config"
"""Name of the service that is no further instance, as its config and its heartbeat are called."""

_ADMINISTRATOR, _PACKAGE = PurePosixPath("/etc"), PurePosixPath("/usr/lib")
_UNITS, _RULES = PurePosixPath("systemd/system"), PurePosixPath("udev/rules.d")
_USERS, _DIRECTORIES = PurePosixPath("sysusers.d"), PurePosixPath("tmpfiles.d")

USERS_FILE = "strong-vivarium.sysusers.conf"
DIRECTORIES_FILE = "strong-vivarium.tmpfiles.conf"
_SCRIPT_FILE = "strong-vivarium-deadman.sh"
_CONFIG_FILE = "config.toml"

_INSTANCE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")
_NOT_IN_A_BOX_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_FIRST_WEB_PORT = 8080

DISTRIBUTION = "strong-vivarium"


@dataclass(frozen=True, slots=True)
class InstalledFile:
    """A file that belongs to the installation."""

    path: PurePosixPath
    """Absolute, on the machine it is for."""
    content: str
    mode: int = 0o644

    @property
    def sha256(self) -> str:
        """Of the content."""
        return sha256_of(self.content.encode())


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an earlier installation has put in place."""

    program: str = ""
    """Fingerprint of the program, see `program_fingerprint`."""
    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by path."""
    directories: tuple[str, ...] = ()
    """Those that were not there before."""

    def to_json(self) -> str:
        """As it is kept."""
        return json.dumps(
            {"program": self.program, "files": dict(self.files), "directories": list(self.directories)}, indent=1
        )

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read what `to_json` wrote; what cannot be read counts as nothing."""
        try:
            values = json.loads(text)
            return cls(
                program=str(values["program"]),
                files={str(path): str(checksum) for path, checksum in values["files"].items()},
                directories=tuple(map(str, values["directories"])),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls()


def sha256_of(content: bytes) -> str:
    """As hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sources() -> Traversable:
    """The folder of unit files and their like: in the installed package, or in the checkout."""
    packaged = importlib.resources.files("daemon") / "systemd"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "systemd"


def planned_files(*, package: bool = False) -> tuple[InstalledFile, ...]:
    """All files but the config.

    Parameters
    ----------
    package : bool
        Where a package puts them, instead of where an administrator does.
    """
    folder, base = sources(), _PACKAGE if package else _ADMINISTRATOR
    places = {
        UNIT: base / _UNITS / UNIT,
        "strong-vivarium@.service": base / _UNITS / "strong-vivarium@.service",
        "strong-vivarium-deadman.service": base / _UNITS / "strong-vivarium-deadman.service",
        TIMER: base / _UNITS / TIMER,
        "60-strong-vivarium.rules": base / _RULES / "60-strong-vivarium.rules",
        USERS_FILE: base / _USERS / "strong-vivarium.conf",
        DIRECTORIES_FILE: base / _DIRECTORIES / "strong-vivarium.conf",
        _SCRIPT_FILE: PROGRAM / "libexec" / "strong-vivarium-deadman",
    }
    return tuple(
        InstalledFile(path, (folder / name).read_text(encoding="utf-8"), 0o755 if name == _SCRIPT_FILE else 0o644)
        for name, path in places.items()
    )


def packaged_unit() -> PurePosixPath:
    """The unit file that is there when a package has installed the service."""
    return _PACKAGE / _UNITS / UNIT


def default_config() -> Path:
    """The config file of a command that is not told of one: here, or where an installed service has its own."""
    here, installed = Path("config.toml"), Path(CONFIG / "config.toml")
    # os.path: whoever may not look into the folder has no error of it.
    return installed if not here.exists() and os.path.exists(installed) else here  # noqa: PTH110


def unit_of(name: str) -> str:
    """The unit of the service whose config is NAME.toml."""
    return UNIT if name == FIRST else f"strong-vivarium@{name}.service"


def config_of(name: str) -> PurePosixPath:
    """Its config file."""
    return CONFIG / f"{name}.toml"


def data_of(name: str) -> PurePosixPath:
    """Its data directory."""
    return DATA if name == FIRST else DATA / name


def heartbeat_of(name: str) -> PurePosixPath:
    """Its sign of life."""
    return HEARTBEATS / f"{name}.heartbeat"


def checked_instance(name: str | None) -> str:
    """The name of a service; None for the first one.

    Raises
    ------
    ConfigError
        If it cannot be the name of an instance.
    """
    if name is None:
        return FIRST
    if not _INSTANCE_NAME.fullmatch(name) or name == FIRST:
        raise ConfigError(
            f"--instance: expected a short name of small letters, digits, - and _ (not {FIRST!r}), got {name!r}"
        )
    return name


def first_config(name: str, *, host: str, others: Iterable[str]) -> InstalledFile:
    """The config of a service that has none.

    Parameters
    ----------
    name : str
        Of the service.
    host : str
        Name of the machine, which becomes that of the first box.
    others : iterable of str
        The configs of the other services on this machine: their ports are taken.
    """
    box = _NOT_IN_A_BOX_NAME.sub("-", host if name == FIRST else name)[:64] or "box1"
    template = (sources() / _CONFIG_FILE).read_text(encoding="utf-8")
    values = {
        "unit": unit_of(name),
        "box": box,
        "data_dir": str(data_of(name)),
        "web_port": str(max((_FIRST_WEB_PORT - 1, *map(_web_port, others))) + 1),
    }
    content = re.sub(r"\{(\w+)\}", lambda found: values[found[1]], template)
    return InstalledFile(config_of(name), content, 0o640)


def _web_port(config: str) -> int:
    """The port that a config takes; a config that cannot be read takes the usual one."""
    try:
        return int(tomllib.loads(config)["web"]["port"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError):
        return _FIRST_WEB_PORT


def program_fingerprint() -> str:
    """Changes with the program and with every library it uses: a running service is then to be started anew."""
    own = importlib.metadata.distribution(DISTRIBUTION).read_text("RECORD") or ""
    # Compiled files come and go; they have no checksum.
    lines = sorted(line for line in own.splitlines() if not line.endswith(",,"))
    libraries = sorted({f"{each.name}=={each.version}" for each in importlib.metadata.distributions()})
    return sha256_of("\n".join([*lines, *libraries]).encode())
