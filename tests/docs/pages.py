"""The pages of the documentation, and the commands, options and links in them."""

import re
import shlex
from pathlib import Path
from typing import Any

import typer

from tests.conftest import REPOSITORY
from timellm_cli.cli import app

README = REPOSITORY / "README.md"
DOCS = REPOSITORY / "docs"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
CHINESE = [*sorted(REPOSITORY.glob("README.*.md")), *sorted((DOCS / "zh").glob("*.md"))]

GROUP: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = dict(GROUP.commands)


def text_of(page: Path) -> str:
    """The text of a page."""
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    """A page's name within the repository."""
    return page.relative_to(REPOSITORY).as_posix()


def block_commands(page: Path) -> list[list[str]]:
    """The `timellm` commands of a page's code blocks, in their order, cut into words."""
    found = []
    for _, block in re.findall(r"^ *```(\w*)\n(.*?)^ *```", text_of(page), flags=re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                found += _words(part)
    return found


def span_commands(page: Path) -> list[list[str]]:
    """The `timellm` commands of a page's text, cut into words."""
    prose = re.sub(r"^ *```.*?^ *```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    return [words for span in re.findall(r"`(timellm [^`]+)`", prose) for words in _words(span.replace("\\|", "|"))]


def _words(line: str) -> list[list[str]]:
    line = line.strip().removeprefix("$ ")
    if not line.startswith("timellm "):
        return []
    return [shlex.split(line.replace("timellm --debug ", "timellm "), comments=True)[1:]]


def options_of(words: list[str]) -> set[str]:
    """The options that the command of these words takes."""
    command = COMMANDS.get(words[0], GROUP)
    if hasattr(command, "commands") and words[1:2] and words[1] in command.commands:
        command = command.commands[words[1]]
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts) if option[0] == "-"}
    return known | {"--help", "-h", "--help-all"}
