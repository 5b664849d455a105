"""The transfer and its metadata rows: decoded as the golden vectors say, refused when damaged, built again."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.errors import FrameRejectedError
from drivers.t2s_protocol import (
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    TRANSFER_BYTES,
    Command,
    Constants,
    Environment,
    Metadata,
    RejectReason,
    Statistics,
    UserField,
    Variant,
    build_transfer,
    check_transfer,
    fpa_celsius,
    fpa_raw,
    parse_metadata,
    picture_statistics,
    shutter_celsius,
    transfer_from_bytes,
    user_area_words,
    user_point_words,
)

GOLDEN_NAMES = ("g1_eps100_d1", "g2_eps095_d1", "g3_eps098_d0", "g4_corr_hum70", "g5_cold_d3", "g6_high_range")

Transfer = NDArray[np.uint16]


@pytest.fixture
def good(golden: Path) -> Transfer:
    """A transfer of a v1 camera in the normal range that passes every check."""
    frame: Transfer = np.load(golden / "g2_eps095_d1.npz")["frame"].copy()
    return frame


@pytest.fixture
def good_v2(golden: Path) -> Transfer:
    """A transfer of a v2 camera that passes every check; its metadata rows are real."""
    frame: Transfer = np.load(golden / "v2_nuc.npz")["scene_frame"].copy()
    return frame


def rebuilt(transfer: Transfer, **changes: Any) -> Transfer:
    """The transfer with fields of its metadata changed."""
    return build_transfer(transfer[:IMAGE_HEIGHT], replace(parse_metadata(transfer), **changes))


def reason_of(transfer: Transfer) -> str | None:
    """Why the transfer is refused; None when it is good."""
    try:
        check_transfer(transfer, parse_metadata(transfer))
    except FrameRejectedError as error:
        return error.reason
    return None


# Decoding


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_metadata_are_decoded_as_the_golden_vectors_say(golden: Path, name: str) -> None:
    expected = json.loads((golden / f"{name}.json").read_text())
    truth = expected["metadata"]
    metadata = parse_metadata(np.load(golden / f"{name}.npz")["frame"])
    assert metadata.variant is Variant.V1
    assert (metadata.fpa_average, metadata.fpa_raw) == (truth["fpa_average"], truth["fpa_raw"])
    assert metadata.statistics == Statistics(
        max_x=truth["max_x"],
        max_y=truth["max_y"],
        max_count=truth["max_raw"],
        min_x=truth["min_x"],
        min_y=truth["min_y"],
        min_count=truth["min_raw"],
        average_count=truth["avg_raw"],
        centre_count=truth["center_raw"],
        user_counts=tuple(truth["user_raw"]),
    )
    assert (metadata.shutter_raw, metadata.core_raw) == (truth["shutter_raw"], truth["core_raw"])
    assert metadata.constants == Constants(
        reference_count=truth["cal_00"],
        a=truth["cal_01"],
        b=truth["cal_02"],
        ka=truth["cal_03"],
        kb=truth["cal_04"],
        kc=truth["cal_05"],
    )
    assert metadata.constants.high_range == (expected["range_mode"] == 400)
    assert metadata.environment == Environment(
        correction_celsius=truth["correction"],
        reflected_celsius=truth["reflected_c"],
        air_celsius=truth["air_c"],
        humidity=truth["humidity"],
        emissivity=truth["emissivity"],
        distance_m=truth["distance"],
    )
    assert (metadata.firmware, metadata.serial, metadata.product) == (
        truth["firmware"],
        truth["serial"],
        truth["product"],
    )
    assert metadata.fpa_celsius == pytest.approx(truth["fpa_temp_c"], abs=1e-9)
    assert metadata.shutter_celsius == pytest.approx(truth["shutter_temp_c"], abs=1e-9)
    assert metadata.core_celsius == pytest.approx(truth["core_temp_c"], abs=1e-9)


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_golden_transfers_pass_every_check(golden: Path, name: str) -> None:
    assert reason_of(np.load(golden / f"{name}.npz")["frame"]) is None


def test_the_real_v2_transfer_is_decoded_and_passes(golden: Path, real_material: Path) -> None:
    file = real_material / "camera" / "real" / "t2s_v2_2024-06-21_frame.npy"
    if not file.is_file():
        pytest.skip(f"the real v2 transfer is not present: {file}")
    truth = json.loads((golden / "v2_real_frame.json").read_text())["metadata"]
    transfer = np.load(file)
    metadata = parse_metadata(transfer)
    assert metadata.variant is Variant.V2
    assert metadata.statistics == Statistics()
    assert metadata.core_celsius is None
    assert (metadata.fpa_average, metadata.fpa_raw) == (truth["fpa_average"], truth["fpa_raw"])
    assert (metadata.row0_word16, metadata.shutter_raw) == (truth["row0_word16"], truth["shutter_raw"])
    assert metadata.shutter_celsius == pytest.approx(truth["shutter_used_c"], abs=1e-9)
    assert metadata.fpa_celsius == pytest.approx(truth["fpa_temp_c"], abs=1e-9)
    assert metadata.constants == Constants(
        reference_count=truth["cal_00"],
        a=truth["cal_01"],
        b=truth["cal_02"],
        ka=truth["cal_03"],
        kb=truth["cal_04"],
        kc=truth["cal_05"],
    )
    assert metadata.environment == metadata.factory_environment
    assert metadata.environment.emissivity == truth["emissivity"]
    assert (metadata.firmware, metadata.serial, metadata.product) == (
        truth["firmware"],
        truth["serial_row2"],
        truth["product"],
    )
    assert reason_of(transfer) is None


def test_the_shutter_register_of_a_v2_is_decoded_as_the_vendors_log_says(golden: Path) -> None:
    cases = json.loads((golden / "v2_real_frame.json").read_text())["shutter_decode_cases"]
    assert len(cases) == 7
    for case in cases:
        trim = case["fix_byte"] - 256 if case["fix_byte"] > 127 else case["fix_byte"]
        assert shutter_celsius(case["raw"], trim, Variant.V2) == pytest.approx(case["expected_c"], abs=1e-9)


def test_the_detector_register_and_its_inverse_agree() -> None:
    assert fpa_celsius(8617) == 20.0
    assert fpa_celsius(8617 - 37_682) == pytest.approx(1020.0)
    assert [fpa_raw(fpa_celsius(raw)) for raw in range(6300, 10200, 7)] == list(range(6300, 10200, 7))


def test_texts_end_at_nul_and_may_fill_their_field(good: Transfer) -> None:
    block = bytearray(good.tobytes())
    start = IMAGE_HEIGHT * IMAGE_WIDTH * 2
    block[start + 560 : start + 576] = b"1.10.20230525151"  # 16 characters, no NUL
    block[start + 592 : start + 608] = b"T2S+\0junk\xff\xfe rest"
    metadata = parse_metadata(transfer_from_bytes(bytes(block)))
    assert metadata.firmware == "1.10.20230525151"
    assert metadata.product == "T2S+"


def test_the_serial_falls_back_to_row_one_when_row_two_is_blank(good: Transfer) -> None:
    block = bytearray(good.tobytes())
    start = IMAGE_HEIGHT * IMAGE_WIDTH * 2
    block[start + 576 : start + 592] = b"KA1234".ljust(16, b"\0")
    block[start + 1024 : start + 1088] = bytes(64)
    assert parse_metadata(transfer_from_bytes(bytes(block))).serial == "KA1234"


# Checks, one reason at a time


def _with_count(count: int) -> Callable[[Transfer], None]:
    def damage(transfer: Transfer) -> None:
        transfer[100, 100] = count

    return damage


def _all_equal(transfer: Transfer) -> None:
    transfer[:IMAGE_HEIGHT] = 6000


def _all_zero(transfer: Transfer) -> None:
    transfer[:IMAGE_HEIGHT] = 0


def _rows_shifted(transfer: Transfer) -> None:
    transfer[:IMAGE_HEIGHT] = np.roll(transfer[:IMAGE_HEIGHT], 28, axis=0)


def _lower_half_missing(transfer: Transfer) -> None:
    transfer[IMAGE_HEIGHT // 2 : IMAGE_HEIGHT] = transfer[0, 0]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(_with_count(16_384), RejectReason.OUTPUT_MODE, id="a count of 15 bits"),
        pytest.param(_with_count(65_535), RejectReason.OUTPUT_MODE, id="a count of 16 bits"),
        pytest.param(_all_equal, RejectReason.UNIFORM, id="all pixels equal"),
        pytest.param(_all_zero, RejectReason.UNIFORM, id="all pixels zero"),
        pytest.param(_with_count(16_383), RejectReason.STATISTICS, id="hotter than the stated maximum"),
        pytest.param(_with_count(0), RejectReason.STATISTICS, id="colder than the stated minimum"),
        pytest.param(_rows_shifted, RejectReason.STATISTICS, id="rows shifted"),
        pytest.param(_lower_half_missing, RejectReason.STATISTICS, id="lower half missing"),
    ],
)
def test_a_damaged_picture_is_refused(good: Transfer, damage: Callable[[Transfer], None], reason: RejectReason) -> None:
    damage(good)
    assert reason_of(good) == reason


@pytest.mark.parametrize("size", [0, 1, 512, TRANSFER_BYTES - 1, TRANSFER_BYTES + 1, 2 * TRANSFER_BYTES])
def test_a_transfer_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(FrameRejectedError, match=f"expected 100352 bytes, got {size}") as caught:
        transfer_from_bytes(bytes(size))
    assert caught.value.reason == RejectReason.LENGTH


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    "changes",
    [
        *(
            pytest.param({name: value}, id=f"{name} {value}")
            for name in ("a", "b", "ka", "kb", "kc")
            for value in (NAN, INFINITE, -INFINITE)
        ),
        pytest.param({"a": 0.0}, id="a zero"),
        pytest.param({"a": -0.2333}, id="a negative"),
        pytest.param({"a": 1e30}, id="a huge"),
        pytest.param({"kc": -5.0}, id="gain negative"),
        pytest.param({"ka": 0.0, "kb": 0.0, "kc": 0.0}, id="gain zero"),
        pytest.param({"reference_count": 16_384}, id="reference beyond 14 bits"),
    ],
)
def test_impossible_constants_are_refused(good: Transfer, changes: dict[str, float]) -> None:
    constants = replace(parse_metadata(good).constants, **changes)  # type: ignore[arg-type]  # names vary by case
    assert reason_of(rebuilt(good, constants=constants)) == RejectReason.CONSTANTS


@pytest.mark.parametrize("raw", [0, 6356, 10_125, 65_535])
def test_a_detector_outside_its_range_is_refused(good: Transfer, raw: int) -> None:
    # The constants of a v1 have a positive gain at each of these, so that it is the temperature which is judged.
    constants = replace(parse_metadata(good).constants, ka=0.0, kb=0.0, kc=1.0)
    assert reason_of(rebuilt(good, constants=constants, fpa_raw=raw)) == RejectReason.FPA_TEMPERATURE


@pytest.mark.parametrize("raw", [6357, 8617, 10_124])
def test_a_detector_inside_its_range_passes(good: Transfer, raw: int) -> None:
    assert reason_of(rebuilt(good, fpa_raw=raw)) is None


@pytest.mark.parametrize("raw", [5900, 6250, 6700])
def test_the_detector_register_is_not_judged_in_the_high_range(golden: Path, raw: int) -> None:
    transfer = np.load(golden / "g6_high_range.npz")["frame"]
    constants = replace(parse_metadata(transfer).constants, ka=0.0)
    assert reason_of(rebuilt(transfer, constants=constants, fpa_raw=raw)) is None


@pytest.mark.parametrize(
    ("field", "raw"),
    [(field, raw) for field in ("shutter_raw", "core_raw") for raw in (0, 2531, 3532, 65_535)],
)
def test_a_shutter_or_core_of_a_v1_outside_its_range_is_refused(good: Transfer, field: str, raw: int) -> None:
    assert reason_of(rebuilt(good, **{field: raw})) == RejectReason.SHUTTER_TEMPERATURE


@pytest.mark.parametrize("field", ["shutter_raw", "core_raw"])
@pytest.mark.parametrize("raw", [2532, 3000, 3531])
def test_a_shutter_or_core_of_a_v1_inside_its_range_passes(good: Transfer, field: str, raw: int) -> None:
    assert reason_of(rebuilt(good, **{field: raw})) is None


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(1390, RejectReason.SHUTTER_TEMPERATURE, id="86 degrees"),
        pytest.param(3700, RejectReason.SHUTTER_TEMPERATURE, id="-25 degrees"),
        pytest.param(2000, RejectReason.SHUTTER_TEMPERATURE, id="neither variant"),
        pytest.param(1280, None, id="80 degrees less the trim"),
        pytest.param(0, None, id="0 degrees"),
        pytest.param(4000, None, id="-6 degrees"),
    ],
)
def test_the_shutter_of_a_v2_is_judged_by_its_own_coding(
    good_v2: Transfer, raw: int, reason: RejectReason | None
) -> None:
    assert reason_of(rebuilt(good_v2, shutter_raw=raw)) == reason


def test_a_v2_with_a_core_temperature_is_refused(good_v2: Transfer) -> None:
    assert parse_metadata(good_v2).variant is Variant.V2
    assert reason_of(rebuilt(good_v2, core_raw=3000)) == RejectReason.SHUTTER_TEMPERATURE


@pytest.mark.parametrize(
    "changes",
    [
        *(
            pytest.param({name: value}, id=f"{name} {value}")
            for name in ("correction_celsius", "reflected_celsius", "air_celsius", "humidity", "emissivity")
            for value in (NAN, INFINITE, -INFINITE, 1e30)
        ),
        pytest.param({"emissivity": 0.0}, id="emissivity zero"),
        pytest.param({"emissivity": 1.01}, id="emissivity above one"),
        pytest.param({"emissivity": -0.5}, id="emissivity negative"),
        pytest.param({"humidity": 1.01}, id="humidity above one"),
        pytest.param({"humidity": -0.01}, id="humidity negative"),
        pytest.param({"reflected_celsius": -50.1}, id="reflected too cold"),
        pytest.param({"reflected_celsius": 400.1}, id="reflected too hot"),
        pytest.param({"air_celsius": -50.1}, id="air too cold"),
        pytest.param({"air_celsius": 400.1}, id="air too hot"),
        pytest.param({"correction_celsius": -400.1}, id="correction beyond the camera's range"),
    ],
)
def test_an_impossible_user_area_is_refused(good: Transfer, changes: dict[str, float]) -> None:
    environment = replace(parse_metadata(good).environment, **changes)
    assert reason_of(rebuilt(good, environment=environment)) == RejectReason.ENVIRONMENT


@pytest.mark.parametrize("distance_m", [0.0, 1.0, 3.0, 65_535.0])
def test_any_distance_passes(good: Transfer, distance_m: float) -> None:
    environment = replace(parse_metadata(good).environment, distance_m=distance_m)
    assert reason_of(rebuilt(good, environment=environment)) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"max_x": 0}, RejectReason.STATISTICS, id="the maximum is elsewhere"),
        pytest.param({"max_x": 256}, RejectReason.STATISTICS, id="maximum right of the picture"),
        pytest.param({"max_y": 192}, RejectReason.STATISTICS, id="maximum below the picture"),
        pytest.param({"max_count": 1}, RejectReason.STATISTICS, id="another maximum"),
        pytest.param({"min_y": 65_535}, RejectReason.STATISTICS, id="minimum below the picture"),
        pytest.param({"min_count": 1}, RejectReason.STATISTICS, id="another minimum"),
        pytest.param({"average_count": 11}, RejectReason.STATISTICS, id="average off by more than 10"),
        pytest.param({"average_count": 9}, None, id="average off by less than 10"),
    ],
)
def test_statistics_of_another_picture_are_refused(
    good: Transfer, changes: dict[str, int], reason: RejectReason | None
) -> None:
    true = picture_statistics(good[:IMAGE_HEIGHT])
    if "average_count" in changes:
        changes = {"average_count": true.average_count + changes["average_count"]}
    assert reason_of(rebuilt(good, statistics=replace(true, **changes))) == reason  # type: ignore[arg-type]  # ints only


# Building


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_a_transfer_that_is_built_from_its_parts_decodes_to_the_same(golden: Path, name: str) -> None:
    transfer = np.load(golden / f"{name}.npz")["frame"]
    metadata = parse_metadata(transfer)
    built = build_transfer(transfer[:IMAGE_HEIGHT], metadata)
    assert built.dtype == np.uint16
    assert np.array_equal(built[:IMAGE_HEIGHT], transfer[:IMAGE_HEIGHT])
    assert parse_metadata(built) == metadata
    assert np.array_equal(build_transfer(built[:IMAGE_HEIGHT], parse_metadata(built)), built)


def test_a_built_v2_transfer_decodes_to_the_same(good_v2: Transfer) -> None:
    metadata = parse_metadata(good_v2)
    assert parse_metadata(rebuilt(good_v2)) == metadata
    assert metadata.shutter_trim == -6


def test_texts_that_fit_exactly_survive_being_built(good: Transfer) -> None:
    texts = {"firmware": "1.10.20230525151", "serial": "S" * 16, "product": "P" * 16}
    metadata = parse_metadata(rebuilt(good, **texts))
    assert {name: getattr(metadata, name) for name in texts} == texts


@pytest.mark.parametrize("text", ["x" * 17, "câmera"])
def test_a_text_that_the_camera_cannot_hold_is_refused(good: Transfer, text: str) -> None:
    with pytest.raises(ValueError, match="at most 16 ASCII characters"):
        rebuilt(good, product=text)


def test_picture_statistics_are_those_of_the_golden_cameras(good: Transfer) -> None:
    stated = parse_metadata(good).statistics
    assert replace(picture_statistics(good[:IMAGE_HEIGHT], stated.user_counts), average_count=0) == replace(
        stated, average_count=0
    )


def test_payload_words_are_little_endian_and_cannot_be_written_to(good: Transfer) -> None:
    payload = b"\x34\x12" + good.tobytes()[2:]
    transfer = transfer_from_bytes(payload)
    assert transfer[0, 0] == 0x1234
    assert not transfer.flags.writeable


# Command words


def _words_of(action: str) -> tuple[int, ...]:
    fields = {
        "emissivity": UserField.EMISSIVITY,
        "reflected_c": UserField.REFLECTED,
        "air_c": UserField.AIR,
        "humidity": UserField.HUMIDITY,
        "correction": UserField.CORRECTION,
        "distance": UserField.DISTANCE,
    }
    commands = {
        "calibrate (shutter)": Command.SHUTTER,
        "save": Command.SAVE,
        "range normal": Command.NORMAL_RANGE,
        "range high": Command.HIGH_RANGE,
    }
    if action in commands:
        return (commands[action],)
    if action.startswith("point "):
        index, x, y = (int(part.partition("=")[2]) for part in action.split()[1:])
        return user_point_words(index, x, y)
    name, _, value = action.partition("=")
    return user_area_words(fields[name], float(value))


def test_command_words_are_the_golden_ones(golden: Path) -> None:
    vectors = json.loads((golden / "commands.json").read_text())["vectors"]
    assert len(vectors) == 24
    for vector in vectors:
        assert _words_of(vector["action"]) == tuple(int(word, 16) for word in vector["words_hex"]), vector["action"]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        pytest.param(UserField.EMISSIVITY, 0.95, (0x1033, 0x1133, 0x1273, 0x133F), id="emissivity 0.95"),
        pytest.param(UserField.DISTANCE, 1, (0x1401, 0x1500), id="one metre"),
    ],
)
def test_a_value_is_sent_low_byte_first(field: UserField, value: float, words: tuple[int, ...]) -> None:
    assert user_area_words(field, value) == words


@pytest.mark.parametrize("field", list(UserField))
@pytest.mark.parametrize("value", [NAN, INFINITE, -INFINITE, 1e39, -1e39])
def test_no_words_are_made_of_impossible_values(field: UserField, value: float) -> None:
    with pytest.raises(ValueError, match="must be in"):
        user_area_words(field, value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(UserField.EMISSIVITY, 0.0, id="emissivity zero"),
        pytest.param(UserField.HUMIDITY, 45.0, id="humidity in per cent"),
        pytest.param(UserField.AIR, 1000.0, id="air too hot"),
        pytest.param(UserField.DISTANCE, -1, id="distance negative"),
        pytest.param(UserField.DISTANCE, 65_536, id="distance of 17 bits"),
        pytest.param(UserField.DISTANCE, 0.3, id="distance not whole"),
    ],
)
def test_values_that_would_make_the_cameras_frames_unusable_are_not_written(field: UserField, value: float) -> None:
    with pytest.raises(ValueError, match=r"must be in|whole metres"):
        user_area_words(field, value)


def test_no_user_area_word_reaches_the_command_registers() -> None:
    # A word of 0x80 or above in its high byte would be a command; the user area ends at address 0x15.
    words = [word for field in UserField for value in (1.0, 0.5) for word in _words_or_none(field, value)]
    assert len(words) == 2 * 5 * 4 + 2
    assert all(word >> 8 <= 0x15 for word in words)


def _words_or_none(field: UserField, value: float) -> tuple[int, ...]:
    return () if field is UserField.DISTANCE and value != 1.0 else user_area_words(field, value)


@pytest.mark.parametrize(("index", "x", "y"), [(3, 0, 0), (-1, 0, 0), (0, 256, 0), (0, 0, 192), (0, -1, 0), (0, 0, -1)])
def test_a_user_point_outside_the_picture_is_refused(index: int, x: int, y: int) -> None:
    with pytest.raises(ValueError, match=r"user point 0\.\.2 inside 256 x 192"):
        user_point_words(index, x, y)


def test_metadata_are_comparable_values(good: Transfer) -> None:
    first, second = parse_metadata(good), parse_metadata(good.copy())
    assert isinstance(first, Metadata)
    assert first == second
    assert first != replace(second, fpa_raw=second.fpa_raw + 1)
