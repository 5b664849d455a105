"""Judge a candidate on labelled pictures, and leave behind what a person can check: tables, charts, the worst."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch

from drivers.errors import VivariumError
from training.candidates import Candidate
from training.charts import draw_confusion, draw_flows, draw_precision_recall, draw_roc
from training.frame_sheet import JudgedFrame, WorstFrames, sheet
from training.metrics import ALL, GOOD_FROM_IOU, AnimalMeasures, GroupMeasures, Scoreboard
from training.pixel_measures import multiclass_record
from training.samples import Source
from training.threshold_curves import LabelCurves, ThresholdCurves
from training.verdict import CLASS_NAMES

METRICS_NAME = "metrics.json"
MULTICLASS_NAME = "metrics_multiclass.json"
CONFUSION_NAME = "confusion.png"
FLOWS_NAME = "sankey.png"
ROC_NAME = "roc.png"
PRECISION_RECALL_NAME = "precision_recall.png"
SHEET_NAME = "worst_frames.png"

_ON_SHEET = 16


class EvaluationError(VivariumError):
    """Results cannot be written, or a candidate cannot be judged."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """A candidate judged on a source."""

    candidate: str
    source: str
    measures: Mapping[str, GroupMeasures]
    """By group, see `training.metrics.GROUPS`; those without a picture are missing."""
    curves: Mapping[str, LabelCurves]
    """By name of the label; labels that no picture has are missing."""
    worst: tuple[JudgedFrame, ...]
    """The worst first."""


def evaluate(
    candidate: Candidate, source: Source, *, on_progress: Callable[[int, int], None] = lambda _done, _all: None
) -> Evaluation:
    """Judge a candidate on every picture of a source.

    Parameters
    ----------
    candidate : Candidate
        What finds the labels.
    source : Source
        What is true.
    on_progress : callable
        Told how many pictures are done, and of how many.

    Raises
    ------
    DataError
        If a picture cannot be read.
    """
    board, thresholds, worst = Scoreboard(), ThresholdCurves(), WorstFrames(_ON_SHEET)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # counting the pixels of one small picture: more threads only wait for each other
    try:
        for index in range(len(source)):
            sample = source[index]
            found = candidate.find(sample.celsius)
            verdict = board.add(sample, found)
            thresholds.add(sample.parts, found.parts, found.confidence)
            worst.add(JudgedFrame(sample=sample, found=found, verdict=verdict))
            on_progress(index + 1, len(source))
    finally:
        torch.set_num_threads(threads)
    curves = {name: thresholds.of(label) for label, name in enumerate(CLASS_NAMES)}
    return Evaluation(
        candidate=candidate.name,
        source=source.name,
        measures=board.measures(),
        curves={name: curve for name, curve in curves.items() if curve is not None},
        worst=worst.frames,
    )


def write_results(evaluation: Evaluation, output: Path) -> None:
    """Write `metrics.json`, `metrics_multiclass.json` and the charts into a folder; earlier ones are replaced.

    Raises
    ------
    EvaluationError
        If they cannot be written.
    """
    title = f"{evaluation.candidate} on {evaluation.source}"
    pixels = evaluation.measures[ALL].pixels
    record = {
        "candidate": evaluation.candidate,
        "source": evaluation.source,
        "groups": {name: measures.record() for name, measures in evaluation.measures.items()},
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
        _write_json(output / METRICS_NAME, record)
        _write_json(output / MULTICLASS_NAME, multiclass_record(pixels))
        draw_confusion(pixels.confusion, title, output / CONFUSION_NAME)
        draw_flows(pixels.confusion, title, output / FLOWS_NAME)
        draw_roc(evaluation.curves, title, output / ROC_NAME)
        draw_precision_recall(evaluation.curves, title, output / PRECISION_RECALL_NAME)
        done, encoded = cv2.imencode(".png", sheet(evaluation.worst), (cv2.IMWRITE_PNG_COMPRESSION, 9))
        if not done:
            raise OSError(0, "PNG encoding failed", str(output / SHEET_NAME))
        (output / SHEET_NAME).write_bytes(encoded.tobytes())
    except OSError as error:
        raise EvaluationError(f"{output}: the results cannot be written: {error.strerror or error}") from error


def _write_json(path: Path, record: Mapping[str, object]) -> None:
    path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")


_Of = Callable[[GroupMeasures], float | int | None]


def table_rows(measures: Mapping[str, GroupMeasures]) -> list[tuple[str, ...]]:
    """The measures that have a figure, a row each: name, then that of every group in order; "-" where there is none."""
    rows = ((name, [of(group) for group in measures.values()], digits) for name, of, digits in _rows())
    return [
        (name, *(_figure(figure, digits) for figure in figures))
        for name, figures, digits in rows
        if any(figure is not None for figure in figures)
    ]


def _rows() -> Iterator[tuple[str, _Of, int]]:
    """Name of each measure, where it is from, digits behind the point."""
    parts = CLASS_NAMES[1:]
    yield "pictures", lambda one: one.frames, 0
    yield "animals", _of_animals("animals"), 0
    yield "mean IoU head, body, tail", lambda one: one.pixels.mean_iou_parts, 3
    yield "mean IoU with background", lambda one: one.pixels.mean_iou_all, 3
    for name in CLASS_NAMES:
        yield f"IoU {name}", _of_class(name, "iou"), 3
    yield "IoU animal", lambda one: one.pixels.animal_iou, 3
    for name in CLASS_NAMES:
        yield f"F1 {name}", _of_class(name, "f1"), 3
    yield "accuracy", lambda one: one.pixels.accuracy, 4
    yield "balanced accuracy", lambda one: one.pixels.balanced_accuracy, 3
    for name in parts:
        yield f"boundary F1 {name}", _of_boundary(name), 3
    yield "clDice tail", lambda one: one.tail_centerline_dice, 3
    for title, measure in (("PQ", "pq"), ("SQ", "sq"), ("RQ", "rq")):
        yield f"{title} animals", _of_animals(measure), 3
    for name in parts:
        yield f"PQ {name} of its animal", _of_part_pq(name), 3
    yield "AP50", _of_animals("ap50"), 3
    yield "AP50:95", _of_animals("ap50_95"), 3
    yield "count right", _of_animals("count_right_share"), 3
    yield "count error, mean", _of_animals("mean_count_error"), 2
    yield "IoU of an animal, mean", _of_animals("mean_instance_iou"), 3
    yield f"animals with IoU from {GOOD_FROM_IOU:g}", _of_animals("good_share"), 3
    yield "head and tail at the right ends", _of_animals("ends_right_share"), 3
    for name in parts:
        yield f"{name} found", _of_temperature(name, "found_share"), 3
        yield f"{name} error, mean, °C", _of_temperature(name, "bias_celsius"), 2
        yield f"{name} error, mean absolute, °C", _of_temperature(name, "mean_absolute_celsius"), 2
        yield f"{name} error, 95 % within, °C", _of_temperature(name, "p95_absolute_celsius"), 2


def _of_class(name: str, measure: str) -> _Of:
    return lambda one: getattr(one.pixels.classes[name], measure)


def _of_boundary(name: str) -> _Of:
    return lambda one: one.boundary_f1[name]


def _of_animals(measure: str) -> _Of:
    return _where_told_apart(lambda animals: getattr(animals, measure))


def _of_part_pq(name: str) -> _Of:
    return _where_told_apart(lambda animals: animals.part_pq[name])


def _of_temperature(name: str, measure: str) -> _Of:
    return _where_told_apart(lambda animals: getattr(animals.temperature[name], measure))


def _where_told_apart(of: Callable[[AnimalMeasures], float | int | None]) -> _Of:
    return lambda one: None if one.animals is None else of(one.animals)


def _figure(value: float | int | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
