"""Commands of `vivarium` that live outside the service and are loaded only when they are given.

Training and export build on the service and bring large libraries; the service knows nothing of them. They announce
their commands as entry points of the group `vivarium.commands`: the name of the command, and a Typer application or a
function.
"""

import ast
import importlib.util
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import typer

from drivers.errors import ConfigError

GROUP = "vivarium.commands"

_EVERYTHING = {"allow_extra_args": True, "ignore_unknown_options": True}
"""The command itself judges what follows its name."""


def mount(app: typer.Typer) -> None:
    """Add all that are announced."""
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        _mount(app, entry)


def _mount(app: typer.Typer, entry: EntryPoint) -> None:
    @app.command(entry.name, help=_first_words(entry), add_help_option=False, context_settings=_EVERYTHING)
    def forward(context: typer.Context) -> None:
        command = typer.main.get_command(_application(entry))
        command(args=list(context.args), prog_name=f"vivarium {entry.name}")


def _application(entry: EntryPoint) -> typer.Typer:
    try:
        target = entry.load()
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"vivarium {entry.name}: {error.name} is not installed; pip install 'strong-vivarium[training,export]'"
        ) from error
    if isinstance(target, typer.Typer):
        return target
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command()(target)
    return alone


def _first_words(entry: EntryPoint) -> str:
    """What the first line of the module says after the names of its commands; the module is not run."""
    found = importlib.util.find_spec(entry.module)
    if found is None or found.origin is None:
        return ""
    text = ast.get_docstring(ast.parse(Path(found.origin).read_text(encoding="utf-8"))) or ""
    words = text.partition("\n")[0].rpartition("`: ")[2]
    return words[:1].upper() + words[1:]
