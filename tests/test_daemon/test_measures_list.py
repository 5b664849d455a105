"""The list of measures, and the document that is printed from it."""

import re
from pathlib import Path

import pytest

from daemon.measures_cli import every_measure
from daemon.measures_list import MEASURES, in_units_of_box, markdown, measures_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "measures.md"


def test_the_document_holds_the_list_as_it_is() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    table = text[text.index("| Name |") :]
    table = table[: table.index("\n\n") + 1]
    assert table == markdown(every_measure().values())


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_says_what_it_is(name: str) -> None:
    measure = MEASURES[name]
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    assert name.endswith("_celsius") == (measure.unit == "Cel")
    assert all((measure.formula, measure.source, measure.valid_when.strip(". ")))
    assert "|" not in measure.formula + measure.source + measure.valid_when


def test_a_box_has_each_length_in_one_unit() -> None:
    with_scale, without = measures_of((), 1.5), measures_of((), None)
    assert len(with_scale) == len(without)
    assert "distance_mm" in with_scale
    assert "distance_px" not in with_scale
    for name in with_scale:
        assert in_units_of_box(name, 1.5) == name
        assert in_units_of_box(name, None) in without
        assert in_units_of_box(in_units_of_box(name, None), 1.5) == name


def test_nothing_is_called_a_core_temperature() -> None:
    assert not [name for name in MEASURES if "core" in name]
