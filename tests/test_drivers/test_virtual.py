"""The virtual T2S+ itself, without a kernel."""

import io
import json
import random
import struct
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from drivers.clock import NS_PER_S, SimulatedClock
from drivers.decoder import FrameDecoder
from drivers.device_timeline import frame_at
from drivers.errors import CameraRefusedError, ConfigError, FrameRejectedError, MaterialError
from drivers.frame import RawFrame, ThermalFrame
from drivers.nuc import HostCorrection, average_offset
from drivers.t2s_protocol import (
    IMAGE_HEIGHT,
    TRANSFER_BYTES,
    UserField,
    Variant,
    check_transfer,
    parse_metadata,
    transfer_from_bytes,
    user_area_words,
    user_point_words,
)
from drivers.usb_dump import ControlRange, UsbDump
from drivers.virtual import wire
from drivers.virtual.camera import GAIN_MARKER, PICTURE_MARKER, VirtualT2S
from drivers.virtual.control_requests import ControlRequests, Deed
from drivers.virtual.emulation import Emulation
from drivers.virtual.payloads import PayloadMaker, WireFault
from drivers.virtual.personality import CONFIGURATION, DEVICE, STRING, V1, V2, Personality
from drivers.virtual.reel import PICTURES, SEED, Reel, shots

START_UTC_NS = 1_770_000_000_000_000_000
SET_ZOOM = bytes.fromhex("2101000b00010200")


def camera_of(reel: Reel, variant: Variant = Variant.V1, *words: int) -> tuple[VirtualT2S, SimulatedClock]:
    clock = SimulatedClock(START_UTC_NS)
    camera = VirtualT2S(reel, variant=variant, clock=clock)
    for word in words:
        camera.command(word)
    return camera, clock


def dump_of(personality: Personality) -> UsbDump:
    device, configuration = personality.descriptor(DEVICE, 0), personality.descriptor(CONFIGURATION, 0)
    assert device is not None and configuration is not None
    return UsbDump(
        descriptors=device + configuration,
        manufacturer=personality.manufacturer,
        product=personality.product,
        serial=personality.serial,
        zoom=personality.zoom,
    )


def decoded(data: bytes, decoder: FrameDecoder | None = None) -> ThermalFrame:
    raw = RawFrame(sequence=0, captured_utc_ns=0, captured_monotonic_ns=0, payload=data)
    return (decoder or FrameDecoder()).decode(raw)


@pytest.mark.parametrize("strip", ["normal", "high", "raw", "raw_blade"])
def test_every_transfer_of_the_reel_passes_the_checks(reel: Reel, strip: str) -> None:
    for transfer in getattr(reel, strip):
        check_transfer(transfer, parse_metadata(transfer))


def test_no_two_pictures_of_the_reel_are_equal(reel: Reel) -> None:
    assert len({transfer[:IMAGE_HEIGHT].tobytes() for transfer in reel.normal}) == PICTURES


def test_a_v1_powers_up_in_its_picture_mode_and_obeys_the_command_for_degrees(reel: Reel) -> None:
    camera, _ = camera_of(reel)
    with pytest.raises(FrameRejectedError, match="below 16384"):
        decoded(camera.picture(0).data)
    camera.command(0x8004)
    assert camera.picture(0).data == reel.normal[0].tobytes()[:98304] + camera.picture(0).data[98304:]


def test_the_shutter_freezes_31_frames_a_tenth_of_a_second_after_the_command(reel: Reel) -> None:
    camera, clock = camera_of(reel, Variant.V1, 0x8004)
    clock.advance(1.0)
    camera.command(0x8000)
    pictures = [camera.picture(frame).data for frame in range(25, 70)]
    equal = [number for number in range(1, 45) if pictures[number] == pictures[number - 1]]
    assert equal == list(range(4, 34))  # frame 25 is due at 1.0 s, frame 28 is the first at or after 1.1 s


