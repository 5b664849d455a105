"""Material of every kind becomes transfers; what is not material is refused with a reason."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.stream import VideoStream
from numpy.typing import NDArray

from drivers.clock import NS_PER_S
from drivers.decoder import FrameDecoder
from drivers.errors import MaterialError
from drivers.frame import FrameFlag, RawFrame, ThermalFrame
from drivers.material import FalseColourScale, Material, MaterialFrame, open_material
from drivers.palettes import known_palettes
from drivers.placement import NATIVE, Placement
from drivers.recording import RecordingHeader, RecordingWriter
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH, TRANSFER_BYTES

ONE_COUNT_CELSIUS = 0.02
RANGE = FalseColourScale(range_celsius=(20.0, 36.0))
START_UTC_NS = 1_790_046_000 * NS_PER_S


@pytest.fixture
def transfer(golden: Path) -> NDArray[np.uint16]:
    """A whole transfer of a v1 camera."""
    frame: NDArray[np.uint16] = np.load(golden / "g2_eps095_d1.npz")["frame"]
    return frame


@pytest.fixture
def degrees() -> NDArray[np.float64]:
    """A warm blob in a room, on the camera's own grid."""
    return a_blob(IMAGE_WIDTH, IMAGE_HEIGHT)


def a_blob(width: int, height: int) -> NDArray[np.float64]:
    rows, columns = np.indices((height, width)).astype(np.float64)
    distance = ((columns - width / 3) / (width / 8)) ** 2 + ((rows - height / 2) / (height / 6)) ** 2
    return np.asarray(22 + rows / height + 12 * np.exp(-distance), np.float64)


def celsius_of(frame: MaterialFrame) -> NDArray[np.float32]:
    """Through the camera's own decoder."""
    return FrameDecoder(still=True).decode(frame.raw, calibration=frame.calibration).celsius


def only(material: Material) -> MaterialFrame:
    with material:
        frames = list(material)
    assert len(frames) == len(material) == 1
    return frames[0]


def save_picture(path: Path, celsius: NDArray[np.float64]) -> None:
    colours = known_palettes()["inferno"].colours
    steps = np.rint((celsius - 20) / 16 * (len(colours) - 1)).astype(int)
    assert cv2.imwrite(str(path), colours[steps].round().astype(np.uint8)[..., ::-1])


# Transfers: the bytes as they are


