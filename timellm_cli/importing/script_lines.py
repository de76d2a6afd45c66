"""A script of bash, PowerShell or cmd as statements of words, with the comments beside them. Light.

Nothing is run. A backslash is part of a word, because paths of Windows are full of them; it only continues a line, or
keeps a blank or a quotation mark in a word.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

Dialect = Literal["sh", "ps1", "bat"]
_CONTINUES = {"sh": "\\", "ps1": "`", "bat": "^"}
_ENDINGS: dict[str, Dialect] = {".sh": "sh", ".bash": "sh", ".ps1": "ps1", ".bat": "bat", ".cmd": "bat"}
SCRIPTS = tuple(_ENDINGS)
"""How names of scripts end."""
_BREAKS = ("&&", "||", ";", "|", "&")


@dataclass(frozen=True)
class Word:
    """A word with its line, counted from 1. `parts` are its pieces: text, and whether variables in it are replaced."""

    parts: tuple[tuple[str, bool], ...]
    line: int
    quoted: bool = False

    @property
    def raw(self) -> str:
        """The text as it is written, without quotation marks."""
        return "".join(text for text, _ in self.parts)


@dataclass(frozen=True)
class Script:
    """The statements of a script, each a row of words, and its comments by line."""

    dialect: Dialect
    statements: tuple[tuple[Word, ...], ...]
    comments: dict[int, str]


def read_script(text: str, ending: str = "") -> Script:
    """The statements of a text. `ending` is that of its file's name, such as .ps1; else the dialect is found out."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    dialect = _ENDINGS.get(ending.lower()) or find_dialect(text)
    text = re.sub(r"<#.*?#>", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL)
    comments: dict[int, str] = {}
    statements: list[tuple[Word, ...]] = []
    for pieces in _join_lines(text, dialect, comments):
        statements += _split_statements([word for line, piece in pieces for word in _words(piece, line, dialect)])
    return Script(dialect, tuple(statements), comments)


def find_dialect(text: str) -> Dialect:
    """Which shell a text was written for, by how it continues lines and names variables."""
    if re.search(r"\^[ \t]*$|^\s*(@echo|rem |set \"?\w+=)|%%\w", text, re.MULTILINE | re.IGNORECASE):
        return "bat"
    if re.search(r"`[ \t]*$|^\s*\$[\w:]+\s*=|^\s*foreach\s*\(", text, re.MULTILINE | re.IGNORECASE):
        return "ps1"
    return "sh"


def _join_lines(text: str, dialect: Dialect, comments: dict[int, str]) -> Iterator[list[tuple[int, str]]]:
    """Lines that belong together, numbered. Comments go to `comments`; one between two lines separates nothing."""
    pieces: list[tuple[int, str]] = []
    is_open = False
    for line, whole in enumerate(text.split("\n"), 1):
        content, comment = _cut_comment(whole, dialect)
        if comment:
            comments[line] = comment
        body = content.rstrip()
        if not body:
            if not comment:
                is_open = False
            continue
        belongs = is_open or (pieces and re.match(r"\s*--\w", body))
        if pieces and not belongs:
            yield pieces
            pieces = []
        is_open = body.endswith(_CONTINUES[dialect])
        pieces.append((line, body.removesuffix(_CONTINUES[dialect]) if is_open else body))
    if pieces:
        yield pieces


def _cut_comment(line: str, dialect: Dialect) -> tuple[str, str]:
    if dialect == "bat" and (found := re.match(r"\s*(?:@?rem\b|::)\s*(.*)", line, re.IGNORECASE)):
        return "", found[1].strip()
    quote = ""
    for place, sign in enumerate(line):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'" and not (sign == "'" and dialect == "bat"):
            quote = sign
        elif sign == "#" and (place == 0 or line[place - 1] in " \t;`^\\"):
            return line[:place], line[place + 1 :].strip("# \t")
    return line, ""


_TOKEN = re.compile(
    r"""(?P<expansion>\$\(\([^)]*\)\)|\$\([^)]*\)|\$\{[^}]*\})   # a variable or a sum, blanks included
      |(?P<blank>\\\ +(?=[^\s-]))                            # a blank that bash keeps in a word
      |(?P<double>"(?:\\"(?!\s|$)|[^"])*"?)
      |(?P<single>'[^']*'?)
      |(?P<break>&&|\|\||;|\||&)
      |(?P<space>\s+)
      |(?P<sign>.)""",
    re.VERBOSE,
)


def _words(text: str, line: int, dialect: Dialect) -> Iterator[Word]:
    """The words of a line, and the signs that end a command as words of their own."""
    parts: list[tuple[str, bool]] = []
    quoted = False
    for token in _TOKEN.finditer(text):
        kind, found = str(token.lastgroup), token[0]
        is_sign = (kind == "single" and dialect == "bat") or (kind == "blank" and dialect != "sh")
        if kind == "space" or (kind == "break" and not _is_redirection(parts)):
            if parts:
                yield Word(tuple(_joined(parts)), line, quoted)
            if kind == "break":
                yield Word(((found, False),), line)
            parts, quoted = [], False
        elif kind in ("double", "single") and not is_sign:
            inner = found[1:].removesuffix(found[0]) if len(found) > 1 else ""
            parts.append((inner.replace('\\"', '"'), kind == "double"))
            quoted = True
        else:
            parts.append((" " if kind == "blank" and not is_sign else found, True))
    if parts:
        yield Word(tuple(_joined(parts)), line, quoted)


def _joined(parts: list[tuple[str, bool]]) -> Iterator[tuple[str, bool]]:
    """Neighbouring pieces of a kind as one, so that a variable's name is not cut."""
    for expands, group in groupby(parts, key=lambda part: part[1]):
        yield "".join(text for text, _ in group), expands


def _is_redirection(parts: list[tuple[str, bool]]) -> bool:
    return re.fullmatch(r"\d?>+", "".join(text for text, _ in parts)) is not None


def _split_statements(words: list[Word]) -> list[tuple[Word, ...]]:
    """Rows of words between the signs that end a command, without redirections."""
    statements: list[tuple[Word, ...]] = []
    row: list[Word] = []
    skips = False
    for word in words:
        redirection = None if word.quoted else re.fullmatch(r"(?:\d|&)?(?:>{1,2}|<)(.*)", word.raw)
        if word.raw in _BREAKS and not word.quoted:
            statements.append(tuple(row))
            row = []
        elif skips:
            skips = False
        elif redirection:
            skips = not redirection[1]
        else:
            row.append(word)
    statements.append(tuple(row))
    return [row for row in statements if row]
