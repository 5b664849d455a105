"""`vivarium service`: installs the service on this machine, says how it does, and takes it away again."""

import platform
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from daemon.heartbeat import uptime_s
from daemon.installation import (
    FIRST,
    checked_instance,
    config_of,
    data_of,
    first_config,
    packaged_unit,
    planned_files,
    program_fingerprint,
    unit_of,
)
from daemon.installer import InstallationError, Installer, is_root, why_not_installable
from daemon.service_status import ServiceState, read_state

service_app = typer.Typer(help="The service on this machine: install, look at, remove.", no_args_is_help=True)

InstanceOption = Annotated[
    str | None,
    typer.Option("--instance", metavar="NAME", help="A further service, for a second camera; NAME.toml is its config."),
]

_NOT_RUNNING = 3
"""Exit code, as of an init script (LSB)."""

_STAGED_HOST = "box1"


_PIPE_WIDTH = 10_000
"""Columns where nobody looks: no line is broken."""


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)


def _say(line: str) -> None:
    _console().print(escape(line), soft_wrap=True)


@service_app.command()
def install(
    instance: InstanceOption = None,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Whether to start the service at once.")] = True,
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Only put the files below DIR, as for an image or a package.")
    ] = None,
    package: Annotated[
        bool, typer.Option("--package", help="With --root: where a package puts them (/usr/lib), not in /etc.")
    ] = False,
) -> None:
    """Install the service, or bring an installed one up to date; a second time changes nothing."""
    name = checked_instance(instance)
    if root is not None:
        files = Installer(_say, root=root).files
        staged = files.stage(planned_files(package=package))
        staged |= files.add(first_config(name, host=_STAGED_HOST, others=()))
        if not staged:
            _say(f"{root}: all files are there: nothing changed")
        return
    if package:
        raise InstallationError("--package is for a package that is being built: it needs --root")
    _must_be_installable()
    packaged = Path(packaged_unit()).exists()
    if packaged and name == FIRST:
        raise InstallationError("the service was installed by a package: use apt, and systemctl to start it")
    data = Path(data_of(name))
    if name != FIRST and data.exists() and not Path(config_of(name)).exists():
        raise InstallationError(f"--instance: {data} is there already, and is not the data of such a service")
    changed = Installer(_say).install(
        name,
        files=() if packaged else planned_files(),
        program=program_fingerprint(),
        host=platform.node(),
        start=start,
    )
    if not changed:
        _say(f"{unit_of(name)} is installed and up to date: nothing changed")


@service_app.command()
def uninstall(
    instance: InstanceOption = None,
    purge: Annotated[bool, typer.Option("--purge", help="Config, data and user, too. There is no way back.")] = False,
) -> None:
    """Stop the service and undo what `install` did; config and data stay, for the next time."""
    name = checked_instance(instance)
    _must_be_installable()
    installer = Installer(_say)
    if Path(packaged_unit()).exists() and name == FIRST:
        raise InstallationError("the service was installed by a package: apt remove strong-vivarium")
    everything = instance is None
    names = list(dict.fromkeys([FIRST, *installer.names()])) if everything else [name]
    if not installer.uninstall(names, everything=everything, purge=purge):
        _say(f"{unit_of(name)} is not installed: nothing changed")


@service_app.command()
def status(instance: InstanceOption = None) -> None:
    """Say how the service does; exit code 3 when it does not run."""
    name = checked_instance(instance)
    names = [name] if instance else (Installer(_say).names() or [FIRST])
    states = [read_state(each) for each in names]
    for state in states:
        _show(state)
    if not all(state.runs for state in states):
        raise typer.Exit(_NOT_RUNNING)


@service_app.command()
def pause(
    instance: InstanceOption = None,
    hours: Annotated[float, typer.Option(help="For so long; then it watches again by itself.", min=0.1, max=72)] = 4,
) -> None:
    """Keep the dead-man alarm quiet for some hours, for instance before stopping the service on purpose."""
    name = checked_instance(instance)
    _must_be_installable()
    Installer(_say).pause(name, hours=hours)
    _say(f"no dead-man alarm about {unit_of(name)} for {hours:g} h")


@service_app.command()
def resume(instance: InstanceOption = None) -> None:
    """Let the dead-man alarm watch again before a pause is over."""
    name = checked_instance(instance)
    _must_be_installable()
    was = Installer(_say).resume(name)
    _say(f"the dead-man alarm watches {unit_of(name)}" + ("" if was else ": it was not paused"))


def _must_be_installable() -> None:
    why = why_not_installable(
        prefix=Path(sys.prefix),
        base_prefix=Path(sys.base_prefix),
        root_user=is_root(),
        runs_systemd=Path("/run/systemd/system").is_dir(),
    )
    if why is not None:
        raise InstallationError(why)


def _show(state: ServiceState) -> None:
    rows = list(state.rows(now_uptime_s=uptime_s()))
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        _console().print(f"[bold]{escape(label.ljust(width))}[/]  {escape(value)}", soft_wrap=True)
