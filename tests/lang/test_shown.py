"""Texts, tables and groups in Chinese: styles stay, columns stay straight, lines break where Chinese may."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from timellm_cli.console import as_is
from timellm_cli.lang import shown
from timellm_cli.lang.shown import WideText, breaks_of, shown_in_chinese
from timellm_cli.lang.templates import Templates
from timellm_cli.lang.translator import Translator, chinese

PAIRS = {"rows": "行数", "largest batch": "最大 batch", "fits": "放得下", "{size:q} free: ": "空闲 {size}："}


@pytest.fixture(autouse=True)
def small_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Translator(Templates(PAIRS.items()))
    monkeypatch.setattr(shown, "chinese", lambda: small)


def printed(*objects: object, width: int = 40) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width, markup=False, emoji=False, highlight=False)
    for one in objects:
        console.print(shown_in_chinese(one))
    return stream.getvalue().splitlines()


def test_headings_cells_and_groups_are_translated_and_columns_stay_straight() -> None:
    table = Table("rows", "largest batch")
    table.add_row("1,200", Text("fits"))
    table.add_row("行行", "x")
    lines = printed(Group(Padding(table, (0, 0, 0, 2)), Text("rows", style="bold")))
    assert "行数" in lines[1] and "最大 batch" in lines[1] and "放得下" in lines[3]
    assert len({cell_len(line.rstrip()) for line in lines[:6]}) == 1
    assert lines[-1] == "行数"


def test_what_is_the_users_stays() -> None:
    table = Table("a")
    table.add_row(as_is("rows"))
    table.add_row(Text.assemble(as_is("rows", "bold"), "\n", ("rows", "dim")))
    cells = [line.strip("│┃ ") for line in printed(table)]
    assert cells.count("rows") == 2 and cells.count("行数") == 1
    assert printed(as_is("largest batch")) == ["largest batch"]


def test_each_style_stays_with_its_part() -> None:
    text = shown_in_chinese(Text.assemble("rows", (" fits", "bold green")))
    assert text.plain == "行数 放得下"
    assert [(span.start, span.end, span.style) for span in text.spans] == [(2, 6, "bold green")]


def test_to_show_twice_changes_nothing_more() -> None:
    table = Table("rows")
    table.add_row("largest batch")
    assert printed(table) == printed(table)


chinese_text = st.text(st.sampled_from("训练窗口，。（）、 ab1;"), max_size=60)


@given(chinese_text, st.integers(4, 30))
def test_no_line_is_wider_than_the_screen_and_nothing_is_lost(text: str, width: int) -> None:
    lines = WideText(text).wrap(Console(width=width), width)
    assert all(cell_len(line.plain.rstrip()) <= width for line in lines)
    assert "".join(line.plain for line in lines).replace(" ", "") == text.replace(" ", "")


def test_lines_break_inside_of_chinese_but_not_before_a_comma() -> None:
    text = "注意 这是一个很长的句子，要在这里换行"
    lines = [str(line).rstrip() for line in WideText(text).wrap(Console(width=22), 22)]
    assert lines[0] == "注意 这是一个很长的句"
    assert not any(line.startswith("，") for line in lines)
    assert breaks_of("绝对", 80) == []


def test_of_two_ways_to_read_a_text_the_one_that_begins_it_wins() -> None:
    english = "An epoch: 237,671 samples // 8 = 29,708 steps; 7 samples left over, not read in that epoch."
    assert chinese().whole(english).startswith("一个 epoch：237,671 个样本 // 8 = 29,708 步")