def test_a_user_area_write_shows_in_the_metadata_until_the_next_plug_in(reel: Reel) -> None:
    camera, _ = camera_of(reel, Variant.V1, 0x8004, *user_area_words(UserField.EMISSIVITY, 0.95))
    assert decoded(camera.picture(0).data).metadata.environment.emissivity == pytest.approx(0.95)
    camera.power_up(cold=False)
    camera.command(0x8004)
    assert decoded(camera.picture(0).data).metadata.environment.emissivity == pytest.approx(0.98)


def test_a_command_for_the_range_is_followed_by_one_short_frame(reel: Reel) -> None:
    camera, _ = camera_of(reel, Variant.V1, 0x8004, 0x8021)
    lengths = [len(camera.picture(frame).data) for frame in range(3)]
    assert lengths == [512, TRANSFER_BYTES, TRANSFER_BYTES]
    assert decoded(camera.picture(3).data).metadata.constants.reference_count == 2000


def test_after_the_high_range_pictures_are_zero_until_the_shutter_closes(reel: Reel) -> None:
    camera, _ = camera_of(reel, Variant.V1, 0x8004, 0x8021, 0x8020)
    camera.picture(0)
    assert not transfer_from_bytes(camera.picture(1).data)[:IMAGE_HEIGHT].any()
    camera.command(0x8000)
    assert transfer_from_bytes(camera.picture(2).data)[:IMAGE_HEIGHT].any()


def test_a_cold_v1_is_silent_and_then_repeats_its_shutter(reel: Reel) -> None:
    camera, _ = camera_of(reel)
    camera.power_up(cold=True)
    camera.command(0x8004)
    first, due_ns = camera.following(-1)
    assert (first, due_ns) == (50, 2_000_000_000)
    assert {camera.picture(frame).data for frame in range(50, 227)} == {camera.picture(50).data}
    assert camera.picture(270).data != camera.picture(50).data


def test_degrees_of_a_v2_corrected_by_the_host_are_those_of_the_scene(reel: Reel) -> None:
    decoder = FrameDecoder()
    blade = [transfer[:IMAGE_HEIGHT] for transfer in reel.raw_blade]
    decoder.correction = HostCorrection(offset=average_offset(blade), gain=reel.gain)
    shot = list(shots(4))[-1]
    celsius = decoded(reel.raw[3].tobytes(), decoder).celsius
    for truth in shot.truth.truths:
        part = (shot.truth.parts == truth.part) & (shot.truth.instances == truth.animal)
        assert celsius[part].mean() == pytest.approx(truth.radiometric_celsius, abs=0.05)


def test_a_v2_shows_its_shutter_when_the_host_looks_for_it(reel: Reel) -> None:
    camera, clock = camera_of(reel, Variant.V2, 0x8004)
    clock.advance(1.0)
    camera.command(0x8000)
    blades = {transfer[:IMAGE_HEIGHT].tobytes() for transfer in reel.raw_blade}
    closed = [
        frame for frame in range(25, 60) if transfer_from_bytes(camera.picture(frame).data)[:192].tobytes() in blades
    ]
    assert closed[0] == 33  # 1.32 s: the first at or after 0.3 s
    assert closed[-1] == 47  # 1.88 s: the last before 0.9 s


def test_a_v2_sends_its_gain_map_row_by_row_in_marked_payloads(reel: Reel) -> None:
    camera, _ = camera_of(reel, Variant.V2, 0x8004, 0x8081)
    rows, maker = [], PayloadMaker(V2, random.Random(1))
    markers = []
    for frame in range(28):
        for payload in maker.payloads(camera.picture(frame)):
            markers.append(payload[6])
            if payload[6] == GAIN_MARKER:
                rows.append(payload[12 : 12 + 512])
    assert b"".join(rows) == reel.gain.tobytes()
    assert markers == [GAIN_MARKER] * 192 + [PICTURE_MARKER] * 4


@pytest.mark.parametrize(("personality", "count", "size"), [(V1, 196, 524), (V2, 7, 14_348)], ids=["v1", "v2"])
def test_a_frame_travels_in_the_payloads_of_its_camera(
    reel: Reel, personality: Personality, count: int, size: int
) -> None:
    camera, _ = camera_of(reel, personality.variant, 0x8004)
    picture = camera.picture(0)
    payloads = PayloadMaker(personality, random.Random(1)).payloads(picture)
    assert [len(payload) for payload in payloads] == [size] * count
    assert b"".join(payload[12:] for payload in payloads) == picture.data
    assert [bool(payload[1] & 2) for payload in payloads] == [False] * (count - 1) + [True]


