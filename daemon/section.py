"""What all tables of config.toml have in common."""

from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """A table of the config: read once, never changed, and no key but those that are described."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Fields by the name of their key."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The table that may stand there, alone or among others; None where it is a value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := section_of(inner))), None)


def is_list(annotation: Any) -> bool:
    """Whether there may be several, and not just one or none."""
    return get_origin(annotation) is tuple or any(map(is_list, get_args(annotation)))
