"""config.toml: what is refused, how it is said, and what is printed about it."""

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.config_keys import describe_keys, example_toml
from daemon.rule_settings import RuleSettings
from daemon.settings import Settings, load_settings, parse_settings
from drivers.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param('[camera]\nknid = "simulated"', r"camera\.knid: unknown key; did you mean 'kind'", id="mistyped"),
        pytest.param("[camara]", r"camara: unknown key; did you mean 'camera'", id="mistyped table"),
        pytest.param(
            "[web]\nzzz = 1", r"web\.zzz: unknown key; known here: commands, enabled, host, port", id="nothing near"
        ),
        pytest.param('[camera]\nkind = "replay"', r"camera: .*needs camera\.replay\.path", id="replay without path"),
        pytest.param('[schedule]\nlights_on = "7"', r"schedule\.lights_on: expected a time of day", id="time"),
        pytest.param(
            '[rules]\nquiet_hours = ["22", "6"]',
            r"rules.quiet_hours number 1: expected a time of day like 07:30, got '22'",
            id="hours",
        ),
        pytest.param(
            '[[maintenance]]\nreason = "other"\nat = "9:00"\nminutes = 5',
            r"maintenance number 1, at: expected a time of day like 07:30, got '9:00'",
            id="at",
        ),
        pytest.param(
            '[[zone]]\nname = "Nest"', r"zone number 1, name: expected up to 32 small letters, digits", id="letters"
        ),
        pytest.param("[mqtt]\nport = 70000", r"mqtt\.port: .*65535, got 70000", id="range"),
        pytest.param('[box]\ntime_zone = "Europe/Berln"', r"did you mean Europe/Berlin", id="zone"),
        pytest.param('[box]\nname = "a/b"', r"box\.name", id="name that makes no topic"),
        pytest.param("[alerts.too_hot]\ncelsius = nan", r"alerts\.too_hot\.celsius", id="nan"),
        pytest.param(
            "[[camera.replay.readings]]\nx = 1\ny = 2",
            r"  camera\.replay\.readings number 1, celsius: Field required",
            id="missing",
        ),
        pytest.param("box = ", r"not valid TOML", id="no toml"),
    ],
)
def test_a_wrong_config_is_refused_with_the_path_of_the_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_settings(text, origin="config.toml")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        pytest.param(
            '[[animal]]\nname = "Ada"\n[[animal]]\nname = "B b"', "animal number 2, name: expected", id="table"
        ),
        pytest.param(
            '[[rule]]\nname = "a"\nalso = [{ measure = "curl", comparison = "over" }]',
            "rule number 1, also number 1, comparison: Input",
            id="table in a table",
        ),
        pytest.param('[[rule]]\nname = "a"\nweight = 1', "rule number 1, weight: unknown key", id="unknown key"),
        pytest.param(
            '[[rule]]\nname = "fever"\n[[rule]]\nname = "mine"', "rule number 2 (mine): no rule", id="what it lacks"
        ),
    ],
)
def test_tables_are_counted_from_one_as_people_do(text: str, where: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"  {where}")):
        parse_settings(text, origin="config.toml")


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings('[web]\nport = -1\n[mqtt]\nprotocol = "4"', origin="config.toml")
    assert "web.port" in str(caught.value)
    assert "mqtt.protocol" in str(caught.value)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        settings = parse_settings(text, origin="config.toml")
    except ConfigError as error:
        assert str(error).startswith("config.toml")
    else:
        assert isinstance(settings, Settings)


def test_a_missing_file_is_told_with_the_way_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file.*--example"):
        load_settings(tmp_path / "config.toml")


