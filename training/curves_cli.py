"""`vivarium curves`: how a training went, as one small picture (extra `training`)."""

from pathlib import Path
from typing import Annotated

import typer

from drivers.errors import ConfigError


def curves(
    run: Annotated[Path, typer.Argument(help="Folder of a training.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.png", help="The picture.")],
) -> None:
    """Draw losses and overlaps by epoch from the logs of a training."""
    from training.curves import draw_run, read_run

    if not run.is_dir():
        raise ConfigError(f"{run}: there is no such folder; give the one that the training wrote")
    if output.suffix.lower() != ".png":
        raise ConfigError(f"--output: expected a file ending in .png, got {output}")
    draw_run(read_run(run), run.name, output)
    typer.echo(f"drawn to {output}, {output.stat().st_size / 1000:.0f} kB")
