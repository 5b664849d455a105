"""Reads arrays of numbers: `.npy`, `.npz` and CSV, as whole transfers or as degrees C."""

import csv
import io
import math
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.errors import MaterialError
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH, TRANSFER_ROWS

_KEYS = ("frames", "frame")
"""Where an .npz holds several arrays, these are taken."""

_EXPECTED = (
    f"expected whole transfers (uint16, {TRANSFER_ROWS} x {IMAGE_WIDTH}) or degrees C (float, height x width), "
    "single or stacked"
)


def read_array(path: Path) -> NDArray[Any]:
    """An `.npy` or `.npz` file as a stack.

    Returns
    -------
    (n, 196, 256) uint16
        Whole transfers, or
    (n, height, width) float
        degrees C. An `.npy` is mapped, not loaded.

    Raises
    ------
    MaterialError
        If it is neither, or cannot be read.
    """
    try:
        array = _from_npz(path) if path.suffix.lower() == ".npz" else np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise MaterialError(f"{path}: cannot be read as an array: {error}") from error
    stack = array[np.newaxis] if array.ndim == 2 else array
    if stack.ndim != 3 or 0 in stack.shape:
        raise MaterialError(f"{path}: {_EXPECTED}, got {array.dtype} of shape {array.shape}")
    is_transfer = stack.dtype.kind == "u" and stack.dtype.itemsize == 2
    if is_transfer and stack.shape[1:] != (TRANSFER_ROWS, IMAGE_WIDTH):
        hint = ""
        if stack.shape[1:] == (IMAGE_HEIGHT, IMAGE_WIDTH):
            hint = "; without its four metadata rows nobody knows what degrees the counts are"
        raise MaterialError(f"{path}: {_EXPECTED}, got {array.dtype} of shape {array.shape}{hint}")
    if not is_transfer and stack.dtype.kind != "f":
        raise MaterialError(f"{path}: {_EXPECTED}, got {array.dtype}; store degrees as float")
    return np.asarray(stack)


def _from_npz(path: Path) -> NDArray[Any]:
    with np.load(path, allow_pickle=False) as archive:
        names = list(archive)
        for key in _KEYS:
            if key in names:
                return np.asarray(archive[key])
        if len(names) != 1:
            raise MaterialError(
                f"{path}: expected one array, or one called {' or '.join(_KEYS)}, got {', '.join(names) or 'none'}"
            )
        return np.asarray(archive[names[0]])


def read_csv(path: Path) -> NDArray[np.float64]:
    """A table of degrees C, one line a row of pixels.

    Separated by semicolon, tab or comma; with a decimal comma where the separator is another (or fields are quoted).
    Lines of text before the table, a line of column numbers and a column of row labels are left out. Empty cells are
    NaN.

    Returns
    -------
    (height, width) float64

    Raises
    ------
    MaterialError
        If it is no table of numbers.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        text = path.read_text(encoding="cp1252", errors="replace")  # what spreadsheets on Windows write
    except OSError as error:
        raise MaterialError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=_separator(text)) if len(row) > 1 or any(row)]
    except csv.Error as error:
        raise MaterialError(f"{path}: cannot be read as a table: {error}") from error
    return _numbers(path, _without_labels(rows))


def _separator(text: str) -> str:
    for separator in (";", "\t"):
        if separator in text:
            return separator
    return ","


def _number(cell: str) -> float | None:
    """The value of a cell, NaN where it is empty, None where it is text."""
    cleaned = cell.strip().replace(",", ".")
    if not cleaned:
        return math.nan
    try:
        return float(cleaned)
    except ValueError:
        return None


def _without_labels(rows: list[list[str]]) -> list[list[str]]:
    """The table alone: what stands before it, a line of column numbers and a column of labels are left out."""
    width = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
    first = next((index for index, row in enumerate(rows) if len(row) == width and _is_data(row)), len(rows))
    header = rows[first - 1] if first else None
    rows = rows[first:]
    if len(rows) > 1 and not rows[0][0].strip() and _counts_up(rows[0][1:]):
        header, rows = rows[0], rows[1:]
    if rows and all(not row[-1].strip() for row in rows):  # each line ends with a separator
        rows = [row[:-1] for row in rows]
    labels = [row[0] for row in rows if row]
    texts = all(_number(label) is None for label in labels)
    # A column that counts 0, 1, 2 is a label only beneath a header: otherwise it might be what was measured.
    if rows and (texts or (header is not None and len(header) >= len(rows[0]) and _counts_up(labels))):
        rows = [row[1:] for row in rows]
    return rows


def _is_data(row: Sequence[str]) -> bool:
    """A row of pixels, perhaps behind a label; not a line of text, nor one fact padded with empty cells."""
    values = [_number(cell) for cell in row[1:]]
    numbers = sum(value is not None and not math.isnan(value) for value in values)
    if 2 * numbers > len(values):
        return True
    return None not in values and _number(row[0]) is not None


def _counts_up(cells: Sequence[str]) -> bool:
    values = [_number(cell) for cell in cells]
    return (
        len(values) > 2 and values[0] in (0, 1) and values == [(values[0] or 0) + step for step in range(len(values))]
    )


def _numbers(path: Path, rows: list[list[str]]) -> NDArray[np.float64]:
    if not rows or not rows[0]:
        raise MaterialError(f"{path}: expected a table of degrees C, got no row of numbers")
    width = len(rows[0])
    table = np.empty((len(rows), width))
    for row_index, row in enumerate(rows):
        if len(row) != width:
            raise MaterialError(
                f"{path}: expected {width} columns in each row, got {len(row)} in row {row_index + 1} of the table; "
                "with a decimal comma the separator must be a semicolon or a tab"
            )
        for column_index, cell in enumerate(row):
            value = _number(cell)
            if value is None:
                raise MaterialError(
                    f"{path}: expected a number, got {cell!r} in row {row_index + 1}, column {column_index + 1}"
                )
            table[row_index, column_index] = value
    return table
