"""From a text back to the parts that were put into its template; what is the user's stays as it is."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from timellm_cli.lang.po import catalogue_path, escape, read_pairs, unescape
from timellm_cli.lang.templates import PLACE, Template, Templates
from timellm_cli.lang.translator import Translator, chinese

names = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Cf", "Zl", "Zp")), min_size=1, max_size=20)
words = st.sampled_from(["the", "column", "holds", "of", "rows", "-", "'", "; then", "(first at", ")"])


def translator(**entries: str) -> Translator:
    return Translator(Templates(entries.items()))


@given(st.lists(words, min_size=2, max_size=6), st.data())
def test_a_text_of_a_template_gives_its_parts_back(literal: list[str], data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from("nq"), min_size=len(literal) - 1, max_size=len(literal) - 1))
    number = st.integers().map("{:,}".format)
    values = [data.draw(number if kind == "n" else names) for kind in kinds]
    assume(not any(piece in value for piece in literal for value in values))
    places = [f" {{part{place}:{kind}}} " for place, kind in enumerate(kinds)]
    english = "".join(sum(zip(literal, [*places, ""], strict=True), ()))
    text = "".join(sum(zip(literal, [*(f" {value} " for value in values), ""], strict=True), ()))
    parts = Template(english, "").match(text)
    assert parts is not None
    joined = PLACE.sub(lambda match: next(part.text for part in parts if part.name == match[1]), english)
    assert joined == text
    assume(not any(value != value.strip() for value in values))
    assert [part.text for part in parts] == values


@given(names)
def test_a_name_in_a_message_stays_whatever_it_says(name: str) -> None:
    say = translator(
        **{"check the path": "请检查路径", "file '{path:q}' not found": "找不到文件 '{path}'", "rows": "行"}
    ).whole
    assert say(f"file '{name}' not found") == f"找不到文件 '{name}'"


@pytest.mark.parametrize(
    "name", ["check the path", "rows", "a; check the path", "file 'x' not found", "check the path."]
)
def test_a_name_that_looks_like_a_message_stays(name: str) -> None:
    say = translator(
        **{"check the path": "请检查路径", "file '{path:q}' not found": "找不到文件 '{path}'", "rows": "行"}
    ).whole
    assert say(f"file '{name}' not found; check the path") == f"找不到文件 '{name}'；请检查路径"
    assert say(f"no message: '{name}' is here") == f"no message: '{name}' is here", "no entry has this text"


SENTENCES = (
    "check the path", "a; check the path", "the cell is empty", "note: rows", "3 rows", "My data (v2).csv", "no file x",
)  # fmt: skip


@pytest.mark.parametrize("name", SENTENCES)
def test_a_name_in_quotation_marks_stays_in_every_message_of_the_catalogue(name: str) -> None:
    samples = {"n": "1,234", "s": "1.50 GiB", "d": "2024-01-01 00:00", "q": "zq", "l": "zl", "w": "zw", "": "zx"}
    for english, translated in read_pairs(catalogue_path()):
        quoted = re.sub(r"'\{(\w+):q\}'", f"'{name}'", english)
        if quoted != english:
            text = PLACE.sub(lambda match: samples[match[2] or ""], quoted)
            shown = chinese().whole(text)
            kept = len(re.findall(r"'\{\w+\}'", translated)) if shown != text else quoted.count(f"'{name}'")
            assert shown.count(f"'{name}'") >= min(kept, quoted.count(f"'{name}'")), text


@given(st.text(max_size=60))
def test_a_text_without_an_entry_stays(text: str) -> None:
    assert translator().whole(text) == text


@given(names)
def test_no_text_ends_in_an_error(text: str) -> None:
    assert isinstance(chinese().whole(text), str)


def test_sentences_are_translated_one_by_one_and_the_rest_stays() -> None:
    say = translator(**{"{rows:n} rows": "{rows} 行", "leave it out": "请去掉", "a gap: {rows}": "缺口：{rows}"}).whole
    assert say("leave it out; something else; 5 rows.") == "请去掉；something else; 5 行。"
    assert say("a gap: 1,200 rows") == "缺口：1,200 行"
    assert say("  leave it out:\n  - 3 rows") == "  请去掉：\n  - 3 行"
    assert say("Leave it out") == "请去掉", "a capital letter makes no other message"


def test_parts_that_follow_each_other_are_translated_together() -> None:
    say = translator(
        **{
            "{windows:n} windows{of}{times} = {samples:n} samples": "{windows} 个窗口{of}{times} = {samples} 个样本",
            "of {series:n} series": "，共 {series} 条序列",
            "x {number:n} channels": "x {number} 个通道",
        }
    ).whole
    assert say("9 windows of 2 series x 3 channels = 54 samples") == "9 个窗口 ，共 2 条序列 x 3 个通道 = 54 个样本"
    assert say("9 windows = 54 samples") == "9 个窗口 = 54 个样本"


def test_a_name_before_a_remark_ends_where_the_remark_begins() -> None:
    say = translator(
        **{"no file '{path:q}'{hint}, look": "没有 '{path}'{hint}，请看", "{name:q}{runs} won": "{name} 胜{runs}"}
        | {"did you mean {word:q}?": "是 {word} 吗？", "in {count:n} runs": "（{count} 次）"}
    ).whole
    assert say("my model in 3 runs won") == "my model 胜 （3 次）"
    assert say("my model won") == "my model 胜"
    assert say("no file 'a b'; did you mean c?, look") == "没有 'a b'；是 c 吗？，请看"


def test_lists_and_single_words_are_known_where_they_are_meant() -> None:
    say = translator(
        **{"columns are {names:l}": "列有 {names}", "one {noun:w} at a time": "一次一个{noun}", "channel": "通道"}
    ).whole
    assert say("columns are a, b and 7 more") == "列有 a, b 等（另有 7 个）"
    assert say("one channel at a time") == "一次一个通道"
    assert say("columns are channel") == "列有 channel"
    assert say("channel") == "通道"


def test_the_template_with_more_words_of_its_own_wins() -> None:
    say = translator(**{"{what} not found here": "X", "column {name:q} not found here": "找不到列 {name}"}).whole
    assert say("column a not found here") == "找不到列 a"


@given(st.text(max_size=40))
def test_what_stands_in_the_file_is_the_text(text: str) -> None:
    assert unescape(escape(text)) == text
    assert "\n" not in escape(text)


def test_each_entry_of_the_catalogue_is_found_by_a_text_of_its_own() -> None:
    """Numbers and names put into every template are found again in its translation."""
    samples = {"n": "1,234", "s": "1.50 GiB", "d": "2024-01-01 00:00", "q": "zq.csv", "l": "zl", "w": "zw", "": "zx"}
    for english, translated in read_pairs(catalogue_path()):
        text = PLACE.sub(lambda match: samples[match[2] or ""], english)
        kinds = {match[1]: samples[match[2] or ""] for match in PLACE.finditer(english)}
        wanted = PLACE.sub(lambda match, kinds=kinds: kinds.get(match[1], match[0]), translated)
        if " " not in text.strip() or not re.search("[a-z]", text):
            continue
        shown, found = chinese().whole(text), "1,234|1.50 GiB|2024-01-01 00:00|zq.csv|zl|zw|zx"
        assert len(re.findall(found, shown)) == len(re.findall(found, wanted)), text
        assert shown != text or wanted == text, text
