"""Puts the installed service in place and takes it away again; what belongs there is `daemon.installation`'s to say."""

import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from daemon.installation import (
    CONFIG,
    DATA,
    DEADMAN_STATE,
    FIRST,
    HEARTBEATS,
    MANIFEST,
    PROGRAM,
    TIMER,
    USER,
    InstalledFile,
    Manifest,
    config_of,
    data_of,
    first_config,
    sha256_of,
    unit_of,
)
from drivers.errors import VivariumError

logger = logging.getLogger(__name__)

CHANGED_BY_HAND_SUFFIX = ".old"
"""Of a file that was not as we had left it and is replaced."""

_COMMAND_TIMEOUT_S = 120.0
_START_TIMEOUT_S = 1900.0
"""A start may take the half hour that the unit allows it."""

_BY_NAME = "strong-vivarium.conf"
"""The files below sysusers.d and tmpfiles.d: systemd looks for them where they may be."""

_PRIVATE_FOLDERS = (CONFIG, DATA)

Runner = Callable[[Sequence[str], float], "subprocess.CompletedProcess[str]"]


class InstallationError(VivariumError):
    """The service cannot be installed or removed here."""


def run_command(command: Sequence[str], timeout_s: float) -> "subprocess.CompletedProcess[str]":
    """Run a program and wait for it; how it ended is the caller's to judge."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise InstallationError(f"{command[0]} is not there: this needs a Linux with systemd") from error
    except subprocess.TimeoutExpired as error:
        raise InstallationError(f"{' '.join(command)} takes longer than {timeout_s:g} s") from error


class Files:
    """The files of an installation below a root directory. Every change is told of, once it is done.

    Parameters
    ----------
    root : Path
        `/`, or a directory that will be one.
    tell : callable
        Takes one line for each change.
    """

    def __init__(self, root: Path, tell: Callable[[str], None]) -> None:
        self._root = root
        self._tell = tell

    def at(self, path: PurePosixPath) -> Path:
        """Where it is below the root."""
        return self._root / path.relative_to("/")

    def manifest(self) -> Manifest:
        """Of the installation that is there; an empty one when there is none."""
        path = self.at(MANIFEST)
        return Manifest.from_json(path.read_text(encoding="utf-8")) if path.exists() else Manifest()

    def install(self, files: Sequence[InstalledFile], *, program: str) -> bool:
        """Put files in place, and take away those that an earlier version had.

        Until `finish` is called the manifest names no program, so that whoever is interrupted begins again.

        Parameters
        ----------
        files : sequence of InstalledFile
            All that belong to the installation.
        program : str
            Fingerprint of the program.

        Returns
        -------
        bool
            True when anything changed, or the last installation was another program's or did not come to its end.
        """
        before = self.manifest()
        made: list[str] = list(before.directories)
        changed = [self._write(file, before, made) for file in files]
        kept = {str(file.path) for file in files}
        changed += [self._remove_file(path, checksum) for path, checksum in before.files.items() if path not in kept]
        manifest = Manifest(
            files={str(file.path): file.sha256 for file in files},
            directories=tuple(dict.fromkeys(made)),
        )
        renewed = any(changed) or replace(manifest, program=program) != before
        if renewed:
            self._keep(manifest)
        return renewed

    def finish(self, *, program: str) -> None:
        """Note that everything which belongs to an installation has been done."""
        manifest = self.manifest()
        if manifest.program != program:
            self._keep(replace(manifest, program=program))

    def stage(self, files: Sequence[InstalledFile]) -> bool:
        """Put files in place for somebody else, a package, to keep account of; True when anything changed."""
        changed = [file for file in files if not self._is_there(file)]
        for file in changed:
            path = self.at(file.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, file.content, file.mode)
            self._tell(f"wrote {file.path}")
        return bool(changed)

    def add(self, file: InstalledFile) -> bool:
        """Write a file that is the user's from then on; one that is there stays as it is."""
        path = self.at(file.path)
        if path.exists():
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in _PRIVATE_FOLDERS:
            if path.parent == self.at(folder):
                path.parent.chmod(0o750)
        _replace(path, file.content, file.mode)
        self._tell(f"wrote {file.path}, yours to change")
        return True

    def uninstall(self) -> bool:
        """Take away exactly what `install` put in place; True when there was anything."""
        manifest = self.manifest()
        removed = [self._remove_file(path, checksum) for path, checksum in manifest.files.items()]
        self.at(MANIFEST).unlink(missing_ok=True)
        for folder in sorted(manifest.directories, reverse=True):  # the inner ones first
            path = self.at(PurePosixPath(folder))
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        return any(removed)

    def remove(self, path: PurePosixPath) -> bool:
        """Take away a file or a whole folder; True when it was there."""
        target = self.at(path)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        elif target.exists() or target.is_symlink():
            target.unlink()
        else:
            return False
        self._tell(f"removed {path}")
        return True

    def _keep(self, manifest: Manifest) -> None:
        _replace(self.at(MANIFEST), manifest.to_json() + "\n", 0o644)

    def _write(self, file: InstalledFile, before: Manifest, made: list[str]) -> bool:
        if self._is_there(file):
            return False
        path = self.at(file.path)
        if path.exists() and sha256_of(path.read_bytes()) not in (file.sha256, before.files.get(str(file.path))):
            self._keep_aside(path, file.path)
        for folder in [folder for folder in reversed(file.path.parents) if not self.at(folder).exists()]:
            self.at(folder).mkdir(mode=0o755)
            made.append(str(folder))
        _replace(path, file.content, file.mode)
        self._tell(f"wrote {file.path}")
        return True

    def _is_there(self, file: InstalledFile) -> bool:
        path = self.at(file.path)
        return (
            path.is_file() and path.stat().st_mode & 0o7777 == file.mode and sha256_of(path.read_bytes()) == file.sha256
        )

    def _keep_aside(self, path: Path, named: PurePosixPath) -> None:
        aside = path.with_name(path.name + CHANGED_BY_HAND_SUFFIX)
        path.replace(aside)
        self._tell(f"{named} was not as we left it: kept as {aside.name}")

    def _remove_file(self, path: str, checksum: str) -> bool:
        target = self.at(PurePosixPath(path))
        if not target.exists():
            return False
        if sha256_of(target.read_bytes()) != checksum:
            self._keep_aside(target, PurePosixPath(path))
        else:
            target.unlink()
        self._tell(f"removed {path}")
        return True


