"""`vivarium evaluate` and `vivarium curves`: how good models are, and how they became so."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from daemon.logs import configure_logging
from daemon.settings import LogSettings
from drivers.errors import ConfigError
from drivers.vivarium.arrangement import MAX_ANIMALS
from drivers.vivarium.dice import FIRST_TEST_SEED
from training.candidates import Candidate, ClassicalCandidate
from training.datasets import DEFAULT_SCENES, SPEC_HELP, open_source
from training.evaluate import Evaluation, table_rows, write_results
from training.evaluate import evaluate as judge_candidate
from training.mixed import PartOfSource

_PIPE_WIDTH = 10_000
"""Columns where nobody looks."""


def evaluate(
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the results; made if needed.")],
    classical: Annotated[bool, typer.Option("--classical", help="Judge the path without a network.")] = False,
    data: Annotated[
        list[str] | None, typer.Option("--data", metavar="SPEC", help=f"What is true: {SPEC_HELP}.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Meaning of foreign masks' numbers, such as 1=tail,2=body,3=head.")
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, help=f"Pictures at most; {DEFAULT_SCENES} scenes or all of others when left out."),
    ] = None,
    first_seed: Annotated[int, typer.Option(min=0, help="Of the first scene.")] = FIRST_TEST_SEED,
    animals: Annotated[int, typer.Option(min=1, max=16, help="How many animals may be found at most.")] = MAX_ANIMALS,
    min_area_px: Annotated[
        int, typer.Option(min=1, help="Smaller warm areas are no animals (with --classical).")
    ] = 150,
) -> None:
    """Judge labels against what is true: a table, metrics.json, charts and the worst pictures.

    Without --data these are synthetic scenes on which nothing was trained.
    """
    configure_logging(LogSettings(level="warning"))
    if not classical:
        raise ConfigError("what is to be judged? give --classical")
    candidate: Candidate = ClassicalCandidate(animals=animals, min_area_px=min_area_px)
    source = open_source(data or "scenes", labels=labels, first_seed=first_seed, count=count or DEFAULT_SCENES)
    if count is not None and count < len(source):
        source = PartOfSource(source, range(count))
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
        redirect_stdout=False,
    ) as progress:
        task = progress.add_task("pictures", total=len(source))
        evaluation = judge_candidate(
            candidate, source, on_progress=lambda done, _all: progress.update(task, completed=done)
        )
    write_results(evaluation, output)
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, markup=False)
    console.print(f"{evaluation.candidate} on {evaluation.source}")
    console.print(_table(evaluation))
    console.print(f"written to {output}", soft_wrap=True)


def _table(evaluation: Evaluation) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("measure")
    for name in evaluation.measures:
        table.add_column(name, justify="right")
    for row in table_rows(evaluation.measures):
        table.add_row(*row)
    return table
