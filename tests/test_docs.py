"""The README has every command and option, and links and names of scripts lead to files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from option_tables import with_tables
from typer.main import get_group

from ldf_video.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
PAGES += sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "checkpoints").glob("*/README.md"))
COMMANDS = get_group(app).commands


def section(command: str) -> str:
    """The README's section of a command, and the options that all commands share."""
    heading = re.escape(f"### `ldf-video {command}")
    parts = re.split(rf"^{heading}\b[^\n]*$", README, flags=re.MULTILINE)
    assert len(parts) == 2, f"the README has {len(parts) - 1} sections on {command}, expected one"
    shared = README.split("## Commands")[1].split("### ")[0]
    return shared + re.split(r"^##", parts[1], flags=re.MULTILINE)[0]


def options(command: str) -> list[str]:
    """Every name of every option of a command."""
    names = [name for p in COMMANDS[command].params for name in (*p.opts, *p.secondary_opts)]
    return [name for name in names if name.startswith("-")]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_readme_has_every_option_of_every_command(command: str) -> None:
    text = section(command)
    missing = [o for o in options(command) if not re.search(rf"`{o}(?![\w-])", text)]
    assert missing == []


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_readme_has_no_option_that_a_command_lacks(command: str) -> None:
    rows = re.findall(r"^\|([^|]*)", section(command), flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(--?[a-z][a-z-]*)", row)}
    shared = {"--device", "--quiet"}
    assert named - shared <= set(options(command))


def test_the_tables_of_the_readme_are_those_of_the_options() -> None:
    assert with_tables(README) == README, "run python scripts/checks/option_tables.py"
    assert len(re.findall(r"<!-- options: [\w-]+ -->\n\| option", README)) == len(COMMANDS)


def test_the_readme_names_the_version_and_help_options() -> None:
    assert "`ldf-video --version`" in README
    assert "`ldf-video COMMAND --help`" in README


def test_the_changelog_begins_with_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert first is not None
    assert first[1] == version


def test_the_modules_that_the_architecture_names_are_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rooms = "|".join(path.name for path in (ROOT / "ldf_video").iterdir() if path.is_dir())
    named = {f"{room}/{name}" for room, name in re.findall(rf"\b({rooms})/(\w+)", page)}
    assert named
    assert [n for n in sorted(named) if not (ROOT / "ldf_video" / f"{n}.py").is_file()] == []


def test_the_index_names_every_script() -> None:
    folder = ROOT / "scripts"
    named = re.findall(r"^\| `([^`]+)`", (folder / "README.md").read_text(), flags=re.MULTILINE)
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*.*")]
    assert sorted(named) == sorted(f for f in files if f.endswith((".py", ".sh")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.name}")
def test_scripts_and_tests_that_a_page_names_are_there(page: Path) -> None:
    named = set(re.findall(r"\b(?:scripts|tests)/[\w/]+\.\w+", page.read_text()))
    assert [script for script in sorted(named) if not (ROOT / script).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.name}")
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"(?<!!)\[[^]]+\]\(([^)#]+)", page.read_text())  # pictures aside
    assert [link for link in links if not (page.parent / link).exists()] == []
