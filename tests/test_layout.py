"""The shape of the project: whose packages are imported, and which way."""

import ast
import importlib
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("drivers", "daemon", "training", "export")


@pytest.mark.parametrize("name", PACKAGES)
def test_each_package_is_the_one_of_this_checkout(name: str) -> None:
    # PyPI's python-daemon, among others, owns the import name `daemon` too.
    package = importlib.import_module(name)
    assert package.__file__ is not None
    assert Path(package.__file__).resolve() == (ROOT / name / "__init__.py").resolve()
    assert [Path(folder).resolve() for folder in package.__path__] == [(ROOT / name).resolve()]


@pytest.mark.parametrize("name", PACKAGES)
def test_no_other_distribution_brings_a_package_of_this_name(name: str) -> None:
    assert set(packages_distributions().get(name, ())) <= {"strong-vivarium"}


def test_the_daemon_package_holds_a_docstring_only() -> None:
    # Importing `daemon.settings` must not drag the service in.
    tree = ast.parse((ROOT / "daemon" / "__init__.py").read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1


def test_tests_are_no_packages() -> None:
    # An __init__.py below tests/ would shadow the packages under test.
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_imports_point_one_way() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    assert linter.is_file(), f"import-linter is not installed beside {sys.executable}: pip install -e '.[dev]'"
    result = subprocess.run([linter, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