@pytest.mark.parametrize("key", ["frame", "frames", "anything"])
def test_transfers_of_an_npz_are_passed_on_to_the_byte(tmp_path: Path, transfer: NDArray[np.uint16], key: str) -> None:
    stack = np.stack([transfer, transfer + 1])
    np.savez(tmp_path / "t.npz", **{key: stack})  # type: ignore[arg-type]  # numpy's stub takes flags for arrays
    with open_material(tmp_path / "t.npz", rate_hz=5) as material:
        frames = list(material)
        assert [frame.raw.payload for frame in frames] == [one.tobytes() for one in stack]
        assert [frame.raw.payload for frame in material] == [one.tobytes() for one in stack]  # and once more
    assert [frame.raw.captured_monotonic_ns for frame in frames] == [0, NS_PER_S // 5]
    assert {frame.flags for frame in frames} == {FrameFlag.NONE}
    assert {frame.calibration for frame in frames} == {None}
    assert [frame.source for frame in frames] == ["t.npz#0", "t.npz#1"]
    assert frames[0].placement == NATIVE
    assert not material.still


def test_a_single_transfer_in_an_npy_is_a_still(tmp_path: Path, transfer: NDArray[np.uint16]) -> None:
    np.save(tmp_path / "t.npy", transfer)
    material = open_material(tmp_path / "t.npy")
    assert only(material).raw.payload == transfer.tobytes()
    assert material.still


def test_big_endian_transfers_come_as_the_camera_sends_them(tmp_path: Path, transfer: NDArray[np.uint16]) -> None:
    np.save(tmp_path / "t.npy", transfer.astype(">u2"))
    assert only(open_material(tmp_path / "t.npy")).raw.payload == transfer.tobytes()


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_a_16_bit_picture_of_the_right_size_is_a_transfer(
    tmp_path: Path, transfer: NDArray[np.uint16], suffix: str
) -> None:
    path = tmp_path / f"t{suffix}"
    assert cv2.imwrite(str(path), transfer)
    frame = only(open_material(path))
    assert frame.raw.payload == transfer.tobytes()
    assert frame.flags == FrameFlag.NONE


def record(path: Path, transfer: NDArray[np.uint16], *, start_utc_ns: int = START_UTC_NS) -> list[ThermalFrame]:
    """Three seconds of one picture; the frames as they were recorded."""
    header = RecordingHeader(
        box="box1",
        block_key="b1",
        start_utc_ns=start_utc_ns,
        end_utc_ns=start_utc_ns + 3 * NS_PER_S,
        period_ns=NS_PER_S,
        accounted_from_utc_ns=start_utc_ns,
    )
    decoder = FrameDecoder(still=True, base_flags=FrameFlag.DRIFTED)
    decoded = [
        decoder.decode(
            RawFrame(
                sequence=10 + second,
                captured_utc_ns=start_utc_ns + second * NS_PER_S,
                captured_monotonic_ns=7 * NS_PER_S + second * NS_PER_S,
                payload=transfer.tobytes(),
            )
        )
        for second in range(3)
    ]
    with RecordingWriter(path, header, sync_interval_s=None) as writer:
        for second, frame in enumerate(decoded):
            writer.append(frame, planned_utc_ns=start_utc_ns + second * NS_PER_S)
    return decoded


def test_a_recording_comes_with_its_times_calibration_and_flags(tmp_path: Path, transfer: NDArray[np.uint16]) -> None:
    decoded = record(tmp_path / "r.mkv", transfer)
    with open_material(tmp_path / "r.mkv") as material:
        frames = list(material)
    assert len(material) == 3
    assert [frame.raw.payload for frame in frames] == [transfer.tobytes()] * 3
    assert [frame.raw.sequence for frame in frames] == [10, 11, 12]
    assert [frame.raw.captured_utc_ns for frame in frames] == [frame.captured_utc_ns for frame in decoded]
    assert [frame.time_s for frame in frames] == [0, 1, 2]
    assert {frame.calibration for frame in frames} == {decoded[0].calibration}
    assert {frame.flags for frame in frames} == {FrameFlag.DRIFTED}
    assert material.rate_hz == 1
    assert not material.still


def test_recordings_of_a_folder_come_in_the_order_of_their_time(tmp_path: Path, transfer: NDArray[np.uint16]) -> None:
    record(tmp_path / "evening.mkv", transfer, start_utc_ns=START_UTC_NS + 3600 * NS_PER_S)
    record(tmp_path / "morning.mkv", transfer)
    with open_material(tmp_path) as material:
        frames = list(material)
    assert [frame.source.partition(".")[0] for frame in frames] == ["morning"] * 3 + ["evening"] * 3
    assert [plan.start_utc_ns - START_UTC_NS for plan in material.plans] == [0, 3600 * NS_PER_S]
    assert material.has_times


# Degrees


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_degrees_come_back_within_one_count(tmp_path: Path, degrees: NDArray[np.float64], dtype: type) -> None:
    degrees[5, 7] = np.nan
    np.save(tmp_path / "d.npy", degrees.astype(dtype))
    frame = only(open_material(tmp_path / "d.npy"))
    assert len(frame.raw.payload) == TRANSFER_BYTES
    assert frame.flags == FrameFlag.ESTIMATED
    celsius = celsius_of(frame)
    assert np.isnan(celsius[5, 7])
    assert np.nanmax(np.abs(celsius - degrees)) < ONE_COUNT_CELSIUS


def test_a_stack_of_degrees_is_a_frame_each(tmp_path: Path, degrees: NDArray[np.float64]) -> None:
    np.savez(tmp_path / "d.npz", degrees=np.stack([degrees, degrees + 1, degrees + 2]))
    with open_material(tmp_path / "d.npz") as material:
        means = [float(celsius_of(frame).mean()) for frame in material]
    assert np.diff(means) == pytest.approx([1, 1], abs=0.01)


@pytest.mark.parametrize(
    ("separator", "comma"),
    [
        pytest.param(";", True, id="semicolon, decimal comma"),
        pytest.param("\t", True, id="tab, decimal comma"),
        pytest.param(";", False, id="semicolon"),
        pytest.param(",", False, id="comma"),
    ],
)
@pytest.mark.parametrize(
    "labels", ["bare", "header", "header and rows", "pandas", "lines of text", "padded facts", "trailing"]
)
def test_csv_of_any_dialect_is_read(tmp_path: Path, separator: str, comma: bool, labels: str) -> None:
    table = np.array([[21.5, 22.25, 23.0, 22.0], [24.5, 36.75, 22.0, 22.0], [21.0, 21.25, 21.5, 21.0]])
    rows = [[f"{value:.2f}".replace(".", ",") if comma else f"{value:.2f}" for value in row] for row in table]
    lines = {
        "bare": rows,
        "header": [["a", "b", "c", "d"], *rows],
        "header and rows": [["", "a", "b", "c", "d"], *([f"row {i}", *row] for i, row in enumerate(rows))],
        "pandas": [["", "0", "1", "2", "3"], *([str(i), *row] for i, row in enumerate(rows))],
        "lines of text": [["Camera", "T2S+"], ["Temperatura (°C)"], *rows],
        "padded facts": [
            ["Emissivity", "0.98", "", "", ""],
            ["", "a", "b", "c", "d"],
            *(["row", *row] for row in rows),
        ],
        "trailing": [[*row, ""] for row in rows],
    }[labels]
    path = tmp_path / "d.csv"
    path.write_text("\n".join(separator.join(line) for line in lines) + "\n", encoding="utf-8-sig")
    frame = only(open_material(path))
    assert (frame.placement.source_width, frame.placement.source_height) == (4, 3)
    celsius = celsius_of(frame)
    for row, column in np.ndindex(table.shape):
        x, y = frame.placement.point_to_frame(column, row)
        assert celsius[round(y), round(x)] == pytest.approx(table[row, column], abs=0.3)  # of steps of up to 15 °C


def test_empty_cells_of_a_csv_have_no_temperature(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(";;\n;22,5;nan\n23;24;25\n")
    celsius = celsius_of(only(open_material(tmp_path / "d.csv")))
    assert np.isnan(celsius[0]).all()
    assert np.nanmax(celsius) == pytest.approx(25, abs=ONE_COUNT_CELSIUS)


def test_a_quoted_decimal_comma_is_read(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text('"21,5","22,5"\n"23,5","24,5"\n')
    celsius = celsius_of(only(open_material(tmp_path / "d.csv")))
    assert np.nanmax(celsius) == pytest.approx(24.5, abs=ONE_COUNT_CELSIUS)


# Placement


@pytest.mark.parametrize(
    ("size", "covered"),
    [
        pytest.param((256, 192), (0, 0, 256, 192), id="native"),
        pytest.param((1428, 1068), (0, 0, 256, 192), id="nearly 4:3"),
        pytest.param((1280, 720), (0, 24, 256, 144), id="wide"),
        pytest.param((600, 1200), (80, 0, 96, 192), id="upright"),
        pytest.param((80, 60), (0, 0, 256, 192), id="small"),
    ],
)
def test_every_size_is_placed_without_squashing(size: tuple[int, int], covered: tuple[int, int, int, int]) -> None:
    placement = Placement.fit(*size)
    assert (placement.left, placement.top, placement.width, placement.height) == covered
    for x, y in ((0.0, 0.0), (size[0] - 1.0, size[1] / 3)):
        assert placement.point_to_source(*placement.point_to_frame(x, y)) == pytest.approx((x, y))


def test_bars_have_no_temperature_and_labels_find_back(tmp_path: Path) -> None:
    wide = np.full((360, 640), 22.0)
    wide[100:200, 300:500] = 35
    np.save(tmp_path / "d.npy", wide)
    frame = only(open_material(tmp_path / "d.npy"))
    celsius = celsius_of(frame)
    assert np.isnan(celsius[:24]).all() and np.isnan(celsius[-24:]).all()
    assert not np.isnan(celsius[24:-24]).any()
    labels = (celsius > 30).astype(np.uint8)
    assert np.array_equal(frame.placement.labels_to_source(labels), wide > 30)


def test_finer_grids_are_averaged_over_the_area_and_gaps_left_out() -> None:
    field = np.tile(np.array([[20.0, 30.0], [20.0, 30.0]]), (192, 256))
    field[:2, :2] = [[np.nan, 30], [20, 40]]
    field[:2, 2:4] = [[np.nan, np.nan], [np.nan, 40]]
    frame = Placement.fit(512, 384).field_to_frame(field)
    assert frame[0, 0] == pytest.approx(30)
    assert np.isnan(frame[0, 1])
    assert frame[1:] == pytest.approx(25)


# Pictures and video


def test_a_picture_becomes_degrees_through_its_palette(tmp_path: Path) -> None:
    celsius = a_blob(640, 480)
    save_picture(tmp_path / "p.png", celsius)
    frame = only(open_material(tmp_path / "p.png", scale=RANGE))
    assert frame.flags == FrameFlag.ESTIMATED
    assert (frame.placement.source_width, frame.placement.source_height) == (640, 480)
    expected = Placement.fit(640, 480).field_to_frame(celsius)
    assert np.abs(celsius_of(frame) - expected).max() < 0.3


def test_a_folder_is_played_in_the_order_a_person_would_count(tmp_path: Path) -> None:
    for number, warmer in ((2, 1.0), (10, 2.0), (1, 0.0)):
        save_picture(tmp_path / f"frame{number}.png", a_blob(256, 192) - 2 + warmer)
    (tmp_path / "notes.txt").write_text("not material")
    (tmp_path / ".hidden.png").write_bytes(b"")
    with open_material(tmp_path, scale=RANGE, rate_hz=2) as material:
        frames = list(material)
    assert [frame.source for frame in frames] == ["frame1.png", "frame2.png", "frame10.png"]
    assert [frame.raw.sequence for frame in frames] == [0, 1, 2]
    assert [frame.time_s for frame in frames] == [0, 0.5, 1]
    means = [float(celsius_of(frame).mean()) for frame in frames]
    assert np.diff(means) == pytest.approx([1, 1], abs=0.1)


def test_a_folder_of_arrays_goes_on_after_each_file(tmp_path: Path, transfer: NDArray[np.uint16]) -> None:
    np.save(tmp_path / "a1.npy", np.stack([transfer, transfer]))
    np.save(tmp_path / "a2.npy", transfer)
    with open_material(tmp_path, rate_hz=10) as material:
        frames = list(material)
    assert len(material) == 3
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.1, 0.2])
    assert [frame.source for frame in frames] == ["a1.npy#0", "a1.npy#1", "a2.npy#0"]


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "mpeg4"), (".avi", "mjpeg"), (".mkv", "ffv1")])
def test_a_video_is_played_at_its_own_times(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"v{suffix}"
    celsius = a_blob(320, 240)
    save_picture(tmp_path / "p.png", celsius)
    picture = cv2.imread(str(tmp_path / "p.png"))
    assert picture is not None
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=5)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = 320, 240
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.bit_rate = 8_000_000
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="bgr24")))
        container.mux(stream.encode())
    with open_material(path, scale=RANGE) as material:
        frames = list(material)
    assert len(material) == len(frames) == 4
    assert [later.time_s - sooner.time_s for sooner, later in pairwise(frames)] == pytest.approx([0.2] * 3, abs=0.002)
    assert frames[0].time_s == 0
    assert material.rate_hz == pytest.approx(5)
    assert material.still
    expected = Placement.fit(320, 240).field_to_frame(celsius)
    assert np.median(np.abs(celsius_of(frames[3]) - expected)) < 0.5


