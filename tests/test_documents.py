"""Documents name only what is there."""

import ast
import re
from pathlib import Path

import pytest
from typer.main import get_command

from daemon.cli import app

ROOT = Path(__file__).parents[1]
NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_fault_has_a_row_and_every_row_names_tests_that_exist() -> None:
    rows = [
        line for line in (ROOT / "docs" / "reliability.md").read_text().splitlines() if re.match(r"\| \d+ \|", line)
    ]
    assert [int(row.split("|")[1]) for row in rows] == list(range(1, 24))
    for row in rows:
        named = NAMED_TEST.findall(row)
        assert named, row
        for path, name in named:
            assert name in functions_of(ROOT / path), f"{path} has no {name}"


@pytest.mark.parametrize("document", [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"], ids=lambda p: p.name)
def test_links_lead_to_files(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)[^)]*\)", document.read_text()):
        assert (document.parent / target).exists(), f"{document.name} links to {target}, which is not there"


@pytest.mark.parametrize(
    ("document", "words", "option"),
    [
        ("install.md", "version", ""),
        ("install.md", "config", "--example"),
        ("install.md", "run", "--heartbeat"),
        ("mqtt.md", "command", "--timeout"),
        ("disk.md", "inspect", "--frame"),
        ("measures.md", "analyze", "--mm-per-px"),
        ("measures.md", "measures", "--measure"),
        ("rules.md", "rules replay", "--json"),
        ("reliability.md", "camera operate", ""),
    ],
)
def test_what_a_command_can_do_is_named_where_it_is_looked_for(document: str, words: str, option: str) -> None:
    command = get_command(app)
    for word in words.split():
        command = getattr(command, "commands", {})[word]  # only a group has any
    assert not option or option in {name for each in command.params for name in each.opts}
    text = (ROOT / "docs" / document).read_text()
    assert re.search(rf"vivarium {words}\b(.|\n){{0,300}}?{option}", text)
