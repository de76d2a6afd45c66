"""The README against the command line: what it shows exists, and what exists it shows."""

import re
import shlex

import pytest
import typer

from tests.conftest import REPOSITORY, Cli
from timellm_cli.cli import app
from timellm_cli.settings import profile_names

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
GROUP = typer.main.get_command(app)
COMMANDS = dict(GROUP.commands)  # type: ignore[attr-defined]


def shown_commands() -> list[list[str]]:
    """Every `timellm ...` line of the README's code blocks and code spans, cut into words."""
    blocks = re.findall(r"```\w*\n(.*?)```", README, flags=re.DOTALL)
    spans = re.findall(r"`(timellm [^`]+)`", README)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = []
    for line in [*lines, *spans]:
        for part in line.split("&&"):
            words = shlex.split(part.strip().removeprefix("$ "), comments=True)
            if words[:1] == ["timellm"] and len(words) > 1:
                found.append(words[1:])
    return found


def test_the_readme_shows_many_commands() -> None:
    assert len(shown_commands()) >= 12


@pytest.mark.parametrize("words", shown_commands(), ids=" ".join)
def test_every_command_and_option_of_the_readme_exists(words: list[str]) -> None:
    assert words[0] in COMMANDS or words[0].startswith("-"), f"no command {words[0]}"
    command = COMMANDS.get(words[0], GROUP)
    if hasattr(command, "commands") and words[1:2] and words[1] in command.commands:
        command = command.commands[words[1]]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "-h", "--help-all"}
    for word in words:
        if word.startswith("-") and word != "-":
            assert word.split("=")[0] in known, f"{words[0]} has no option {word}"


def test_every_command_is_in_the_readme() -> None:
    shown = {words[0] for words in shown_commands()}
    assert COMMANDS.keys() <= shown


def test_every_profile_is_in_the_readme() -> None:
    assert [name for name in profile_names() if name not in README] == []


def test_ci_runs_the_readmes_test_command() -> None:
    (command,) = [line for line in README.splitlines() if line.endswith("python -m pytest")]
    assert command in (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_readme_shows_what_inspect_prints(cli_process: Cli) -> None:
    (shown,) = re.findall(r"\$ (timellm inspect --profile ettm1-qwen3b-6gb)\n(.*?) On the CPU here", README, re.DOTALL)
    command, expected = shown
    printed, found, _ = cli_process(*command.split()[1:], COLUMNS="80", CUDA_VISIBLE_DEVICES="").stdout.partition(
        " On the CPU here"
    )
    assert found
    assert [line.rstrip() for line in printed.splitlines()] == [line.rstrip() for line in expected.splitlines()]
