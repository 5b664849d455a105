"""How far what is measured lies from what is true: the errors with which observations are drawn without pictures.

The shipped figures were measured by `vivarium seen-errors`, which compares pictures of the simulated camera,
measured as in the field, with the truth. They hold for what found the animals then, and for that only.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from drivers.errors import ConfigError


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Error(_Figures):
    """Of one quantity: seen minus true."""

    bias: float
    """Mean."""
    slow: float = Field(ge=0)
    """Standard deviation of what stays for minutes: posture, what is covered, drift of the camera."""
    quick: float = Field(ge=0)
    """Standard deviation of what is new in each frame."""


class PartErrors(_Figures):
    """Of one part of an animal."""

    mean_celsius: Error
    """Of its mean temperature."""
    place_px: Error
    """Of its centre, in each of the two directions."""
    area_px: int = Field(ge=1)
    """Median of its pixels."""
    outline_px: int = Field(ge=0)
    """Median of those that border on the background."""


class SeenErrors(_Figures):
    """All that is needed to draw observations."""

    source: str
    """What was measured, and the command that did."""
    head: PartErrors
    body: PartErrors
    tail: PartErrors
    skin_celsius: Error
    """Of the hottest pixel of an animal whose head is seen, against its hottest skin, which a picture may blur."""
    background_celsius: Error
    """Of the background: here the bias is its temperature itself."""
    seen_apart: float = Field(ge=0, le=1)
    """Share of the frames that show, resolved, an animal that touches none."""
    seen_touching: float = Field(ge=0, le=1)
    """The same of one that touches another outside a huddle."""
    seen_huddled: float = Field(ge=0, le=1)
    """The same of one in a huddle."""
    head_apart: float = Field(ge=0, le=1)
    """Share of these whose hottest pixel is that of its own eyes or ears, as far as can be told."""
    head_touching: float = Field(ge=0, le=1)
    """The same of one that touches another outside a huddle."""
    head_huddled: float = Field(ge=0, le=1)
    """The same of one in a huddle."""


def read_errors(path: Path) -> SeenErrors:
    """Figures that `vivarium seen-errors` has written.

    Raises
    ------
    ConfigError
        If the file cannot be read or is something else.
    """
    try:
        return SeenErrors.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: expected what vivarium seen-errors writes: {error}") from error


SHIPPED_ERRORS = SeenErrors(
    source=(
        "classical-1, 109 times apart, 51 times touching, 200 times huddled: "
        "vivarium seen-errors --seed 7 --animals 3 --pairs 60 --config off.toml"
    ),
    head=PartErrors(
        mean_celsius=Error(bias=-0.373, slow=0.498, quick=0.088),
        place_px=Error(bias=-1.699, slow=8.236, quick=1.122),
        area_px=435,
        outline_px=77,
    ),
    body=PartErrors(
        mean_celsius=Error(bias=0.027, slow=0.222, quick=0.076),
        place_px=Error(bias=0.121, slow=5.029, quick=1.282),
        area_px=1355,
        outline_px=145,
    ),
    tail=PartErrors(
        mean_celsius=Error(bias=-0.216, slow=0.294, quick=0.108),
        place_px=Error(bias=2.597, slow=9.053, quick=1.794),
        area_px=313,
        outline_px=161,
    ),
    skin_celsius=Error(bias=-1.457, slow=0.173, quick=0.074),
    background_celsius=Error(bias=23.031, slow=0.146, quick=0.0),
    seen_apart=0.908,
    seen_touching=0.431,
    seen_huddled=0.02,
    head_apart=1.0,
    head_touching=1.0,
    head_huddled=1.0,
)
"""`off.toml` has unet and panoptic "off" in [vision]: animals are found by their warmth alone, and
those that touch are not told apart. 120 pictures."""