def _replace(path: Path, content: str, mode: int) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(content, encoding="utf-8")
    new.chmod(mode)
    new.replace(path)


class Installer:
    """Installs the service on the machine it runs on.

    Parameters
    ----------
    tell : callable
        Takes one line for each change.
    root : Path
        Another root directory than the machine's: only files are put there.
    run : callable
        Runs a command.
    """

    def __init__(self, tell: Callable[[str], None], *, root: Path = Path("/"), run: Runner = run_command) -> None:
        self.files = Files(root, tell)
        self._tell = tell
        self._run = run

    def names(self) -> list[str]:
        """The services that are enabled or running, the first one first."""
        wanted = self.files.at(PurePosixPath("/etc/systemd/system")).glob("*.wants/strong-vivarium*.service")
        units = [path.name for path in wanted]
        listed = self._ask("list-units", "--all", "--plain", "--no-legend", "strong-vivarium@*.service")
        units += [line.split()[0] for line in listed.splitlines() if line.strip()]
        found = {name for name in map(_name_of, units) if name is not None}
        return sorted(found, key=lambda name: (name != FIRST, name))

    def install(self, name: str, *, files: Sequence[InstalledFile], program: str, host: str, start: bool) -> bool:
        """Put everything in place, and enable and start the service; True when anything changed.

        Services that run are started anew when the program or their files have changed.

        Parameters
        ----------
        name : str
            Of the service.
        files : sequence of InstalledFile
            What all services share; none where a package has installed that.
        program : str
            Fingerprint of the program.
        host : str
            Name of the machine.
        start : bool
            Whether the service is started at once.

        Raises
        ------
        InstallationError
            If a step fails; doing it again goes on from there.
        """
        running = [unit for unit in [*map(unit_of, self.names()), TIMER] if self._is_active(unit)]
        renewed = False
        if files:
            renewed = self.files.install(files, program=program)
            self._must("systemd-sysusers", _BY_NAME)
        changed = renewed | self.files.add(first_config(name, host=host, others=self._configs()))
        if changed:
            self._must("systemd-tmpfiles", "--create", _BY_NAME)
        if renewed:
            self._apply_rules()
            self._must("systemctl", "daemon-reload")
            for unit in running:
                self._must("systemctl", "restart", unit, timeout_s=_START_TIMEOUT_S)
                self._tell(f"restarted {unit}")
        changed |= self._enable(unit_of(name), start=start)
        changed |= self._enable(TIMER, start=start)
        if files:
            self.files.finish(program=program)
        if changed:
            # A power cut in the next half minute would leave files without content, and systemd without a service.
            self._must("sync")
        return changed

    def uninstall(self, names: Sequence[str], *, everything: bool, purge: bool) -> bool:
        """Stop and disable services, and take away what `install` put in place; True when anything changed.

        Parameters
        ----------
        names : sequence of str
            Of the services.
        everything : bool
            With the files that all services share; otherwise only these services end.
        purge : bool
            Config, data and user, too.
        """
        changed = False
        for unit in [*map(unit_of, names), *([TIMER] if everything else [])]:
            changed |= self._disable(unit)
        if everything:
            removed = self.files.uninstall()
            if removed:
                self._apply_rules()
            changed |= removed
            changed |= self.files.remove(DEADMAN_STATE)
            changed |= self.files.remove(HEARTBEATS)
        else:
            for name in names:
                for state in self.files.at(DEADMAN_STATE).glob(f"{name}.*"):
                    state.unlink()
                self.files.at(HEARTBEATS / f"{name}.heartbeat").unlink(missing_ok=True)
        if changed:
            self._must("systemctl", "daemon-reload")
        if purge:
            changed |= self._purge(names, everything=everything)
        return changed

    def pause(self, name: str, *, hours: float) -> None:
        """Keep the dead-man script quiet about a service for some hours."""
        folder = self.files.at(DEADMAN_STATE)
        folder.mkdir(parents=True, exist_ok=True)
        until_s = round(time.time() + hours * 3600)
        _replace(folder / f"{name}.pause", f"until_utc_s={until_s}\n", 0o644)

    def resume(self, name: str) -> bool:
        """End a pause; False when there was none."""
        path = self.files.at(DEADMAN_STATE / f"{name}.pause")
        there = path.exists()
        path.unlink(missing_ok=True)
        return there

    def _configs(self) -> Iterator[str]:
        for path in sorted(self.files.at(CONFIG).glob("*.toml")):
            yield path.read_text(encoding="utf-8", errors="replace")

    def _enable(self, unit: str, *, start: bool) -> bool:
        changed = False
        if self._ask("is-enabled", unit).strip() != "enabled":
            self._must("systemctl", "enable", unit)
            self._tell(f"enabled {unit}")
            changed = True
        if start and not self._is_active(unit):
            self._must("systemctl", "start", unit, timeout_s=_START_TIMEOUT_S)
            self._tell(f"started {unit}")
            changed = True
        return changed

    def _is_active(self, unit: str) -> bool:
        return self._ask("is-active", unit).strip() == "active"

    def _disable(self, unit: str) -> bool:
        is_enabled, is_active = self._ask("is-enabled", unit).strip(), self._ask("is-active", unit).strip()
        if is_active in ("active", "activating", "reloading", "deactivating"):
            self._must("systemctl", "stop", unit)
            self._tell(f"stopped {unit}")
        if is_enabled == "enabled":
            self._must("systemctl", "disable", unit)
            self._tell(f"disabled {unit}")
        self._ask("reset-failed", unit)
        return is_enabled == "enabled" or is_active == "active"

    def _apply_rules(self) -> None:
        if shutil.which("udevadm") is None:
            self._tell("udevadm is not there: cameras get their rights at the next start of the machine")
            return
        self._must("udevadm", "control", "--reload")
        self._must("udevadm", "trigger", "--subsystem-match=usb", "--subsystem-match=video4linux")

    def _purge(self, names: Sequence[str], *, everything: bool) -> bool:
        if not everything:
            return any([self.files.remove(path) for name in names for path in (config_of(name), data_of(name))])
        changed = [self.files.remove(path) for path in (CONFIG, DATA)]
        if self._run(["getent", "passwd", USER], _COMMAND_TIMEOUT_S).returncode == 0:
            self._must("userdel", USER)
            self._tell(f"removed the user {USER}")
            changed.append(True)
        return any(changed)

    def _ask(self, *arguments: str) -> str:
        """What systemctl answers; that something is not enabled or not running is an answer, too."""
        return self._run(["systemctl", *arguments], _COMMAND_TIMEOUT_S).stdout

    def _must(self, *command: str, timeout_s: float = _COMMAND_TIMEOUT_S) -> None:
        done = self._run(command, timeout_s)
        if done.returncode != 0:
            told = (done.stderr or done.stdout).strip()
            raise InstallationError(f"{' '.join(command)} failed with {done.returncode}: {told}")


