"""`vivarium evaluate`: how good models are, on pictures whose truth is known (extra `training`)."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from daemon.logs import configure_logging
from daemon.settings import LogSettings
from drivers.errors import ConfigError
from drivers.vivarium.arrangement import MAX_ANIMALS
from drivers.vivarium.dice import FIRST_TEST_SEED
from training.source_spec import DEFAULT_SCENES, SPEC_HELP

if TYPE_CHECKING:
    from training.candidates import Candidate
    from training.evaluate import Evaluation
    from training.samples import Source

_PIPE_WIDTH = 10_000
"""Columns where nobody looks."""


def evaluate(
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the results; made if needed.")],
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="MODEL...", help="ONNX files or checkpoints: a U-Net, a panoptic model, or both, merged."
        ),
    ] = None,
    classical: Annotated[bool, typer.Option("--classical", help="Judge the path without a network.")] = False,
    data: Annotated[
        list[str] | None, typer.Option("--data", metavar="SPEC", help=f"What is true: {SPEC_HELP}.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Meaning of foreign masks' numbers, such as 1=tail,2=body,3=head.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help=f"Pictures at most; left out, {DEFAULT_SCENES} scenes or all of others.")
    ] = None,
    first_seed: Annotated[int, typer.Option(min=0, help="Of the first scene.")] = FIRST_TEST_SEED,
    accept: Annotated[
        bool,
        typer.Option("--accept", help="Compare with what shipped models must reach; exit code 1 if one is missed."),
    ] = False,
    animals: Annotated[int, typer.Option(min=1, max=16, help="How many animals may be found at most.")] = MAX_ANIMALS,
    min_area_px: Annotated[
        int, typer.Option(min=1, help="Smaller warm areas are no animals (with --classical).")
    ] = 150,
) -> None:
    """Judge labels against what is true: a table, metrics.json, charts and the worst pictures.

    Without --data these are synthetic scenes on which nothing was trained.
    """
    from training.datasets import open_source
    from training.evaluate import write_results
    from training.mixed import PartOfSource

    configure_logging(LogSettings(level="warning"))
    if classical == bool(models):
        raise ConfigError("what is to be judged? give one or two models, or --classical")
    candidate = _candidate(models or [], animals=animals, min_area_px=min_area_px)
    source = open_source(data or "scenes", labels=labels, first_seed=first_seed, count=count or DEFAULT_SCENES)
    if count is not None and count < len(source):
        source = PartOfSource(source, range(count))
    evaluation = _judged(candidate, source)
    write_results(evaluation, output)
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, markup=False)
    console.print(f"{evaluation.candidate} on {evaluation.source}", soft_wrap=True)
    console.print(_table(evaluation))
    console.print(f"written to {output}", soft_wrap=True)
    if accept and not _accepted(evaluation, candidate, console):
        raise typer.Exit(1)


def _accepted(evaluation: "Evaluation", candidate: "Candidate", console: Console) -> bool:
    """Print what is asked and what was reached; whether all of it was."""
    from training.acceptance import accepted

    outcomes = accepted(evaluation.measures, tells_apart=candidate.tells_apart)
    table = Table("asked", "pictures", "least", "reached", "", box=None, pad_edge=False)
    for outcome in outcomes:
        asked = outcome.requirement
        reached = "-" if outcome.figure is None else f"{outcome.figure:.3f}"
        table.add_row(asked.measure, asked.group, f"{asked.least:.2f}", reached, "held" if outcome.held else "MISSED")
    console.print(table)
    return all(outcome.held for outcome in outcomes)


def _candidate(models: list[Path], *, animals: int, min_area_px: int) -> "Candidate":
    from training.candidates import ClassicalCandidate, NetworkCandidate, opened_network

    if not models:
        return ClassicalCandidate(animals=animals, min_area_px=min_area_px)
    return NetworkCandidate([opened_network(path) for path in models], most=animals)


def _judged(candidate: "Candidate", source: "Source") -> "Evaluation":
    from training.evaluate import evaluate as judge_all

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
        return judge_all(candidate, source, on_progress=lambda done, _all: progress.update(task, completed=done))


def _table(evaluation: "Evaluation") -> Table:
    from training.evaluate import table_rows

    table = Table(box=None, pad_edge=False)
    table.add_column("measure")
    for name in evaluation.measures:
        table.add_column(name, justify="right")
    for row in table_rows(evaluation.measures):
        table.add_row(*row)
    return table