def test_neighbouring_frames_differ_in_the_frame_bit(reel: Reel) -> None:
    camera, _ = camera_of(reel)
    maker = PayloadMaker(V1, random.Random(1))
    bits = [maker.payloads(camera.picture(frame))[0][1] & 1 for frame in range(4)]
    assert bits in ([0, 1, 0, 1], [1, 0, 1, 0])


def test_a_dropped_frame_has_no_payloads(reel: Reel) -> None:
    camera, _ = camera_of(reel)
    assert PayloadMaker(V1, random.Random(1)).payloads(camera.picture(0), WireFault.DROP) == []


@pytest.mark.parametrize("personality", [V1, V2], ids=["v1", "v2"])
def test_lengths_inside_the_descriptors_agree(personality: Personality) -> None:
    device, configuration = personality.descriptor(DEVICE, 0), personality.descriptor(CONFIGURATION, 0)
    assert device is not None and len(device) == device[0] == 18
    assert configuration is not None
    assert struct.unpack_from("<H", configuration, 2)[0] == len(configuration)
    at = 0
    while at < len(configuration):
        at += configuration[at]
    assert at == len(configuration)


@pytest.mark.parametrize("personality", [V1, V2], ids=["v1", "v2"])
def test_a_camera_made_from_the_dump_of_another_says_the_same(personality: Personality, tmp_path: Path) -> None:
    named = replace(personality, serial="KA1213")
    dump = dump_of(named)
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"checks": [], "usb": dump.as_json()}), encoding="utf-8")
    copied = Emulation(descriptors=report).personality()
    for kind, index in [(DEVICE, 0), (CONFIGURATION, 0), (STRING, 0), (STRING, 1), (STRING, 2), (STRING, 3)]:
        assert copied.descriptor(kind, index) == named.descriptor(kind, index)
    assert replace(copied, descriptors=b"") == named
    assert copied.stream_settings() == named.stream_settings()


def test_the_bare_descriptors_of_sysfs_are_enough(tmp_path: Path) -> None:
    file = tmp_path / "descriptors"
    file.write_bytes(dump_of(V2).descriptors)
    copied = Emulation(descriptors=file).personality()
    assert (copied.variant, copied.bulk, copied.payload_bytes) == (Variant.V2, True, 14_348)


def test_a_range_of_the_control_is_copied_with_the_dump() -> None:
    dump = replace(dump_of(V1), zoom=ControlRange(0, 100, 2, 7))
    requests = ControlRequests(Personality.of_dump(UsbDump.from_json(dump.as_json())))
    answers = [
        requests.answer(bytes((0xA1, request)) + bytes.fromhex("000b00010200"), b"").data
        for request in (0x82, 0x83, 0x84, 0x87)
    ]
    assert answers == [b"\0\0", b"\x64\0", b"\2\0", b"\7\0"]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"usb": {}}', b'{"usb": {"descriptors_hex": "00"}}', b"\x00\x01"])
def test_a_file_that_is_no_dump_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_bytes(content)
    with pytest.raises(MaterialError, match=r"report\.json: expected a report of `vivarium camera selftest`"):
        Emulation(descriptors=file).personality()


def test_a_dump_of_another_webcam_is_refused() -> None:
    descriptors = dump_of(V1).descriptors.replace(struct.pack("<HH", 256, 196), struct.pack("<HH", 640, 480))
    with pytest.raises(CameraRefusedError, match=r"256 x 196 YUY2, these have terminal 1 and \[\(640, 480\)\]"):
        Personality.of_dump(UsbDump(descriptors=descriptors))


def test_coarse_packets_and_descriptors_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give one of the two"):
        Emulation(descriptors=tmp_path / "d", coarse_packets=True).personality()