# What is refused


def _empty_folder(folder: Path) -> Path:
    return folder


def _folder_of_text(folder: Path) -> Path:
    (folder / "notes.txt").write_text("nothing")
    return folder


def _missing(folder: Path) -> Path:
    return folder / "missing.npy"


def _broken(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(b"this is no such file")
        return folder / name

    return make


def _array(array: NDArray[np.generic]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        np.save(folder / "a.npy", array)
        return folder / "a.npy"

    return make


def _two_arrays(folder: Path) -> Path:
    np.savez(folder / "a.npz", one=np.zeros((3, 4)), two=np.zeros((3, 4)))
    return folder / "a.npz"


def _csv(text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "a.csv").write_text(text)
        return folder / "a.csv"

    return make


def _centikelvin_picture(folder: Path) -> Path:
    cv2.imwrite(str(folder / "k.png"), np.full((120, 160), 29815, np.uint16))
    return folder / "k.png"


def _mixed_arrays(folder: Path) -> Path:
    np.save(folder / "a.npy", np.full((30, 40), 22.0))
    np.save(folder / "b.npy", np.full((60, 80), 22.0))
    return folder


def _mixed_kinds(folder: Path) -> Path:
    np.save(folder / "a.npy", np.full((30, 40), 22.0))
    np.save(folder / "b.npy", np.zeros((196, 256), np.uint16))
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(_empty_folder, "expected files ending in", id="empty folder"),
        pytest.param(_folder_of_text, "got 1 others and none of these", id="folder of text"),
        pytest.param(_missing, "no such file or folder", id="missing"),
        pytest.param(_broken("a.npy"), "cannot be read as an array", id="broken npy"),
        pytest.param(_broken("a.npz"), "cannot be read as an array", id="broken npz"),
        pytest.param(_broken("a.png"), "expected a PNG, JPEG, BMP or TIFF picture", id="broken picture"),
        pytest.param(_broken("a.mp4"), "cannot be read as video", id="broken video"),
        pytest.param(_broken("a.mkv"), "cannot be read as video", id="broken recording"),
        pytest.param(_broken("a.doc"), "expected a file ending in", id="unknown ending"),
        pytest.param(_array(np.zeros((192, 256), np.uint16)), "without its four metadata rows", id="no metadata"),
        pytest.param(_array(np.zeros((10, 10), np.uint16)), "expected whole transfers", id="wrong shape"),
        pytest.param(_array(np.zeros(10)), "expected whole transfers", id="one dimension"),
        pytest.param(_array(np.zeros((0, 192, 256))), "expected whole transfers", id="no frame"),
        pytest.param(_array(np.zeros((10, 10), np.int32)), "store degrees as float", id="integers"),
        pytest.param(_two_arrays, "expected one array, or one called frames or frame", id="two arrays"),
        pytest.param(_csv("1;2\n3\n"), "expected 2 columns in each row, got 1", id="ragged csv"),
        pytest.param(_csv("21;22\n21;warm\n"), "expected a number, got 'warm'", id="text in csv"),
        pytest.param(_csv("21;n/a;22;22\n21;22;23;23\n"), "expected a number, got 'n/a'", id="text in the first row"),
        pytest.param(_csv("only words\n"), "no row of numbers", id="csv without numbers"),
        pytest.param(_centikelvin_picture, "nobody knows what degrees its numbers are", id="16-bit picture"),
        pytest.param(_mixed_arrays, "expected 40 x 30 pixels as in a.npy, got 80 x 60", id="mixed sizes"),
        pytest.param(_mixed_kinds, "one folder, one kind", id="mixed kinds"),
    ],
)
def test_what_is_no_material_is_refused_with_a_reason(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    path = make(tmp_path)
    with pytest.raises(MaterialError, match=message):
        open_material(path)


def test_a_picture_without_a_scale_is_refused(tmp_path: Path) -> None:
    save_picture(tmp_path / "p.png", a_blob(64, 48))
    with pytest.raises(MaterialError, match="give the range of its palette, or at least two readings"):
        open_material(tmp_path / "p.png")


def test_pictures_of_mixed_sizes_are_refused_when_their_turn_comes(tmp_path: Path) -> None:
    save_picture(tmp_path / "1.png", a_blob(256, 192))
    save_picture(tmp_path / "2.png", a_blob(320, 240))
    with open_material(tmp_path, scale=RANGE) as material, pytest.raises(MaterialError, match="expected 256 x 192"):
        list(material)


@pytest.mark.parametrize("value", [295.0, 29_815.0, np.inf])
def test_kelvin_and_counts_are_not_taken_for_degrees(tmp_path: Path, value: float) -> None:
    field = np.full((192, 256), 22.0)
    field[3, 4] = value
    np.save(tmp_path / "d.npy", field)
    with open_material(tmp_path / "d.npy") as material, pytest.raises(MaterialError, match="expected degrees C"):
        list(material)


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, float("nan")])
def test_a_rate_that_is_none_is_refused(tmp_path: Path, transfer: NDArray[np.uint16], rate_hz: float) -> None:
    np.save(tmp_path / "t.npy", transfer)
    with pytest.raises(MaterialError, match="must be positive"):
        open_material(tmp_path / "t.npy", rate_hz=rate_hz)
