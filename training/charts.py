"""Charts of an evaluation, as PNG files: confusion, flows of pixels, ROC, precision-recall."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from training.threshold_curves import LabelCurves
from training.verdict import CLASS_NAMES

LABEL_COLOURS = {"background": "#7f7f7f", "head": "#d62728", "body": "#2ca02c", "tail": "#1f77b4"}

_DPI = 110
_GAP_SHARE = 0.03
"""Between the blocks of the flow chart, as a share of its height."""
_BLOCK_WIDTH = 0.06
_LEAST_WRITTEN = 0.012
"""Flows below this share of the chart have no number: it would be taller than they are."""


def draw_confusion(confusion: NDArray[np.int64], title: str, path: Path) -> None:
    """Table of true against found labels: pixels, and as a share of the true label.

    Parameters
    ----------
    confusion : (4, 4) int64
        Pixels, true label by row, found label by column.
    title : str
        What was judged.
    path : Path
        Of the PNG.
    """
    drawing, axes = _drawing((6.0, 5.2))
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(confusion.shape):
        axes.text(
            column,
            row,
            f"{shares[row, column]:.1%}\n{confusion[row, column]:,}",
            ha="center",
            va="center",
            fontsize=9,
            color="white" if shares[row, column] > 0.6 else "black",
        )
    ticks = range(len(CLASS_NAMES))
    axes.set_xticks(ticks, CLASS_NAMES)
    axes.set_yticks(ticks, CLASS_NAMES)
    axes.set(xlabel="found", ylabel="true", title=f"Confusion, pixels\n{title}")
    _save(drawing, path)


def draw_flows(confusion: NDArray[np.int64], title: str, path: Path) -> None:
    """Sankey chart: which true labels (left) became which found ones (right); background found as such is left out.

    Parameters
    ----------
    confusion, title, path
        As for `draw_confusion`.
    """
    flows = confusion.astype(np.float64)
    flows[0, 0] = 0
    total = max(float(flows.sum()), 1.0)
    flows /= total
    drawing, axes = _drawing((8.0, 5.6))
    left = _blocks(axes, flows.sum(axis=1), 0.0, side="left")
    right = _blocks(axes, flows.sum(axis=0), 1.0 - _BLOCK_WIDTH, side="right")
    for row, column in np.ndindex(flows.shape):
        height = float(flows[row, column])
        if height > 0:
            _ribbon(axes, (left[row], right[column]), height, LABEL_COLOURS[CLASS_NAMES[row]])
            if height > _LEAST_WRITTEN:
                middle = left[row] - height / 2
                axes.text(_BLOCK_WIDTH + 0.01, middle, f"{height * total:,.0f} px", va="center", fontsize=7)
        left[row] -= height
        right[column] -= height
    axes.set(xlim=(-0.22, 1.22), ylim=(-0.02, 1 + _GAP_SHARE * len(CLASS_NAMES)))
    axes.set_title(
        f"From true (left) to found labels (right), without background found as background\n{title}", fontsize=10
    )
    axes.axis("off")
    _save(drawing, path)


def _blocks(axes: Axes, heights: NDArray[np.float64], x: float, *, side: str) -> list[float]:
    """One column of blocks, the first label on top; returns their upper edges."""
    tops = []
    top = 1 + _GAP_SHARE * (len(heights) - 1)
    for name, height in zip(CLASS_NAMES, heights.tolist(), strict=True):
        axes.add_patch(Rectangle((x, top - height), _BLOCK_WIDTH, height, color=LABEL_COLOURS[name]))
        at, align = (x - 0.02, "right") if side == "left" else (x + _BLOCK_WIDTH + 0.02, "left")
        axes.text(at, top - height / 2, f"{name}\n{height:.1%}", ha=align, va="center", fontsize=9)
        tops.append(top)
        top -= height + _GAP_SHARE
    return tops


def _ribbon(axes: Axes, tops: tuple[float, float], height: float, colour: str) -> None:
    start, end = _BLOCK_WIDTH, 1 - _BLOCK_WIDTH
    middle = (start + end) / 2
    (left, right), move, line, curve = tops, Outline.MOVETO, Outline.LINETO, Outline.CURVE4
    points = [
        (start, left), (middle, left), (middle, right), (end, right),
        (end, right - height), (middle, right - height), (middle, left - height), (start, left - height), (start, left),
    ]  # fmt: skip
    codes = [move, curve, curve, curve, line, curve, curve, curve, Outline.CLOSEPOLY]
    axes.add_patch(PathPatch(Outline(points, codes), facecolor=colour, alpha=0.4, edgecolor="none"))


def draw_roc(curves: Mapping[str, LabelCurves], title: str, path: Path) -> None:
    """Recall of each label over its fall-out, the latter on a scale that shows the corner where all happens.

    Parameters
    ----------
    curves : mapping of str to LabelCurves
        By name of the label.
    title, path
        As for `draw_confusion`.
    """
    drawing, axes = _drawing((6.4, 5.2))
    _lines(axes, curves, lambda curve: (curve.fall_out, curve.recall, f"area {curve.roc_area:.4f}"))
    axes.set_xscale("symlog", linthresh=1e-4, linscale=0.5)
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="fall-out (false positive rate)", ylabel="recall")
    axes.set_title(f"ROC, each label against the others\n{title}", fontsize=10)
    _legend(axes)
    _save(drawing, path)


def draw_precision_recall(curves: Mapping[str, LabelCurves], title: str, path: Path) -> None:
    """Precision of each label over its recall.

    Parameters
    ----------
    curves, title, path
        As for `draw_roc`.
    """
    drawing, axes = _drawing((6.4, 5.2))
    _lines(axes, curves, lambda curve: (curve.recall, curve.precision, f"mean {curve.average_precision:.4f}"))
    axes.set(xlim=(0, 1.01), ylim=(0, 1.01), xlabel="recall", ylabel="precision")
    axes.set_title(f"Precision and recall, each label against the others\n{title}", fontsize=10)
    _legend(axes)
    _save(drawing, path)


_Line = tuple[NDArray[np.float64], NDArray[np.float64], str]


def _lines(axes: Axes, curves: Mapping[str, LabelCurves], of: Callable[[LabelCurves], _Line]) -> None:
    for name, curve in curves.items():
        x, y, text = of(curve)
        marker = "o" if len(x) < 5 else None  # without probabilities there is one point
        axes.plot(x, y, color=LABEL_COLOURS[name], marker=marker, markersize=4, label=f"{name}, {text}")
    axes.grid(alpha=0.3)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left", fontsize=8)


def _drawing(size_inches: tuple[float, float]) -> tuple[Drawing, Axes]:
    drawing = Drawing(figsize=size_inches, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(drawing)  # no window system, no state shared with others
    return drawing, drawing.add_subplot()


def _save(drawing: Drawing, path: Path) -> None:
    drawing.savefig(path, pil_kwargs={"optimize": True}, metadata={"Software": None})