def test_texts_are_told_in_utf_16_and_a_missing_serial_is_refused() -> None:
    assert V1.descriptor(STRING, 2) == b"\x0a\x03T\x002\x00S\x00+\x00"
    assert V1.descriptor(STRING, 3) is None
    assert replace(V1, serial="X").descriptor(STRING, 3) == b"\x04\x03X\x00"


def test_a_write_of_the_zoom_control_is_a_command() -> None:
    requests = ControlRequests(V1)
    answer = requests.answer(SET_ZOOM, b"\x00\x80")
    assert (answer.deed, answer.word) == (Deed.COMMAND, 0x8000)
    assert requests.is_command(SET_ZOOM)
    read_back = requests.answer(bytes.fromhex("a181000b00010200"), b"")
    assert read_back.data == b"\x00\x80"


def test_the_zoom_control_takes_every_word() -> None:
    requests = ControlRequests(V1)
    limits = [
        requests.answer(bytes((0xA1, request)) + bytes.fromhex("000b00010200"), b"").data
        for request in range(0x82, 0x85)
    ]
    assert limits == [b"\0\0", b"\xff\xff", b"\1\0"]


def test_an_unknown_control_request_is_refused() -> None:
    assert ControlRequests(V1).answer(bytes.fromhex("a181000200030200"), b"").data is None


def test_a_v1_starts_its_stream_by_the_alternate_setting_and_a_v2_by_its_commit() -> None:
    set_alternate, commit = bytes.fromhex("010b010001000000"), bytes.fromhex("2101000201001a00")
    assert ControlRequests(V1).answer(set_alternate, b"").deed is Deed.START_STREAM
    assert ControlRequests(V1).answer(commit, bytes(26)).deed is Deed.NOTHING
    assert ControlRequests(V2).answer(commit, bytes(26)).deed is Deed.START_STREAM


def test_an_isochronous_request_is_read_and_answered_with_one_entry_for_each_packet() -> None:
    head = struct.pack(">5I", 1, 7, 2, 1, 1) + struct.pack(">IiiiI8x", 0, 1048, 5, 2, 1)
    table = struct.pack(">8I", 0, 524, 0, 0, 524, 524, 0, 0)
    request = wire.read_request(io.BytesIO(head + table))
    assert isinstance(request, wire.Submit)
    assert (request.sequence, request.endpoint, request.packet_lengths) == (7, 1, (524, 524))
    answer = wire.submitted_packets(request, [b"abc", b""])
    assert struct.unpack_from(">2I", answer) == (3, 7)
    assert struct.unpack_from(">4i", answer, 20) == (0, 3, 5, 2)
    assert answer[48:51] == b"abc"
    assert struct.unpack(">8I", answer[51:]) == (0, 524, 3, 0, 524, 524, 0, 0)


def test_a_closed_line_ends_the_requests_and_rubbish_is_named() -> None:
    assert wire.read_request(io.BytesIO(b"")) is None
    with pytest.raises(wire.WireError, match="got 9"):
        wire.read_request(io.BytesIO(struct.pack(">5I28x", 9, 0, 0, 0, 0)))


def test_user_points_show_the_counts_of_their_pixels(reel: Reel) -> None:
    camera, _ = camera_of(reel, Variant.V1, 0x8004, *user_point_words(0, 3, 5), *user_point_words(2, 255, 191))
    seen = decoded(camera.picture(0).data)
    assert seen.metadata.statistics.user_counts == (seen.counts[5, 3], 0, seen.counts[191, 255])


def test_a_v2_knows_no_user_points(reel: Reel) -> None:
    camera, _ = camera_of(reel, Variant.V2, 0x8004, *user_point_words(1, 3, 5))
    assert decoded(camera.picture(0).data).metadata.statistics.user_counts == (0, 0, 0)


def test_a_lower_rate_leaves_frames_out_evenly(reel: Reel) -> None:
    camera, _ = camera_of(reel)
    camera.set_rate(10)
    frame, numbers = -1, []
    for _ in range(21):
        frame, _ = camera.following(frame)
        numbers.append(frame)
    steps = [after - before for before, after in pairwise(numbers)]
    assert numbers[20] - numbers[0] == 50
    assert set(steps) == {2, 3}
    with pytest.raises(ValueError, match="at most 25, got 30"):
        camera.set_rate(30)