def _name_of(unit: str) -> str | None:
    stem = unit.removesuffix(".service")
    if stem == "strong-vivarium":
        return FIRST
    return stem.partition("@")[2] or None


def why_not_installable(*, prefix: Path, base_prefix: Path, root_user: bool, runs_systemd: bool) -> str | None:
    """What stands in the way of an installation on this machine; None when nothing does.

    Parameters
    ----------
    prefix, base_prefix : Path
        Of the running Python: its environment, and the Python that this was made with.
    root_user : bool
        Whether we have the rights of root.
    runs_systemd : bool
        Whether systemd is the machine's service manager.
    """
    if not runs_systemd:
        return "systemd does not run on this machine; start the service yourself: vivarium run --config FILE"
    if not root_user:
        return "this needs the rights of root: put sudo before the command"
    if prefix != Path(PROGRAM):
        return f"the program is in {prefix}, and an installed service needs it in {PROGRAM}: run `make install`"
    hidden = [home for home in (Path("/root"), Path("/home")) if base_prefix.is_relative_to(home)]
    if hidden:
        return (
            f"the environment was made with the Python in {base_prefix}, and the service cannot look into {hidden[0]}: "
            "run `make install SYSTEM_PYTHON=/usr/bin/python3`"
        )
    return None


def is_root() -> bool:
    """Whether we have the rights of root."""
    return os.geteuid() == 0
