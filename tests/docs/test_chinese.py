"""The Chinese pages say what the English ones say: the same commands, options and figures."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.docs.pages import DOCS, README, block_commands, name_of, span_commands, text_of

PAIRS = [
    (README, REPOSITORY / "README.zh-CN.md"),
    *((DOCS / page.name, page) for page in sorted((DOCS / "zh").glob("*.md"))),
]


def blocks(text: str) -> list[str]:
    """What stands in code blocks, without comments."""
    found = re.findall(r"^ *```\w*\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    return [re.sub(r" +# .*", "", block) for block in found]


def spans(text: str) -> set[str]:
    """What stands between backticks, outside of code blocks."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    return {span for span in re.findall(r"`([^`]+)`", prose) if span.isascii() and " " not in span}


def options(text: str) -> set[str]:
    """Options, such as --batch-size and -o."""
    return set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", text))


def figures(text: str) -> set[str]:
    """Numbers as they are written."""
    return set(re.findall(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)*", text))


def test_the_pages_that_newcomers_need_are_in_chinese() -> None:
    assert {page.name for _, page in PAIRS} >= {
        "README.zh-CN.md", "tutorial.md", "your-data.md", "memory.md", "from-run-main.md",
    }  # fmt: skip


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=[name_of(page) for _, page in PAIRS])
def test_a_chinese_page_has_the_commands_of_the_english_one(english: Path, chinese: Path) -> None:
    assert block_commands(chinese) == block_commands(english)
    assert sorted(span_commands(chinese)) == sorted(span_commands(english))
    assert blocks(text_of(chinese)) == blocks(text_of(english))


@pytest.mark.parametrize("found", [spans, options, figures])
@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=[name_of(page) for _, page in PAIRS])
def test_a_chinese_page_has_the_words_options_and_figures_of_the_english_one(
    english: Path, chinese: Path, found: Callable[[str], set[str]]
) -> None:
    assert found(text_of(chinese)) ^ found(text_of(english)) == set()


def test_chinese_pages_are_written_in_chinese() -> None:
    for _, page in PAIRS:
        prose = re.sub(r"```.*?```|`[^`]*`", "", text_of(page), flags=re.DOTALL)
        assert len(re.findall("[\u4e00-\u9fff]", prose)) > 500, name_of(page)
