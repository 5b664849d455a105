"""The n-th write, fsync or rename fails, for every n: nothing is half done, and it is said."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
MOST = int(os.environ.get("VIVARIUM_FAILING_WRITES", "50"))
"""The first so many calls fail in turn; 1000 are more than a life has."""
FULL_EVERY = 5
"""For each fifth of them also all later calls fail, as on a full disk."""


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    """The library that lets calls fail, made by the compiler of this machine."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler is installed (Debian: apt install gcc libc6-dev)")
    library = tmp_path / "failing_writes.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "failing_writes.c"), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        pytest.skip(f"the library cannot be made here: {done.stderr.strip()}")
    return library


@pytest.mark.timeout(900)
def test_whichever_call_fails_nothing_is_half_done_and_it_is_said(shim: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lives"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.faults.failing_victim", folder, str(MOST), str(FULL_EVERY)],
        cwd=HERE.parents[1],
        env={**os.environ, "LD_PRELOAD": str(shim), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report: dict[str, Any] = json.loads(done.stdout)
    lives: list[dict[str, Any]] = report["lives"]
    wrong = [life for life in lives if life["problems"]]
    assert wrong == [], done.stderr[-3000:]
    lost = [life for life in lives if life["stored"] < life["frames"]]
    assert lost == [], "what was acknowledged is there after the next start"
    silent = [life for life in lives if not life["reported"]]
    whole = (report["frames"], report["frames"])
    # A checkpoint that fails costs nothing: it is made up for, and there is nothing to be said.
    assert [life for life in silent if (life["stored"], life["captured"]) != whole] == []
    hit = [life for life in lives if life["calls"] >= life["n"]]
    assert len(hit) >= min(MOST, 50), "the faults must have hit something"
    for_ever, said = sum(life["for_ever"] for life in hit), sum(bool(life["reported"]) for life in hit)
    print(  # noqa: T201  # the figures
        f"{len(hit) - for_ever} lives with one failing write, fsync or rename each, {for_ever} with all later ones: "
        f"0 acknowledged rows lost, 0 damaged databases, 0 half files; {said} said so, "
        f"{len(hit) - said} lost nothing"
    )
