"""Kinds of values in config.toml that a type alone does not describe."""

import re
from datetime import time
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

SHIPPED_MODEL = "shipped"
NO_MODEL = "off"

LONGEST_VALUE = 200
"""So much of a wrong value is repeated to whoever wrote it."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"expected printable characters, got {text[:LONGEST_VALUE]!r}")
    return text


def _usable_path(path: Path) -> Path:
    _printable(str(path))
    try:
        path.expanduser()
    except RuntimeError:
        raise ValueError(f"there is no user {path.parts[0][1:]!r} on this machine, as {path} says") from None
    return path


def _model_choice(choice: str) -> str:
    if not choice:
        raise ValueError(f"expected {SHIPPED_MODEL}, {NO_MODEL} or the path of an ONNX file, got nothing")
    return choice if choice in (SHIPPED_MODEL, NO_MODEL) else str(_usable_path(Path(choice)))


def _clock_time(text: str) -> str:
    try:
        moment = time.fromisoformat(text)
    except ValueError:
        raise ValueError(f"expected a time of day like 07:30, got {text!r}") from None
    if moment.tzinfo is not None:
        raise ValueError(f"expected a time of day without zone, got {text!r}")
    return text


def written_as(pattern: str, words: str) -> AfterValidator:
    """A text of this form; whoever writes another one is told in words what is expected."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"expected {words}, got {text[:LONGEST_VALUE]!r}")
        return text

    return AfterValidator(check)


Address = Annotated[str, AfterValidator(_printable)]
FilePath = Annotated[Path, AfterValidator(_usable_path)]
ModelChoice = Annotated[str, AfterValidator(_model_choice)]
ClockTime = Annotated[str, AfterValidator(_clock_time)]
