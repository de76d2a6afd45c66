"""The two streams: results on stdout, progress and notes on stderr. Light.

Nothing that is printed here can control the terminal, and nothing that cannot be printed ends a command. Rich's markup
is off, because names of files and columns may hold brackets and colons.
"""

import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from timellm_cli.errors import UNSEEN, visible
from timellm_cli.units import format_memory

if TYPE_CHECKING:
    from rich.status import Status


_AS_IS = Style(meta={"as_is": True})
_shown: Any = None
"""The module that gives what is shown in another language; None for English."""


def speak(language: str) -> None:
    """Show messages in this language from now on: 'en' or 'zh'."""
    global _shown  # noqa: PLW0603  one process has one language
    _shown = import_module("timellm_cli.lang.shown") if language == "zh" else None


def translated(message: str) -> str:
    """A message in the language that is spoken, for what no console prints: a bar's title, a signal's line."""
    return message if _shown is None else str(_shown.in_chinese(message))


def in_language(renderable: RenderableType) -> RenderableType:
    """A text or table in the language that is spoken, for what rich draws anew by itself."""
    return renderable if _shown is None else cast(RenderableType, _shown.shown_in_chinese(renderable))


def as_is(text: str, style: str = "") -> Text:
    """A text of the user's, or for programs, that no language changes: a name, a prompt, a file's content."""
    shown = Text(text)
    shown.stylize(Style.parse(style) + _AS_IS)
    return shown


class VisibleConsole(Console):
    """Shows what would control a terminal in words, and messages in the language that is spoken."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich prints, in the language that is spoken."""
        super().print(*(objects if _shown is None else map(_shown.shown_in_chinese, objects)), **options)

    def status(self, status: RenderableType, **options: Any) -> "Status":
        """As rich does, in the language that is spoken."""
        return super().status(status if _shown is None else _shown.shown_in_chinese(status), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of rich, with texts as `visible` gives them. Rich's own control codes stay."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else visible(text), style, control)


out = VisibleConsole(markup=False, emoji=False, highlight=False)
err = VisibleConsole(stderr=True, markup=False, emoji=False, highlight=False)

_SECONDS_BETWEEN_LINES = 10.0


def silence() -> None:
    """Print nothing more: another process of the same command does."""
    out.quiet = err.quiet = True


class Unfailing(io.RawIOBase):
    """A stream that drops what cannot be written: its reader is gone, or the disk is full. `fault` says why, once."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self.fault: OSError | None = None

    def write(self, content: Any) -> int:
        """All bytes count as written."""
        try:
            while (written := self._raw.write(content)) is None:  # a terminal may be set to refuse instead of to wait
                time.sleep(0.01)
        except OSError as error:
            self.fault = self.fault or error
            return len(content)
        return written

    def writable(self) -> bool:
        """It is made for that."""
        return True

    def isatty(self) -> bool:
        """As the stream below."""
        return self._raw.isatty()

    def fileno(self) -> int:
        """Of the stream below."""
        return self._raw.fileno()


def guard_streams() -> None:
    """Let no write to stdout or stderr fail, whoever writes. A stream that was closed before is one to nowhere.

    What is no terminal gets UTF-8, for a Windows console's code page must not break a pipe, unless PYTHONIOENCODING
    says otherwise. A terminal keeps its own, and gets '?' for what it cannot show.
    """
    if sys.stdin is None:
        sys.stdin = _open_nowhere("r")
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _open_nowhere("w"))
        elif (raw := _raw_of(stream)) and not isinstance(raw, Unfailing):
            encoding = stream.encoding if raw.isatty() or os.environ.get("PYTHONIOENCODING") else "utf-8"
            buffer, eager = io.BufferedWriter(Unfailing(raw)), stream.line_buffering or raw is stream.buffer
            setattr(sys, name, io.TextIOWrapper(buffer, encoding, errors="replace", line_buffering=eager))


def _open_nowhere(mode: str) -> Any:
    return os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8")


def _raw_of(stream: Any) -> io.RawIOBase | None:
    """What a text stream writes to in the end; None for one that is no file, as in tests."""
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return raw if isinstance(raw, io.RawIOBase) else None


def fault_of_results() -> OSError | None:
    """What kept the results from being written to stdout; None also where their reader had seen enough and is gone."""
    sys.stdout.flush()
    fault = getattr(_raw_of(sys.stdout), "fault", None)
    return None if isinstance(fault, BrokenPipeError) else fault


def print_json(content: dict[str, Any]) -> None:
    """The one object that `--json` promises, on stdout."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    print(UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def print_data(text: str) -> None:
    """A CSV on stdout as it is, except on a terminal."""
    sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def say(text: str, style: str = "") -> None:
    """A line about what happens now, on stderr."""
    print_lines(err, Text(text, style=style))


def print_note(note: str) -> None:
    """What a reader of the results must know, on stderr."""
    say(f"note: {note}", style="yellow")


def print_lines(console: Console, text: Text) -> None:
    """A text whose lines break between words on a terminal; a command stays in one piece, to be copied."""
    holds_command = re.search("(?<!`)timellm [a-z]", text.plain) is not None
    console.print(text, soft_wrap=not console.is_terminal or holds_command)


def print_command(console: Console, *words: str) -> None:
    """An indented command, to be copied: on a terminal lines break between words, as a POSIX shell continues them."""
    lines = [" "]
    for word in words:
        if console.is_terminal and os.name == "posix" and len(lines[-1]) + len(word) + 3 > console.width:
            lines.append("   ")
        lines[-1] += f" {word}"
    console.print(Text(" \\\n".join(lines)), soft_wrap=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing is said on either console while the block runs: for callers that are programs."""
    before = out.quiet, err.quiet
    out.quiet = err.quiet = True
    try:
        yield
    finally:
        out.quiet, err.quiet = before


@contextmanager
def quiet_stderr(quiet: bool = True) -> Iterator[None]:
    """While inside, progress and notes are not printed. An error is printed outside, by whoever handles it."""
    before, err.quiet = err.quiet, quiet or err.quiet
    try:
        yield
    finally:
        err.quiet = before


@contextmanager
def doing(what: str, also_in_logs: bool = True) -> Iterator[None]:
    """Says what takes a while: a line that goes away on a terminal; elsewhere one that stays, where logs want it."""
    if err.is_terminal:
        with err.status(visible(what)):
            yield
    else:
        if also_in_logs:
            say(what)
        yield


def say_now_and_then(sentence: Callable[[int], str]) -> Callable[[int], None]:
    """Replaces a bar where stderr is no terminal: call the result with each count; it says one every 10 seconds."""
    last = time.monotonic()

    def update(count: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(sentence(count))

    return update


@contextmanager
def download_progress(name: str, size: int) -> Iterator[Callable[[int], None]]:
    """Shows a download of `size` bytes: a bar on a terminal, elsewhere a line now and then.

    Call the yielded function with the bytes received so far.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    title = f"Downloading {name}"
    if not err.is_terminal:
        say(f"{title} ({format_memory(size)})")
        whole = format_memory(size)
        yield say_now_and_then(lambda received: f"Downloading {name}: {format_memory(received)} of {whole}")
        return
    sizes = DownloadColumn(binary_units=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        sizes,
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(translated(title), total=size)
        yield lambda received: bar.update(task, completed=min(received, size))
