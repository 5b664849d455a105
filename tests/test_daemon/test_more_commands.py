"""Commands that are announced by other packages: listed without being loaded, and carried out."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from daemon import more_commands
from daemon.cli import main
from drivers.errors import ConfigError

MODULE = '''"""`vivarium shout` and `vivarium talk`: says things (a test)."""

import typer

talk = typer.Typer()


@talk.callback()
def base() -> None:
    """Talk."""


@talk.command()
def softly(words: str, times: int = typer.Option(1, "--times", "-n")) -> None:
    """Say it."""
    typer.echo(" ".join([words] * times))


def shout(words: str) -> None:
    """Say it loudly."""
    typer.echo(words.upper())
'''


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """An application with one command of its own and what a package announces."""
    (tmp_path / "announced_for_a_test.py").write_text(MODULE)
    (tmp_path / "broken_for_a_test.py").write_text(
        '"""`vivarium broken`: cannot be loaded."""\nimport no_such_library\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    entries = [
        EntryPoint("talk", "announced_for_a_test:talk", more_commands.GROUP),
        EntryPoint("shout", "announced_for_a_test:shout", more_commands.GROUP),
        EntryPoint("broken", "broken_for_a_test:app", more_commands.GROUP),
        EntryPoint("gone", "no_such_module_for_a_test:app", more_commands.GROUP),
    ]
    monkeypatch.setattr(more_commands, "entry_points", lambda group: entries if group == more_commands.GROUP else [])
    made = typer.Typer()

    @made.command()
    def own() -> None:
        typer.echo("own")

    more_commands.mount(made)
    return made


def test_help_lists_what_is_announced_without_loading_it(app: typer.Typer) -> None:
    printed = CliRunner().invoke(app, ["--help"]).output
    assert "Says things (a test)." in printed
    assert "Cannot be loaded." in printed
    assert "announced_for_a_test" not in sys.modules


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["own"], "own\n"),
        (["talk", "softly", "hush", "--times", "2"], "hush hush\n"),
        (["talk", "softly", "hush", "-n", "3"], "hush hush hush\n"),
        (["shout", "hey"], "HEY\n"),
    ],
)
def test_an_announced_command_gets_all_that_follows_its_name(
    app: typer.Typer, arguments: list[str], output: str
) -> None:
    assert CliRunner().invoke(app, arguments).output == output


def test_its_help_is_its_own(app: typer.Typer) -> None:
    printed = CliRunner().invoke(app, ["talk", "softly", "--help"]).output
    assert "vivarium talk softly" in printed
    assert "--times" in printed


@pytest.mark.parametrize(("command", "library"), [("broken", "no_such_library"), ("gone", "no_such_module_for_a_test")])
def test_a_library_that_is_missing_is_named_with_what_to_install(app: typer.Typer, command: str, library: str) -> None:
    error = CliRunner().invoke(app, [command]).exception
    assert isinstance(error, ConfigError)
    assert (
        str(error) == f"vivarium {command}: {library} is not installed; pip install 'strong-vivarium[training,export]'"
    )


def test_the_service_starts_no_torch() -> None:
    code = "import sys, daemon.cli; sys.exit('torch' in sys.modules or 'onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_export_is_announced(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["vivarium", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert "Trained networks as ONNX files" in capsys.readouterr().out
