"""`vivarium model`: what a model says about itself, and whether the service could use it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from daemon.networks import running_on
from daemon.vision.model_card import CARD_KEY, ModelCard, card_of
from daemon.vision.model_check import checks, part_iou, scenes, speed
from daemon.vision.onnx_file import ModelError, OnnxFile, read_onnx
from daemon.vision.segmenter import Hardware, Model, NetworkSegmenter, load_model

_WIDTH = 10_000
"""Columns: lines are not broken."""

_UNSEEN_SEED = 980_000
"""Scenes from here on: no training of ours learns from them, and the judging ones come later."""

model_app = typer.Typer(help="Look at an ONNX model, and try it as the service would.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(help="An ONNX file.")]


@model_app.command()
def info(file: FileArgument) -> None:
    """Print a model's card and what its graph is made of; nothing is run."""
    found = read_onnx(file)
    rows = list(_facts(found))
    if CARD_KEY in found.metadata:
        rows += _card(card_of(found.metadata, str(file)))
    else:
        rows.append(("card", "none: the service refuses it"))
    _print(rows)


def _facts(found: OnnxFile) -> Iterator[tuple[str, str]]:
    yield "file", f"{found.path}, {len(found.content) / 1e6:.2f} MB"
    yield "sha256", found.sha256
    opsets = ", ".join(f"{domain or 'standard'} {version}" for domain, version in found.opsets.items())
    yield "operators", f"{opsets}; IR version {found.ir_version}; made by {found.producer or 'nobody named'}"
    yield "graph", f"{sum(found.operators.values())} nodes, {found.parameters:,} numbers in its constants"
    yield "nodes", ", ".join(f"{count} {name}" for name, count in found.operators.items())


def _short(hashes: str) -> str:
    return ", ".join(each[:12] for each in hashes.split(", "))


def _card(card: ModelCard) -> Iterator[tuple[str, str]]:
    yield "name", f"{card.name} {card.version}, a {card.kind} model, {card.precision}"
    stride = "" if card.stride is None else f", centres and offsets on every {card.stride}. pixel"
    yield "input", f"{card.input_height} x {card.input_width} pixels of {card.input_unit}{stride}"
    yield "labels", ", ".join(f"{number} {label}" for number, label in enumerate(card.labels))
    trained = card.trained_on
    seeds = f", seeds {trained.seeds}, generator {_short(trained.generator_hash)}" if trained.seeds else ""
    yield "trained on", f"{trained.text}; {trained.scenes:,} scenes{seeds}; code {_short(card.code_hash)}"
    figures = ", ".join(f"{name} {value:.4g}" for name, value in card.metrics.items())
    yield "measured", f"{figures} on {card.measured_on}" if figures else "nothing"
    yield from (("limit", limit) for limit in card.limits)
    yield "licence", card.licence


@model_app.command()
def check(
    file: FileArgument,
    count: Annotated[int, typer.Option("--scenes", help="Synthetic scenes to run it on.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Of the first scene.", min=0)] = _UNSEEN_SEED,
    provider: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="What it runs on.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 chooses as the service does.", min=0, max=64)] = 0,
) -> None:
    """Load a model as the service does, run it on synthetic scenes and odd pictures; exit code 1 if it fails."""
    console = Console(width=_WIDTH, highlight=False)
    try:
        model = load_model(file, Hardware(provider=provider, threads=threads))
        segmenter = _alone(model)
        snapshots = scenes(count, seed)
        pictures = [snapshot.celsius for snapshot in snapshots]
        quick, scores = speed(segmenter, pictures), part_iou(segmenter, snapshots)
    except ModelError as error:
        console.print(f"[bold red]wrong[/] {escape(str(error))}")
        raise typer.Exit(1) from error
    rows = [
        ("model", f"{model.card.title}, {model.card.kind}, {model.card.precision}, on {running_on(model)}"),
        ("speed", f"median {quick.median_ms:.1f} ms, slowest {quick.slowest_ms:.1f} ms of {quick.frames} frames, "
                  f"of that the network {quick.network_ms:.1f} ms"),
        ("iou", ", ".join(f"{part} {score:.3f}" for part, score in scores.items()) + f" on {count} scenes from {seed}"),
    ]  # fmt: skip
    answers = list(checks(segmenter, pictures))
    marks = {True: "[green]ok[/]", False: "[bold red]wrong[/]"}
    _print(rows + [(each.question, f"{marks[each.good]} {escape(each.answer)}") for each in answers], markup=True)
    if not all(each.good for each in answers):
        raise typer.Exit(1)


def _alone(model: Model) -> NetworkSegmenter:
    return NetworkSegmenter(
        unet=model if model.card.kind == "unet" else None, panoptic=model if model.card.kind == "panoptic" else None
    )


def _print(rows: list[tuple[str, str]], *, markup: bool = False) -> None:
    table = Table("field", "value", box=None, pad_edge=False, show_header=False)
    for name, value in rows:
        table.add_row(f"[bold]{escape(name)}[/]", value if markup else escape(value))
    Console(width=_WIDTH, highlight=False).print(table)
