"""Recordings of this project with masks that a person has corrected."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from daemon.measure import unmeasurable
from drivers.clock import NS_PER_S
from drivers.decoder import FrameDecoder
from drivers.errors import FrameRejectedError, RecordingError
from drivers.placement import NATIVE
from drivers.recording import Recording
from training.folder_source import require_agreement
from training.label_map import OWN_LABELS
from training.picture_files import read_labels, stretched
from training.samples import DataError, Moment, Sample

MASKS_SUFFIX = "-masks"
"""The masks of `NAME.mkv` lie in the folder `NAME-masks` beside it, unless another is named."""

_MASK_NAME = re.compile(r"([0-9]+)\.png")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Labelled:
    recording: Path
    index: int
    mask: Path
    instances: Path
    moment: Moment


class RecordingSource:
    """Frames of recordings that have a mask; fulfils `training.samples.Source`.

    `000123.png` is the mask of frame 123 (from 0) in labels of the project, `000123-instances.png` that of its animals.

    Parameters
    ----------
    recordings : list of Path
        Closed recordings; each is a session of its own.
    masks : Path or None
        Folder of the masks; only with a single recording.

    Raises
    ------
    DataError
        If a recording cannot be read, a mask belongs to no frame, or there is no mask.
    """

    def __init__(self, recordings: list[Path], masks: Path | None = None) -> None:
        if masks is not None and len(recordings) != 1:
            raise DataError(f"{masks}: a folder of masks belongs to one recording, got {len(recordings)}")
        self._name = ", ".join(path.name for path in recordings)
        self._frames = [
            frame
            for path in recordings
            for frame in _labelled(path, masks or path.with_name(f"{path.stem}{MASKS_SUFFIX}"))
        ]
        if not self._frames:
            raise DataError(
                f"{self._name}: expected masks such as {recordings[0].stem}{MASKS_SUFFIX}/000123.png for frame 123, "
                "got none"
            )

    @property
    def name(self) -> str:
        """See `Source`."""
        return self._name

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        """See `Source`; the recording is opened anew each time, so that processes may share a source."""
        frame = self._frames[index]
        name = f"{frame.recording.name}#{frame.index}"
        try:
            with Recording(frame.recording) as recording:
                recorded = recording[frame.index]
            thermal = FrameDecoder(still=True).decode(recorded.raw, calibration=recorded.calibration)
        except (RecordingError, FrameRejectedError) as error:
            raise DataError(f"{name}: cannot be read: {error}") from error
        reason = unmeasurable(recorded.flags | thermal.flags)
        if reason is not None:
            raise DataError(f"{name}: expected a measurement where there is a mask, got one marked {reason}; remove it")
        parts = stretched(read_labels(frame.mask), NATIVE)
        known = frame.instances.is_file()
        instances = stretched(read_labels(frame.instances), NATIVE) if known else None
        if instances is not None:
            require_agreement(parts, instances, frame.instances)
        return Sample(
            name=name,
            celsius=thermal.celsius.copy(),
            parts=OWN_LABELS.apply(parts, str(frame.mask)),
            instances=None if instances is None else instances.astype(np.uint8),
        )

    def moment(self, index: int) -> Moment:
        """See `Source`; by the times of capture."""
        return self._frames[index].moment


def _labelled(path: Path, masks: Path) -> list[_Labelled]:
    files = {
        int(match[1]): file
        for file in (masks.iterdir() if masks.is_dir() else ())
        if (match := _MASK_NAME.fullmatch(file.name))
    }
    try:
        with Recording(path) as recording:
            facts = recording.frames
            beyond = [file for index, file in files.items() if index >= len(facts)]
            if beyond:
                raise DataError(f"{beyond[0]}: expected the number of a frame, but {path.name} has only {len(facts)}")
            return [
                _Labelled(
                    recording=path,
                    index=index,
                    mask=files[index],
                    instances=files[index].with_name(f"{files[index].stem}-instances.png"),
                    moment=Moment(session=path.stem, position_s=facts[index].captured_utc_ns / NS_PER_S),
                )
                for index in sorted(files)
            ]
    except RecordingError as error:
        raise DataError(f"{path}: cannot be read as a recording: {error}") from error
