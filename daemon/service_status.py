"""How the installed service does: what systemd knows of it, and its own sign of life."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from daemon.installation import TIMER, heartbeat_of, unit_of
from daemon.installer import run_command

_PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "Result",
    "NRestarts",
    "MemoryCurrent",
    "MemoryMax",
    "WatchdogUSec",
    "StatusText",
)
_TIMEOUT_S = 20.0
_MIB = 1024**2
_NO_VALUE = ("", "[not set]", "infinity", str(2**64 - 1))


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One service, now."""

    name: str
    unit: Mapping[str, str]
    """Properties by their names, as systemctl gives them."""
    heartbeat: Mapping[str, str]
    """What its sign of life says; empty when there is none."""

    @property
    def runs(self) -> bool:
        """Whether systemd calls it active."""
        return self.unit.get("ActiveState") == "active"

    def rows(self, *, now_uptime_s: float) -> Iterator[tuple[str, str]]:
        """What a person wants to know, as label and text."""
        unit = self.unit
        if unit.get("LoadState") != "loaded":
            yield unit_of(self.name), "not installed: make install, then vivarium service status"
            return
        state = f"{unit.get('ActiveState')} ({unit.get('SubState')}), {unit.get('UnitFileState') or 'not enabled'}"
        if unit.get("Result") not in ("success", "", None):
            state += f", last result: {unit['Result']}"
        yield unit_of(self.name), state
        if self.runs and unit.get("StatusText"):
            yield "says", unit["StatusText"]
        yield "watchdog", self._watchdog(now_uptime_s)
        yield "restarts", unit.get("NRestarts", "not known")
        yield "memory", _memory(unit)
        yield "last good frame", self._frame(now_uptime_s)
        yield "version", self.heartbeat.get("version", "not known")

    def _watchdog(self, now_uptime_s: float) -> str:
        if not self.heartbeat:
            return f"{self.unit.get('WatchdogUSec', 'none')}; no sign of life yet"
        age_s = now_uptime_s - float(self.heartbeat["uptime_s"])
        stalled = self.heartbeat.get("stalled")
        fed = f"no progress: {stalled}" if stalled else "all parts make progress"
        return f"{self.unit.get('WatchdogUSec', 'none')}; sign of life {age_s:.0f} s ago, {fed}"

    def _frame(self, now_uptime_s: float) -> str:
        if "last_good_frame_uptime_s" not in self.heartbeat:
            return "none since the start"
        return f"{now_uptime_s - float(self.heartbeat['last_good_frame_uptime_s']):.1f} s ago"


def read_state(name: str) -> ServiceState:
    """Ask systemd and read the sign of life.

    Raises
    ------
    InstallationError
        If there is no systemctl.
    """
    done = run_command(["systemctl", "show", "--property", ",".join(_PROPERTIES), unit_of(name)], _TIMEOUT_S)
    return ServiceState(name, _pairs(done.stdout), read_heartbeat(Path(heartbeat_of(name))))


def deadman_watches() -> bool:
    """Whether the timer of the dead-man script runs."""
    return run_command(["systemctl", "is-active", TIMER], _TIMEOUT_S).stdout.strip() == "active"


def read_heartbeat(path: Path) -> dict[str, str]:
    """What a sign of life says; empty when there is none, or none that can be understood."""
    try:
        found = _pairs(path.read_text(encoding="utf-8"))
        float(found["uptime_s"])
        float(found.get("last_good_frame_uptime_s", "0"))
    except (OSError, UnicodeDecodeError, KeyError, ValueError):
        return {}
    return found


def _pairs(text: str) -> dict[str, str]:
    return {name: value for name, found, value in (line.partition("=") for line in text.splitlines()) if found}


def _memory(unit: Mapping[str, str]) -> str:
    used, limit = unit.get("MemoryCurrent", ""), unit.get("MemoryMax", "")
    if used in _NO_VALUE or not used.isdigit():
        return "not known"
    text = f"{int(used) / _MIB:.0f} MiB"
    return text if limit in _NO_VALUE or not limit.isdigit() else f"{text} of {int(limit) / _MIB:.0f} MiB"
