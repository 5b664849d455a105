"""`vivarium mqtt`: the contract with other programs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from daemon.messaging.schemas import write_files

mqtt_app = typer.Typer(help="The contract with other programs.", no_args_is_help=True)


@mqtt_app.callback()
def _group() -> None:
    """One command is a group, too."""


@mqtt_app.command()
def schemas(
    directory: Annotated[Path, typer.Argument(help="Made if needed; files of the same names are replaced.")],
) -> None:
    """Write JSON Schemas of all messages and commands, and an AsyncAPI 3 document."""
    written = write_files(directory)
    Console(highlight=False).print(f"{len(written)} files -> {directory}", soft_wrap=True)
