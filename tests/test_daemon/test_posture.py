"""Posture from masks drawn by hand, and of simulated rats whose course is known."""

import numpy as np
import pytest

from daemon.posture import Places, posture_of
from daemon.vision.parts import BodyPart


def line(first: tuple[int, int], last: tuple[int, int]) -> Places:
    """Pixels from one to another (x, y), one wide."""
    steps = max(abs(last[0] - first[0]), abs(last[1] - first[1])) + 1
    columns = np.linspace(first[0], last[0], steps).round().astype(np.intp)
    rows = np.linspace(first[1], last[1], steps).round().astype(np.intp)
    return rows, columns


def test_a_stretched_animal_by_hand() -> None:
    """Nose at x = 0, head's centre 4.5, body's 29.5; the tail begins at 50 and its nearest tenth is 50 to 54."""
    parts = {
        BodyPart.HEAD: line((0, 5), (9, 5)),
        BodyPart.BODY: line((10, 5), (49, 5)),
        BodyPart.TAIL: line((50, 5), (99, 5)),
    }
    found = posture_of(parts)
    assert found is not None
    assert (found.nose_x_px, found.nose_y_px) == (0, 5)
    assert found.length_px == pytest.approx(52)
    assert found.curl == pytest.approx(0, abs=1e-12)


def test_without_a_tail_the_body_ends_at_its_farthest_pixel() -> None:
    found = posture_of({BodyPart.HEAD: line((0, 5), (9, 5)), BodyPart.BODY: line((10, 5), (49, 5))})
    assert found is not None
    assert found.length_px == pytest.approx(49)


def test_a_hairpin_is_curled_up_by_hand() -> None:
    """Head down one side, body at the bottom, tail up the other: way 5 + 2 * hypot(15, 5.5) + ..., nose near base."""
    parts = {
        BodyPart.HEAD: line((0, 0), (0, 10)),
        BodyPart.BODY: line((0, 11), (30, 11)),
        BodyPart.TAIL: line((30, 10), (30, 0)),
    }
    found = posture_of(parts)
    assert found is not None
    base = 30, 10
    length = 5 + np.hypot(15, 6) + np.hypot(base[0] - 15, base[1] - 11)
    assert (found.nose_x_px, found.nose_y_px) == (0, 0)
    assert found.length_px == pytest.approx(length)
    assert found.curl == pytest.approx(1 - np.hypot(30, 10) / length)


def test_curl_grows_as_the_body_bends() -> None:
    """A body on an arc of 60 px, from a line to a closed ring, with a head of the first quarter."""
    curls = []
    for angle in (0.01, 1.0, 2.0, 3.0, 4.0, 5.0):
        along = np.linspace(0, 1, 600)
        radius = 60 / angle
        x, y = radius * np.sin(angle * along), radius * (1 - np.cos(angle * along))
        spots = np.round(y + 100).astype(np.intp), np.round(x + 100).astype(np.intp)
        head, body, tail = ((spots[0][part], spots[1][part]) for part in (slice(150), slice(150, 560), slice(560, 600)))
        found = posture_of({BodyPart.HEAD: head, BodyPart.BODY: body, BodyPart.TAIL: tail})
        assert found is not None
        curls.append(found.curl)
    assert curls == sorted(curls)
    assert curls[0] < 0.01
    assert curls[-1] > 0.4


@pytest.mark.parametrize("missing", [BodyPart.HEAD, BodyPart.BODY])
def test_without_head_or_body_there_is_no_posture(missing: BodyPart) -> None:
    parts = {BodyPart.HEAD: line((0, 5), (9, 5)), BodyPart.BODY: line((10, 5), (49, 5))}
    assert posture_of({part: places for part, places in parts.items() if part is not missing}) is None
