"""What all tables of config.toml have in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the config: read once, never changed, and no key but those that are described."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