def test_a_cold_v1_drifts_with_its_detector_until_its_shutter_closes(reel: Reel) -> None:
    camera, _ = camera_of(reel, Variant.V1)
    camera.power_up(cold=True)
    camera.command(0x8004)
    truth = decoded(reel.normal[0].tobytes()).celsius.mean()
    # Numbers of the reel's first picture: just after the cycle at 37 s, and just before and after that at 64.8 s.
    after, before, again = (decoded(camera.picture(frame).data) for frame in (64 * 15, 64 * 25, 64 * 26))
    assert after.celsius.mean() == pytest.approx(truth, abs=0.05)
    moved = before.metadata.fpa_celsius - after.metadata.fpa_celsius
    assert moved > 0.4
    assert before.celsius.mean() - after.celsius.mean() == pytest.approx(-1.2 * moved, abs=0.06)
    assert again.celsius.mean() == pytest.approx(truth, abs=0.05)
    assert again.metadata.shutter_celsius > after.metadata.shutter_celsius
    assert np.std(before.celsius - after.celsius) > np.std(again.celsius - after.celsius) / 2


def test_the_frozen_picture_of_a_cold_camera_is_one_picture(reel: Reel) -> None:
    camera, _ = camera_of(reel, Variant.V1)
    camera.power_up(cold=True)
    camera.command(0x8004)
    first = frame_at(round(37.0 * NS_PER_S))
    assert len({camera.picture(frame).data for frame in range(first, first + 31)}) == 1
    assert camera.picture(first + 31).data != camera.picture(first).data


def test_a_cold_v2_drifts_until_the_host_has_seen_its_shutter(reel: Reel) -> None:
    camera, clock = camera_of(reel, Variant.V2)
    camera.power_up(cold=True)
    camera.command(0x8004)
    truth = decoded(reel.normal[0].tobytes()).celsius.mean()

    def calibrated(decoder: FrameDecoder) -> FrameDecoder:
        opened = int(clock.monotonic_ns() / NS_PER_S * 25)
        camera.command(0x8000)
        closed = [transfer_from_bytes(camera.picture(opened + frame).data)[:IMAGE_HEIGHT] for frame in range(9, 21)]
        decoder.correction = HostCorrection(offset=average_offset(closed), gain=reel.gain)
        return decoder

    clock.advance(1.0)
    decoder = calibrated(FrameDecoder())
    fresh, later = (decoded(camera.picture(frame).data, decoder) for frame in (64, 64 * 9))
    assert fresh.celsius.mean() == pytest.approx(truth, abs=0.1)
    moved = later.metadata.fpa_celsius - fresh.metadata.fpa_celsius
    assert moved > 0.3
    assert later.celsius.mean() - fresh.celsius.mean() == pytest.approx(-1.2 * moved, abs=0.15)
    clock.advance(24.0)
    decoder = calibrated(FrameDecoder())
    again = decoded(camera.picture(64 * 11).data, decoder)
    assert again.celsius.mean() == pytest.approx(truth, abs=0.1)


def test_the_same_pictures_come_from_a_camera_with_another_serial_number(reel: Reel) -> None:
    named = reel.named("KA1213")
    for strip in ("normal", "high", "blade", "raw", "raw_blade"):
        renamed, before = getattr(named, strip)[-1], getattr(reel, strip)[-1]
        assert parse_metadata(renamed).serial == "KA1213"
        assert replace(parse_metadata(renamed), serial="") == replace(parse_metadata(before), serial="")
        assert np.array_equal(renamed[:IMAGE_HEIGHT], before[:IMAGE_HEIGHT])


def test_a_reel_of_another_seed_is_another_camera() -> None:
    first, other = next(shots(1)), next(shots(1, seed=8))
    assert (first.frame.metadata.serial, other.frame.metadata.serial) == (f"SIM{SEED:05}", "SIM00008")
    assert not np.array_equal(first.frame.counts, other.frame.counts)


def test_a_reel_that_was_saved_is_read_back(reel: Reel, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("reel") / "reel.npz"
    reel.save(path)
    assert np.array_equal(Reel.load(path).raw, reel.raw)
