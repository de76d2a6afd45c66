"""What is printed cannot control the terminal, and what cannot be printed ends nothing."""

import io
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.text import Text

from timellm_cli.console import Unfailing, VisibleConsole, print_json
from timellm_cli.errors import ConfigError, DataError, ModelError, TimellmError, as_users_error, visible
from timellm_cli.report.tables import section, titled_table

CONTROLS = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
anything = st.text(st.characters(codec=None), max_size=40)
hostile = st.one_of(anything, st.text("\x1b[]0;31mAx\x07\x9b\u202e\udcff\r\b", max_size=20))


@given(hostile)
@example("\x1b]0;title\x07")
@example("\x9b31m")
@example("a\udcffb")
def test_a_text_made_visible_holds_nothing_that_controls_a_terminal(text: str) -> None:
    shown = visible(text)
    assert not re.search(CONTROLS, shown)
    shown.encode("utf-8")
    assert visible(shown) == shown


@given(st.text(st.characters(blacklist_categories=("Cc", "Cs", "Cf")), max_size=40))
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    assert visible(f"{text}\t\n") == f"{text}\t\n"


def test_escapes_are_written_as_people_know_them() -> None:
    assert visible("\x1b[31m \x9b \udcff \u202e") == r"\x1b[31m \x9b \xff \u202e"
    assert ConfigError("a\x1b", "b\x07").message == r"a\x1b"


@given(st.lists(hostile, min_size=1, max_size=4), st.sampled_from([20, 80]))
def test_no_cell_title_or_text_controls_the_terminal(texts: list[str], width: int) -> None:
    stream = io.StringIO()
    console = VisibleConsole(file=stream, width=width, force_terminal=True, color_system="truecolor", markup=False)
    table = titled_table(texts[0])
    table.add_column(texts[-1])
    for text in texts:
        table.add_row(Text(text, style="bold red"))
        table.add_row(text)
    console.print(table)
    console.print(section(texts[0], Text(texts[-1])))
    console.print(Text(texts[0]), soft_wrap=True)
    own_styles = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert not re.search(CONTROLS, own_styles)


@given(hostile)
def test_json_stays_the_same_object_and_controls_nothing(text: str) -> None:
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", stream)
        print_json({text: [text]})
    assert not re.search(CONTROLS, stream.getvalue())
    assert json.loads(stream.getvalue()) == {text: [text]}


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (PermissionError(13, "Permission denied", "/a.csv"), ConfigError, "'/a.csv' cannot be used: Permission denied"),
        (OSError(36, "File name too long", b"/a/\xff"), ConfigError, r"'/a/\xff' cannot be used"),
        (FileNotFoundError(2, "No such file or directory"), ConfigError, "does not exist any more"),
        (OSError(28, "No space left on device"), ModelError, "the disk is full"),
        (OSError(37, "No locks available"), ModelError, "No locks available"),
        (OSError(12, "Cannot allocate memory"), ModelError, "out of memory"),
        (MemoryError(), ModelError, "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), ModelError, "out of memory"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), ModelError, "out of memory"),
        (RuntimeError("can't start new thread"), ModelError, "out of memory"),
        (ModuleNotFoundError("No module named 'gguf'"), ModelError, "'gguf'"),
        (RecursionError(), ConfigError, "nested too deeply"),
        ("a\udcff".encode, ConfigError, r"'a\xff' is no UTF-8"),
        (b"\xff".decode, DataError, "no UTF-8"),
        (RuntimeError("Symlink loop from '/a'"), ConfigError, "Symlink loop"),
    ],
)  # fmt: skip
def test_an_error_of_the_system_is_one_sentence(error: object, kind: type[TimellmError], words: str) -> None:
    if callable(error):
        with pytest.raises(UnicodeError) as caught:
            error()
        error = caught.value
    found = as_users_error(error)  # type: ignore[arg-type]
    assert type(found) is kind
    assert words in found.message and "\n" not in found.message


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), AssertionError(), RuntimeError("x"), TypeError("x")])
def test_a_bug_is_no_users_error(error: Exception) -> None:
    assert as_users_error(error) is None


def test_a_stream_that_fails_remembers_why_and_takes_everything() -> None:
    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, content: object) -> int:
            raise OSError(28, "No space left on device")

    guarded = Unfailing(Full())
    with io.TextIOWrapper(io.BufferedWriter(guarded), "utf-8") as stream:
        stream.write("x" * 100_000)
        stream.flush()
        assert guarded.fault and guarded.fault.errno == 28
