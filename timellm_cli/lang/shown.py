"""What a console shows, in Chinese: texts, tables and groups. Lines break between wide characters, too. Light."""

import re
from itertools import pairwise
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, JustifyMethod, OverflowMethod
from rich.containers import Lines
from rich.measure import Measurement
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from timellm_cli.lang.translator import chinese

_NO_START = "，。；：、！？）》”’…%,.;:!?)]}"
_NO_END = "（《“‘([{"
_WIDE = "\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6"
_PIECES = re.compile(rf"\s+|[{_WIDE}]|[^\s{_WIDE}]+")


class WideText(Text):
    """A text that may break between wide characters, as Chinese does, and not only at blanks."""

    def wrap(
        self,
        console: Console,
        width: int,
        *,
        justify: JustifyMethod | None = None,
        overflow: OverflowMethod | None = None,
        tab_size: int = 8,
        no_wrap: bool | None = None,
    ) -> Lines:
        """The lines of at most `width` cells."""
        shown_overflow = overflow or self.overflow or "fold"
        if no_wrap or self.no_wrap or shown_overflow in ("ignore", "ellipsis", "crop"):
            return super().wrap(console, width, justify=justify, overflow=overflow, tab_size=tab_size, no_wrap=no_wrap)
        wrapped = Lines()
        for line in self.split(allow_blank=True):
            line.expand_tabs(tab_size)
            pieces = line.divide(breaks_of(line.plain, width))
            for piece in pieces:
                piece.rstrip_end(width)
            if justify or self.justify:
                pieces.justify(console, width, justify=justify or self.justify or "left", overflow=shown_overflow)
            for piece in pieces:
                piece.truncate(width, overflow=shown_overflow)
            wrapped.extend(pieces)
        return wrapped

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """From the widest piece that cannot break to the longest line."""
        lines = self.plain.splitlines()
        pieces = [cell_len(piece) for line in lines for piece in _unbroken(line)]
        return Measurement(max(pieces, default=0), max(map(cell_len, lines), default=0))


def _unbroken(line: str) -> list[str]:
    """Pieces that a line may break between: words, and wide characters with the signs that belong to them."""
    pieces: list[str] = []
    for match in _PIECES.finditer(line):
        piece = match[0]
        if pieces and not piece.isspace() and (piece[0] in _NO_START or pieces[-1][-1:] in _NO_END):
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return pieces


def breaks_of(line: str, width: int) -> list[int]:
    """Where a line is divided, so that each part has at most `width` cells without the blanks at its end."""
    breaks, at, used = [], 0, 0
    for piece in _unbroken(line):
        size = cell_len(piece)
        if used and used + size > width and not piece.isspace():
            breaks.append(at)
            used = 0
        if size > width and not piece.isspace():  # it fits no line: cut
            for place, letter in enumerate(piece):
                if used + cell_len(letter) > width and used:
                    breaks.append(at + place)
                    used = 0
                used += cell_len(letter)
        else:
            used += size
        at += len(piece)
    return breaks


def in_chinese(text: str) -> str:
    """A line, a cell or a message in Chinese; what the catalogue does not have stays."""
    return chinese().whole(text)


def shown_in_chinese(renderable: Any) -> Any:
    """A text, table or group with its words in Chinese. Tables are changed in place."""
    match renderable:
        case WideText():
            return renderable
        case str():
            return _wide(Text(renderable))
        case Text():
            return _wide(renderable)
        case Table():
            return _table(renderable)
        case Padding():
            renderable.renderable = shown_in_chinese(renderable.renderable)
        case Group():
            return Group(*map(shown_in_chinese, renderable.renderables), fit=renderable.fit)
    return renderable


def _table(table: Table) -> Table:
    if table.title is not None:
        table.title = shown_in_chinese(table.title)
    for column in table.columns:
        column.header, column.footer = shown_in_chinese(column.header), shown_in_chinese(column.footer)
        column._cells = [shown_in_chinese(cell) for cell in column._cells]
    return table


def _wide(text: Text) -> Text:
    """A text in Chinese, each part of one style by itself."""
    shown = WideText(style=text.style, justify=text.justify, overflow=text.overflow, no_wrap=text.no_wrap, end=text.end)
    edges = sorted({0, len(text), *(edge for span in text.spans for edge in (span.start, span.end))})
    for start, end in pairwise(edges):
        before = len(shown)
        spans = [span for span in text.spans if span.start <= start and end <= span.end]
        stays = any(isinstance(span.style, Style) and span.style.meta.get("as_is") for span in spans)
        shown.append(text.plain[start:end] if stays else in_chinese(text.plain[start:end]))
        for span in spans:
            shown.stylize(span.style, before, len(shown))
    return shown
