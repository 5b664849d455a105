"""Where the pixels of foreign material lie in a frame, the camera's unless another is named, and the way back."""

from dataclasses import dataclass
from typing import Self, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH

Label = TypeVar("Label", bound=np.generic)

_MIN_VALID_SHARE = 0.5
"""A frame pixel has a temperature if at least half of what it covers has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How a picture of any size lies in the frame: scaled alike in both directions, never squashed.

    What the picture does not cover (bars beside it or above and below) has no temperature.
    """

    source_width: int
    source_height: int
    left: int
    """First column of the frame that the picture covers."""
    top: int
    """First row of the frame that the picture covers."""
    width: int
    """Columns that it covers."""
    height: int
    """Rows that it covers."""
    frame_width: int = IMAGE_WIDTH
    frame_height: int = IMAGE_HEIGHT

    @classmethod
    def fit(cls, width: int, height: int, *, frame_width: int = IMAGE_WIDTH, frame_height: int = IMAGE_HEIGHT) -> Self:
        """The largest placement of a picture of this size.

        A bar of one pixel is rounding and not the shape of the picture: such a picture covers the whole frame.

        Raises
        ------
        ValueError
            If the picture has no pixels.
        """
        if width < 1 or height < 1:
            raise ValueError(f"a picture has at least one pixel, got {width} x {height}")
        scale = min(frame_width / width, frame_height / height)
        covered_width = max(1, round(width * scale))
        covered_height = max(1, round(height * scale))
        if covered_width >= frame_width - 1 and covered_height >= frame_height - 1:
            covered_width, covered_height = frame_width, frame_height
        return cls(
            source_width=width,
            source_height=height,
            left=(frame_width - covered_width) // 2,
            top=(frame_height - covered_height) // 2,
            width=covered_width,
            height=covered_height,
            frame_width=frame_width,
            frame_height=frame_height,
        )

    @property
    def scale(self) -> float:
        """Source pixels per frame pixel; above 1 where the source is the finer grid."""
        return self.source_width / self.width

    def field_to_frame(self, field: NDArray[np.floating]) -> NDArray[np.float32]:
        """Bring a field with gaps onto the frame.

        Parameters
        ----------
        field : (source_height, source_width) float
            Any quantity; NaN where there is none.

        Returns
        -------
        (frame_height, frame_width) float32
            Mean over the area of each pixel where the source is finer, linear in between where it is coarser; NaN
            outside the picture and where most of the area is NaN.
        """
        if field.shape != (self.source_height, self.source_width):
            raise ValueError(f"expected shape ({self.source_height}, {self.source_width}), got {field.shape}")
        inside = field.astype(np.float32)
        if inside.shape != (self.height, self.width):
            finer = self.source_width > self.width
            inside = self._resized(inside, cv2.INTER_AREA if finer else cv2.INTER_LINEAR)
        frame = np.full((self.frame_height, self.frame_width), np.nan, np.float32)
        frame[self.top : self.top + self.height, self.left : self.left + self.width] = inside
        return frame

    def _resized(self, field: NDArray[np.float32], method: int) -> NDArray[np.float32]:
        valid = ~np.isnan(field)
        size = (self.width, self.height)
        if valid.all():
            return np.asarray(cv2.resize(field, size, interpolation=method), np.float32)
        total = cv2.resize(np.where(valid, field, np.float32(0)), size, interpolation=method)
        share = cv2.resize(valid.astype(np.float32), size, interpolation=method)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(share >= _MIN_VALID_SHARE, total / share, np.nan).astype(np.float32)

    def labels_to_source(self, labels: NDArray[Label]) -> NDArray[Label]:
        """Labels of the whole frame at the source's own size: each pixel takes the label it lies in."""
        if labels.shape != (self.frame_height, self.frame_width):
            raise ValueError(f"expected shape ({self.frame_height}, {self.frame_width}), got {labels.shape}")
        rows = self.top + _cells(self.source_height, self.height)
        columns = self.left + _cells(self.source_width, self.width)
        return labels[rows[:, np.newaxis], columns]

    def point_to_source(self, x: float, y: float) -> tuple[float, float]:
        """A point of the frame in pixels of the source."""
        return (
            (x - self.left + 0.5) * self.source_width / self.width - 0.5,
            (y - self.top + 0.5) * self.source_height / self.height - 0.5,
        )

    def point_to_frame(self, x: float, y: float) -> tuple[float, float]:
        """A point of the source in pixels of the frame."""
        return (
            (x + 0.5) * self.width / self.source_width - 0.5 + self.left,
            (y + 0.5) * self.height / self.source_height - 0.5 + self.top,
        )


def _cells(source_length: int, covered_length: int) -> NDArray[np.intp]:
    """In which of the covered frame pixels the centre of each source pixel lies."""
    return ((np.arange(source_length) + 0.5) * covered_length / source_length).astype(np.intp)


NATIVE = Placement.fit(IMAGE_WIDTH, IMAGE_HEIGHT)
"""Material on the camera's own grid."""
