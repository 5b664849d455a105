"""What needs the memory of earlier frames: calibration, shutter events, changed constants, flags."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.clock import NS_PER_S
from drivers.decoder import CONFIRMED_AFTER, DRIFT_LIMIT_CELSIUS, RANGE_SETTLING_S, SETTLING_S, FrameDecoder
from drivers.errors import FrameRejectedError
from drivers.frame import FrameFlag, RawFrame, ThermalFrame
from drivers.nuc import GAIN_ONE, HostCorrection
from drivers.t2s_protocol import (
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    TRANSFER_BYTES,
    Environment,
    Metadata,
    RejectReason,
    Statistics,
    Variant,
    build_transfer,
    fpa_raw,
    parse_metadata,
    picture_statistics,
)
from drivers.thermometry import OVER_RANGE_COUNT, EnvironmentOverrides, calibration_of, temperature_table

FRAME_S = 0.04
SEED = 11


class Stream:
    """A camera whose next transfer the test decides: fresh noise on a golden picture, and metadata to match."""

    def __init__(self, transfer: NDArray[np.uint16]) -> None:
        self._picture = transfer[:IMAGE_HEIGHT].astype(np.int32)
        self._rng = np.random.default_rng(SEED)
        self.metadata = parse_metadata(transfer)
        self.monotonic_s = 100.0
        self.sequence = -1
        self._image = transfer[:IMAGE_HEIGHT]

    def set(self, **changes: Any) -> None:
        """Change fields of the metadata from the next frame on."""
        self.metadata = replace(self.metadata, **changes)

    def next(self, *, repeat: bool = False, after_s: float = FRAME_S, **changes: Any) -> RawFrame:
        """A fresh frame, or the picture of the last one again; `changes` are metadata of this frame alone."""
        if not repeat:
            noise = self._rng.integers(-2, 3, self._picture.shape)
            self._image = np.clip(self._picture + noise, 0, 16_383).astype(np.uint16)
        return self.raw(self.payload(**changes), after_s=after_s)

    def payload(self, **changes: Any) -> bytes:
        """The bytes of the last picture, not yet sent."""
        metadata: Metadata = replace(self.metadata, **changes)
        if metadata.variant is Variant.V1:
            metadata = replace(metadata, statistics=picture_statistics(self._image))
        return build_transfer(self._image, metadata).tobytes()

    def raw(self, payload: bytes, *, after_s: float = FRAME_S) -> RawFrame:
        """Any bytes as the next transfer."""
        self.sequence += 1
        self.monotonic_s += after_s
        return RawFrame(
            sequence=self.sequence,
            captured_utc_ns=round((1_767_225_600 + self.monotonic_s) * NS_PER_S),
            captured_monotonic_ns=round(self.monotonic_s * NS_PER_S),
            payload=payload,
        )


@pytest.fixture
def stream(golden: Path) -> Stream:
    """A v1 camera in the normal range."""
    return Stream(np.load(golden / "g2_eps095_d1.npz")["frame"])


@pytest.fixture
def v2_stream(golden: Path) -> Stream:
    """A v2 camera, which sends bare counts."""
    return Stream(np.load(golden / "v2_nuc.npz")["scene_frame"])


@pytest.fixture
def decoder() -> FrameDecoder:
    return FrameDecoder()


def reason_of(decoder: FrameDecoder, raw: RawFrame) -> str:
    with pytest.raises(FrameRejectedError) as caught:
        decoder.decode(raw)
    return caught.value.reason


def high_range_of(golden: Path) -> dict[str, Any]:
    """Constants and detector register as a camera sends them in its high range."""
    metadata = parse_metadata(np.load(golden / "g6_high_range.npz")["frame"])
    return {"constants": metadata.constants, "fpa_raw": metadata.fpa_raw}


# Degrees


def test_a_good_frame_becomes_degrees_and_keeps_everything(stream: Stream, decoder: FrameDecoder) -> None:
    raw = stream.next()
    frame = decoder.decode(raw)
    table = temperature_table(calibration_of(frame.metadata))
    assert np.array_equal(frame.celsius, table[frame.counts])
    assert frame.transfer.tobytes() == raw.payload
    assert frame.calibration == calibration_of(frame.metadata)
    assert frame.metadata.serial == "KA0000"
    assert (frame.sequence, frame.captured_utc_ns, frame.captured_monotonic_ns) == (
        raw.sequence,
        raw.captured_utc_ns,
        raw.captured_monotonic_ns,
    )
    assert frame.flags == FrameFlag.NONE
    assert decoder.rejected.total() == 0


def test_a_frame_cannot_be_painted_over(stream: Stream, decoder: FrameDecoder) -> None:
    frame = decoder.decode(stream.next())
    with pytest.raises(ValueError, match="read-only"):
        frame.celsius[0, 0] = 37.0
    with pytest.raises(ValueError, match="read-only"):
        frame.transfer[0, 0] = 0


def test_the_hosts_values_go_into_the_degrees(stream: Stream) -> None:
    overrides = EnvironmentOverrides(emissivity=0.5, distance_m=0.3)
    frame = FrameDecoder(overrides=overrides).decode(stream.next())
    assert frame.calibration.environment == overrides.apply(stream.metadata.environment)
    assert np.array_equal(frame.celsius, temperature_table(frame.calibration)[frame.counts])


def test_counts_without_a_temperature_are_nan(stream: Stream, decoder: FrameDecoder) -> None:
    transfer = np.frombuffer(stream.next().payload, dtype=np.uint16).reshape(196, 256).copy()
    transfer[10, 20] = 1000
    image = transfer[:IMAGE_HEIGHT]
    built = build_transfer(image, replace(stream.metadata, statistics=picture_statistics(image)))
    celsius = decoder.decode(stream.raw(built.tobytes())).celsius
    assert np.isnan(celsius[10, 20])
    assert np.isnan(celsius).sum() == 1


def test_a_given_calibration_is_used_as_it_is(stream: Stream, decoder: FrameDecoder) -> None:
    recorded = replace(calibration_of(stream.metadata), shutter_celsius=12.5, environment=Environment(emissivity=0.7))
    frame = decoder.decode(stream.next(), calibration=recorded)
    assert frame.calibration == recorded
    assert np.array_equal(frame.celsius, temperature_table(recorded)[frame.counts])


def test_base_flags_are_on_every_frame(stream: Stream) -> None:
    decoder = FrameDecoder(base_flags=FrameFlag.ESTIMATED)
    assert [decoder.decode(stream.next()).flags for _ in range(2)] == [FrameFlag.ESTIMATED] * 2


# Refusals


def _shorter(payload: bytes) -> bytes:
    return payload[:512]


def _with_word(row: int, column: int, word: int) -> Callable[[bytes], bytes]:
    def damage(payload: bytes) -> bytes:
        start = (row * IMAGE_WIDTH + column) * 2
        return payload[:start] + word.to_bytes(2, "little") + payload[start + 2 :]

    return damage


def _black(payload: bytes) -> bytes:
    return bytes(IMAGE_HEIGHT * IMAGE_WIDTH * 2) + payload[IMAGE_HEIGHT * IMAGE_WIDTH * 2 :]


def _without_metadata(payload: bytes) -> bytes:
    image_bytes = IMAGE_HEIGHT * IMAGE_WIDTH * 2
    return payload[:image_bytes] + bytes(TRANSFER_BYTES - image_bytes)


DAMAGES = [
    pytest.param(_shorter, RejectReason.LENGTH, id="short"),
    pytest.param(_with_word(0, 0, 0xFFFF), RejectReason.OUTPUT_MODE, id="another output mode"),
    pytest.param(_black, RejectReason.UNIFORM, id="all zero"),
    pytest.param(_without_metadata, RejectReason.CONSTANTS, id="no metadata"),
    pytest.param(_with_word(192, 1, 0), RejectReason.FPA_TEMPERATURE, id="detector register"),
    pytest.param(_with_word(193, 1, 0), RejectReason.SHUTTER_TEMPERATURE, id="shutter register"),
    pytest.param(_with_word(193, 136, 0xFFFF), RejectReason.ENVIRONMENT, id="emissivity not a number"),
    pytest.param(_with_word(192, 2, 0), RejectReason.STATISTICS, id="place of the maximum"),
    pytest.param(_with_word(193, 24, 0x3939), RejectReason.CONSTANTS_CHANGED, id="firmware text"),
    pytest.param(_with_word(193, 0, 5999), RejectReason.CONSTANTS_CHANGED, id="reference count"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGES)
def test_a_refused_frame_is_counted_and_leaves_everything_else_as_it_was(
    golden: Path, damage: Callable[[bytes], bytes], reason: RejectReason
) -> None:
    def frames(decoder: FrameDecoder, *, with_damage: bool) -> list[ThermalFrame]:
        stream = Stream(np.load(golden / "g2_eps095_d1.npz")["frame"])
        decoded = [decoder.decode(stream.next())]
        for repeat in (False, True, True, False, False):
            if with_damage:
                bad = stream.raw(damage(stream.payload()), after_s=0)
                assert reason_of(decoder, bad) == reason
            decoded.append(decoder.decode(stream.next(repeat=repeat)))
        return decoded

    disturbed = FrameDecoder()
    for clean, other in zip(
        frames(FrameDecoder(), with_damage=False), frames(disturbed, with_damage=True), strict=True
    ):
        assert np.array_equal(clean.celsius, other.celsius)
        assert (clean.flags, clean.calibration) == (other.flags, other.calibration)
    assert disturbed.rejected == {reason: 5}


def test_a_first_frame_without_a_table_does_not_set_the_constants(stream: Stream, decoder: FrameDecoder) -> None:
    falling = replace(stream.metadata.constants, a=1e-30)
    assert reason_of(decoder, stream.next(constants=falling)) == RejectReason.TABLE
    assert decoder.decode(stream.next()).flags == FrameFlag.NONE
    assert decoder.rejected == {RejectReason.TABLE: 1}


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param(Environment(air_celsius=400.0), id="air that overflows an exponential"),
        pytest.param(Environment(distance_m=65_535.0, humidity=1.0, air_celsius=200.0), id="steam over 65 km"),
    ],
)
def test_plausible_values_that_give_no_table_are_refused_not_raised(
    stream: Stream, decoder: FrameDecoder, environment: Environment
) -> None:
    assert reason_of(decoder, stream.next(environment=environment)) == RejectReason.TABLE


# Changed constants


def test_new_constants_are_refused_until_three_frames_agree(
    stream: Stream, decoder: FrameDecoder, golden: Path
) -> None:
    decoder.decode(stream.next())
    stream.set(**high_range_of(golden))
    for _ in range(CONFIRMED_AFTER - 1):
        assert reason_of(decoder, stream.next()) == RejectReason.CONSTANTS_CHANGED
    frame = decoder.decode(stream.next())
    assert frame.calibration == calibration_of(stream.metadata)
    assert FrameFlag.HIGH_RANGE in frame.flags
    assert np.array_equal(frame.celsius, temperature_table(frame.calibration)[frame.counts], equal_nan=True)
    assert decoder.rejected == {RejectReason.CONSTANTS_CHANGED: CONFIRMED_AFTER - 1}


def test_a_range_switch_needs_two_minutes_to_settle(stream: Stream, decoder: FrameDecoder, golden: Path) -> None:
    decoder.decode(stream.next())
    stream.set(**high_range_of(golden))
    for _ in range(CONFIRMED_AFTER - 1):
        reason_of(decoder, stream.next())
    assert FrameFlag.SETTLING in decoder.decode(stream.next()).flags
    # The detector register jumps with the range, so the warm-up rule speaks too: give it its five minutes.
    for _ in range(31):
        decoder.decode(stream.next(after_s=10))
    assert decoder.decode(stream.next(after_s=10)).flags == FrameFlag.HIGH_RANGE
    assert RANGE_SETTLING_S == 120


def test_new_constants_that_do_not_last_are_not_believed(stream: Stream, decoder: FrameDecoder, golden: Path) -> None:
    decoder.decode(stream.next())
    high_range = high_range_of(golden)
    for _ in range(5):
        for _ in range(CONFIRMED_AFTER - 1):
            assert reason_of(decoder, stream.next(**high_range)) == RejectReason.CONSTANTS_CHANGED
        assert FrameFlag.HIGH_RANGE not in decoder.decode(stream.next()).flags


def test_constants_that_change_each_time_are_never_believed(stream: Stream, decoder: FrameDecoder) -> None:
    decoder.decode(stream.next())
    for index in range(10):
        constants = replace(stream.metadata.constants, b=28.0 + index)
        assert reason_of(decoder, stream.next(constants=constants)) == RejectReason.CONSTANTS_CHANGED


def test_lasting_constants_without_a_table_are_never_taken(stream: Stream, decoder: FrameDecoder) -> None:
    before = decoder.decode(stream.next())
    impossible = replace(stream.metadata.constants, a=1e-30)
    reasons = [reason_of(decoder, stream.next(constants=impossible)) for _ in range(5)]
    assert reasons == [RejectReason.CONSTANTS_CHANGED] * 2 + [RejectReason.TABLE] * 3
    assert decoder.decode(stream.next()).calibration == before.calibration


def test_a_v1_that_suddenly_looks_like_a_v2_is_refused(stream: Stream, decoder: FrameDecoder) -> None:
    decoder.decode(stream.next())
    disguised = stream.next(variant=Variant.V2, statistics=Statistics(), core_raw=0, shutter_raw=451)
    assert reason_of(decoder, disguised) == RejectReason.CONSTANTS_CHANGED


# Calibration


def test_the_calibration_is_held_between_shutter_events(stream: Stream, decoder: FrameDecoder) -> None:
    first = decoder.decode(stream.next())
    stream.set(fpa_raw=fpa_raw(stream.metadata.fpa_celsius + 0.2))
    later = decoder.decode(stream.next())
    assert later.calibration is first.calibration
    assert later.metadata.fpa_celsius != first.metadata.fpa_celsius


def test_the_calibration_is_taken_anew_after_a_frozen_picture(stream: Stream, decoder: FrameDecoder) -> None:
    first = decoder.decode(stream.next())
    stream.set(fpa_raw=fpa_raw(stream.metadata.fpa_celsius + 1.0))
    frozen = [decoder.decode(stream.next(repeat=True)) for _ in range(30)]
    assert all(frame.calibration == first.calibration for frame in frozen)
    after = decoder.decode(stream.next())
    assert after.calibration == calibration_of(after.metadata)
    assert after.calibration.fpa_celsius == pytest.approx(first.calibration.fpa_celsius + 1.0, abs=0.02)


def test_a_lasting_change_of_the_shutter_register_is_an_event_that_was_not_seen(
    stream: Stream, decoder: FrameDecoder
) -> None:
    first = decoder.decode(stream.next())
    stream.set(shutter_raw=stream.metadata.shutter_raw + 5, fpa_raw=fpa_raw(stream.metadata.fpa_celsius + 0.05))
    frames = [decoder.decode(stream.next()) for _ in range(CONFIRMED_AFTER)]
    assert [frame.calibration == first.calibration for frame in frames] == [True, True, False]
    assert frames[-1].calibration == calibration_of(stream.metadata)
    assert [FrameFlag.SETTLING in frame.flags for frame in frames] == [False, False, True]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"shutter_raw": 3339}, id="shutter register"),
        pytest.param({"environment": Environment(emissivity=0.5)}, id="emissivity"),
        pytest.param({"environment": Environment(correction_celsius=40.0)}, id="correction"),
    ],
)
def test_one_frame_with_other_registers_does_not_move_the_degrees(
    stream: Stream, decoder: FrameDecoder, changes: dict[str, Any]
) -> None:
    first = decoder.decode(stream.next())
    for _ in range(5):
        odd = [decoder.decode(stream.next(**changes)) for _ in range(CONFIRMED_AFTER - 1)]
        even = decoder.decode(stream.next())
        assert all(frame.calibration is first.calibration for frame in (*odd, even))
        assert np.array_equal(odd[0].celsius, temperature_table(first.calibration)[odd[0].counts])


def test_a_written_user_area_is_used_once_it_lasts_and_keeps_the_latched_temperatures(
    stream: Stream, decoder: FrameDecoder
) -> None:
    first = decoder.decode(stream.next())
    wanted = replace(stream.metadata.environment, emissivity=0.5)
    torn = replace(stream.metadata.environment, emissivity=0.75)  # two of four bytes written
    assert decoder.decode(stream.next(environment=torn)).calibration == first.calibration
    stream.set(environment=wanted, fpa_raw=fpa_raw(stream.metadata.fpa_celsius + 0.05))
    frames = [decoder.decode(stream.next()) for _ in range(CONFIRMED_AFTER)]
    assert frames[-2].calibration == first.calibration
    assert frames[-1].calibration == replace(first.calibration, environment=wanted)
    assert FrameFlag.SETTLING not in frames[-1].flags


# Flags


def test_a_repeated_picture_is_a_shutter_event_and_readings_settle_after_it(
    stream: Stream, decoder: FrameDecoder
) -> None:
    assert decoder.decode(stream.next()).flags == FrameFlag.NONE
    frozen = [decoder.decode(stream.next(repeat=True)).flags for _ in range(30)]
    assert frozen == [FrameFlag.SHUTTER] * 30
    fresh = [decoder.decode(stream.next()).flags for _ in range(round(SETTLING_S / FRAME_S) + 2)]
    assert fresh.count(FrameFlag.SETTLING) == round(SETTLING_S / FRAME_S)
    assert fresh[-1] == FrameFlag.NONE
    assert FrameFlag.SHUTTER not in fresh


def test_a_picture_that_stands_still_by_nature_is_no_shutter_event(stream: Stream) -> None:
    decoder = FrameDecoder(still=True)
    flags = [decoder.decode(stream.next()).flags, *(decoder.decode(stream.next(repeat=True)).flags for _ in range(5))]
    assert flags == [FrameFlag.NONE] * 6


def test_one_pixel_makes_a_fresh_picture(stream: Stream, decoder: FrameDecoder) -> None:
    first = decoder.decode(stream.next())
    image = first.counts.copy()
    image[50, 60] += 1
    built = build_transfer(image, replace(stream.metadata, statistics=picture_statistics(image)))
    assert decoder.decode(stream.raw(built.tobytes())).flags == FrameFlag.NONE


@pytest.mark.parametrize(("moved_celsius", "drifted"), [(0.2, False), (-0.2, False), (0.3, True), (-0.3, True)])
def test_a_detector_away_from_its_calibration_has_drifted(
    stream: Stream, decoder: FrameDecoder, moved_celsius: float, drifted: bool
) -> None:
    decoder.decode(stream.next())
    stream.set(fpa_raw=fpa_raw(stream.metadata.fpa_celsius + moved_celsius))
    assert (FrameFlag.DRIFTED in decoder.decode(stream.next()).flags) is drifted
    assert DRIFT_LIMIT_CELSIUS == 0.25


def test_a_shutter_event_ends_the_drift(stream: Stream, decoder: FrameDecoder) -> None:
    decoder.decode(stream.next())
    stream.set(fpa_raw=fpa_raw(stream.metadata.fpa_celsius + 1.0))
    assert FrameFlag.DRIFTED in decoder.decode(stream.next()).flags
    assert FrameFlag.DRIFTED in decoder.decode(stream.next(repeat=True)).flags
    assert FrameFlag.DRIFTED not in decoder.decode(stream.next()).flags


def test_a_detector_that_warms_up_is_settling_until_it_stood_still_for_five_minutes(
    stream: Stream, decoder: FrameDecoder
) -> None:
    start = stream.metadata.fpa_celsius
    for step in range(30):  # 0.1 °C in ten seconds
        flags = decoder.decode(stream.next(after_s=10, fpa_raw=fpa_raw(start + 0.1 * step))).flags
    assert FrameFlag.SETTLING in flags
    stream.set(fpa_raw=fpa_raw(start + 2.9))
    still = [FrameFlag.SETTLING in decoder.decode(stream.next(after_s=10)).flags for _ in range(40)]
    assert still == [True] * still.count(True) + [False] * still.count(False)  # once steady, it stays so
    # The window of five minutes is sampled each 10 s, and the last step to it was smaller than the limit of 0.1 °C.
    assert 28 <= still.count(True) <= 31


@pytest.mark.parametrize(("count", "over"), [(OVER_RANGE_COUNT - 1, False), (OVER_RANGE_COUNT, True), (14_192, True)])
def test_a_saturated_pixel_is_over_range(stream: Stream, decoder: FrameDecoder, count: int, over: bool) -> None:
    image = decoder.decode(stream.next()).counts.copy()
    image[100, 100] = count
    built = build_transfer(image, replace(stream.metadata, statistics=picture_statistics(image)))
    assert (FrameFlag.OVER_RANGE in decoder.decode(stream.raw(built.tobytes())).flags) is over


def test_the_high_range_is_flagged_and_has_no_over_range(golden: Path, decoder: FrameDecoder) -> None:
    stream = Stream(np.load(golden / "g6_high_range.npz")["frame"])
    image = decoder.decode(stream.next()).counts.copy()
    image[100, 100] = 16_000
    built = build_transfer(image, replace(stream.metadata, statistics=picture_statistics(image)))
    assert decoder.decode(stream.raw(built.tobytes())).flags == FrameFlag.HIGH_RANGE


# The v2 camera


def test_a_v2_frame_without_correction_is_uncertain(v2_stream: Stream, decoder: FrameDecoder) -> None:
    frame = decoder.decode(v2_stream.next())
    assert frame.metadata.variant is Variant.V2
    assert FrameFlag.UNCERTAIN in frame.flags


def test_the_real_v2_transfer_is_uncertain(real_material: Path, decoder: FrameDecoder) -> None:
    file = real_material / "camera" / "real" / "t2s_v2_2024-06-21_frame.npy"
    if not file.is_file():
        pytest.skip(f"the real v2 transfer is not present: {file}")
    raw = RawFrame(sequence=0, captured_utc_ns=0, captured_monotonic_ns=0, payload=np.load(file).tobytes())
    frame = decoder.decode(raw)
    assert frame.flags == FrameFlag.UNCERTAIN
    assert frame.metadata.product == "T2S+"
    assert np.isnan(frame.celsius[77, 201])  # its dead pixel, count 0


def test_a_corrected_v2_frame_reads_the_golden_counts_and_can_be_believed(golden: Path, decoder: FrameDecoder) -> None:
    with np.load(golden / "v2_nuc.npz") as vectors:
        decoder.correction = HostCorrection(offset=vectors["offset_b"], gain=vectors["gain_k"])
        transfer, final = vectors["scene_frame"], vectors["final_counts"]
    raw = RawFrame(sequence=0, captured_utc_ns=0, captured_monotonic_ns=0, payload=transfer.tobytes())
    frame = decoder.decode(raw)
    assert frame.flags == FrameFlag.NONE
    assert np.array_equal(frame.celsius, temperature_table(frame.calibration)[final])
    assert np.array_equal(frame.transfer, transfer)  # what is recorded stays as it came


def test_a_v2_correction_without_gain_map_stays_uncertain(golden: Path, v2_stream: Stream) -> None:
    decoder = FrameDecoder()
    with np.load(golden / "v2_nuc.npz") as vectors:
        decoder.correction = HostCorrection(offset=vectors["offset_b"], gain=None)
    assert decoder.decode(v2_stream.next()).flags == FrameFlag.UNCERTAIN


def test_the_wandering_shutter_sensor_of_a_v2_is_latched_with_its_correction(
    v2_stream: Stream, decoder: FrameDecoder
) -> None:
    first = decoder.decode(v2_stream.next())
    v2_stream.set(shutter_raw=v2_stream.metadata.shutter_raw + 8)
    held = [decoder.decode(v2_stream.next()).calibration for _ in range(2 * CONFIRMED_AFTER)]
    assert all(calibration is first.calibration for calibration in held)
    ones = np.full((IMAGE_HEIGHT, IMAGE_WIDTH), GAIN_ONE, dtype=np.uint16)
    decoder.correction = HostCorrection(offset=first.counts.copy(), gain=ones)
    renewed = decoder.decode(v2_stream.next()).calibration
    assert renewed.shutter_celsius == pytest.approx(first.calibration.shutter_celsius + 0.5)
