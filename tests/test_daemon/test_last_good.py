"""The copy of the last good config."""

import logging
from pathlib import Path

import pytest

from daemon.last_good import LastGoodConfig
from drivers.errors import ConfigError

GOOD = '[box]\nname = "lab"\ndata_dir = "data"\ntime_zone = "UTC"\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "etc" / "config.toml"
    path.parent.mkdir()
    path.write_text(GOOD)
    return path


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "state.toml"


def test_a_good_config_is_used_and_kept(config: Path, copy: Path) -> None:
    kept = LastGoodConfig(config, copy)
    settings, problem = kept.load()
    assert (settings.box.name, problem) == ("lab", None)
    assert not copy.exists(), "only what the service has started with is good"
    kept.keep()
    assert copy.read_text() == GOOD


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(None, "no such file", id="gone"),
        pytest.param("", None, id="empty is a config of defaults"),
        pytest.param("\0" * 100, "not valid TOML", id="zero bytes"),
        pytest.param(GOOD[:20], "not valid TOML", id="cut"),
        pytest.param("[camara]\n", "camara: unknown key; did you mean 'camera'", id="mistyped"),
    ],
)
def test_a_damaged_config_gives_the_copy_and_the_problem(
    text: str | None, problem: str | None, config: Path, copy: Path
) -> None:
    kept = LastGoodConfig(config, copy)
    kept.keep()
    if text is None:
        config.unlink()
    else:
        config.write_text(text)
    settings, found = kept.load()
    if problem is None:
        assert found is None
    else:
        assert found is not None
        assert problem in found
        assert settings.box.name == "lab"
        assert settings.box.data_dir == config.parent / "data", "relative paths count from the config, not the copy"


def test_a_damaged_config_is_never_kept(config: Path, copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = LastGoodConfig(config, copy)
    kept.keep()
    config.write_text("[camara]\n")
    kept.keep()
    assert copy.read_text() == GOOD
    assert "no copy of the config is kept" in caplog.text


@pytest.mark.parametrize("copied", [None, "rubbish", b"\xff\xfe"], ids=["none", "no config", "no text"])
def test_without_a_good_copy_the_problem_ends_the_start(
    copied: str | bytes | None, config: Path, copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config.write_text("[camara]\n")
    if copied is not None:
        copy.write_bytes(copied if isinstance(copied, bytes) else copied.encode())
    with pytest.raises(ConfigError, match="camara: unknown key"):
        LastGoodConfig(config, copy).load()
    assert ("of no use" in caplog.text) == (copied is not None)


def test_who_asks_for_no_copy_gets_none(config: Path, tmp_path: Path) -> None:
    kept = LastGoodConfig(config, None)
    kept.keep()
    config.write_text("[camara]\n")
    with pytest.raises(ConfigError, match="camara"):
        kept.load()
    assert [path.name for path in tmp_path.rglob("*.toml")] == ["config.toml"]


def test_a_copy_that_cannot_be_written_is_said_and_no_error(
    config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        LastGoodConfig(config, tmp_path / "nowhere" / "copy.toml").keep()
    assert "no copy of the config is kept" in caplog.text
