"""The pages against the command line: what they show exists, and what exists they show."""

import re
from pathlib import Path

import pytest

from docs.make_options import options_page, verbs
from tests.conftest import REPOSITORY, Cli, write_tiny_llm
from tests.docs.pages import CHINESE, COMMANDS, DOCS, PAGES, README, block_commands, name_of, span_commands, text_of
from tests.docs.pages import options_of as known_options
from timellm_cli.old_flags import old_flag
from timellm_cli.settings import profile_names

SHOWN = [(page, words) for page in (*PAGES, *CHINESE) for words in (*block_commands(page), *span_commands(page))]
ALL = "\n".join(map(text_of, PAGES))


def test_the_pages_show_many_commands() -> None:
    assert len(SHOWN) >= 60


def test_every_command_and_option_of_the_pages_exists() -> None:
    unknown = []
    for page, words in SHOWN:
        if words[0] not in COMMANDS and not words[0].startswith("-") and not words[0].isupper():
            unknown.append(f"{name_of(page)}: no command {words[0]}")
        known = known_options(words)
        given = [word.split("=")[0] for word in words if re.match("--?[a-z]", word)]
        unknown += [
            f"{name_of(page)}: {words[0]} has no option {one}"
            for one in given
            if one not in known and old_flag(one) is None
        ]
    assert unknown == []


def test_every_command_and_profile_is_in_the_pages() -> None:
    assert COMMANDS.keys() <= {words[0] for page, words in SHOWN if page in PAGES}
    assert [name for name in profile_names() if name not in text_of(DOCS / "commands.md")] == []


def test_every_option_is_on_its_page_as_the_command_line_has_it() -> None:
    page = text_of(DOCS / "options.md")
    assert page == options_page(), "write the page anew: python docs/make_options.py"
    for name, command in verbs().items():
        for one in command.params:
            options = [option for option in (*one.opts, *one.secondary_opts) if option.startswith("-")]
            assert all(f"`{option}`" in page for option in options), f"timellm {name}: {options}"


@pytest.mark.parametrize("page", [*PAGES, *CHINESE], ids=name_of)
def test_every_link_and_picture_of_a_page_is_there(page: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


def test_the_first_screen_is_short() -> None:
    for page in REPOSITORY.glob("README*.md"):
        assert len(text_of(page).splitlines()) <= 160


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = {README}, [README]
    while waiting:
        page = waiting.pop()
        for target in re.findall(r"\]\(([^)\s#]+\.md)[^)]*\)", text_of(page)):
            found = (page.parent / target).resolve()
            if "://" not in target and found not in reached:
                reached.add(found)
                waiting.append(found)
    home = {"docs/index.md"}  # where the site begins, in place of the README
    assert {name_of(page) for page in PAGES} - home <= {name_of(page) for page in reached}


def test_ci_runs_the_readmes_test_command() -> None:
    (command,) = [line for line in text_of(README).splitlines() if line.endswith("python -m pytest")]
    assert command in (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_page_about_memory_shows_what_inspect_prints(cli_process: Cli) -> None:
    (shown,) = re.findall(
        r"\$ (timellm inspect --profile ettm1-qwen3b-6gb)\n(.*?) On the CPU here",
        text_of(DOCS / "memory.md"),
        re.DOTALL,
    )
    command, expected = shown
    printed, found, _ = cli_process(*command.split()[1:], COLUMNS="80", CUDA_VISIBLE_DEVICES="").stdout.partition(
        " On the CPU here"
    )
    assert found
    assert [line.rstrip() for line in printed.splitlines()] == [line.rstrip() for line in expected.splitlines()]


@pytest.mark.parametrize("page", ["tutorial.md", "zh/tutorial.md"])
def test_the_tutorial_shows_the_patches_that_inspect_prints(cli: Cli, page: str) -> None:
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    shown = re.search(r"```\n( patch 1 .*?)```", text, re.DOTALL)
    assert shown is not None
    printed = cli("inspect", REPOSITORY / "examples" / "sales.csv", "--show-patches", COLUMNS="80").stdout
    lines = [line.rstrip() for line in printed.splitlines()]
    assert "\n".join(lines).endswith(shown[1].rstrip())


def test_every_message_of_the_page_about_trouble_is_one_of_the_tool() -> None:
    """Between the ellipses, each piece stands in the sources as it is, whatever surrounds it."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "timellm_cli").rglob("*.py"))
    sources = re.sub(r'"\s*\n\s*f?"', "", sources)
    messages = re.findall(r"^### `(.+)`$", text_of(DOCS / "troubleshooting.md"), flags=re.MULTILINE)
    assert len(messages) > 20
    pieces = [(message, piece.strip()) for message in messages for piece in message.split("…") if len(piece) > 3]
    assert [(message, piece) for message, piece in pieces if piece not in sources] == []


def test_the_readme_shows_what_inspect_says_of_the_example(cli: Cli, private_cache: Path) -> None:
    """Lines in their order, up to the first '...', which stands for lines that are left out."""
    ((command, shown),) = re.findall(r"\$ timellm (inspect examples/sales.csv .*)\n((?:.*\n)*?)```", text_of(README))
    write_tiny_llm(private_cache / "llms" / "smollm2-135m")
    printed = iter(line.rstrip() for line in cli(*command.split(), cwd=REPOSITORY).stdout.splitlines())
    for line in shown.partition("...")[0].splitlines():
        assert line.rstrip() in printed, line


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_readme_shows_the_rows_that_inspect_counts(cli: Cli, page: str) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    shown = re.search(r"\$ timellm (inspect [^\n]*)\n(.*?)\n\.\.\.", text, re.DOTALL)
    assert shown is not None
    verb, file, *options = shown[1].split()
    printed = cli(verb, REPOSITORY / file, *options, COLUMNS="80").stdout
    lines = [line.rstrip() for line in printed.splitlines()]
    expected = [line.rstrip() for line in shown[2].splitlines()]
    assert len(expected) > 6 and lines[: len(expected)] == expected
