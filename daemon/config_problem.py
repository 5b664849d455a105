"""What is wrong in config.toml, in words for whoever wrote it."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from daemon.section import fields_of, section_of
from daemon.setting_kinds import LONGEST_VALUE
from daemon.spelling import did_you_mean

Location = tuple[int | str, ...]
"""Keys from the outermost table on; a number, from 0, is a place in a list."""


_IN_WORDS = {"tuple_type": "expected a list in brackets"}
"""In place of what pydantic says, which is for who writes Python."""


def in_words(problem: Mapping[str, Any], model: type[BaseModel]) -> str:
    """One of the errors that validating the whole file as `model` found."""
    location: Location = problem["loc"]
    key = f"{_named(location)}: " if location else ""
    if problem["type"] == "extra_forbidden":
        known = _known_keys(location[:-1], model)
        hint = did_you_mean(str(location[-1]), known) or f"known here: {', '.join(sorted(known))}"
        return f"{key}unknown key; {hint}"
    came = "" if problem["type"] in ("missing", "value_error") else f", got {_shorten(problem['input'])}"
    said = _IN_WORDS.get(problem["type"], problem["msg"])
    return f"{key}{said.removeprefix('Value error, ')}{came}"


def _named(location: Location) -> str:
    """A key by its path, as people count: `animal number 2, weight_g` is of the second [[animal]]."""
    words = ""
    for before, step in zip((None, *location), location, strict=False):
        if isinstance(step, int):
            words += f" number {step + 1}"
        else:
            words += f"{', ' if isinstance(before, int) else '.' if words else ''}{step}"
    return words


def _shorten(value: object) -> str:
    """A value as it stands in a message: never longer than a few lines."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}... ({len(text)} characters)"


def _known_keys(location: Location, model: type[BaseModel]) -> list[str]:
    for step in location:
        if isinstance(step, int):
            continue
        found = section_of(fields_of(model)[step].annotation)
        if found is None:
            return []
        model = found
    return list(fields_of(model))
