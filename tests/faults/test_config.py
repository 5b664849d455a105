"""Malformed config files: each is refused in words that name the key, and a running service keeps its last good one."""

import os
import random
import re
import signal
import string
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.app import Service
from daemon.cli import main
from daemon.config_keys import describe_keys, example_toml
from daemon.settings import Settings, load_settings
from drivers.errors import ConfigError, VivariumError

if TYPE_CHECKING:
    from tests.faults.conftest import Eventually, MakeService, MakeSettings

MALFORMED = int(os.environ.get("VIVARIUM_MALFORMED_CONFIGS", "10000"))
RELOADS = 25

LISTS = tuple(key.key.strip("[]") for key in describe_keys() if key.key.startswith("[["))
"""Tables of which there may be several."""
KEYS = tuple(key.key for key in describe_keys() if not key.key.startswith("["))
"""Full names of all keys that hold a value."""

WRONG_VALUES = (
    "{}", "[]", "[[]]", "{ a = { b = { c = 1 } } }", '"\\u0000"', '"\\u0000\\uFFFF"', '""', '"~nobody-of-this-name/x"',
    "-1", "1e999", "-1e999", "nan", "-nan", "inf", "9" * 30, "1979-05-27", "1979-05-27T07:32:00Z", "07:32:00",
    "00:00:60", "true", "0x" + "f" * 40, '"' + "x" * 5000 + '"', "[1, 'a', {}]", '"\U0001f400"', "'''\n'''",
    "1_000_000_000",    "9" * 5000, "0.1e-400", "[" * 200 + "]" * 200, '"../../../etc/passwd"', '"sqlite://///"', '"postgresql://"',
    "[[1,2],[3]]",
)  # fmt: skip


def a_wrong_value(dice: random.Random) -> str:
    """A value that is wrong for most keys, as TOML."""
    return dice.choice(WRONG_VALUES)


def one_key(dice: random.Random) -> tuple[bytes, str]:
    """A config with one value that may be wrong, and the key that a refusal must name."""
    key = dice.choice(KEYS)
    *tables, name = outside_lists(key.split("."))
    return f"{header(tables)}{name} = {a_wrong_value(dice)}\n".encode(), ".".join([*tables, name])


def outside_lists(names: list[str]) -> list[str]:
    """Of a key inside a table of which there may be several the name of all of them."""
    return next((names[:size] for size in range(1, len(names)) if ".".join(names[:size]) in LISTS), names)


def header(tables: list[str]) -> str:
    """Begin of a table; nothing for keys that lie in none."""
    return f"[{'.'.join(tables)}]\n" if tables else ""


def one_unknown_key(dice: random.Random) -> tuple[bytes, str]:
    """A config with a key that is not known, and its name."""
    tables = outside_lists(dice.choice(KEYS).split("."))[:-1]
    name = "".join(dice.choices(string.ascii_lowercase + "-_", k=dice.randrange(1, 40)))
    known = {key.rpartition(".")[2] for key in KEYS}
    tables, name = (tables, f"{name}-x" if name in known else name)
    return f"{header(tables)}{name} = 1\n".encode(), ".".join([*tables, name])


def damaged(dice: random.Random, text: bytes) -> tuple[bytes, str]:
    """A whole config with a few bytes changed, removed, doubled or moved."""
    data = bytearray(text)
    for _ in range(dice.randrange(1, 6)):
        at, length = dice.randrange(len(data)), dice.randrange(1, 12)
        match dice.randrange(5):
            case 0:
                data[at] = dice.randrange(256)
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length]
            case 3:
                data[at:at] = dice.randbytes(length)
            case _:
                data[at:at] = dice.choice(("[", "]", "{", "}", '"', "'", "=", "\n", "#", ".", "\\u", "\0")).encode()
        if not data:
            data = bytearray(b"\n")
    return bytes(data), ""


def special(dice: random.Random) -> tuple[bytes, str]:
    """What is no config at all."""
    depth = dice.choice((100, 2000, 10_000 if dice.random() < 0.9 else 1_000_000))
    return dice.choice(
        (
            dice.randbytes(dice.randrange(300)),
            b"a = " + b"[" * depth,
            b"[a" + b".a" * depth + b"]",
            b"a = " + b"{ a = " * depth,
            b"\xff\xfe" + "[box]".encode("utf-16-le"),
            b"\xef\xbb\xbf[box]\n",
            b"[[box]]\n[[box]]\n",
            b"box = 1\n[box.name]\n",
            b"[box]\n[box]\n",
            b"x = " + b"9" * depth,
            b"\0" * 100,
        )
    ), ""


