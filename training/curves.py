"""How a training went: losses and overlaps by epoch, from the files of its run, as one small picture."""

import csv
import io
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from drivers.errors import VivariumError
from training.charts import LABEL_COLOURS

_LOG_NAME = "metrics.csv"
_MULTICLASS_NAME = "metrics_multiclass.json"
_LOSS = re.compile(r"train_(?:loss_)?(.+)")
_MEAN_IOU = re.compile(r"val_miou(?:_(.+))?")
_COLOURS = 64
"""Of the picture: a line drawing needs no more, and a document's file stays small."""
_OTHER_COLOURS = ("black", "darkorange", "purple", "saddlebrown")
"""Of lines that are no label, in the order of their names."""
_SIZE_INCHES = (9.0, 3.6)
_DPI = 100

Series = Mapping[int, float]
"""Value by epoch."""


class CurvesError(VivariumError):
    """A run cannot be drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCurves:
    """What the files of a run say, by name of the line."""

    losses: Mapping[str, Series]
    overlaps: Mapping[str, Series]
    """IoU of each label, and means of head, body and tail over kinds of pictures."""


def read_run(folder: Path) -> RunCurves:
    """The curves of a run.

    Parameters
    ----------
    folder : Path
        Holds Lightning's `metrics.csv` (columns `epoch`, `train_*`, `val_miou*`), at any depth and, after a training
        that was resumed, more than one; and `epochs/NUMBER/metrics_multiclass.json`.

    Raises
    ------
    CurvesError
        If there is nothing to draw, or a file is not what it should be.
    """
    losses: dict[str, dict[int, float]] = defaultdict(dict)
    overlaps: dict[str, dict[int, float]] = defaultdict(dict)
    for file in sorted(folder.rglob(_LOG_NAME), key=lambda found: found.stat().st_mtime_ns):
        for epoch, column, value in _logged(file):
            if match := _LOSS.fullmatch(column):
                losses[match[1].replace("_", " ")][epoch] = value
            elif match := _MEAN_IOU.fullmatch(column):
                overlaps[f"mean, {match[1]}" if match[1] else "mean"][epoch] = value
    for file in sorted(folder.rglob(_MULTICLASS_NAME)):
        if file.parent.name.isdecimal():
            for name, iou in _label_ious(file):
                overlaps[name][int(file.parent.name)] = iou
    if not losses and not overlaps:
        raise CurvesError(
            f"{folder}: expected {_LOG_NAME} with columns train_* and val_miou*, or epochs with "
            f"{_MULTICLASS_NAME}; got neither"
        )
    return RunCurves(losses=losses, overlaps=overlaps)


def _logged(file: Path) -> Iterator[tuple[int, str, float]]:
    """Epoch, column and value of every figure of a log."""
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                epoch = row.get("epoch")
                for column, text in row.items():
                    if epoch and text and column != "epoch" and math.isfinite(value := float(text)):
                        yield int(float(epoch)), column, value
    except OSError as error:
        raise CurvesError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise CurvesError(f"{file}: expected a table of numbers with a column epoch: {error}") from error


def _label_ious(file: Path) -> Iterator[tuple[str, float]]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        for name in LABEL_COLOURS:
            iou = record["classes"][name]["iou"]
            if iou is not None and name != "background":
                yield name, float(iou)
    except OSError as error:
        raise CurvesError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CurvesError(f"{file}: expected measures of each label by name: {error!r}") from error


def draw_run(curves: RunCurves, title: str, path: Path) -> None:
    """Losses on the left, on a logarithmic scale, overlaps on the right, as a PNG of few colours.

    Raises
    ------
    CurvesError
        If it cannot be written.
    """
    drawing = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(drawing)
    left, right = drawing.subplots(1, 2)
    drawing.suptitle(title, fontsize=10)
    _lines(left, curves.losses)
    left.set(xlabel="epoch", title="training losses")
    if curves.losses:
        left.set_yscale("log")
    _lines(right, curves.overlaps)
    right.set(xlabel="epoch", title="IoU in validation")
    last = [line[max(line)] for line in curves.overlaps.values()]
    right.set_ylim(0.5 if last and min(last) > 0.5 else 0.0, 1.0)
    content = io.BytesIO()
    drawing.savefig(content, format="png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(content) as image:
            image.convert("RGB").quantize(_COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
                path, format="PNG", optimize=True
            )
    except OSError as error:
        raise CurvesError(f"{path}: cannot be written: {error.strerror or error}") from error


def _lines(axes: Axes, lines: Mapping[str, Series]) -> None:
    other_colours = iter(_OTHER_COLOURS * len(lines))
    for name in sorted(lines):
        epochs = sorted(lines[name])
        mean = name.startswith("mean")
        axes.plot(
            epochs,
            [lines[name][epoch] for epoch in epochs],
            label=name,
            color=LABEL_COLOURS.get(name) or next(other_colours),
            linewidth=1.6 if mean else 1.0,
            marker="." if len(epochs) == 1 else None,
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if lines:
        axes.legend(fontsize=7)
