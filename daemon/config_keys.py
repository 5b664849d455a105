"""Every key of config.toml in words: what `vivarium config --explain` and `--example` print."""

import json
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from daemon.section import fields_of, is_list, section_of
from daemon.settings import Settings


class KeyDescription(BaseModel):
    """One key of config.toml, for `vivarium config --explain`."""

    model_config = ConfigDict(frozen=True)

    key: str
    kind: str
    default: str
    description: str


def describe_keys() -> Iterator[KeyDescription]:
    """Every key of config.toml with its type, default and meaning, in the order of the models."""
    yield from _describe(Settings, "")


def _describe(model: type[BaseModel], prefix: str) -> Iterator[KeyDescription]:
    for name, field in fields_of(model).items():
        key = f"{prefix}{name}"
        section = section_of(field.annotation)
        if section is not None:
            many = is_list(field.annotation)
            yield KeyDescription(
                key=f"[[{key}]]" if many else f"[{key}]",
                kind="list of tables" if many else "table",
                default="",
                description=_meaning(field) or (section.__doc__ or "").strip(),
            )
            yield from _describe(section, f"{key}.")
            continue
        default = field.get_default(call_default_factory=True)
        yield KeyDescription(
            key=key,
            kind=_kind(field.annotation),
            default="required" if field.is_required() else json.dumps(default, default=str),
            description=_meaning(field),
        )


def _meaning(field: FieldInfo) -> str:
    """What a key means, on one line."""
    return " ".join((field.description or "").split())


def _kind(annotation: Any) -> str:
    """What may stand there, as it is written in Python; bounds and patterns are left out."""
    inner = get_args(annotation)
    match get_origin(annotation):
        case None:
            return {NoneType: "None", Ellipsis: "..."}.get(annotation) or str(annotation.__name__)
        case origin if origin is Annotated:
            return _kind(inner[0])
        case origin if origin is Literal:
            return f"Literal[{', '.join(map(repr, inner))}]"
        case origin if origin in (Union, UnionType):
            return " | ".join(map(_kind, inner))
        case origin:
            return f"{origin.__name__}[{', '.join(map(_kind, inner))}]"


def example_toml() -> str:
    """A config file with every key at its default, each with its meaning; optional keys are commented out."""
    lines = ["# Strong Vivarium: every key with its default. A key that is left out has the same effect."]
    _example(Settings, "", lines)
    return "\n".join(lines) + "\n"


def _example(model: type[BaseModel], prefix: str, lines: list[str]) -> None:
    sections: list[tuple[str, type[BaseModel]]] = []
    for name, field in fields_of(model).items():
        section = section_of(field.annotation)
        if section is not None and not get_args(field.annotation):
            sections.append((name, section))
            continue
        description = _meaning(field)
        default = field.get_default(call_default_factory=True)
        if section is not None:
            keys = ", ".join(f"{key} = ..." for key in fields_of(section))
            lines.append(f"# {name} = [{{ {keys} }}]  # {description}")
        elif field.is_required() or default is None:
            lines.append(f"# {name} =  # {description}")
        else:
            lines.append(f"{name} = {_toml_value(default)}  # {description}")
    for name, section in sections:
        key = f"{prefix}{name}"
        lines += ["", f"# {(section.__doc__ or '').strip()}", f"[{key}]"]
        _example(section, f"{key}.", lines)


def _toml_value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps(value, default=str)