@pytest.mark.timeout(1800)
def test_ten_thousand_malformed_configs_are_each_read_or_refused_in_words_that_name_the_key(tmp_path: Path) -> None:
    dice, path = random.Random(15), tmp_path / "config.toml"
    whole = example_toml().encode()
    shipped = (Path(__file__).parents[2] / "config.toml").read_bytes()
    refused: Counter[str] = Counter()
    accepted: list[Settings] = []
    start_s = time.monotonic()
    for number in range(MALFORMED):
        kind = number % 20
        if kind < 10:
            text, key = one_key(dice)
        elif kind < 14:
            text, key = one_unknown_key(dice)
        elif kind < 18:
            text, key = damaged(dice, whole if number % 200 == 14 else shipped)
        else:
            text, key = special(dice)
        path.unlink(missing_ok=True)  # a file that is cut off and written anew waits for the disk
        path.write_bytes(text)
        try:
            settings = load_settings(path)
        except ConfigError as error:
            message = str(error)
            assert message.startswith(str(path)) or message.startswith("box.time_zone"), (text[:200], message)
            if key and "not valid TOML" not in message:
                assert re.search(rf"(^|[\s:]){re.escape(key)}(\.|:| )", message), (text[:200], message)
                refused["with the key"] += 1
            else:
                refused["with the place in the file"] += 1
            assert len(message) < 20_000, (text[:200], len(message))
        else:
            accepted.append(settings)
    elapsed_s = time.monotonic() - start_s
    assert refused["with the key"] > MALFORMED / 3
    print(  # noqa: T201  # the figures
        f"malformed configs: {MALFORMED} in {elapsed_s:.1f} s, 0 tracebacks; {len(accepted)} were good ones all the "
        f"same, refused " + ", ".join(f"{number} {how}" for how, number in refused.items())
    )


def test_a_running_service_keeps_its_last_good_config_however_often_it_is_told_to_read_a_bad_one(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    eventually: "Eventually",
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    dice, path = random.Random(51), tmp_path / "config.toml"
    settings = make_settings(recording={"enabled": False})
    with make_service(settings) as running:
        running.load = lambda: load_settings(path)
        eventually(lambda: running.evidence.newest_frame() > 0, "rows")
        refusals = 0
        while refusals < RELOADS:
            text, _ = dice.choice((one_unknown_key, special, lambda dice: (b"[web]\nport = -1\n", "")))(dice)
            path.write_bytes(text)
            try:
                load_settings(path)
            except ConfigError:
                refusals += 1
                running.signals.receive(signal.SIGHUP)
                eventually(lambda: caplog.text.count(REFUSED) == refusals, f"refusal {refusals}")  # noqa: B023
            assert running.service.settings == settings
        [notice] = [each for each in running.service.status().reasons if each.code == "config_damaged"]
        assert str(path) in notice.detail
        newest = running.evidence.newest_frame()
        eventually(lambda: running.evidence.newest_frame() > newest + 2, "more rows")
        assert [row[0] for row in running.evidence.rows("SELECT count(*) FROM run")] == [1]
        assert running.evidence.rows("SELECT count(*) FROM event WHERE kind = 'camera_lost'") == [(0,)]
        running.load = lambda: settings
        running.signals.receive(signal.SIGHUP)
        eventually(
            lambda: "config_damaged" not in {each.code for each in running.service.status().reasons}, "no complaint"
        )
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
    print(f"malformed configs at SIGHUP: {RELOADS} refused, the last good one stayed in force")  # noqa: T201


REFUSED = "is refused, the old one stays in force"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"[camera]\nknid = 1\n", id="unknown key"),
        pytest.param(b'[box]\ndata_dir = "\\u0000"\n', id="no path"),
        pytest.param(b'[box]\ndata_dir = "~nobody-of-this-name/x"\n', id="no user"),
        pytest.param(b"x = " + b"9" * 5000, id="a long number"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b"# \n" * 100_000, id="too large"),
        pytest.param(b"[" * 5000, id="nested"),
    ],
)
def test_the_command_refuses_a_malformed_config_in_one_line_of_words(
    text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(text)
    monkeypatch.setattr(sys, "argv", ["vivarium", "run", "--config", str(path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"error: {path}")
    assert "Traceback" not in said.out + said.err


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        pytest.param({"database": {"url": "sqlite:///"}}, r"database\.url", id="no file"),
        pytest.param({"database": {"url": "x" * 300}}, r"database\.url", id="no URL"),
        pytest.param(
            {"mqtt": {"host": "256.1.1.1"}}, r"cannot listen on 256\.1\.1\.1|mqtt\.host", id="embedded broker"
        ),
    ],
)
def test_what_is_wrong_only_on_this_machine_is_refused_at_the_start_in_words(
    make_settings: "MakeSettings", changes: dict[str, Any], key: str
) -> None:
    with pytest.raises(VivariumError, match=key), Service(make_settings(**changes)):
        pass


@pytest.mark.parametrize(
    "host",
    [pytest.param("no such host", id="web host"), pytest.param("a" * 70 + ".x", id="a label that is too long")],
)
def test_a_web_host_that_is_not_of_this_machine_costs_the_page_alone(
    make_service: "MakeService", make_settings: "MakeSettings", eventually: "Eventually", host: str
) -> None:
    with make_service(make_settings(web={"host": host})) as running:
        eventually(lambda: running.evidence.rows("SELECT 1 FROM frame"), "rows")
        (why,) = [each.detail for each in running.service.status().reasons if each.code == "no_page"]
    assert why == f"web.port: cannot listen on {host}:8080: Name or service not known; see web.host and web.port"
