"""The commands of docs/terminal.md and docs/from-run-main.md exist with their options."""

import re
import shlex

import pytest
import typer

from tests.conftest import REPOSITORY
from timellm_cli.cli import app
from timellm_cli.importing.answers import modernise

COMMANDS = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
PAGES = ("terminal.md", "from-run-main.md")


def shown() -> list[str]:
    found = []
    for page in PAGES:
        text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
        blocks = [line for block in re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
        found += [line for line in (*blocks, *re.findall(r"`(timellm [^`]+)`", text)) if line.startswith("timellm ")]
    return found


def test_the_pages_show_commands() -> None:
    assert len(shown()) > 20


@pytest.mark.parametrize("line", shown())
def test_a_command_of_the_pages_exists_with_its_options(line: str) -> None:
    verb, *words = shlex.split(line)[1:]
    if verb.startswith("-"):
        assert verb in ("--install-completion",)
        return
    command = COMMANDS[verb]
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help", "--help-all"}
    words, _ = modernise(verb, words, known)
    options = [word.partition("=")[0] for word in words if word.startswith("-") and word != "-" and " " not in word]
    assert [option for option in options if option not in known] == []