def test_a_file_in_another_encoding_is_told_with_the_line_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes('[box]\nname = "box1"\n# João\n'.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    assert str(caught.value) == f"{path}: line 3: expected UTF-8, got the byte 0xe3; save the file as UTF-8"


def test_relative_paths_count_from_the_config_file(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[box]\ndata_dir = "data"\n[camera]\nkind = "replay"\n[camera.replay]\npath = "rat.png"\n')
    settings = load_settings(config)
    assert settings.box.data_dir == tmp_path / "data"
    assert settings.camera.replay.path == tmp_path / "rat.png"
    assert settings.database_url == f"sqlite:///{tmp_path}/data/vivarium.db"


def test_the_example_says_what_is_the_default_anyway() -> None:
    assert parse_settings(example_toml(), origin="example") == Settings()


def test_every_key_is_explained() -> None:
    keys = list(describe_keys())
    assert {"[camera]", "camera.kind", "[[camera.replay.readings]]", "alerts.too_hot.celsius"} <= {k.key for k in keys}
    assert [key.key for key in keys if not key.description] == []


def test_tables_of_which_there_is_one_are_told_from_lists_of_them() -> None:
    explained = {key.key: key.kind for key in describe_keys()}
    assert explained["[rule.baseline]"] == explained["[rule.also.baseline]"] == "table"
    assert explained["[[rule]]"] == explained["[[rule.also]]"] == "list of tables"
    assert (explained["rule.subject"], explained["rules.quiet_hours"]) == (
        "Literal['animal', 'cage'] | None",
        "tuple[str, str] | None",
    )
    written = (
        '[[rule]]\nname = "hot"\nsubject = "cage"\n[rule.baseline]\ndays = 9\n'
        '[[rule.also]]\nmeasure = "nest_celsius"\ncomparison = "above"\n[rule.also.baseline]\ndays = 8\n'
    )
    rule = tomllib.loads(written)["rule"][0]
    read = RuleSettings.model_validate(rule)
    assert read.baseline is not None and read.also is not None and read.also[0].baseline is not None
    assert (read.baseline.days, read.also[0].baseline.days) == (9, 8)


def test_the_shipped_config_is_accepted() -> None:
    settings = load_settings(Path(__file__).parents[2] / "config.toml")
    assert settings.camera.kind == "simulated"


def test_two_configs_have_one_hash_only_when_they_mean_the_same() -> None:
    plain = parse_settings("", origin="a")
    same = parse_settings("[web]\nport = 8080", origin="b")
    other = parse_settings("[web]\nport = 8081", origin="c")
    assert plain.config_hash() == same.config_hash() != other.config_hash()


def test_the_machine_s_zone_is_asked_for_anew_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    monkeypatch.setenv("TZ", "America/Sao_Paulo")
    assert load_settings(config).zone.key == "America/Sao_Paulo"
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    assert load_settings(config).zone.key == "Asia/Kathmandu"


def test_a_machine_without_a_zone_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    monkeypatch.setenv("TZ", "Mars/Olympus")
    with pytest.raises(ConfigError, match=r"box\.time_zone: .*set it here"):
        load_settings(config)


def test_a_relative_database_counts_from_the_config_file(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[database]\nurl = "sqlite:///rats.db"\n')
    assert load_settings(config).database_url == f"sqlite:///{tmp_path}/rats.db"


def test_a_password_in_the_url_of_the_database_is_not_printed() -> None:
    settings = parse_settings('[database]\nurl = "postgresql+psycopg://box:secret@host/rats"', origin="config.toml")
    assert "secret" not in settings.to_json()
    assert "postgresql+psycopg://box:***@host/rats" in settings.to_json()


CORNERS = "polygon = [[10, 10], [40, 10], [40, 40]]"


def test_zones_and_references_are_lists_of_tables() -> None:
    text = f'[[zone]]\nname = "nest"\nkind = "nest"\n{CORNERS}\n[[reference]]\ncelsius = 30\n{CORNERS}\n'
    settings = parse_settings(text, origin="here")
    assert [zone.name for zone in settings.zones] == ["nest"]
    assert settings.reference[0].celsius == 30
    assert "[[zone]]" in [key.key for key in describe_keys()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'[[zone]]\nname = "Nest 1"\n{CORNERS}\n', "zone number 1, name: "),
        ('[[zone]]\nname = "a"\npolygon = [[1, 1], [9, 9]]\n', "at least three corners"),
        ('[[zone]]\nname = "a"\npolygon = [[1, 1], [9, 9], [5, 5]]\n', "got a line"),
        ('[[zone]]\nname = "a"\npolygon = [[1, 1], [9, 9], [5, 300]]\n', "expected corners from"),
        (f'[[zone]]\nname = "a"\n{CORNERS}\n[[zone]]\nname = "a"\n{CORNERS}\n', "a name of its own"),
        (f"[[reference]]\n{CORNERS}\n", "either celsius or topic"),
        (f'[[reference]]\n{CORNERS}\ntopic = "a"\ncelsius = 20\n', "either celsius or topic"),
        (f'[[reference]]\n{CORNERS}\ntopic = "a/#"\n', "reference number 1, topic: "),
        ("[[zones]]\n", "did you mean 'zone'?"),
    ],
)
def test_zones_and_references_that_cannot_be_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_settings(text, origin="here")


def test_animals_are_numbered_by_their_place_in_the_config(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        '[[animal]]\nname = "Ada"\nsex = "female"\nweight_g = 310\nmarks = "left ear"\n[[animal]]\nname = "Bo"\n'
    )
    settings = load_settings(path)
    assert [(each.name, each.sex, each.weight_g) for each in settings.animal] == [
        ("Ada", "female", 310),
        ("Bo", None, None),
    ]
    assert settings.animal_count == 2


def test_an_animal_may_be_called_by_the_number_of_its_ear_mark() -> None:
    settings = parse_settings('[[animal]]\nname = "1"\n[[animal]]\nname = "1471"\n', origin="here")
    assert settings.animal_names == {1: "1", 2: "1471"}


def test_without_animals_measure_says_how_many_there_are(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[measure]\nanimals = 3\n")
    assert load_settings(path).animal_count == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[measure]\nanimals = 3\n[[animal]]\nname = "Ada"\n', "leave measure.animals out"),
        ('[[animal]]\nname = "Ada"\n[[animal]]\nname = "Ada"\n', "a name of its own"),
        ('[[animal]]\nname = "not good"\n', "animal number 1, name: "),
        ('[[animal]]\nname = "2"\n[[animal]]\nname = "1"\n', "animal 1 is called '2', which is the number of another"),
        ('[[animal]]\nname = "unknown"\n', "animal 1 is called 'unknown'"),
        (
            '[[animal]]\nname = "Ada"\nweight_g = 0.31\n',
            "animal number 1, weight_g: Input should be greater than or equal to 1",
        ),
        ('[[animal]]\nname = "João"\n', "expected 1 to 64 letters (A to Z), digits, _ and -, got 'João'"),
        ("".join(f'[[animal]]\nname = "a{number}"\n' for number in range(7)), "at most 6"),
    ],
    ids=["counted otherwise", "same name", "name", "another's number", "nobody", "kilograms", "accent", "too many"],
)
def test_animals_that_make_no_sense_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_settings(path)
